use serde::{Deserialize, Serialize};

use crate::types::{ExecutionId, PriceCents, Shares, TimestampMicros};

/// An execution.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub struct Fill {
    /// An id counts once per order.
    pub execution_id: ExecutionId,
    /// Price of one share.
    pub price: PriceCents,
    pub num_shares: Shares,
    /// Time of the trade at the exchange.
    pub executed_at: TimestampMicros,
}

impl Fill {
    /// Whether both have the same id, shares and price.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.execution_id, self.num_shares, self.price)
            == (&other.execution_id, other.num_shares, other.price)
    }
}
