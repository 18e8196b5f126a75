//! A whole order as a stored record: what its events have made of it, so that they need not be
//! replayed. The bytes are an rkyv record and, last, one byte of format version.

use std::mem;
use std::sync::Arc;

use compact_str::CompactString;
use rkyv::Archive;
use rkyv::api::low::to_bytes_in_with_alloc;
use rkyv::rancor::{self, Source};
use rkyv::ser::allocator::Arena;
use rkyv::util::AlignedVec;

use super::case::OpenCase;
use super::codec::{PAYLOAD_ALIGNMENT, read};
use super::executions::{Execution, Executions};
use super::record::Order;
use super::status::{Ending, Status, reported_status};
use super::tracked::TrackedOrder;
use super::user_field::AsText;
use crate::types::{
    ClientOrderId, ExecutionId, ExternalOrderId, OrderId, PriceCents, Shares, Side, Symbol,
    TimeInForce, TimestampMicros, UserId,
};

/// Version of the stored form of an order written here. Rises with any change to its layout; readers
/// keep reading the one before.
pub const STORED_ORDER_FORMAT: u8 = 2;
/// An order without open cases, as nearly all are: its parts alone.
const WITHOUT_CASES: u8 = 1;
/// Its parts, its open cases, and how many bytes those take, as a `u32` in little endian.
const WITH_CASES: u8 = STORED_ORDER_FORMAT;

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

/// All fields of an order that do not follow from the others, and its executions: what any store
/// has to keep. The status follows.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct OrderParts {
    /// Our id.
    pub order_id: OrderId,
    /// Whose order.
    #[rkyv(with = AsText)]
    pub user: UserId,
    /// The user's own key.
    pub client_order_id: Option<ClientOrderId>,
    /// The exchange's id, once it accepted.
    pub external_order_id: Option<ExternalOrderId>,
    /// What to trade.
    pub symbol: Symbol,
    /// Buy or sell.
    pub side: Side,
    /// How long it stays.
    pub time_in_force: TimeInForce,
    /// The limit; a market order has none.
    pub limit_price: Option<PriceCents>,
    /// Shares to trade.
    pub num_shares: Shares,
    /// Sum of the executions that count.
    pub filled_shares: Shares,
    /// What those cost together, in cents.
    pub filled_value_cents: i64,
    /// Why it failed or was cancelled, where that is not the user's own doing.
    pub reason: Option<CompactString>,
    /// When it was recorded.
    pub created_at: TimestampMicros,
    /// When it last changed.
    pub updated_at: TimestampMicros,
    /// Rises with every change; starts at 1.
    pub version: u64,
    /// What the exchange has not accepted by then it never will.
    pub submit_before: TimestampMicros,
    /// Its user asked to cancel it and has no outcome yet.
    pub cancel_requested: bool,
    /// Why it ended with shares left, if it did.
    pub ending: Option<Ending>,
    /// A cancel that its user asked for took effect once.
    pub user_cancelled: bool,
    /// It failed here, was accepted there all the same, and has ended there too.
    pub taken_back: bool,
    /// The distinct executions, in any order; none where one version of many is kept.
    pub executions: Vec<ExecutionPart>,
    /// What waits for a decision. Not part of the record of the others: it follows it.
    #[rkyv(with = rkyv::with::Skip)]
    pub cases: Vec<OpenCase>,
}

/// One execution of an order, as any store has to keep it.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ExecutionPart {
    /// The exchange's id.
    pub id: ExecutionId,
    /// What it did.
    pub execution: Execution,
}

const _: () = assert!(mem::align_of::<<OrderParts as Archive>::Archived>() <= PAYLOAD_ALIGNMENT);

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
        self.write(OrderParts::of_tracked(tracked))
    }

    /// The stored form of an order as readers see it, valid until the next call: without its
    /// executions, so that nothing more can happen to it.
    ///
    /// # Errors
    /// [`StoredOrderError::Unwritable`] for a text over rkyv's limits, which no order has.
    pub fn encode_version(&mut self, order: &Order) -> Result<&[u8], StoredOrderError> {
        self.write(OrderParts::of_order(order))
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
            // Cases are bounded in number and size, far below.
            return Err(StoredOrderError::UnknownFormat { found: WITH_CASES });
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

/// Reads a stored order: validated, then used. Any bytes either are an order or an error.
///
/// # Errors
/// A format from the future, bytes that are no order, or an order that contradicts itself.
pub fn decode_stored(bytes: &[u8]) -> Result<TrackedOrder, StoredOrderError> {
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
    let too_short = || StoredOrderError::Invalid(rancor::Error::new(CasesCutShort));
    let (payload, length) = payload.split_last_chunk().ok_or_else(too_short)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| too_short())?;
    let parts_end = payload.len().checked_sub(length).ok_or_else(too_short)?;
    let (parts, cases) = payload.split_at_checked(parts_end).ok_or_else(too_short)?;
    let mut parts = read::<OrderParts>(parts).map_err(StoredOrderError::Invalid)?;
    parts.cases = read(cases).map_err(StoredOrderError::Invalid)?;
    Ok(parts)
}

#[derive(Debug, thiserror::Error)]
#[error("its open cases are cut short")]
struct CasesCutShort;

/// Reads an order as it was stored without its executions.
///
/// # Errors
/// As [`decode_stored`].
pub fn decode_version(bytes: &[u8]) -> Result<Arc<Order>, StoredOrderError> {
    Ok(Arc::clone(decode_stored(bytes)?.order()))
}

impl OrderParts {
    /// The parts of an order, its executions by their ids.
    pub fn of_tracked(tracked: &TrackedOrder) -> Self {
        let executions = tracked.executions().iter();
        let executions =
            executions.map(|(id, execution)| ExecutionPart { id: id.clone(), execution });
        let mut executions: Vec<_> = executions.collect();
        // The same order has the same bytes.
        executions.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        Self { cases: tracked.cases().to_vec(), ..Self::of(tracked.order(), executions) }
    }

    /// The parts of an order, without its executions.
    pub fn of_order(order: &Order) -> Self {
        Self::of(order, Vec::new())
    }

    fn of(order: &Order, executions: Vec<ExecutionPart>) -> Self {
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

    /// The order that the parts make.
    ///
    /// # Errors
    /// [`StoredOrderError::Contradiction`] where no course of events leads to such an order.
    pub fn into_tracked(self) -> Result<TrackedOrder, StoredOrderError> {
        let order_id = self.order_id;
        let contradiction =
            |contradiction| Err(StoredOrderError::Contradiction { order_id, contradiction });
        if self.symbol.as_str().is_empty() {
            return contradiction("it has no symbol");
        }
        let mut executions = Executions::default();
        for ExecutionPart { id, execution } in self.executions {
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
        order.status = reported_status(order.facts());
        if order.cancel_requested && order.status.is_terminal() {
            return contradiction("it has ended and waits for a cancel");
        }
        Ok(TrackedOrder::stored(Arc::new(order), executions, self.cases))
    }
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
