//! A linearizability check of what concurrent clients saw of one order.
//!
//! An order is a register: created once, then changing versions by itself (fills, answers of the
//! exchange) and by its user's cancel. Every request takes effect at one moment between its
//! invocation and its response. [`check`] searches for such moments (Wing and Gong's algorithm with
//! Lowe's memoization, as in Porcupine). If there are none, some client saw a violation: an older
//! version after a newer one, no order after its create was answered, or an open order after its
//! cancel was confirmed.
//!
//! It misses a stale answer that a late fill would explain, because clients do not learn which fills
//! are late. Only std is used here: the tests of the whole program share these files.

mod model;
mod search;
#[cfg(test)]
mod tests;

pub(crate) use model::{Observed, Register, Rules, Status};
pub(crate) use search::check;

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Creates the order by its idempotency key; a repetition is the same request.
    Create,
    /// Cancels the order.
    Cancel,
    /// Reads the order, alone or in a list.
    Read,
}

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The order as it was at some moment during the request.
    Showed(Observed),
    /// There is no such order.
    Absent,
    /// A cancel that took effect.
    Cancelled,
    /// No answer: it may have taken effect, may do so later, or never.
    Unknown,
}

/// One request and its answer. Times are increasing numbers: if one request ended before another
/// began, their times must be in that order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    /// The request.
    pub request: Request,
    /// The outcome of a request.
    pub outcome: Outcome,
    /// When it was sent, or earlier.
    pub invoked: u64,
    /// When its answer arrived, or later. Meaningless for [`Outcome::Unknown`].
    pub responded: u64,
    /// The client, for messages.
    pub client: usize,
}
