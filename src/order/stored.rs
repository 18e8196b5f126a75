//! The stored form of an order: its state after all its events, so that they need no replay. An
//! rkyv record followed by one byte of format version.

use std::mem;
use std::sync::Arc;

use compact_str::CompactString;
use rkyv::Archive;
use rkyv::api::low::to_bytes_in_with_alloc;
use rkyv::rancor::{self, Source};
use rkyv::ser::allocator::Arena;
use rkyv::util::AlignedVec;

use super::case::OpenCase;
use super::executions::{Execution, Executions};
use super::payload::{PAYLOAD_ALIGNMENT, read};
use super::record::Order;
use super::status::{Ending, Status};
use super::tracked::TrackedOrder;
use super::user_field::AsText;
use crate::types::{
    ClientOrderId, ExecutionId, ExternalOrderId, OrderId, PriceCents, Shares, Side, Symbol,
    TimeInForce, TimestampMicros, UserId,
};

/// Format version that this code writes. Any change of the layout increments it; readers keep
/// reading the previous one.
pub const STORED_ORDER_FORMAT: u8 = 2;
/// An order without open cases, as nearly all are.
const WITHOUT_CASES: u8 = 1;
/// An order, its open cases, and the length of the cases as a little-endian `u32`.
const WITH_CASES: u8 = STORED_ORDER_FORMAT;

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

/// All fields of an order that cannot be derived from others, and its executions: what any store
/// must keep. The status is derived.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct OrderParts {
    /// Longbow's order id.
    pub order_id: OrderId,
    #[rkyv(with = AsText)]
    pub user: UserId,
    /// The client's idempotency key.
    pub client_order_id: Option<ClientOrderId>,
    /// The exchange's id, once accepted.
    pub external_order_id: Option<ExternalOrderId>,
    pub symbol: Symbol,
    pub side: Side,
    pub time_in_force: TimeInForce,
    /// `None` for a market order.
    pub limit_price: Option<PriceCents>,
    pub num_shares: Shares,
    /// Sum of the executions that count.
    pub filled_shares: Shares,
    /// Total value of those shares, in cents.
    pub filled_value_cents: i64,
    /// Why it failed or was cancelled, unless the user cancelled it.
    pub reason: Option<CompactString>,
    pub created_at: TimestampMicros,
    pub updated_at: TimestampMicros,
    /// Starts at 1; increments with every change.
    pub version: u64,
    /// Deadline: the exchange refuses the order after it.
    pub submit_before: TimestampMicros,
    /// A cancel was requested and has no outcome yet.
    pub cancel_requested: bool,
    /// Why it ended with shares left, if it did.
    pub ending: Option<Ending>,
    /// A requested cancel took effect once.
    pub user_cancelled: bool,
    /// It failed here, was accepted at the exchange nevertheless, and has ended there.
    pub taken_back: bool,
    /// The distinct executions, in any order. Empty in a stored version for readers.
    pub executions: Vec<ExecutionPart>,
    /// Cases awaiting a decision. They follow the record of the other fields.
    #[rkyv(with = rkyv::with::Skip)]
    pub cases: Vec<OpenCase>,
}

/// One execution of an order.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ExecutionPart {
    pub id: ExecutionId,
    pub execution: Execution,
}

const _: () = assert!(mem::align_of::<<OrderParts as Archive>::Archived>() <= PAYLOAD_ALIGNMENT);

/// Encodes orders, reusing one arena and one buffer.
#[derive(Default)]
pub struct StoredOrderEncoder {
    arena: Arena,
    buffer: AlignedVec<PAYLOAD_ALIGNMENT>,
}

impl StoredOrderEncoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes an order. The bytes are valid until the next call.
    ///
    /// # Errors
    /// [`StoredOrderError::Unwritable`] for a text beyond rkyv's limits, which no order has.
    pub fn encode(&mut self, tracked: &TrackedOrder) -> Result<&[u8], StoredOrderError> {
        let bytes = self.write(OrderParts::of_tracked(tracked))?;
        debug_assert!(
            decode_stored(bytes)
                .is_ok_and(|read| OrderParts::of_tracked(&read) == OrderParts::of_tracked(tracked)),
            "what is stored can be read: {tracked:?}"
        );
        Ok(bytes)
    }

    /// Encodes one version of an order for readers, without its executions: it takes no further
    /// changes. The bytes are valid until the next call.
    ///
    /// # Errors
    /// [`StoredOrderError::Unwritable`] for a text beyond rkyv's limits, which no order has.
    pub fn encode_version(&mut self, order: &Order) -> Result<&[u8], StoredOrderError> {
        let bytes = self.write(OrderParts::of_order(order))?;
        debug_assert!(
            decode_version(bytes).is_ok_and(|read| *read == *order),
            "what is stored can be read: {order:?}"
        );
        Ok(bytes)
    }

    fn write(&mut self, stored: OrderParts) -> Result<&[u8], StoredOrderError> {
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        self.buffer = to_bytes_in_with_alloc(&stored, buffer, self.arena.acquire())
            .map_err(StoredOrderError::Unwritable)?;
        if stored.cases.is_empty() {
            self.buffer.push(WITHOUT_CASES);
            return Ok(&self.buffer);
        }
        let cases =
            rkyv::to_bytes::<rancor::Error>(&stored.cases).map_err(StoredOrderError::Unwritable)?;
        let Ok(length) = u32::try_from(cases.len()) else {
            unreachable!("open cases are bounded in number and size: {} bytes", cases.len());
        };
        self.buffer.extend_from_slice(&cases);
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.push(WITH_CASES);
        Ok(&self.buffer)
    }
}

impl std::fmt::Debug for StoredOrderEncoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.buffer.len();
        formatter.debug_struct("StoredOrderEncoder").field("buffer_bytes", &bytes).finish()
    }
}

/// Decodes and validates a stored order. Any bytes yield an order or an error, never a panic.
///
/// # Errors
/// A newer format, invalid bytes, or an order that contradicts itself.
pub fn decode_stored(bytes: &[u8]) -> Result<TrackedOrder, StoredOrderError> {
    // Bytes of a file may be anything.
    let Some((&found, payload)) = bytes.split_last() else {
        return Err(StoredOrderError::UnknownFormat { found: 0 });
    };
    match found {
        WITHOUT_CASES => {
            read::<OrderParts>(payload).map_err(StoredOrderError::Invalid)?.into_tracked()
        }
        WITH_CASES => decode_with_cases(payload)?.into_tracked(),
        _ => Err(StoredOrderError::UnknownFormat { found }),
    }
}

fn decode_with_cases(payload: &[u8]) -> Result<OrderParts, StoredOrderError> {
    let truncated = || StoredOrderError::Invalid(rancor::Error::new(TruncatedCases));
    let (payload, length) = payload.split_last_chunk().ok_or_else(truncated)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| truncated())?;
    let parts_end = payload.len().checked_sub(length).ok_or_else(truncated)?;
    let (parts, cases) = payload.split_at_checked(parts_end).ok_or_else(truncated)?;
    let mut parts = read::<OrderParts>(parts).map_err(StoredOrderError::Invalid)?;
    parts.cases = read(cases).map_err(StoredOrderError::Invalid)?;
    Ok(parts)
}

#[derive(Debug, thiserror::Error)]
#[error("the open cases are truncated")]
struct TruncatedCases;

/// Decodes an order that was stored without its executions.
///
/// # Errors
/// As [`decode_stored`].
pub fn decode_version(bytes: &[u8]) -> Result<Arc<Order>, StoredOrderError> {
    Ok(Arc::clone(decode_stored(bytes)?.order()))
}

impl OrderParts {
    /// The parts of an order, with executions sorted by id.
    pub fn of_tracked(tracked: &TrackedOrder) -> Self {
        let executions = tracked.executions().iter();
        let executions =
            executions.map(|(id, execution)| ExecutionPart { id: id.clone(), execution });
        let mut executions: Vec<_> = executions.collect();
        // Equal orders have equal bytes.
        executions.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(executions.len(), tracked.executions().len(), "every execution is stored");
        debug_assert!(
            executions.is_sorted_by(|one, next| one.id < next.id),
            "an execution is stored once"
        );
        Self { cases: tracked.cases().to_vec(), ..Self::from_order(tracked.order(), executions) }
    }

    /// The parts of an order without its executions.
    pub fn of_order(order: &Order) -> Self {
        Self::from_order(order, Vec::new())
    }

    fn from_order(order: &Order, executions: Vec<ExecutionPart>) -> Self {
        let Order {
            order_id,
            user,
            client_order_id,
            external_order_id,
            symbol,
            side,
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
            side: *side,
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
            cases: Vec::new(),
        }
    }

    /// Assembles the order.
    ///
    /// # Errors
    /// [`StoredOrderError::Contradiction`] if no sequence of events produces the order.
    pub fn into_tracked(self) -> Result<TrackedOrder, StoredOrderError> {
        let order_id = self.order_id;
        let contradiction =
            |contradiction| Err(StoredOrderError::Contradiction { order_id, contradiction });
        if self.symbol.as_str().is_empty() {
            return contradiction("it has no symbol");
        }
        let mut executions = Executions::default();
        let listed = self.executions.len();
        for ExecutionPart { id, execution } in self.executions {
            if executions.set(id, execution).is_some() {
                return contradiction("an execution is listed twice");
            }
        }
        assert_eq!(executions.len(), listed, "every execution that is listed once is kept");
        let mut order = Order {
            order_id,
            user: self.user,
            client_order_id: self.client_order_id,
            external_order_id: self.external_order_id,
            symbol: self.symbol,
            side: self.side,
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
        order.refresh_status();
        if order.cancel_requested && order.status.is_terminal() {
            return contradiction("a terminal state with a pending cancel");
        }
        Ok(TrackedOrder::stored(Arc::new(order), executions, self.cases))
    }
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
