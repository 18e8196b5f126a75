//! A user's changes after a cursor: the newest from memory, older ones from the store, each once
//! and in log order.
//!
//! Memory has every change after some position of the log, the store every change up to another
//! position. The two overlap, unless a user changes more than memory keeps before the store has
//! followed: then the reader waits for the changes in between; they are never left out.
//!
//! Where the store is Postgres it has no single changes, only orders. What memory lacks is then a
//! *listing*: each order that has changed since the time of the cursor, once, in its present version.
//! A time is known in every log, so a listing also resumes a stream that began on another node.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::order_store::{OrderStore, PostgresStore, StoreUnavailable, ask_index};
use super::reads::OrderReads;
use super::views::UserView;
use crate::index::Index;
use crate::money::Account;
use crate::order::Order;
use crate::stream::{LogMark, OrderCursor, OrderListing};
use crate::types::{OrderId, Symbol, TimestampMicros, UserId};
use crate::wal::{LogId, Lsn};

/// How far the clocks of two nodes may be apart: what changed so long before a cursor of another
/// node is listed again.
const CLOCK_TOLERANCE_MICROS: u64 = 5_000_000;

/// The changes of a user after a cursor.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangesSince {
    /// The next changes.
    Known(Changes),
    /// The changes are no longer kept, or the cursor is not from this log: the reader must start
    /// over from the open orders.
    Lost,
}

/// The next changes after a cursor.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// Position of each change in the log, and the order after it; oldest first.
    pub changes: Vec<(Lsn, Arc<Order>)>,
    /// The next cursor: all changes up to here are included.
    pub complete_to: Lsn,
    /// Whether more changes may be available now. If not, a [`watch`](super::OrderWatch) announces
    /// the next.
    pub has_more: bool,
}

/// A part of a listing.
#[derive(Debug)]
pub(super) struct Listed {
    /// Orders in their present version.
    pub(super) orders: Vec<Arc<Order>>,
    /// Where to continue with the listing; `None` after the last order.
    pub(super) next: Option<OrderId>,
    /// The position in the log of which the orders are.
    pub(super) mark: LogMark,
}

/// A cursor as clients store it: a position in one particular log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeId {
    /// The log.
    pub log: LogId,
    /// The last record of it that the client has seen.
    pub lsn: Lsn,
    /// Its time, with which a stream resumes on another node.
    pub at: Option<TimestampMicros>,
}

/// A text that is not a [`ChangeId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a change id is the log's id in hex, a dot and the record number, and perhaps another dot and a time in microseconds"
)]
pub struct NoChangeId;

impl fmt::Display for ChangeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.log, self.lsn.0)?;
        match self.at {
            Some(at) => write!(formatter, ".{}", at.micros()),
            None => Ok(()),
        }
    }
}

impl FromStr for ChangeId {
    type Err = NoChangeId;

    /// Parses exactly what [`Display`](fmt::Display) prints.
    fn from_str(text: &str) -> Result<Self, NoChangeId> {
        let (log, place) = text.split_once('.').ok_or(NoChangeId)?;
        let (lsn, at) = match place.split_once('.') {
            Some((lsn, at)) => (lsn, Some(at)),
            None => (place, None),
        };
        let log = u64::from_str_radix(log, 16).map(LogId).map_err(|_| NoChangeId)?;
        let lsn = lsn.parse().map(Lsn).map_err(|_| NoChangeId)?;
        let at = at.map(str::parse).transpose().map_err(|_| NoChangeId)?;
        let id = Self { log, lsn, at: at.map(TimestampMicros::new) };
        if id.to_string() == text { Ok(id) } else { Err(NoChangeId) }
    }
}

/// Changes of orders, from memory and from the store. Clones share both.
#[derive(Debug, Clone)]
pub struct OrderChanges(OrderReads);

impl OrderChanges {
    pub(super) fn new(reads: OrderReads) -> Self {
        Self(reads)
    }

    /// The log that cursors refer to; `None` before there is one.
    pub fn log_id(&self) -> Option<LogId> {
        self.0.store().log_id()
    }

    /// Where a stream resumes after this change. `None` if it must start over from the open orders.
    pub fn resume(&self, id: ChangeId) -> Option<OrderCursor> {
        let ChangeId { log, lsn, at } = id;
        let mark = LogMark { lsn, at };
        if Some(log) == self.log_id() {
            return Some(OrderCursor::Position(mark));
        }
        match self.0.store() {
            OrderStore::Local(_) => None,
            OrderStore::Postgres(_) => Some(OrderCursor::Listing(Box::new(OrderListing {
                from: (log, mark),
                since: long_before(at?),
                after: None,
                began_at: None,
            }))),
        }
    }

    /// The listing of what has changed since a position of this log. `None` if its time is not known.
    pub(super) fn listing_after(&self, user: &UserId, mark: LogMark) -> Option<OrderListing> {
        let may_be_elsewhere = self.may_lack_changes(user, mark.lsn);
        let since = if may_be_elsewhere { long_before(mark.at?) } else { mark.at? };
        Some(OrderListing { from: (self.log_id()?, mark), since, after: None, began_at: None })
    }

    /// Whether changes after this position may be in the log of another node that owned the user.
    fn may_lack_changes(&self, user: &UserId, after: Lsn) -> bool {
        match self.0.store() {
            OrderStore::Local(_) => false,
            OrderStore::Postgres(_) => after < self.0.views().came(user),
        }
    }

    /// The account of a user, if memory says that it has moved after this record, and the symbols whose
    /// positions have; `None` of them for all. Call it after [`now`](Self::now): it is as new as that, or
    /// newer.
    pub(super) fn account_since(
        &self,
        user: &UserId,
        after: Lsn,
    ) -> Option<(Arc<Account>, Option<BTreeSet<Symbol>>)> {
        let view = self.0.views().user(user)?;
        let account = view.account.clone().filter(|_| view.account_moved > after)?;
        let changed = view.changes.iter().filter(|(lsn, _)| *lsn > after);
        let symbols = changed.map(|(_, order)| order.symbol).collect();
        Some((account, (view.changes_from <= after).then_some(symbols)))
    }

    /// The account of a user as it is now.
    pub(super) async fn account(&self, user: &UserId) -> Result<Arc<Account>, StoreUnavailable> {
        self.0.account(user).await
    }

    pub(super) fn store(&self) -> &OrderStore {
        self.0.store()
    }

    /// A time before which no change is that [`view`](Self::view) and [`now`](Self::now) do not show
    /// when they are called next. `None` if nobody needs one.
    pub(super) fn time(&self) -> Option<TimestampMicros> {
        match self.0.store() {
            OrderStore::Local(_) => None,
            OrderStore::Postgres(_) => self.0.views().shown_at(),
        }
    }

    /// A user's open orders, oldest first, and the cursor after everything that they contain.
    pub fn open_orders(&self, user: &UserId) -> (Vec<Arc<Order>>, Lsn) {
        let (view, cursor) = self.view(user);
        (view.orders.values().filter(|order| order.is_open()).cloned().collect(), cursor)
    }

    /// A user's orders in memory, which include all open ones, and the cursor after everything that
    /// they contain.
    pub(super) fn view(&self, user: &UserId) -> (Arc<UserView>, Lsn) {
        // Read this before the view, which then has all changes up to there.
        let shown = self.0.views().shown();
        // Memory has nothing of most users.
        let view = self.0.views().user(user).unwrap_or_default();
        let cursor = shown.max(view.newest());
        (view, cursor)
    }

    /// A user's changes after `after`, at most `limit`, if memory has them. `None` if the store
    /// must be asked, with [`since`](Self::since).
    pub fn now(&self, user: &UserId, after: Lsn, limit: usize) -> Option<ChangesSince> {
        let views = self.0.views();
        if self.may_lack_changes(user, after) {
            return None;
        }
        let shown = views.shown();
        let Some(view) = views.user(user) else {
            // Read after the view was found missing: all changes of this user are up to there.
            let forgotten = views.forgotten();
            let newest = shown.max(forgotten);
            return if after > newest {
                Some(ChangesSince::Lost)
            } else if after < forgotten {
                None
            } else {
                let complete_to = shown.max(after);
                Some(ChangesSince::Known(Changes { complete_to, ..Changes::default() }))
            };
        };
        let newest = shown.max(view.newest());
        if after > newest {
            return Some(ChangesSince::Lost);
        }
        if after < view.changes_from {
            return None;
        }
        view.assert_changes();
        let behind = view.changes.partition_point(|(lsn, _)| *lsn <= after);
        let (_, behind) = view.changes.split_at(behind);
        // All of them, if they are fewer.
        let changes = behind.get(..limit).unwrap_or(behind).to_vec();
        let has_more = changes.len() < behind.len();
        let last = changes.last().map_or(after, |(lsn, _)| *lsn);
        let complete_to = if has_more { last } else { newest };
        assert!(after <= complete_to, "a cursor never goes back");
        assert!(last <= complete_to, "a cursor passes what it comes with");
        Some(ChangesSince::Known(Changes { changes, complete_to, has_more }))
    }

    /// A user's changes after `after`: at most `limit`, and at least one if there is any. May wait
    /// for the store to be read, or to follow the log to what memory has forgotten. Lost, if the
    /// store is Postgres, which has no single changes.
    ///
    /// # Errors
    /// The store cannot be read. The request may be repeated.
    pub async fn since(
        &self,
        user: &UserId,
        mut after: Lsn,
        limit: usize,
    ) -> Result<ChangesSince, StoreUnavailable> {
        let limit = limit.max(1);
        let OrderStore::Local(readers) = self.0.store() else {
            return Ok(self.now(user, after, limit).unwrap_or(ChangesSince::Lost));
        };
        loop {
            if let Some(known) = self.now(user, after, limit) {
                return Ok(known);
            }
            let owner = user.clone();
            let read = move |index: &Index| index.changes(&owner, after, limit);
            let stored = ask_index(readers, read).await?;
            // A cursor is what a client says: it may be the last of all numbers.
            if after.0.saturating_add(1) < stored.kept_from.0 {
                return Ok(ChangesSince::Lost);
            }
            let mut changes = stored.changes;
            if changes.len() >= limit {
                let complete_to = changes.last().map_or(after, |(lsn, _)| *lsn);
                return Ok(ChangesSince::Known(Changes { changes, complete_to, has_more: true }));
            }
            // The store has all changes up to its position; memory continues from there.
            let reached = after.max(stored.position);
            match self.now(user, reached, limit - changes.len()) {
                Some(ChangesSince::Known(newer)) => {
                    assert!(newer.complete_to >= reached, "memory continues from the store");
                    changes.extend(newer.changes);
                    debug_assert!(
                        changes.is_sorted_by(|(one, _), (next, _)| one < next),
                        "changes come once each, in log order"
                    );
                    return Ok(ChangesSince::Known(Changes { changes, ..newer }));
                }
                Some(ChangesSince::Lost) => return Ok(ChangesSince::Lost),
                None if !changes.is_empty() => {
                    let next = Changes { changes, complete_to: reached, has_more: true };
                    return Ok(ChangesSince::Known(next));
                }
                None => {
                    let moved = readers.index().beyond(reached).await;
                    moved.map_err(|_too_many| StoreUnavailable)?;
                    after = reached;
                }
            }
        }
    }

    /// The next part of a listing, of at most `limit` orders.
    ///
    /// # Errors
    /// Postgres cannot be read. The request may be repeated.
    pub(super) async fn list(
        &self,
        store: &PostgresStore,
        (user, listing): (&UserId, &OrderListing),
        limit: usize,
    ) -> Result<Listed, StoreUnavailable> {
        // All changes up to here are in what is read next, and all later ones have this time or a
        // later one.
        let at = self.time();
        let (_, shown) = self.view(user);
        let shown = shown.min(store.committed());
        let OrderListing { since, after, .. } = *listing;
        let stored = store.changed_since(user, since, after, limit).await?;
        // The tables are no further than their position.
        let lsn = stored.as_of.max(shown);
        let found = self.0.once_shown(stored).await?;
        Ok(Listed { orders: found.orders, next: found.next, mark: LogMark { lsn, at } })
    }
}

/// So long before a time of another node's clock that all of its later changes are included.
fn long_before(at: TimestampMicros) -> TimestampMicros {
    // The time is part of a cursor, which is what a client says.
    TimestampMicros::new(at.micros().saturating_sub(CLOCK_TOLERANCE_MICROS))
}

#[cfg(test)]
#[path = "order_changes_tests.rs"]
mod tests;
