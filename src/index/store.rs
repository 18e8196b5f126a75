//! The seam to the store below: spaces of sorted keys, written in atomic batches. fjall in earnest;
//! in tests and simulations a store in memory that forgets what was not persisted.

use std::sync::Arc;

use super::IndexError;

/// Bytes of a key or a value, cheap to clone; short ones without a heap block.
pub(super) type Bytes = fjall::Slice;

/// The parts of the store. Their names are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Space {
    /// Orders that the exchange may still change, by partition and id.
    Open,
    /// All others, by id.
    Ended,
    /// The ids of those, by user and id.
    History,
    /// Order ids by user and the user's own key.
    Keys,
    /// Order ids by the exchange's id.
    External,
    /// What belongs to no order: position, feed, unmatched reports, cancelled orders.
    Node,
    /// Changes of some time, by user and record of the log.
    Changes(Period),
    /// Orders as those changes have left them, many to a key, by record of the log.
    Versions(Period),
}

/// A stretch of the log, whose changes are kept together and dropped together: from one record on,
/// up to the next period. Ordered by that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Period {
    /// Its first record of the log.
    pub(super) first: u64,
    /// When that was recorded, in microseconds.
    pub(super) start_micros: u64,
}

/// One write of a batch: a value, or `None` to remove the key. A batch has each key at most once.
/// Ordered by place: neighbours written one after the other are found faster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Write {
    pub(super) space: Space,
    pub(super) key: Bytes,
    pub(super) value: Option<Bytes>,
}

/// Takes a key and its value; false ends the scan.
pub(super) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, IndexError> + 'a;

/// The store as it stands at one moment.
pub(super) trait View {
    /// The periods whose changes are kept, oldest first. Each one that anything in this view was
    /// written into is among them, unless it was dropped meanwhile.
    fn periods(&self) -> Vec<Period>;

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError>;

    /// Visits the keys from one on to another, which is not among them.
    fn scan(
        &self,
        space: Space,
        range: (&[u8], &[u8]),
        order: ScanOrder,
        visit: &mut Visit<'_>,
    ) -> Result<(), IndexError>;
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanOrder {
    Ascending,
    Descending,
}

/// A store. One thread writes, any number read.
pub(super) trait Store: Send + Sync {
    /// The newest value of a key.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError>;

    /// All of the store at this moment. Holds the store open.
    fn view(self: Arc<Self>) -> Box<dyn View>;

    /// Takes all of a batch or nothing. Visible at once, durable after the next [`Store::persist`].
    fn commit(&self, batch: Vec<Write>) -> Result<(), IndexError>;

    /// About how many bytes of disk a space takes, without what is still in memory.
    fn disk_bytes(&self, space: Space) -> Result<u64, IndexError>;

    /// The periods whose changes are kept, oldest first.
    fn periods(&self) -> Vec<Period>;

    /// Makes room for the changes of another period, durably and at once.
    fn add_period(&self, period: Period) -> Result<(), IndexError>;

    /// Drops the changes of a period, durably and at once. Views that were taken before still have
    /// them.
    fn drop_period(&self, period: Period) -> Result<(), IndexError>;

    /// Makes all that was committed durable. Not tried again after an error: the store has to be
    /// opened again then.
    fn persist(&self) -> Result<(), IndexError>;
}
