//! The layouts of earlier formats, which readers keep reading. Records: 3 and before had orders
//! without reservations and executions without profits; 2 and before had feed positions without
//! the sessions before. Stored orders: 1 and 2.

use compact_str::CompactString;

use super::case::OpenCase;
use super::change::{Created, FeedPosition};
use super::executions::Execution;
use super::parts::{ExecutionPart, OrderParts};
use super::status::Ending;
use super::user_field::AsText;
use crate::money::Reservation;
use crate::types::{
    ClientOrderId, ExecutionId, ExternalOrderId, OrderId, PriceCents, Shares, Side, Symbol,
    TimeInForce, TimestampMicros, UserId,
};

/// A new order as record formats 1 to 3 have it.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Created3 {
    order_id: OrderId,
    #[rkyv(with = AsText)]
    user: UserId,
    client_order_id: Option<ClientOrderId>,
    symbol: Symbol,
    side: Side,
    limit_price: Option<PriceCents>,
    time_in_force: TimeInForce,
    num_shares: Shares,
    created_at: TimestampMicros,
    submit_before: TimestampMicros,
}

impl From<Created3> for Created {
    fn from(earlier: Created3) -> Self {
        Self {
            order_id: earlier.order_id,
            user: earlier.user,
            client_order_id: earlier.client_order_id,
            symbol: earlier.symbol,
            side: earlier.side,
            limit_price: earlier.limit_price,
            time_in_force: earlier.time_in_force,
            num_shares: earlier.num_shares,
            created_at: earlier.created_at,
            submit_before: earlier.submit_before,
            reservation: Reservation::Nothing,
        }
    }
}

/// An order as record format 3 and formats 1 and 2 of stored orders have it.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct OrderParts2 {
    order_id: OrderId,
    #[rkyv(with = AsText)]
    user: UserId,
    client_order_id: Option<ClientOrderId>,
    external_order_id: Option<ExternalOrderId>,
    symbol: Symbol,
    side: Side,
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
    executions: Vec<ExecutionPart2>,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct ExecutionPart2 {
    id: ExecutionId,
    execution: Execution,
}

impl From<OrderParts2> for OrderParts {
    fn from(earlier: OrderParts2) -> Self {
        let part = |ExecutionPart2 { id, execution }| ExecutionPart {
            id,
            execution,
            profit_cents: Some(0),
        };
        Self {
            order_id: earlier.order_id,
            user: earlier.user,
            client_order_id: earlier.client_order_id,
            external_order_id: earlier.external_order_id,
            symbol: earlier.symbol,
            side: earlier.side,
            time_in_force: earlier.time_in_force,
            limit_price: earlier.limit_price,
            num_shares: earlier.num_shares,
            filled_shares: earlier.filled_shares,
            filled_value_cents: earlier.filled_value_cents,
            reason: earlier.reason,
            created_at: earlier.created_at,
            updated_at: earlier.updated_at,
            version: earlier.version,
            submit_before: earlier.submit_before,
            cancel_requested: earlier.cancel_requested,
            ending: earlier.ending,
            user_cancelled: earlier.user_cancelled,
            taken_back: earlier.taken_back,
            reservation: Reservation::Nothing,
            executions: earlier.executions.into_iter().map(part).collect(),
            cases: Vec::new(),
        }
    }
}

/// The record of an adopted order as format 3 has it.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Adopted3 {
    pub(super) at: TimestampMicros,
    pub(super) parts: OrderParts2,
    pub(super) cases: Vec<OpenCase>,
}

/// A feed position as formats 1 and 2 have it.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct FeedPosition2 {
    session: CompactString,
    sequence: u64,
    at: TimestampMicros,
}

impl From<FeedPosition2> for FeedPosition {
    fn from(FeedPosition2 { session, sequence, at }: FeedPosition2) -> Self {
        Self { session, sequence, at, past: Vec::new() }
    }
}

#[cfg(test)]
#[path = "earlier_tests.rs"]
mod tests;
