//! A whole order as a stored record: what its events have made of it, so that they need not be
//! replayed. The bytes are an rkyv record and, last, one byte of format version.

use std::mem;
use std::sync::Arc;

use compact_str::CompactString;
use rkyv::Archive;
use rkyv::api::low::to_bytes_in_with_alloc;
use rkyv::rancor;
use rkyv::ser::allocator::Arena;
use rkyv::util::AlignedVec;

use super::codec::{PAYLOAD_ALIGNMENT, read};
use super::executions::{Execution, Executions};
use super::record::Order;
use super::status::{Ending, Status, reported_status};
use super::tracked::TrackedOrder;
use super::user_field::AsText;
use crate::types::{
    ClientOrderId, ExecutionId, ExternalOrderId, OrderId, Position, PriceCents, Shares, Symbol,
    TimeInForce, TimestampMicros, UserId,
};

/// Version of the stored form of an order written here. Rises with any change to its layout; readers
/// keep reading the one before.
pub const STORED_ORDER_FORMAT: u8 = 1;

/// Why a stored order cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoredOrderError {
    /// Written by a newer program, or damaged.
    #[error("stored order has format {found}: up to {STORED_ORDER_FORMAT} is known here")]
    UnknownFormat {
        /// The version that its last byte gives; 0 for no bytes at all.
        found: u8,
    },
    /// The bytes are not an order.
    #[error("stored order does not hold an order")]
    Invalid(#[source] rancor::Error),
    /// The bytes are an order that no course of events makes.
    #[error("stored order {order_id} contradicts itself: {contradiction}")]
    Contradiction {
        /// The id that it gives.
        order_id: OrderId,
        /// What does not fit together.
        contradiction: &'static str,
    },
    /// An order that does not fit a record.
    #[error("order cannot be stored")]
    Unwritable(#[source] rancor::Error),
}

/// All fields of an order that do not follow from the others. The status does.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct StoredOrder {
    order_id: OrderId,
    #[rkyv(with = AsText)]
    user: UserId,
    client_order_id: Option<ClientOrderId>,
    external_order_id: Option<ExternalOrderId>,
    symbol: Symbol,
    position: Position,
    time_in_force: TimeInForce,
    limit_price: Option<PriceCents>,
    num_shares: Shares,
    filled_shares: Shares,
    filled_value_cents: i64,
    reason: Option<CompactString>,
    created_at: TimestampMicros,
    updated_at: TimestampMicros,
    version: u64,
    submit_before: TimestampMicros,
    cancel_requested: bool,
    ending: Option<Ending>,
    user_cancelled: bool,
    taken_back: bool,
    executions: Vec<StoredExecution>,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct StoredExecution {
    id: ExecutionId,
    execution: Execution,
}

const _: () = assert!(mem::align_of::<<StoredOrder as Archive>::Archived>() <= PAYLOAD_ALIGNMENT);

/// Turns orders into stored records with one arena and one buffer, both reused.
#[derive(Default)]
pub struct StoredOrderEncoder {
    arena: Arena,
    buffer: AlignedVec<PAYLOAD_ALIGNMENT>,
}

impl StoredOrderEncoder {
    /// An encoder with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The stored form of an order, valid until the next call.
    ///
    /// # Errors
    /// [`StoredOrderError::Unwritable`] for a text over rkyv's limits, which no order has.
    pub fn encode(&mut self, tracked: &TrackedOrder) -> Result<&[u8], StoredOrderError> {
        let executions = tracked.executions().iter();
        let executions =
            executions.map(|(id, execution)| StoredExecution { id: id.clone(), execution });
        let mut executions: Vec<_> = executions.collect();
        // The same order has the same bytes.
        executions.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        self.write(StoredOrder::of(tracked.order(), executions))
    }

    /// The stored form of an order as readers see it, valid until the next call: without its
    /// executions, so that nothing more can happen to it.
    ///
    /// # Errors
    /// [`StoredOrderError::Unwritable`] for a text over rkyv's limits, which no order has.
    pub fn encode_version(&mut self, order: &Order) -> Result<&[u8], StoredOrderError> {
        self.write(StoredOrder::of(order, Vec::new()))
    }

    fn write(&mut self, stored: StoredOrder) -> Result<&[u8], StoredOrderError> {
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        self.buffer = to_bytes_in_with_alloc(&stored, buffer, self.arena.acquire())
            .map_err(StoredOrderError::Unwritable)?;
        self.buffer.push(STORED_ORDER_FORMAT);
        Ok(&self.buffer)
    }
}

impl std::fmt::Debug for StoredOrderEncoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.buffer.len();
        formatter.debug_struct("StoredOrderEncoder").field("buffer_bytes", &bytes).finish()
    }
}

/// Reads a stored order: validated, then used. Any bytes either are an order or an error.
///
/// # Errors
/// A format from the future, bytes that are no order, or an order that contradicts itself.
pub fn decode_stored(bytes: &[u8]) -> Result<TrackedOrder, StoredOrderError> {
    let Some((&found, payload)) = bytes.split_last() else {
        return Err(StoredOrderError::UnknownFormat { found: 0 });
    };
    if found == 0 || found > STORED_ORDER_FORMAT {
        return Err(StoredOrderError::UnknownFormat { found });
    }
    read::<StoredOrder>(payload).map_err(StoredOrderError::Invalid)?.into_tracked()
}

/// Reads an order as it was stored without its executions.
///
/// # Errors
/// As [`decode_stored`].
pub fn decode_version(bytes: &[u8]) -> Result<Arc<Order>, StoredOrderError> {
    Ok(Arc::clone(decode_stored(bytes)?.order()))
}

impl StoredOrder {
    fn of(order: &Order, executions: Vec<StoredExecution>) -> Self {
        let Order {
            order_id,
            user,
            client_order_id,
            external_order_id,
            symbol,
            position,
            time_in_force,
            limit_price,
            num_shares,
            filled_shares,
            filled_value_cents,
            status: _,
            reason,
            created_at,
            updated_at,
            version,
            submit_before,
            cancel_requested,
            ending,
            user_cancelled,
            taken_back,
        } = order;
        Self {
            order_id: *order_id,
            user: user.clone(),
            client_order_id: client_order_id.clone(),
            external_order_id: external_order_id.clone(),
            symbol: *symbol,
            position: *position,
            time_in_force: *time_in_force,
            limit_price: *limit_price,
            num_shares: *num_shares,
            filled_shares: *filled_shares,
            filled_value_cents: *filled_value_cents,
            reason: reason.clone(),
            created_at: *created_at,
            updated_at: *updated_at,
            version: *version,
            submit_before: *submit_before,
            cancel_requested: *cancel_requested,
            ending: *ending,
            user_cancelled: *user_cancelled,
            taken_back: *taken_back,
            executions,
        }
    }

    fn into_tracked(self) -> Result<TrackedOrder, StoredOrderError> {
        let order_id = self.order_id;
        let contradiction =
            |contradiction| Err(StoredOrderError::Contradiction { order_id, contradiction });
        if self.symbol.as_str().is_empty() {
            return contradiction("it has no symbol");
        }
        let mut executions = Executions::default();
        for StoredExecution { id, execution } in self.executions {
            if executions.set(id, execution).is_some() {
                return contradiction("an execution stands in it twice");
            }
        }
        let mut order = Order {
            order_id,
            user: self.user,
            client_order_id: self.client_order_id,
            external_order_id: self.external_order_id,
            symbol: self.symbol,
            position: self.position,
            time_in_force: self.time_in_force,
            limit_price: self.limit_price,
            num_shares: self.num_shares,
            filled_shares: self.filled_shares,
            filled_value_cents: self.filled_value_cents,
            status: Status::Pending,
            reason: self.reason,
            created_at: self.created_at,
            updated_at: self.updated_at,
            version: self.version,
            submit_before: self.submit_before,
            cancel_requested: self.cancel_requested,
            ending: self.ending,
            user_cancelled: self.user_cancelled,
            taken_back: self.taken_back,
        };
        order.status = reported_status(order.facts());
        if order.cancel_requested && order.status.is_terminal() {
            return contradiction("it has ended and waits for a cancel");
        }
        Ok(TrackedOrder::stored(Arc::new(order), executions))
    }
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
