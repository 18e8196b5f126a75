//! Whether what concurrent clients saw of one order could have happened in one line.
//!
//! An order is a register: created once, then moving on through versions by itself (fills, answers
//! of the exchange) and by its user's cancel. Every request takes effect at one moment between its
//! invocation and its answer. [`check`] searches for such moments (Wing and Gong's algorithm with
//! Lowe's memory of what was tried, the way of Porcupine); where there are none, some client saw
//! what it must not see: an older version after a newer one, no order after its create was
//! answered, an open order after its cancel was confirmed.
//!
//! What it cannot see: a stale answer that a late fill would explain, because clients are not told
//! which fills are late. Only std is used here: tests of the whole program share these files.

mod model;
mod search;
#[cfg(test)]
mod tests;

pub(crate) use model::{Observed, Register, Rules, Status};
pub(crate) use search::check;

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// The order, by its user's own key; the same one again is the same request.
    Create,
    /// The end of the order.
    Cancel,
    /// The order as it is, or a list that it belongs to.
    Read,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The order as it was at some moment during the request.
    Showed(Observed),
    /// There is no such order.
    Absent,
    /// A cancel that took effect.
    Cancelled,
    /// No answer: it may have taken effect, or may yet, or never will.
    Unknown,
}

/// One request and its answer. Times are any numbers that grow; two requests of which one ended
/// before the other began must have them in that order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    /// What was asked for.
    pub request: Request,
    /// What came of it.
    pub outcome: Outcome,
    /// When it was sent, or earlier.
    pub invoked: u64,
    /// When its answer was there, or later. Of no meaning for [`Outcome::Unknown`].
    pub responded: u64,
    /// Who asked, for messages.
    pub client: usize,
}
