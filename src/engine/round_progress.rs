use crate::types::{OrderId, TimestampMicros};

/// Progress of the rounds.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Progress of the reconciliation.
    pub(super) reconciling: Option<ReconcileCursor>,
    /// Progress of the periodic comparison.
    pub(super) comparing: Option<ReconcileCursor>,
    /// Number of recently ended orders queried in this reconciliation.
    pub(super) ended_reconciled: usize,
    /// Number of the reconciliation: counts the gaps of this run.
    pub(super) reconciliation: u32,
    /// Feed position (session and sequence) and time at the start of the current reconciliation.
    pub(super) reconciles_up_to: ((u32, u64), TimestampMicros),
    /// Another gap was found during a reconciliation: query all orders once more.
    pub(super) reconciles_again: bool,
}

/// Position of a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ReconcileCursor {
    pub(super) partition: usize,
    pub(super) after: Option<OrderId>,
}
