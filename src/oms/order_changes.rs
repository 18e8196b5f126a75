//! A user's changes after a cursor: the newest from memory, older ones from the store, each once
//! and in log order.
//!
//! Memory has every change after some position of the log, the store every change up to another
//! position. The two overlap, unless a user changes more than memory keeps before the store has
//! followed: then the reader waits for the changes in between; they are never left out.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::reads::{OrderReads, StoreUnavailable};
use super::views::UserView;
use crate::order::Order;
use crate::types::UserId;
use crate::wal::{LogId, Lsn};

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

/// A cursor as clients store it: a position in one particular log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeId {
    /// The log.
    pub log: LogId,
    /// The last record of it that the client has seen.
    pub lsn: Lsn,
}

/// A text that is not a [`ChangeId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a change id is the log's id in hex, a dot and the record number")]
pub struct NoChangeId;

impl fmt::Display for ChangeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.log, self.lsn.0)
    }
}

impl FromStr for ChangeId {
    type Err = NoChangeId;

    /// Parses exactly what [`Display`](fmt::Display) prints.
    fn from_str(text: &str) -> Result<Self, NoChangeId> {
        let (log, lsn) = text.split_once('.').ok_or(NoChangeId)?;
        let log = u64::from_str_radix(log, 16).map(LogId).map_err(|_| NoChangeId)?;
        let lsn = lsn.parse().map(Lsn).map_err(|_| NoChangeId)?;
        let id = Self { log, lsn };
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
        self.0.index().log_id()
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
        let view = self.0.views().user(user).unwrap_or_default();
        let cursor = shown.max(view.changed);
        (view, cursor)
    }

    /// A user's changes after `after`, at most `limit`, if memory has them. `None` if the store
    /// must be asked, with [`since`](Self::since).
    pub fn now(&self, user: &UserId, after: Lsn, limit: usize) -> Option<ChangesSince> {
        let views = self.0.views();
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
        let newest = shown.max(view.changed);
        if after > newest {
            return Some(ChangesSince::Lost);
        }
        if after < view.changes_from {
            return None;
        }
        let behind = view.changes.partition_point(|(lsn, _)| *lsn <= after);
        let behind = view.changes.get(behind..).unwrap_or_default();
        let changes = behind.get(..limit).unwrap_or(behind).to_vec();
        let has_more = changes.len() < behind.len();
        let last = changes.last().map_or(after, |(lsn, _)| *lsn);
        let complete_to = if has_more { last } else { newest };
        Some(ChangesSince::Known(Changes { changes, complete_to, has_more }))
    }

    /// A user's changes after `after`: at most `limit`, and at least one if there is any. May wait
    /// for the store to be read, or to follow the log to what memory has forgotten.
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
        loop {
            if let Some(known) = self.now(user, after, limit) {
                return Ok(known);
            }
            let owner = user.clone();
            let stored = self.0.ask_store(move |index| index.changes(&owner, after, limit)).await?;
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
                    changes.extend(newer.changes);
                    return Ok(ChangesSince::Known(Changes { changes, ..newer }));
                }
                Some(ChangesSince::Lost) => return Ok(ChangesSince::Lost),
                None if !changes.is_empty() => {
                    let next = Changes { changes, complete_to: reached, has_more: true };
                    return Ok(ChangesSince::Known(next));
                }
                None => {
                    let moved = self.0.index().beyond(reached).await;
                    moved.map_err(|_too_many| StoreUnavailable)?;
                    after = reached;
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "order_changes_tests.rs"]
mod tests;
