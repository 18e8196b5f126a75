//! Limits of the order path, each with its derivation. The design peak is 10,400 orders a second.

use std::time::Duration;

use crate::exchange::wire::MAX_BATCH;

/// Creates waiting to be taken: 0.8 s of the peak. More are refused at once, as answers that late
/// would be useless.
pub(crate) const CREATE_QUEUE_CAPACITY: usize = 8_192;
/// Cancels waiting to be taken. Separate from creates, which therefore cannot starve them.
pub(crate) const CANCEL_QUEUE_CAPACITY: usize = 8_192;
/// Feed messages waiting to be taken: 0.8 s of the peak with two fills an order. When the queue is
/// full, the feed thread goes back to what it could not hand over; prices go on.
pub const FEED_QUEUE_CAPACITY: usize = 16_384;
/// Batches of webhook lines waiting to be taken: up to 1,024 lines of about 200 bytes each, so at
/// most 13 MB. An exchange posts one batch at a time and waits for the answer, so this has room for
/// several exchanges, and for one that gave up waiting.
pub(super) const WEBHOOK_QUEUE_CAPACITY: usize = 64;
/// Mass cancels waiting for the one in progress: there are few operators.
pub(super) const MASS_CANCEL_QUEUE_CAPACITY: usize = 8;
/// Ids of cash movements that the store does not have yet: minutes of what operators send one by one.
/// Beyond this, cash moves no more until the store has caught up.
pub(super) const MAX_CASH_IDS: usize = 65_536;
/// Requests waiting for an answer. All are answered after the reply timeout, so this is 3 s of the
/// peak at the default 150 ms, with room for a stall of the log.
pub(crate) const MAX_WAITING_REPLIES: usize = 32_768;
/// Creates waiting for an answer. The rest is reserved for cancels, so that an exchange that does
/// not answer creates blocks no cancel.
pub(crate) const MAX_WAITING_CREATES: usize = MAX_WAITING_REPLIES - CANCEL_QUEUE_CAPACITY;
/// Orders waiting for a connection to the exchange; beyond this, creates are refused. 3 s of the
/// peak: an order that waits longer would miss its deadline at the exchange anyway.
pub(crate) const MAX_WAITING_SUBMITS: usize = 32_768;
/// Events that are not durable yet. Beyond this, no input is taken until the log has caught up: 13
/// full batches of the log.
pub(crate) const MAX_UNCOMMITTED_EVENTS: u64 = 65_536;
/// Open orders waiting to be queried. The rest follows when these are done.
pub(crate) const MAX_WAITING_RECONCILIATIONS: usize = 1_024;
/// Open orders reconciled at once: one request.
pub(super) const COMPARISONS_AT_ONCE: usize = MAX_BATCH;
/// Least time between two such requests. Reconciling costs the exchange, and the connection shared
/// with cancels, at most 20 requests a second; a million open orders take three minutes.
pub(super) const COMPARISON_PACE: Duration = Duration::from_millis(50);

/// Events that the store does not have yet. Their orders stay in memory and in the log, so beyond
/// this no more orders are taken: two minutes of the peak with three events an order, under 2 GB of
/// memory.
pub(super) const MAX_UNSTORED_EVENTS: u64 = 4 * 1024 * 1024;
/// Ended orders kept in memory, at under 1 KB each. Beyond this the oldest are forgotten early.
pub(super) const MAX_ENDED_IN_MEMORY: usize = 1024 * 1024;
/// Ended orders forgotten per slice, at under 1 us each.
pub(super) const FORGETS_PER_SLICE: usize = 128;
/// Changes, already in the store, forgotten per slice, at 0.2 us each. As many as become durable
/// per slice, so that none pile up.
pub(super) const CHANGES_PER_SLICE: usize = 512;

/// Limits that tests and the simulation lower, to reach them within a few orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OmsLimits {
    /// With `--commit postgres`: effects waiting for Postgres before new orders are refused. Five
    /// seconds of the peak with five effects an order, about 200 MB.
    pub max_held_for_creates: usize,
    /// Newest changes of a user's orders kept in memory until the store has them. A reader further
    /// behind waits for the store.
    pub max_recent_changes: usize,
    /// How often the pause of an order whose query fails alone may double: from the default grace of
    /// two seconds to four minutes.
    pub max_pause_doublings: u32,
}

impl Default for OmsLimits {
    fn default() -> Self {
        Self { max_held_for_creates: 256 * 1024, max_recent_changes: 64, max_pause_doublings: 7 }
    }
}

impl OmsLimits {
    /// Effects waiting for Postgres before lines of the exchange are no longer taken: room for the
    /// orders open at that time. Beyond this the lines are read again from the feed, which the
    /// exchange keeps.
    pub(crate) fn max_held_for_reports(&self) -> usize {
        4 * self.max_held_for_creates
    }

    /// Effects waiting for Postgres before cancels are refused: cancels are the last to be refused.
    pub(crate) fn max_held_for_cancels(&self) -> usize {
        6 * self.max_held_for_creates
    }
}

/// Inputs of one kind taken per slice. At 2-3 us each with encoding, all kinds together take about
/// a millisecond, after which the thread's other tasks run.
pub(crate) const INPUTS_PER_SLICE: usize = 128;
/// Open orders that a mass cancel visits per slice, at 2-3 us for each that it cancels.
pub(super) const MASS_CANCEL_LOOKS_PER_SLICE: usize = 256;
/// Effects executed per slice, at about 1 us each.
pub(crate) const EFFECTS_PER_SLICE: usize = 512;
/// Overdue orders queried per partition and slice.
pub(crate) const LOOKS_PER_SLICE: usize = 16;

const _: () = assert!(CREATE_QUEUE_CAPACITY <= MAX_WAITING_CREATES);
const _: () = assert!(INPUTS_PER_SLICE < CREATE_QUEUE_CAPACITY);
