//! Where the orders are that memory lacks: in the index on this machine's disk or, for a member of a
//! cluster, in Postgres.
//!
//! A member begins with an empty index, so only Postgres has what happened before. Both have an order
//! before memory forgets it, and neither shows what memory does not show yet: the index does not
//! pass it, and who reads Postgres waits for memory to come as far.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::index::{
    Activities, ActivityRequest, EndedOrders, Index, IndexError, IndexReaders, ReusedId,
};
use crate::money::{Account, TrialBalance};
use crate::order::{CashTerms, ListedExecution, Order, PageRequest, list_executions};
use crate::projection::{
    LogPosition, OrderList, PostgresRead, PostgresReadError, PostgresReads, Progress,
};
use crate::types::{CashMovementId, ClientOrderId, OrderId, TimestampMicros, UserId};
use crate::wal::{LogId, Lsn};

/// How long memory keeps changes that Postgres has. Without it nearly every change would be read
/// back from there for its user's streams.
const KEPT_CHANGES: Duration = Duration::from_secs(2);
/// How often the position of Postgres is noted meanwhile.
const NOTES_INTERVAL: Duration = Duration::from_millis(250);
/// Positions noted in that time, and the one that has just become old enough.
const MAX_NOTES: usize = 9;

const _: () =
    assert!(MAX_NOTES as u128 == KEPT_CHANGES.as_millis() / NOTES_INTERVAL.as_millis() + 1);

/// The store cannot answer: it is busy, it has failed, or Postgres is awaited and does not have all
/// that the start recovered. Passes, or shows in readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Stored orders cannot be read right now")]
pub struct StoreUnavailable;

/// Where the orders are that memory lacks. Clones share it.
#[derive(Debug, Clone)]
pub enum OrderStore {
    /// In the index, which follows the log of this process and of those before it.
    Local(IndexReaders),
    /// In Postgres, which follows the logs of all nodes.
    Postgres(PostgresStore),
}

/// Postgres as the store of a member of a cluster.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    /// Follows the log, so that it can be cut.
    index: Index,
    log_id: LogId,
    reads: PostgresReads,
    progress: Progress,
}

/// What the store has.
#[derive(Debug)]
pub(super) struct Stored<T> {
    pub(super) found: T,
    /// Reads of memory must show this much before anybody sees it.
    pub(super) as_of: Lsn,
}

/// Some of a user's orders.
#[derive(Debug, Default)]
pub(super) struct StoredList {
    pub(super) orders: Vec<Arc<Order>>,
    /// Where to continue; `None` after the last.
    pub(super) next: Option<OrderId>,
}

/// The store's answer about an idempotency key.
#[derive(Debug)]
pub(super) struct StoredKey {
    /// The store had followed the log at least to here: a key that it does not have was not used
    /// before.
    pub(super) position: Lsn,
    /// The order that the key names.
    pub(super) order_id: Option<OrderId>,
}

impl From<IndexReaders> for OrderStore {
    fn from(readers: IndexReaders) -> Self {
        Self::Local(readers)
    }
}

impl OrderStore {
    /// Postgres, for a member of a cluster: with this log, which `index` follows, and `progress` of
    /// Postgres in it. Replies must wait for Postgres.
    pub fn postgres(index: Index, log_id: LogId, reads: PostgresReads, progress: Progress) -> Self {
        Self::Postgres(PostgresStore { index, log_id, reads, progress })
    }

    /// The index, which follows the log in any case.
    pub(super) fn index(&self) -> &Index {
        match self {
            Self::Local(readers) => readers.index(),
            Self::Postgres(postgres) => &postgres.index,
        }
    }

    /// The log of this process; `None` before there is one.
    pub(super) fn log_id(&self) -> Option<LogId> {
        match self {
            Self::Local(readers) => readers.index().log_id(),
            Self::Postgres(postgres) => Some(postgres.log_id),
        }
    }

    /// A user's order.
    pub(super) async fn order(
        &self,
        user: &UserId,
        order_id: OrderId,
    ) -> Result<Stored<Option<Arc<Order>>>, StoreUnavailable> {
        match self {
            Self::Local(readers) => {
                let user = user.clone();
                let found = ask_index(readers, move |index| index.order(&user, order_id)).await?;
                let found = found.map(|tracked| Arc::clone(tracked.order()));
                Ok(Stored { found, as_of: Lsn(0) })
            }
            Self::Postgres(postgres) => {
                let stored = postgres.own(postgres.reads.order(user, order_id).await)?;
                let found = stored.found.map(|tracked| Arc::clone(tracked.order()));
                Ok(Stored { found, as_of: stored.as_of })
            }
        }
    }

    /// A user's order, and its executions as they were noted.
    pub(super) async fn executions(
        &self,
        user: &UserId,
        order_id: OrderId,
    ) -> Result<Stored<Option<(Arc<Order>, Vec<ListedExecution>)>>, StoreUnavailable> {
        match self {
            Self::Local(readers) => {
                let user = user.clone();
                let found =
                    ask_index(readers, move |index| index.executions(&user, order_id)).await?;
                let found = found.map(|(tracked, noted)| {
                    (Arc::clone(tracked.order()), list_executions(&tracked, noted))
                });
                Ok(Stored { found, as_of: Lsn(0) })
            }
            Self::Postgres(postgres) => {
                postgres.own(postgres.reads.executions(user, order_id).await)
            }
        }
    }

    /// A user's account; an empty one for a user who has never had money.
    pub(super) async fn account(&self, user: &UserId) -> Result<Stored<Account>, StoreUnavailable> {
        match self {
            Self::Local(readers) => {
                let user = user.clone();
                let found = ask_index(readers, move |index| index.account(&user)).await?;
                Ok(Stored { found: found.unwrap_or_default(), as_of: Lsn(0) })
            }
            Self::Postgres(postgres) => postgres.own(postgres.reads.account(user).await),
        }
    }

    /// What the id of a cash movement stands for, and up to where in the log the store was, at least.
    /// Postgres has none yet.
    pub(super) async fn cash_terms(
        &self,
        user: &UserId,
        id: &CashMovementId,
    ) -> Result<(Lsn, Option<CashTerms>), StoreUnavailable> {
        match self {
            Self::Local(readers) => {
                let position = readers.index().position();
                let (user, id) = (user.clone(), id.clone());
                let found = ask_index(readers, move |index| index.cash_terms(&user, &id)).await?;
                Ok((position, found))
            }
            Self::Postgres(_) => Err(StoreUnavailable),
        }
    }

    /// Some of a user's activities. Postgres has none yet.
    pub(super) async fn activities(
        &self,
        user: &UserId,
        request: &ActivityRequest,
    ) -> Result<Activities, StoreUnavailable> {
        match self {
            Self::Local(readers) => {
                let (user, request) = (user.clone(), request.clone());
                ask_index(readers, move |index| index.activities(&user, &request)).await
            }
            Self::Postgres(_) => Err(StoreUnavailable),
        }
    }

    /// The sums of all accounts, and the last record that they include. Postgres has none yet.
    pub(super) async fn trial_balance(&self) -> Result<(Lsn, TrialBalance), StoreUnavailable> {
        match self {
            Self::Local(readers) => ask_index(readers, Index::trial_balance).await,
            Self::Postgres(_) => Err(StoreUnavailable),
        }
    }

    /// The order that a user's idempotency key names.
    ///
    /// The index is asked on the calling thread, not on a reader's: nearly every key is new, and its
    /// filters, which are in memory, reject a new one without reading the disk.
    pub(super) async fn by_key(
        &self,
        user: &UserId,
        key: &ClientOrderId,
    ) -> Result<StoredKey, StoreUnavailable> {
        match self {
            Self::Local(readers) => {
                let index = readers.index();
                let position = index.position();
                let order_id = index.by_key(user, key).map_err(|error| unreadable(&error))?;
                Ok(StoredKey { position, order_id })
            }
            Self::Postgres(postgres) => {
                // Read before the question: the answer has all up to here.
                let position = postgres.progress.slowest();
                let stored = postgres.own(postgres.reads.by_key(user, key).await)?;
                Ok(StoredKey { position, order_id: stored.found.map(|order| order.order_id) })
            }
        }
    }

    /// Ended orders of a user that a request selects. There may be few or none although there are more.
    pub(super) async fn ended(
        &self,
        user: &UserId,
        request: &PageRequest,
    ) -> Result<Stored<StoredList>, StoreUnavailable> {
        match self {
            Self::Local(readers) => {
                let (user, request) = (user.clone(), request.clone());
                let part = move |index: &Index| index.ended(&user, &request);
                let EndedOrders { orders, next } = ask_index(readers, part).await?;
                Ok(Stored { found: StoredList { orders, next }, as_of: Lsn(0) })
            }
            Self::Postgres(postgres) => {
                postgres.own_list(postgres.reads.ended(user, request).await)
            }
        }
    }

    /// Up to where memory may forget what the log says. Never goes back, also when the store fails
    /// and is opened again.
    pub(super) fn stored_up_to(&self) -> Box<dyn Fn() -> Lsn + Send> {
        match self {
            Self::Local(readers) => {
                let index = readers.index().clone();
                Box::new(move || index.durable_position())
            }
            Self::Postgres(postgres) => {
                let progress = postgres.progress.clone();
                let past = RefCell::new(PastPositions::new(progress.slowest()));
                Box::new(move || past.borrow_mut().next(progress.slowest(), Instant::now()))
            }
        }
    }

    /// Is told up to where readers of memory see what the log says.
    pub(super) fn shown_up_to(&self) -> Box<dyn Fn(Lsn) + Send> {
        let index = self.index().clone();
        Box::new(move |position| index.memory_shows(position))
    }

    /// Takes the exchange ids that the index has met twice.
    pub(super) fn reused_ids(&self) -> Box<dyn Fn() -> Vec<ReusedId> + Send> {
        let index = self.index().clone();
        Box::new(move || index.take_reused_ids())
    }
}

impl PostgresStore {
    pub(super) fn reads(&self) -> &PostgresReads {
        &self.reads
    }

    /// Up to here Postgres has everything of this process's log.
    pub(super) fn committed(&self) -> Lsn {
        self.progress.slowest()
    }

    /// Whether the tables follow this process's log there. If not, the user is another node's.
    pub(super) fn is_own(&self, position: Option<LogPosition>) -> bool {
        position.is_some_and(|position| position.log_id == self.log_id)
    }

    /// What was read, if the user is this node's.
    fn own<T>(
        &self,
        answer: Result<PostgresRead<T>, PostgresReadError>,
    ) -> Result<Stored<T>, StoreUnavailable> {
        let PostgresRead { position, found } = answer.map_err(|_logged| StoreUnavailable)?;
        let position = position.filter(|position| position.log_id == self.log_id);
        let LogPosition { lsn, .. } = position.ok_or(StoreUnavailable)?;
        Ok(Stored { found, as_of: lsn })
    }

    fn own_list(
        &self,
        answer: Result<PostgresRead<OrderList>, PostgresReadError>,
    ) -> Result<Stored<StoredList>, StoreUnavailable> {
        let Stored { found: OrderList { orders, next }, as_of } = self.own(answer)?;
        Ok(Stored { found: StoredList { orders, next }, as_of })
    }

    /// At most `most` of a user's orders that changed at or after a time, by id after `after`.
    pub(super) async fn changed_since(
        &self,
        user: &UserId,
        since: TimestampMicros,
        after: Option<OrderId>,
        most: usize,
    ) -> Result<Stored<StoredList>, StoreUnavailable> {
        self.own_list(self.reads.changed_since(user, since, after, most).await)
    }
}

/// Where Postgres was a while ago.
#[derive(Debug)]
struct PastPositions {
    /// Oldest first, a few a second.
    notes: VecDeque<(Instant, Lsn)>,
    kept_from: Lsn,
}

impl PastPositions {
    fn new(start: Lsn) -> Self {
        Self { notes: VecDeque::new(), kept_from: start }
    }

    /// Notes where Postgres is now. Returns where it was [`KEPT_CHANGES`] ago.
    fn next(&mut self, position: Lsn, now: Instant) -> Lsn {
        while let Some((_, past)) =
            self.notes.pop_front_if(|(at, _)| now.saturating_duration_since(*at) >= KEPT_CHANGES)
        {
            self.kept_from = self.kept_from.max(past);
        }
        let is_due =
            |(at, _): &(Instant, Lsn)| now.saturating_duration_since(*at) >= NOTES_INTERVAL;
        if self.notes.back().is_none_or(is_due) {
            self.notes.push_back((now, position));
        }
        assert!(
            self.notes.iter().is_sorted_by_key(|(at, _)| at),
            "positions are noted in order of time"
        );
        assert!(self.notes.len() <= MAX_NOTES, "positions are noted a few times a second");
        self.kept_from
    }
}

/// Asks the index on a thread that may wait for the disk.
pub(super) async fn ask_index<T: Send + 'static>(
    readers: &IndexReaders,
    job: impl FnOnce(&Index) -> Result<T, IndexError> + Send + 'static,
) -> Result<T, StoreUnavailable> {
    let answer = readers.ask(job).map_err(|_busy| StoreUnavailable)?;
    match answer.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(unreadable(&error)),
        // The process is ending.
        Err(_gone) => Err(StoreUnavailable),
    }
}

fn unreadable(error: &IndexError) -> StoreUnavailable {
    tracing::error!(%error, "the store of orders cannot be read");
    StoreUnavailable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_what_postgres_has_for_a_while() {
        let begin = Instant::now();
        let mut past = PastPositions::new(Lsn(5));
        let positions: Vec<u64> = (0..16_u32)
            .map(|step| past.next(Lsn(10 + u64::from(step)), begin + step * NOTES_INTERVAL).0)
            .collect();
        assert_eq!(positions[..9], [5, 5, 5, 5, 5, 5, 5, 5, 10]);
        assert_eq!(positions[15], 17, "as of two seconds ago");
        assert!(past.notes.len() <= 8, "a few notes");
    }
}
