//! The feed's part of the store: its position, unmatched reports, and orders to look at.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use super::lookups::stored_order;
use super::node;
use super::store::{Bytes, Space, Write};
use super::{Index, IndexError};
use crate::engine::MAX_UNMATCHED_REPORTS;
use crate::order::{
    Change, Changed, Ending, Event, EventEncoder, FeedPosition, TrackedOrder, UnmatchedReport,
};
use crate::types::{OrderId, TimestampMicros};
use crate::wal::Lsn;

/// How long a failed order that the exchange may have stays on the list of orders to look at: a day.
/// The last lookup is over by then.
const ATTENDED_MICROS: u64 = 24 * 3_600 * 1_000_000;

/// The feed's part of the store, and what this batch changes there.
#[derive(Default)]
pub(super) struct FeedRecords {
    position: Option<(Lsn, FeedPosition)>,
    /// Reports that are kept, oldest first; their content only while it is not stored yet.
    unmatched: VecDeque<Unmatched>,
    /// Keys of stored reports that are obsolete.
    obsolete: Vec<u64>,
    /// Orders that ended in this batch, and when the last of them did.
    ended: Vec<OrderId>,
    ended_at: TimestampMicros,
    /// Keys of the stored batches of ended orders, and when the last order of each ended, oldest
    /// first.
    stored_ended: VecDeque<(u64, TimestampMicros)>,
    /// Keys of those that a feed position of this batch made obsolete.
    obsolete_ended: Vec<u64>,
    /// Orders that this batch adds to the list of orders to look at (true) or takes off it (false).
    attended: BTreeMap<OrderId, bool>,
}

struct Unmatched {
    lsn: u64,
    received_at: TimestampMicros,
    unstored: Option<UnmatchedReport>,
}

impl FeedRecords {
    pub(super) fn load(index: &Index) -> Result<Self, IndexError> {
        let view = index.view()?;
        let unmatched = node::unmatched(&*view)?.into_iter().map(|(lsn, report)| Unmatched {
            lsn,
            received_at: report.received_at,
            unstored: None,
        });
        let ended = node::ended(&*view)?;
        let last_at = index.last_recorded_at()?;
        let mut attended = BTreeMap::new();
        for order_id in node::attended(&*view)? {
            let is_done = stored_order(&*view, order_id)?.is_none_or(|(tracked, _)| {
                let age_micros = last_at.micros_since(tracked.order().updated_at);
                tracked.cases().is_empty() && age_micros > ATTENDED_MICROS
            });
            if is_done {
                attended.insert(order_id, false);
            }
        }
        Ok(Self {
            attended,
            unmatched: unmatched.collect(),
            stored_ended: ended.into_iter().map(|batch| (batch.lsn, batch.at)).collect(),
            ..Self::default()
        })
    }

    /// Keeps a report. It stays when its order becomes known: its content is in the log only once
    /// the order has taken it, and a crash may come first. The order takes it at most once.
    pub(super) fn keep_unmatched(&mut self, lsn: Lsn, report: UnmatchedReport) {
        let received_at = report.received_at;
        self.unmatched.push_back(Unmatched { lsn: lsn.0, received_at, unstored: Some(report) });
        if self.unmatched.len() > MAX_UNMATCHED_REPORTS {
            self.drop_oldest_unmatched();
        }
    }

    fn drop_oldest_unmatched(&mut self) {
        if let Some(Unmatched { lsn, unstored: None, .. }) = self.unmatched.pop_front() {
            self.obsolete.push(lsn);
        }
    }

    /// Notes an order that arrives with its history.
    pub(super) fn note_adopted(&mut self, tracked: &TrackedOrder) {
        if is_attended(tracked) {
            self.attended.insert(tracked.order().order_id, true);
        }
    }

    /// Notes that an order has ended, or has to be looked at.
    pub(super) fn note(&mut self, tracked: &TrackedOrder, changed: &Changed) {
        if changed.change.may_end() && !tracked.order().is_open() {
            self.ended.push(changed.order_id);
            self.ended_at = self.ended_at.max(changed.at);
        }
        if let Change::NotAccepted
        | Change::ClosedByOperator(_)
        | Change::CaseOpened(_)
        | Change::CaseClosed(_) = changed.change
        {
            self.attended.insert(changed.order_id, is_attended(tracked));
        }
    }

    /// Applies a feed position. Orders that ended before the reconciliation window need no second
    /// look, and reports that the engine has given up by then are obsolete.
    pub(super) fn apply_position(
        &mut self,
        lsn: Lsn,
        position: FeedPosition,
        (kept_micros, window_micros): (u64, u64),
    ) {
        let is_old = |ended: TimestampMicros| position.at.micros_since(ended) > window_micros;
        while let Some((lsn, _)) = self.stored_ended.pop_front_if(|(_, at)| is_old(*at)) {
            self.obsolete_ended.push(lsn);
        }
        let is_too_old =
            |unmatched: &Unmatched| position.at.micros_since(unmatched.received_at) > kept_micros;
        while self.unmatched.front().is_some_and(is_too_old) {
            self.drop_oldest_unmatched();
        }
        self.position = Some((lsn, position));
    }

    pub(super) fn write(
        &mut self,
        batch_lsn: Lsn,
        events: &mut EventEncoder,
        batch: &mut Vec<Write>,
    ) -> Result<(), IndexError> {
        let mut push = |key, value| batch.push(Write { space: Space::Node, key, value });
        if let Some((lsn, position)) = self.position.take() {
            let value = node::event_value(events, &Event::FeedPosition(position), lsn)?;
            push(node::FEED_KEY.into(), Some(value));
        }
        for lsn in self.obsolete.drain(..) {
            push(node::unmatched_key(lsn), None);
        }
        for unmatched in &mut self.unmatched {
            if let Some(report) = unmatched.unstored.take() {
                let event = Event::UnmatchedReport(report);
                let value = node::event_value(events, &event, Lsn(unmatched.lsn))?;
                push(node::unmatched_key(unmatched.lsn), Some(value));
            }
        }
        for lsn in self.obsolete_ended.drain(..) {
            push(node::ended_key(lsn), None);
        }
        if !self.ended.is_empty() {
            let ended = mem::take(&mut self.ended);
            push(node::ended_key(batch_lsn.0), Some(node::ended_value(self.ended_at, &ended)));
            self.stored_ended.push_back((batch_lsn.0, self.ended_at));
        }
        for (order_id, is_attended) in mem::take(&mut self.attended) {
            push(node::attended_key(order_id), is_attended.then(|| Bytes::from(&[][..])));
        }
        Ok(())
    }
}

/// Whether an order is to be looked at although it may have ended.
pub(super) fn is_attended(tracked: &TrackedOrder) -> bool {
    let may_live = tracked.order().ending().is_some_and(Ending::may_live_at_exchange);
    may_live || !tracked.cases().is_empty()
}
