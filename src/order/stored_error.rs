//! Why a stored order cannot be read or written.

use rkyv::rancor;

use crate::types::OrderId;

/// Highest format version that this code writes. Any change of the layout increments it; readers
/// keep reading the previous ones.
pub const STORED_ORDER_FORMAT: u8 = 4;

/// Why a stored order cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoredOrderError {
    /// Written by a newer version, or damaged.
    #[error("stored order has format {found}, this version reads up to {STORED_ORDER_FORMAT}")]
    UnknownFormat {
        /// Its last byte; 0 if it is empty.
        found: u8,
    },
    /// The bytes are not an order.
    #[error("stored order cannot be decoded")]
    Invalid(#[source] rancor::Error),
    /// The order is in a state that no sequence of events produces.
    #[error("stored order {order_id} contradicts itself: {contradiction}")]
    Contradiction { order_id: OrderId, contradiction: &'static str },
    /// The order does not fit a record.
    #[error("order cannot be stored")]
    Unwritable(#[source] rancor::Error),
}
