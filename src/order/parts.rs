//! The parts that an order is stored in.

use std::sync::Arc;

use compact_str::CompactString;

use super::case::OpenCase;
use super::executions::{Execution, Executions};
use super::record::Order;
use super::status::{Ending, Status};
use super::stored_error::StoredOrderError;
use super::tracked::TrackedOrder;
use super::user_field::AsText;
use crate::money::{Booked, Reservation};
use crate::types::{
    ClientOrderId, ExecutionId, ExternalOrderId, OrderId, PriceCents, Shares, Side, Symbol,
    TimeInForce, TimestampMicros, UserId,
};

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
    /// What each share left reserves while the order is open.
    pub reservation: Reservation,
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
    /// The profit that it realized, in cents; 0 if it does not count, or counted before there were
    /// accounts. `None` if it is not in its account: its amounts are beyond it.
    pub profit_cents: Option<i64>,
}

impl OrderParts {
    /// The parts of an order, with executions sorted by id.
    pub fn of_tracked(tracked: &TrackedOrder) -> Self {
        let executions = tracked.executions().iter_booked();
        let executions = executions.map(|(id, execution, booked)| ExecutionPart {
            id: id.clone(),
            execution,
            profit_cents: booked.map(|booked| booked.profit_cents),
        });
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
            reservation,
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
            reservation: *reservation,
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
        if matches!(self.reservation, Reservation::Cash(price) if !is_price(price)) {
            return contradiction("it reserves at no price");
        }
        let mut executions = Executions::default();
        let listed = self.executions.len();
        for ExecutionPart { id, execution, profit_cents } in self.executions {
            if execution.counted().is_none() && profit_cents != Some(0) {
                return contradiction("an execution that does not count has made a profit");
            }
            let booked = profit_cents.map(|profit_cents| Booked { profit_cents });
            if executions.insert(id, execution, booked).is_some() {
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
            reservation: self.reservation,
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

/// Bytes of a file may have any number as a price.
fn is_price(price: PriceCents) -> bool {
    PriceCents::new(price.cents()).is_ok()
}
