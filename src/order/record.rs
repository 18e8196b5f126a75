//! The order record that clients read, and its JSON.

use compact_str::CompactString;
use serde::Serialize;

use super::change::Created;
use super::status::{Ending, Facts, Status, reported_status};
use crate::money::{OrderFunds, Reservation};
use crate::types::{
    ClientOrderId, ExternalOrderId, OrderId, OrderType, PriceCents, Shares, Side, Symbol,
    TimeInForce, TimestampMicros, UserId, average_price_cents,
};

/// An order at one version. Serializes to the `Order` of the client contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Longbow's order id.
    pub order_id: OrderId,
    /// The owner. Not part of the JSON: only the owner reads it.
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
    /// Sum of the executions that count. Exceeds `num_shares` only in an over-fill.
    pub filled_shares: Shares,
    /// Total value of those shares, in cents.
    pub filled_value_cents: i64,
    pub status: Status,
    /// Why it failed or was cancelled, unless the user cancelled it.
    pub reason: Option<CompactString>,
    pub created_at: TimestampMicros,
    pub updated_at: TimestampMicros,
    /// Starts at 1; increments with every change.
    pub version: u64,
    /// Deadline: the exchange refuses the order after it.
    pub submit_before: TimestampMicros,
    /// What each share left reserves while the order is open. Not part of the JSON.
    pub reservation: Reservation,
    pub(super) cancel_requested: bool,
    pub(super) ending: Option<Ending>,
    /// A requested cancel took effect once. A late fill may reopen the order until the exchange
    /// repeats the cancel; it still counts as the user's cancel then.
    pub(super) user_cancelled: bool,
    /// The order failed here, was accepted at the exchange nevertheless, and has ended there.
    pub(super) taken_back: bool,
}

impl Order {
    pub(super) fn new(created: &Created) -> Self {
        Self {
            order_id: created.order_id,
            user: created.user.clone(),
            client_order_id: created.client_order_id.clone(),
            external_order_id: None,
            symbol: created.symbol,
            side: created.side,
            time_in_force: created.time_in_force,
            limit_price: created.limit_price,
            num_shares: created.num_shares,
            filled_shares: 0,
            filled_value_cents: 0,
            status: Status::Pending,
            reason: None,
            created_at: created.created_at,
            updated_at: created.created_at,
            version: 1,
            submit_before: created.submit_before,
            reservation: created.reservation,
            cancel_requested: false,
            ending: None,
            user_cancelled: false,
            taken_back: false,
        }
    }

    /// A limit order if there is a limit price, else a market order.
    pub const fn order_type(&self) -> OrderType {
        if self.limit_price.is_some() { OrderType::Limit } else { OrderType::Market }
    }

    /// Shares that may still be filled; zero in an over-fill.
    pub const fn shares_left(&self) -> Shares {
        self.num_shares.saturating_sub(self.filled_shares)
    }

    /// Why it ended with shares left, if it did.
    pub const fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Whether it failed here and is live at the exchange, where it must be cancelled.
    pub fn is_stray(&self) -> bool {
        self.status == Status::Failed
            && self.external_order_id.is_some()
            && !self.taken_back
            && self.shares_left() > 0
    }

    /// Whether the exchange may still change it. Open orders are reconciled after a restart or a
    /// gap.
    pub fn is_open(&self) -> bool {
        !self.status.is_terminal() || self.is_stray()
    }

    /// What its account reserves for it depends on.
    pub fn funds(&self) -> OrderFunds {
        OrderFunds {
            symbol: self.symbol,
            reservation: self.reservation,
            shares_left: self.shares_left(),
            is_open: self.is_open(),
        }
    }

    /// Whether a user's or an operator's cancel has neither taken effect nor been rejected.
    pub fn awaits_cancel(&self) -> bool {
        assert!(
            !(self.cancel_requested && self.status.is_terminal()),
            "an order in a terminal state has no pending cancel"
        );
        self.cancel_requested
    }

    /// Whether a cancel must be sent to the exchange.
    pub fn wants_cancel(&self) -> bool {
        let is_requested = self.status == Status::PendingCancel && self.external_order_id.is_some();
        let wants_cancel = is_requested || self.is_stray();
        assert!(!wants_cancel || self.is_open(), "only an open order is cancelled");
        wants_cancel
    }

    pub(super) fn facts(&self) -> Facts {
        Facts {
            shares_left: self.shares_left(),
            any_filled: self.filled_shares > 0,
            cancel_requested: self.cancel_requested,
            ending: self.ending,
            has_external_id: self.external_order_id.is_some(),
        }
    }

    pub(super) fn refresh_status(&mut self) {
        self.status = reported_status(self.facts());
        self.assert_status();
    }

    /// What each status says about the fields that it is derived from.
    pub(super) fn assert_status(&self) {
        let is_failure = self.ending.is_some_and(Ending::is_failure);
        assert_eq!(
            self.status == Status::Failed,
            is_failure,
            "an order is failed if, and only if, the exchange is not known to have accepted it"
        );
        match self.status {
            Status::Pending => {
                assert!(self.external_order_id.is_none(), "a pending order is not accepted");
                assert_eq!(self.filled_shares, 0, "a pending order has no fills");
            }
            Status::Submitted => {
                assert!(self.external_order_id.is_some(), "a submitted order is accepted");
                assert_eq!(self.filled_shares, 0, "a submitted order has no fills");
            }
            Status::PartiallyFilled => {
                assert!(self.filled_shares > 0, "a partly filled order has fills");
                assert!(self.shares_left() > 0, "a partly filled order has shares left");
            }
            Status::Filled => {
                assert_eq!(self.shares_left(), 0, "a filled order has no shares left")
            }
            Status::PendingCancel => {
                assert!(self.cancel_requested, "a pending cancel was requested");
                assert!(self.shares_left() > 0, "a pending cancel has shares left to cancel");
            }
            Status::Cancelled => {
                assert!(self.ending.is_some(), "a cancelled order has ended");
                assert!(self.shares_left() > 0, "a cancelled order has shares left");
            }
            Status::Failed => assert!(self.ending.is_some(), "a failed order has ended"),
        }
        assert!(
            self.status.is_terminal() || self.ending.is_none(),
            "an order that has ended is in a terminal state"
        );
    }
}

/// The contract's `Order`, field by field in its order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContractOrder<'a> {
    order_id: OrderId,
    client_order_id: Option<&'a ClientOrderId>,
    external_order_id: Option<&'a ExternalOrderId>,
    symbol: Symbol,
    #[serde(rename = "position")]
    side: Side,
    #[serde(rename = "type")]
    order_type: OrderType,
    time_in_force: TimeInForce,
    price_in_cents: Option<PriceCents>,
    num_shares: Shares,
    filled_shares: Shares,
    filled_value_in_cents: i64,
    average_price_in_cents: Option<i64>,
    status: Status,
    reason: Option<&'a str>,
    created_at: TimestampMicros,
    updated_at: TimestampMicros,
    version: u64,
}

impl Serialize for Order {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ContractOrder {
            order_id: self.order_id,
            client_order_id: self.client_order_id.as_ref(),
            external_order_id: self.external_order_id.as_ref(),
            symbol: self.symbol,
            side: self.side,
            order_type: self.order_type(),
            time_in_force: self.time_in_force,
            price_in_cents: self.limit_price,
            num_shares: self.num_shares,
            filled_shares: self.filled_shares,
            filled_value_in_cents: self.filled_value_cents,
            average_price_in_cents: average_price_cents(
                self.filled_value_cents,
                self.filled_shares,
            ),
            status: self.status,
            reason: self.reason.as_deref(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            version: self.version,
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::UserPartition;

    #[test]
    fn the_json_matches_the_contract() {
        let order_id = OrderId::new(1_732_400_000_000_000_000, 7, UserPartition::new(48).unwrap());
        let order = Order::new(&Created {
            order_id,
            user: UserId::new("alice").unwrap(),
            client_order_id: None,
            symbol: Symbol::new("IBM").unwrap(),
            side: Side::Buy,
            limit_price: None,
            time_in_force: TimeInForce::Day,
            num_shares: 3,
            created_at: TimestampMicros::new(1_732_400_000_000_000),
            submit_before: TimestampMicros::new(1_732_400_005_000_000),
            reservation: Reservation::Nothing,
        });
        let json = serde_json::to_string(&order).unwrap();
        let expected = format!(
            "{{\"orderId\":\"{order_id}\",\"clientOrderId\":null,\"externalOrderId\":null,\
             \"symbol\":\"IBM\",\"position\":\"buy\",\"type\":\"market\",\"timeInForce\":\"day\",\
             \"priceInCents\":null,\"numShares\":3,\"filledShares\":0,\"filledValueInCents\":0,\
             \"averagePriceInCents\":null,\"status\":\"pending\",\"reason\":null,\
             \"createdAt\":1732400000000000,\"updatedAt\":1732400000000000,\"version\":1}}"
        );
        assert_eq!(json, expected);
        let filled = Order { filled_shares: 2, filled_value_cents: 101, ..order };
        let json = serde_json::to_value(&filled).unwrap();
        assert_eq!(json["averagePriceInCents"], 50, "half to even");
    }
}
