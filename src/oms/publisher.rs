//! What readers of memory see: committed versions, in the order of the log, and for how long memory
//! keeps what the store has.

use std::collections::VecDeque;
use std::sync::Arc;

use super::commit_gate::GatedEffect;
use super::ended::EndedOrders;
use super::limits::CHANGES_PER_SLICE;
use super::options::OmsOptions;
use super::order_watch::OrderWatchers;
use super::views::CommittedViews;
use crate::engine::{Effect, Engines};
use crate::index::ReusedId;
use crate::order::Order;
use crate::types::{Moment, UserId};
use crate::wal::Lsn;

/// Says up to where the store has followed the log durably. Never goes back, also when the store
/// fails and is opened again: what memory forgets can be read from then on.
pub type StoredUpTo = Box<dyn Fn() -> Lsn + Send>;

/// Is told up to where readers of memory see what the log says.
pub type ShownUpTo = Box<dyn Fn(Lsn) + Send>;

/// Takes the exchange ids that the store has met twice.
pub type ReusedIds = Box<dyn Fn() -> Vec<ReusedId> + Send>;

/// Both ends of what readers see, as a [`Publisher`] takes them over.
pub(crate) struct ReaderSide {
    /// What readers look at.
    pub(crate) views: CommittedViews,
    /// Who is told that orders have changed.
    pub(crate) watchers: OrderWatchers,
    pub(crate) stored: StoredUpTo,
    pub(crate) shown: ShownUpTo,
    pub(crate) reused: ReusedIds,
}

/// The one writer of the views.
pub(super) struct Publisher {
    readers: ReaderSide,
    ended: EndedOrders,
    /// Changes that memory keeps because the store may lack them: in the order of the log, and whose.
    recent: VecDeque<(Lsn, UserId)>,
    max_recent_changes: usize,
    /// The position that readers were last told. Never goes back.
    shown_to: Lsn,
}

impl Publisher {
    /// Shows everything that was recovered.
    pub(super) fn new(readers: ReaderSide, recovered: Lsn, options: &OmsOptions) -> Self {
        let stored = (readers.stored)();
        assert!(stored <= recovered, "the store has nothing that the log lacks");
        readers.views.show(recovered);
        (readers.shown)(recovered);
        let ended = EndedOrders::new(options.keep_ended, stored);
        let max_recent_changes = options.limits.max_recent_changes;
        let recent = VecDeque::new();
        Self { readers, ended, recent, max_recent_changes, shown_to: recovered }
    }

    pub(super) fn views(&self) -> &CommittedViews {
        &self.readers.views
    }

    /// Up to here the store has followed the log durably.
    pub(super) fn stored(&self) -> Lsn {
        (self.readers.stored)()
    }

    /// Exchange ids that belong to a new order and to an earlier one, which has left memory.
    pub(super) fn take_reused_ids(&self) -> Vec<ReusedId> {
        (self.readers.reused)()
    }

    /// Whether a key that the store did not know at this position may name an order that memory
    /// has forgotten since.
    pub(super) fn may_have_forgotten_key(&self, checked_at: Lsn) -> bool {
        self.ended.may_have_forgotten_key(checked_at)
    }

    /// Takes note of an order that memory has already, so that it is forgotten once it has ended.
    pub(super) fn note_recovered(&mut self, order: &Order, last_event: Lsn, now: Moment) {
        self.ended.note(order, last_event, now.monotonic);
    }

    /// Shows the new versions among these effects, then tells who watches their users.
    pub(super) fn publish(&mut self, free: &[GatedEffect], now: Moment) {
        for GatedEffect { effect, gate, change, .. } in free {
            if let (Effect::PublishAccount { user, account, .. }, Some(lsn)) = (effect, change) {
                self.readers.views.publish_moved_account(user, Arc::clone(account), *lsn);
                self.note_recent(*lsn, user);
            }
            if let Effect::Publish { order, account, .. } = effect {
                if let Some(account) = account {
                    // Ahead of its order: who sees the order sees the account.
                    let (account, lsn) = (Arc::clone(account), change.unwrap_or(*gate));
                    self.readers.views.publish_account(&order.user, account, lsn);
                }
                self.ended.note(order, *gate, now.monotonic);
                match change {
                    Some(lsn) => {
                        assert!(
                            *lsn > self.shown_to,
                            "a change is published before readers are told of its position"
                        );
                        assert!(lsn <= gate, "a change is published once its decision is durable");
                        self.note_recent(*lsn, &order.user);
                        let views = &self.readers.views;
                        views.publish_change(Arc::clone(order), *lsn, self.max_recent_changes);
                    }
                    None => self.readers.views.publish(Arc::clone(order)),
                }
            }
        }
        self.readers.watchers.tell(free.iter().filter_map(|gated| match &gated.effect {
            Effect::Publish { order, .. } => Some(&order.user),
            Effect::PublishAccount { user, .. } => Some(user),
            _ => None,
        }));
    }

    /// Notes what memory keeps until the store has this record.
    fn note_recent(&mut self, lsn: Lsn, user: &UserId) {
        assert!(
            self.recent.back().is_none_or(|(last, _)| *last < lsn),
            "changes are published in log order"
        );
        self.recent.push_back((lsn, user.clone()));
    }

    /// Takes note of an account that memory shows already, because the store may lack a cash movement
    /// of the log up to here.
    pub(super) fn note_recovered_cash(&mut self, user: &UserId, last_event: Lsn) {
        self.recent.push_back((last_event, user.clone()));
    }

    /// Says that readers see everything up to here.
    pub(super) fn show(&mut self, upto: Lsn) {
        // While Postgres lacks part of what was recovered, `upto` is below what was shown at the start.
        self.shown_to = self.shown_to.max(upto);
        self.readers.views.show(self.shown_to);
        (self.readers.shown)(self.shown_to);
    }

    /// Forgets what the store has, a bounded number. True when there may be more.
    pub(super) fn forget(&mut self, engines: &mut Engines, now: Moment) -> bool {
        let stored = self.stored();
        let orders = (engines, &self.readers.views);
        let more_ended = self.ended.forget(orders, stored, now.monotonic);
        let more_changes = self.forget_changes(stored);
        more_ended || more_changes
    }

    fn forget_changes(&mut self, stored: Lsn) -> bool {
        for _ in 0..CHANGES_PER_SLICE {
            let Some((_, user)) = self.recent.pop_front_if(|(lsn, _)| *lsn <= stored) else {
                return false;
            };
            self.readers.views.forget_changes(&user, stored);
        }
        true
    }

    /// Ended orders in memory.
    pub(super) fn ended_orders(&self) -> usize {
        self.ended.len()
    }
}
