use crate::projection::Progress;

/// Postgres as the orders thread sees it.
#[derive(Debug, Clone)]
pub struct PostgresSide {
    /// How far it has come.
    pub progress: Progress,
    /// Whether it has to have an order before anybody hears of it.
    pub is_awaited: bool,
}
