//! The durable log, established in the one way that counts: by recovering a copy of the disk
//! without anything unsynced. All other checks compare with it.

mod feed_lines;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use compact_str::CompactString;
use xxhash_rust::xxh3::xxh3_64;

use super::exchange::Exchange;
use super::invariant::{Checked, Invariant, broken, ensure};
use super::profile::MAX_RESERVE_SEGMENTS;
use super::second_book::SecondBook;
use crate::engine::{AccountMode, EngineOptions, Engines};
use crate::money::{Account, Reservation};
use crate::order::{
    Change, Changed, Created, Event, ExecutionEffect, Fill, Order, UnmatchedReport, decode,
};
use crate::testing::FaultyDisk;
use crate::types::{
    ClientOrderId, ExecutionId, OrderId, PriceCents, Shares, TimestampMicros, UserId,
};
use crate::wal::recovery::recover_from;
use crate::wal::{Lsn, RecordView};

/// The segment being written, the one before it, the prepared one and those of the reserve:
/// whatever became durable since the last look is in these.
#[expect(clippy::cast_possible_truncation, reason = "a small number")]
const NEWEST_FILES: usize = 3 + MAX_RESERVE_SEGMENTS as usize;

/// The state of an execution in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Counted(Shares, PriceCents),
    Void,
    TakenBack,
}

/// The durable log and everything derived from it.
pub(super) struct DurableLog {
    /// A hash of each record. A durable record stays durable.
    records: Vec<u64>,
    /// Records before the last observed commit.
    before_last_commit: usize,
    engines: Engines,
    account_mode: AccountMode,
    /// Every version of every order.
    versions: BTreeMap<(OrderId, u64), Arc<Order>>,
    /// The same by user, with the LSN of each.
    changes: BTreeMap<UserId, Vec<(Lsn, Arc<Order>)>>,
    /// When each record was made, in microseconds.
    times: Vec<u64>,
    last_change: TimestampMicros,
    last_created: TimestampMicros,
    executions: BTreeMap<OrderId, BTreeMap<ExecutionId, Mark>>,
    /// Orders that had cases opened, and the executions in question.
    cases: BTreeSet<(OrderId, Option<ExecutionId>)>,
    keys: BTreeMap<(UserId, ClientOrderId), OrderId>,
    unmatched: Vec<UnmatchedReport>,
    position: Option<(CompactString, u64)>,
    /// Whether the position says that its session restarted its numbering.
    is_renumbered: bool,
    /// Lines of the position's session that were checked, up to here.
    looked_up: u64,
    /// Orders that had a durable cancel to be sent to the exchange.
    cancel_wanted: BTreeSet<OrderId>,
    /// Orders that were asked to be cancelled.
    cancel_requested: BTreeSet<OrderId>,
    /// The version in which an order's executions last changed.
    refilled: BTreeMap<OrderId, u64>,
    /// The record that made each version.
    recorded: BTreeMap<(OrderId, u64), Lsn>,
    /// The position of Postgres, if it is awaited: as the simulation knows it, not the process.
    pub(super) postgres: Option<Lsn>,
    /// What money is by the log's events alone.
    book: SecondBook,
    /// What became durable, for the trace.
    pub(super) notes: Vec<(Option<OrderId>, String)>,
}

impl DurableLog {
    pub(super) fn new(options: EngineOptions) -> Self {
        Self {
            records: Vec::new(),
            before_last_commit: 0,
            engines: Engines::new(options),
            account_mode: options.accounts.mode,
            versions: BTreeMap::new(),
            changes: BTreeMap::new(),
            times: Vec::new(),
            last_change: TimestampMicros::default(),
            last_created: TimestampMicros::default(),
            executions: BTreeMap::new(),
            cases: BTreeSet::new(),
            keys: BTreeMap::new(),
            unmatched: Vec::new(),
            position: None,
            is_renumbered: false,
            looked_up: 0,
            cancel_wanted: BTreeSet::new(),
            cancel_requested: BTreeSet::new(),
            refilled: BTreeMap::new(),
            recorded: BTreeMap::new(),
            postgres: None,
            book: SecondBook::default(),
            notes: Vec::new(),
        }
    }

    /// Applies what became durable since the last look.
    pub(super) fn catch_up(&mut self, disk: &FaultyDisk, exchange: &Exchange) -> Checked {
        self.read(disk.durable_copy(NEWEST_FILES), exchange)
    }

    /// Compares the whole log with what was durable before, and applies what is new.
    pub(super) fn verify_all(&mut self, disk: &FaultyDisk, exchange: &Exchange) -> Checked {
        self.read(disk.durable_copy(usize::MAX), exchange)
    }

    fn read(&mut self, copy: FaultyDisk, exchange: &Exchange) -> Checked {
        let known = self.records.len();
        let mut failed = Ok(());
        let recovered = recover_from(Arc::new(copy), None, &mut |record: RecordView<'_>| {
            if failed.is_ok() {
                failed = self.take(&record, exchange);
            }
            Ok(())
        });
        failed?;
        let recovery =
            recovered.map_err(|error| broken(Invariant::StartsAfterCrash, format!("{error:?}")))?;
        let last = recovery.next_lsn.0 - 1;
        ensure(last >= known as u64, Invariant::NeverLost, || {
            format!("{known} records were durable, {last} are left")
        })?;
        if self.records.len() > known {
            self.before_last_commit = known;
        }
        Ok(())
    }

    fn take(&mut self, record: &RecordView<'_>, exchange: &Exchange) -> Checked {
        let place = usize::try_from(record.lsn.0).unwrap_or(usize::MAX).saturating_sub(1);
        let hash = xxh3_64(record.payload);
        if let Some(known) = self.records.get(place) {
            return ensure(*known == hash, Invariant::NeverLost, || {
                format!("record {} is another one now", record.lsn)
            });
        }
        ensure(place == self.records.len(), Invariant::NeverLost, || {
            format!("record {} follows record {}", record.lsn, self.records.len())
        })?;
        self.records.push(hash);
        let event = decode(record.kind, record.format_version, record.payload)
            .map_err(|error| broken(Invariant::RotIsSeen, format!("{error:?}")))?;
        self.check_time(&event)?;
        self.times.push(event.at().micros());
        let effect = match &event {
            Event::Changed(changed) => {
                let tracked = self.engines.tracked(changed.order_id);
                tracked.and_then(|tracked| tracked.effect_of(&changed.change))
            }
            _ => None,
        };
        self.engines
            .replay(&event)
            .map_err(|error| broken(Invariant::RecordFirst, format!("{error}")))?;
        self.notes.push(match &event {
            Event::Created(created) => (Some(created.order_id), "created".to_owned()),
            Event::Changed(changed) => (Some(changed.order_id), format!("{:?}", changed.change)),
            Event::UnmatchedReport(report) => (None, format!("held {:?}", report.kind)),
            Event::FeedPosition(position) => (None, format!("feed at {}", position.sequence)),
            Event::Adopted(_) => (event.order_id(), "adopted".to_owned()),
            Event::CashMoved(_) | Event::AccountAdopted(_) | Event::AccountsBegun(_) => {
                (None, event.name().to_owned())
            }
        });
        match &event {
            Event::Created(created) => self.created(created),
            Event::Changed(changed) => self.changed(changed, effect, exchange),
            Event::UnmatchedReport(report) => {
                self.unmatched.push(report.clone());
                Ok(())
            }
            Event::FeedPosition(position) => self.moved(position, exchange),
            Event::Adopted(_) => unreachable!("a single node adopts nothing"),
            Event::CashMoved(moved) => self.book.move_cash(moved, &self.engines),
            Event::AccountAdopted(_) | Event::AccountsBegun(_) => Ok(()),
        }
    }

    /// What money is by the log's events alone.
    pub(super) fn book(&self) -> &SecondBook {
        &self.book
    }

    /// Times of changes never go back, whatever the wall clock does.
    fn check_time(&mut self, event: &Event) -> Checked {
        let Event::Changed(Changed { at, .. }) = event else { return Ok(()) };
        let last = std::mem::replace(&mut self.last_change, *at);
        ensure(*at >= last, Invariant::TimeGoesOn, || format!("{event:?} is behind {last:?}"))
    }

    /// The latest creation time of a durable order.
    pub(super) fn last_created(&self) -> TimestampMicros {
        self.last_created
    }

    fn created(&mut self, created: &Created) -> Checked {
        let order_id = created.order_id;
        self.last_created = self.last_created.max(created.created_at);
        if let Some(key) = &created.client_order_id {
            let first = self.keys.insert((created.user.clone(), key.clone()), order_id);
            ensure(first.is_none(), Invariant::OneKeyOneOrder, || {
                format!("{key} of {} names {first:?} and {order_id}", created.user)
            })?;
        }
        self.check_paid(created)?;
        self.remember(order_id);
        Ok(())
    }

    /// What is created is there: after a reservation something may be left, and no less than nothing.
    fn check_paid(&self, created: &Created) -> Checked {
        let account = self.engines.account(&created.user);
        let left = match created.reservation {
            Reservation::Nothing => {
                let is_checked = self.account_mode == AccountMode::Cash;
                return ensure(!is_checked, Invariant::CreatedIsPaid, || {
                    format!("{created:?} reserves nothing")
                });
            }
            Reservation::Cash(_) => account.map(Account::buying_power_cents),
            Reservation::Shares => {
                account.map(|account| account.holding(created.symbol).available_shares())
            }
        };
        ensure(left.is_some_and(|left| left >= 0), Invariant::CreatedIsPaid, || {
            format!("{created:?} leaves {left:?} of {account:?}")
        })
    }

    fn changed(
        &mut self,
        changed: &Changed,
        effect: Option<ExecutionEffect>,
        exchange: &Exchange,
    ) -> Checked {
        let order_id = changed.order_id;
        if changed.change == Change::CancelRequested {
            self.cancel_requested.insert(order_id);
        }
        if let Change::CaseOpened(case) = &changed.change {
            let execution = case.execution.as_ref().map(|fill| fill.execution_id.clone());
            self.cases.insert((order_id, execution));
        }
        self.remember(order_id);
        if let (Some(_), Some(order)) = (&effect, self.engines.order(order_id)) {
            self.refilled.insert(order_id, order.version);
        }
        match effect {
            Some(ExecutionEffect::Counts(fill)) => {
                self.counts(order_id, &fill, exchange)?;
                if let Some(order) = self.engines.order(order_id) {
                    self.book.count(order, &fill, &self.engines)?;
                }
            }
            Some(ExecutionEffect::Void { execution_id, taken_back }) => {
                if let Some(order) = self.engines.order(order_id) {
                    self.book.void(order, &execution_id, &self.engines)?;
                }
                if taken_back {
                    check_taken_back(order_id, &execution_id, exchange)?;
                }
                let mark = if taken_back { Mark::TakenBack } else { Mark::Void };
                self.executions.entry(order_id).or_default().insert(execution_id, mark);
            }
            None => {}
        }
        self.check_fills(order_id, exchange)
    }

    fn counts(&mut self, order_id: OrderId, fill: &Fill, exchange: &Exchange) -> Checked {
        let mark = Mark::Counted(fill.num_shares, fill.price);
        let executions = self.executions.entry(order_id).or_default();
        let before = executions.insert(fill.execution_id.clone(), mark);
        let is_news = matches!(before, None | Some(Mark::TakenBack));
        ensure(is_news, Invariant::CountedOnce, || {
            format!("{} of {order_id} is counted and was {before:?}", fill.execution_id)
        })?;
        // Until their records are there, it may be an execution of another order that had the same
        // id.
        let executed = (fill.num_shares, fill.price);
        let mut owners = exchange.sharing(order_id).iter().chain([&order_id]);
        let is_real =
            owners.any(|owner| exchange.execution(*owner, &fill.execution_id) == Some(executed));
        ensure(is_real, Invariant::CountedIsReal, || {
            let real = exchange.execution(order_id, &fill.execution_id);
            format!("{fill:?} of {order_id}, the exchange executed {real:?}")
        })
    }

    fn check_fills(&self, order_id: OrderId, exchange: &Exchange) -> Checked {
        let Some(order) = self.engines.order(order_id) else { return Ok(()) };
        let counted: Shares = self.counted(order_id).map(|(_, shares)| shares).sum();
        ensure(order.filled_shares == counted, Invariant::FilledIsSum, || {
            format!("{order_id} has {} filled, its executions {counted}", order.filled_shares)
        })?;
        let is_within = order.filled_shares <= order.num_shares;
        let is_explained = is_within
            || exchange.is_over_filled(order_id)
            || self.counted(order_id).any(|(id, _)| exchange.execution(order_id, id).is_none());
        ensure(is_explained, Invariant::FilledWithinSize, || {
            format!("{order_id} has {} of {} filled", order.filled_shares, order.num_shares)
        })
    }

    fn remember(&mut self, order_id: OrderId) {
        if let Some(order) = self.engines.order(order_id) {
            self.versions.insert((order_id, order.version), Arc::clone(order));
            let lsn = Lsn(self.times.len() as u64);
            self.recorded.insert((order_id, order.version), lsn);
            let changes = self.changes.entry(order.user.clone()).or_default();
            changes.push((lsn, Arc::clone(order)));
            if order.wants_cancel() {
                self.cancel_wanted.insert(order_id);
            }
        }
    }

    /// A user's changes after one record and up to another.
    pub(super) fn changes(
        &self,
        user: &UserId,
        (after, upto): (Lsn, Lsn),
    ) -> impl DoubleEndedIterator<Item = &(Lsn, Arc<Order>)> {
        let all = self.changes.get(user).into_iter().flatten();
        all.filter(move |(lsn, _)| *lsn > after && *lsn <= upto)
    }

    /// The time between the earliest and the latest record after this one, in microseconds.
    pub(super) fn micros_since(&self, after: Lsn) -> u64 {
        let behind = self.times.iter().skip(usize::try_from(after.0).unwrap_or(usize::MAX));
        let (earliest, latest) = (behind.clone().min(), behind.max());
        earliest.zip(latest).map_or(0, |(earliest, latest)| latest - earliest)
    }

    /// An order in the durable log.
    pub(super) fn order(&self, order_id: OrderId) -> Option<&Arc<Order>> {
        self.engines.order(order_id)
    }

    /// An order in one of its versions.
    pub(super) fn version(&self, order_id: OrderId, version: u64) -> Option<&Arc<Order>> {
        self.versions.get(&(order_id, version))
    }

    /// Whether an execution was added or removed since a version.
    pub(super) fn was_refilled_since(&self, order_id: OrderId, version: u64) -> bool {
        self.refilled.get(&order_id).is_some_and(|last| *last > version)
    }

    /// With synchronous Postgres, what users see must be in Postgres.
    pub(super) fn check_in_postgres(&self, order: &Order) -> Checked {
        let Some(has) = self.postgres else { return Ok(()) };
        let recorded = self.recorded.get(&(order.order_id, order.version));
        ensure(recorded.is_some_and(|lsn| *lsn <= has), Invariant::SeenIsInPostgres, || {
            format!("{order:?} is record {recorded:?}, Postgres has all up to {has}")
        })
    }

    /// All orders, oldest first.
    pub(super) fn orders(&self) -> Vec<&Arc<Order>> {
        let mut orders: Vec<&Arc<Order>> = self.engines.orders().collect();
        orders.sort_unstable_by_key(|order| order.order_id);
        orders
    }

    pub(super) fn engines(&self) -> &Engines {
        &self.engines
    }

    /// The executions of an order that count.
    pub(super) fn counted(
        &self,
        order_id: OrderId,
    ) -> impl Iterator<Item = (&ExecutionId, Shares)> {
        let marks = self.executions.get(&order_id).into_iter().flatten();
        marks.filter_map(|(id, mark)| match mark {
            Mark::Counted(shares, _) => Some((id, *shares)),
            Mark::Void | Mark::TakenBack => None,
        })
    }

    pub(super) fn cancel_was_wanted(&self, order_id: OrderId) -> bool {
        self.cancel_wanted.contains(&order_id)
    }

    /// Whether an order has ended since a version, even if it was reopened.
    pub(super) fn has_ended_since(&self, order_id: OrderId, version: u64) -> bool {
        let mut since = self.versions.range((order_id, version)..=(order_id, u64::MAX));
        since.any(|(_, order)| !order.is_open())
    }

    pub(super) fn cancel_was_requested(&self, order_id: OrderId) -> bool {
        self.cancel_requested.contains(&order_id)
    }

    /// The position in a feed session, from which a restart resumes.
    pub(super) fn position_in(&self, session: &CompactString) -> Option<u64> {
        self.position.as_ref().filter(|(known, _)| known == session).map(|(_, last)| *last)
    }

    /// Whether the log says that a session restarted its numbering.
    pub(super) fn knows_restart_of(&self, session: &CompactString) -> bool {
        self.is_renumbered && self.position_in(session).is_some()
    }

    /// The number of durable records, and of those certainly not in the last batch.
    pub(super) fn record_counts(&self) -> (u64, u64) {
        (self.records.len() as u64, self.before_last_commit as u64)
    }
}

/// An execution that a record takes back must be void at the exchange, with two exceptions. For
/// an over-filled order, a record that lags or is cut may seem to say which executions are too
/// many. And a process that had heard nothing under a name before the numbering restarted
/// cannot know that: what a lagging record covers looks like lines of the new numbering.
fn check_taken_back(order_id: OrderId, id: &ExecutionId, exchange: &Exchange) -> Checked {
    let (counting, feed) = (exchange.counting(order_id), exchange.feed());
    let is_real = counting.iter().any(|known| known.execution_id == *id);
    let is_over_filled = exchange.is_over_filled(order_id);
    let may_seem_covered = feed.has_restarted_numbering() && !feed.is_restart_known();
    let is_excused = exchange.has_short_records() && (is_over_filled || may_seem_covered);
    ensure(!is_real || is_excused, Invariant::RealStays, || {
        format!("{id} of {order_id} is taken back, at the exchange it counts")
    })
}
