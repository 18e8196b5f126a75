//! Orders and order requests, with the members of Longbow's contract.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::problem::Problem;
use crate::clock::wall_micros;

/// Most shares of an order.
const MAX_SHARES: i64 = 10_000_000;
/// Longest `clientOrderId`, in bytes.
const MAX_CLIENT_ORDER_ID_BYTES: usize = 64;

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Buy,
    Sell,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TimeInForce {
    #[default]
    Day,
    Gtc,
}

/// The body of `POST /order`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewOrder {
    position: Side,
    /// The symbol.
    pub symbol: String,
    num_shares: i64,
    #[serde(default)]
    price_in_cents: Option<i64>,
    #[serde(default)]
    time_in_force: TimeInForce,
    #[serde(default)]
    client_order_id: Option<String>,
}

/// An order, as in responses and in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Order {
    /// A UUIDv7, which sorts by time.
    pub order_id: Uuid,
    #[serde(skip)]
    pub user_id: String,
    pub client_order_id: Option<String>,
    pub external_order_id: Option<String>,
    pub symbol: String,
    pub position: Cow<'static, str>,
    #[serde(rename = "type")]
    pub order_type: &'static str,
    pub time_in_force: Cow<'static, str>,
    pub price_in_cents: Option<i64>,
    pub num_shares: i64,
    pub filled_shares: i64,
    pub filled_value_in_cents: i64,
    pub average_price_in_cents: Option<i64>,
    pub status: Cow<'static, str>,
    pub reason: Option<String>,
    /// Microseconds since the Unix epoch.
    pub created_at: i64,
    /// Last change, in the same unit.
    pub updated_at: i64,
    pub version: i64,
}

impl NewOrder {
    /// A user's new order, `pending`.
    ///
    /// # Errors
    /// A member is out of range.
    pub(super) fn of_user(self, user_id: String) -> Result<Order, Problem> {
        if !(1..=MAX_SHARES).contains(&self.num_shares) {
            return Err(Problem::invalid("numShares must be from 1 to 10000000"));
        }
        if self.price_in_cents.is_some_and(|cents| cents < 1) {
            return Err(Problem::invalid("priceInCents must be at least 1"));
        }
        let is_usable = |id: &String| (1..=MAX_CLIENT_ORDER_ID_BYTES).contains(&id.len());
        if self.client_order_id.as_ref().is_some_and(|id| !is_usable(id)) {
            return Err(Problem::invalid("clientOrderId must have 1 to 64 bytes"));
        }
        let now = now_micros();
        Ok(Order {
            order_id: Uuid::now_v7(),
            user_id,
            client_order_id: self.client_order_id,
            external_order_id: None,
            symbol: self.symbol,
            position: match self.position {
                Side::Buy => "buy".into(),
                Side::Sell => "sell".into(),
            },
            order_type: order_type(self.price_in_cents),
            time_in_force: match self.time_in_force {
                TimeInForce::Day => "day".into(),
                TimeInForce::Gtc => "gtc".into(),
            },
            price_in_cents: self.price_in_cents,
            num_shares: self.num_shares,
            filled_shares: 0,
            filled_value_in_cents: 0,
            average_price_in_cents: None,
            status: "pending".into(),
            reason: None,
            created_at: now,
            updated_at: now,
            version: 1,
        })
    }
}

impl Order {
    /// The exchange accepted it.
    pub(super) fn accept(&mut self, external_order_id: String) {
        self.external_order_id = Some(external_order_id);
        self.change("submitted");
    }

    /// The exchange refused it.
    pub(super) fn reject(&mut self, reason: String) {
        self.reason = Some(reason);
        self.change("failed");
    }

    fn change(&mut self, status: &'static str) {
        self.status = status.into();
        self.updated_at = now_micros();
        self.version += 1;
    }
}

/// The order type, from the limit.
#[must_use]
pub(super) const fn order_type(limit: Option<i64>) -> &'static str {
    if limit.is_some() { "limit" } else { "market" }
}

fn now_micros() -> i64 {
    i64::try_from(wall_micros()).unwrap_or(i64::MAX)
}
