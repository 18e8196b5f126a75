//! Postgres from the view of the orders thread.

use crate::projection::Progress;

/// Postgres from the view of the orders thread.
#[derive(Debug, Clone)]
pub struct PostgresSide {
    /// How far it follows the log.
    pub progress: Progress,
    /// Whether readers and clients wait for it (`--commit postgres`).
    pub is_awaited: bool,
}
