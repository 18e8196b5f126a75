//! Every bound of the order path, with where it comes from. The peak that is built for is 10,400
//! orders a second.

use std::time::Duration;

use crate::exchange::wire::MAX_BATCH;

/// Creates that wait to be taken: 0.8 s of the peak. More are refused at once: an answer that late
/// would be none.
pub(crate) const CREATE_QUEUE_CAPACITY: usize = 8_192;
/// Cancels that wait to be taken. Apart from creates, which therefore cannot starve them.
pub(crate) const CANCEL_QUEUE_CAPACITY: usize = 8_192;
/// Feed messages that wait to be taken: 0.8 s of the peak with two fills an order. When it is full
/// the feed thread goes back to what it could not hand over; prices go on.
pub const FEED_QUEUE_CAPACITY: usize = 16_384;
/// Batches of webhook lines that wait to be taken: with up to 1,024 lines of some 200 bytes each at
/// most 13 MB. An exchange posts a batch at a time and waits for the answer, so this is room for
/// several that do, and for one that gave up waiting.
pub(super) const WEBHOOK_QUEUE_CAPACITY: usize = 64;
/// Mass cancels that wait for the one under work: there are few operators.
pub(super) const MASS_CANCEL_QUEUE_CAPACITY: usize = 8;
/// Requests that wait for an answer. Everybody is answered after the reply timeout, so this is
/// 3 s of the peak at the usual 150 ms with room for a stall of the log.
pub(crate) const MAX_WAITING_REPLIES: usize = 32_768;
/// Creates that wait for an answer, at most: the rest is for cancels, so that an exchange which does
/// not answer creates keeps nobody from getting out.
pub(crate) const MAX_WAITING_CREATES: usize = MAX_WAITING_REPLIES - CANCEL_QUEUE_CAPACITY;
/// Orders that wait for a connection to the exchange; more creates are refused. 3 s of the peak:
/// what waits longer would miss its deadline at the exchange anyway.
pub(crate) const MAX_WAITING_SUBMITS: usize = 32_768;
/// Events that are not durable yet. Beyond it nothing more is taken until the log has caught up:
/// 13 full batches of it.
pub(crate) const MAX_UNCOMMITTED_EVENTS: u64 = 65_536;
/// Open orders that wait to be asked about. The rest is asked about when these are.
pub(crate) const MAX_WAITING_RECONCILIATIONS: usize = 1_024;
/// Open orders compared with the exchange's record in one go: one request.
pub(super) const COMPARISONS_AT_ONCE: usize = MAX_BATCH;
/// How long after one such request the next may follow. Comparing costs the exchange and the
/// connection that cancels go over at most 20 requests a second, and a million open orders take
/// three minutes.
pub(super) const COMPARISON_PACE: Duration = Duration::from_millis(50);

/// Events that the store has not followed yet. What it does not have stays in memory and in the
/// log, so beyond this no more orders are taken: two minutes of the peak with three events an
/// order, under 2 GB of memory.
pub(super) const MAX_UNSTORED_EVENTS: u64 = 4 * 1024 * 1024;
/// Orders that have ended and are kept in memory all the same, at under 1 KB each. Beyond it the
/// oldest are forgotten before their time.
pub(super) const MAX_ENDED_IN_MEMORY: usize = 1024 * 1024;
/// Ended orders forgotten in one slice, at under 1 us each.
pub(super) const FORGETS_PER_SLICE: usize = 128;
/// Changes that the store has and that are forgotten in one slice, at 0.2 us each. As many as become
/// durable in a slice, so that none pile up.
pub(super) const CHANGES_PER_SLICE: usize = 512;

/// Limits that a test or a simulation lowers, to get there within a few orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OmsLimits {
    /// Effects that wait for Postgres, where it is awaited, before new orders are refused: five seconds
    /// of the peak with five effects an order, some 200 MB.
    pub max_held_for_creates: usize,
    /// Newest changes of a user's orders that memory keeps until the store has them. A reader that lags
    /// further behind one user's changes waits for the store.
    pub max_recent_changes: usize,
    /// How often the pause before the exchange is asked again about an order that fails alone doubles:
    /// from the usual grace of two seconds to four minutes.
    pub max_pause_doublings: u32,
}

impl Default for OmsLimits {
    fn default() -> Self {
        Self { max_held_for_creates: 256 * 1024, max_recent_changes: 64, max_pause_doublings: 7 }
    }
}

impl OmsLimits {
    /// Effects that wait for Postgres before lines of the exchange are not taken any more: room for
    /// what the orders do that are open then. The exchange keeps the lines beyond it in its feed.
    pub(crate) fn max_held_for_reports(&self) -> usize {
        4 * self.max_held_for_creates
    }

    /// Effects that wait for Postgres before cancels are refused, last of all: a client gets out of
    /// an order for as long as memory allows.
    pub(crate) fn max_held_for_cancels(&self) -> usize {
        6 * self.max_held_for_creates
    }
}

/// Inputs of one kind taken in one slice. At 2-3 us each with encoding, all kinds together stay
/// near a millisecond, after which everything else on the thread has its turn.
pub(crate) const INPUTS_PER_SLICE: usize = 128;
/// Open orders that a mass cancel looks at in one slice, at 2-3 us for each that it has to cancel.
pub(super) const MASS_CANCEL_LOOKS_PER_SLICE: usize = 256;
/// Effects done in one slice, at about 1 us each.
pub(crate) const EFFECTS_PER_SLICE: usize = 512;
/// Overdue orders of each partition asked about in one slice.
pub(crate) const LOOKS_PER_SLICE: usize = 16;

const _: () = assert!(CREATE_QUEUE_CAPACITY <= MAX_WAITING_CREATES);
const _: () = assert!(INPUTS_PER_SLICE < CREATE_QUEUE_CAPACITY);
