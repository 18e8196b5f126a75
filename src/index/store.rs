//! The interface to the underlying store: spaces of sorted keys, written in atomic batches. fjall
//! in production; in tests and simulations a store in memory that loses what was not persisted.

use std::sync::Arc;

use super::IndexError;

/// Bytes of a key or value: cheap to clone, and without a heap block when short.
pub(crate) type Bytes = fjall::Slice;

/// The spaces of the store. Their names are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Space {
    /// Open orders, by partition and id.
    Open,
    /// Ended orders, by id.
    Ended,
    /// Ids of the ended orders, by user and id.
    History,
    /// Order ids, by user and client order id.
    Keys,
    /// Order ids, by exchange id.
    External,
    /// What belongs to the node: position, feed position, unmatched reports, orders that ended.
    Node,
    /// What executions were when they were noted, by order and execution id.
    Executions,
    /// Accounts, by partition and user.
    Accounts,
    /// Deposits and withdrawals, by user and id.
    Cash,
    /// What happened to users' orders and cash, by user and LSN.
    Activities,
    /// Changes of one period, by user and LSN.
    Changes(Period),
    /// Orders as those changes left them, many to a key, by LSN.
    Versions(Period),
}

/// A stretch of the log, up to the next period. Its changes are kept and dropped together. Ordered
/// by LSN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Period {
    /// Its first LSN.
    pub(crate) first: u64,
    /// When that record was recorded, in microseconds.
    pub(crate) start_micros: u64,
}

/// One write of a batch: a value, or `None` to remove the key. A batch has each key at most once.
/// Ordered by space and key: neighbours are faster to write in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Write {
    pub(crate) space: Space,
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
}

/// Gets a key and its value; false ends the scan.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, IndexError> + 'a;

/// The store at one moment.
pub(crate) trait View {
    /// The periods whose changes are kept, oldest first. Includes every period that this view
    /// refers to, except those dropped since.
    fn periods(&self) -> Vec<Period>;

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError>;

    /// Visits the keys of a half-open range.
    fn scan(
        &self,
        space: Space,
        range: (&[u8], &[u8]),
        order: ScanOrder,
        visit: &mut Visit<'_>,
    ) -> Result<(), IndexError>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScanOrder {
    Ascending,
    Descending,
}

/// A store with one writer and any number of readers.
pub(crate) trait Store: Send + Sync {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError>;

    /// A snapshot of the store. Holds the store open.
    fn view(self: Arc<Self>) -> Box<dyn View>;

    /// Applies a batch atomically. Visible at once, durable after the next [`Store::persist`].
    fn commit(&self, batch: Vec<Write>) -> Result<(), IndexError>;

    /// Bytes on disk of a space, approximately, without what is still in memory.
    fn disk_bytes(&self, space: Space) -> Result<u64, IndexError>;

    /// The periods whose changes are kept, oldest first.
    fn periods(&self) -> Vec<Period>;

    /// Creates the spaces of a new period, durably and at once.
    fn add_period(&self, period: Period) -> Result<(), IndexError>;

    /// Drops a period, durably and at once. Earlier views still have it.
    fn drop_period(&self, period: Period) -> Result<(), IndexError>;

    /// Makes all committed batches durable. After an error it is not retried: the store must be
    /// reopened.
    fn persist(&self) -> Result<(), IndexError>;
}
