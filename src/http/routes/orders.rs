//! The routes of one order: `POST /order`, `GET` and `DELETE /order/:id`.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::engine::AccountMode;
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::fields::{Fields, whole};
use crate::http::problem::{HttpResponse, Problem, excerpt, json_response};
use crate::http::query::Query;
use crate::money::Refusal;
use crate::oms::{CancelReply, CreateOrder, CreateReply, HaltScope, StoreUnavailable};
use crate::order::Order;
use crate::types::{
    ClientOrderId, MAX_ORDER_SHARES, MAX_PRICE_CENTS, OrderId, PriceCents, Shares, Side, Symbol,
    TimeInForce, TimestampMicros,
};

const A_SYMBOL: &str = "a symbol of 1 to 15 letters, digits, '.', '-' and '/'";
pub(super) const A_KEY: &str = "an id of 1 to 64 printable ASCII characters without spaces";

/// The body of `POST /order`.
#[derive(Debug, PartialEq)]
pub(in crate::http) struct NewOrder {
    pub(super) side: Side,
    pub(super) symbol: Symbol,
    pub(super) num_shares: Shares,
    pub(super) price_in_cents: Option<PriceCents>,
    time_in_force: TimeInForce,
    client_order_id: Option<ClientOrderId>,
}

impl NewOrder {
    pub(crate) fn read(body: &[u8]) -> Result<Self, Problem> {
        const KNOWN: [&str; 6] =
            ["position", "symbol", "numShares", "priceInCents", "timeInForce", "clientOrderId"];
        let fields = Fields::parse(body, &KNOWN)?;
        let side = fields.required("position", "\"buy\" or \"sell\"", |value| {
            value.as_str()?.parse::<Side>().ok()
        })?;
        let in_any_case = |value: &Value| Symbol::in_any_case(value.as_str()?).ok();
        let symbol = fields.required("symbol", A_SYMBOL, in_any_case)?;
        let allowed = format!("a whole number from 1 to {MAX_ORDER_SHARES}");
        let num_shares = fields.required("numShares", &allowed, |value| {
            let shares = u64::try_from(whole(value)?).ok();
            shares.filter(|shares| (1..=MAX_ORDER_SHARES).contains(shares))
        })?;
        // JavaScript writes a price it could not compute (`NaN`) as `null`: that is not a market
        // order.
        if fields.is_null("priceInCents") {
            let detail = "null is not a price. Omit the field for a market order.";
            return Err(Problem::field("priceInCents", "invalid_field", detail));
        }
        let allowed = format!("a whole number of cents from 1 to {MAX_PRICE_CENTS}");
        let price = |value: &Value| PriceCents::new(whole(value)?).ok();
        let price_in_cents = fields.optional("priceInCents", &allowed, price)?;
        let time_in_force = fields.optional("timeInForce", "\"day\" or \"gtc\"", |value| {
            value.as_str()?.parse::<TimeInForce>().ok()
        })?;
        let key = |value: &Value| ClientOrderId::new(value.as_str()?).ok();
        let client_order_id = fields.optional("clientOrderId", A_KEY, key)?;
        let time_in_force = time_in_force.unwrap_or_default();
        Ok(Self { side, symbol, num_shares, price_in_cents, time_in_force, client_order_id })
    }
}

/// Whether the body of `POST /order` has a `clientOrderId`, which makes it safe to repeat.
pub(in crate::http) fn has_key(body: &[u8]) -> bool {
    NewOrder::read(body).is_ok_and(|order| order.client_order_id.is_some())
}

/// `POST /order`.
pub(in crate::http) async fn post(app: &App, call: &Call) -> Result<HttpResponse, Problem> {
    let user = call.user.clone();
    Query::none(&call.head.uri)?;
    let order = NewOrder::read(&call.body)?;
    check(app, &order)?;
    let last_price = if is_collared(app, &order) {
        // Without one there is no order, unless its key names one already.
        app.fresh_price(&order.symbol).await
    } else {
        None
    };
    let now_nanos = app.site.orders.commands().clock().now_nanos();
    let order_id = OrderId::new(now_nanos.into(), rand::random(), user.partition());
    let request = CreateOrder {
        order_id,
        user,
        client_order_id: order.client_order_id,
        symbol: order.symbol,
        side: order.side,
        limit_price: order.price_in_cents,
        time_in_force: order.time_in_force,
        num_shares: order.num_shares,
        last_price,
        created_at: TimestampMicros::new(now_nanos / 1_000),
    };
    match app.site.orders.create_since(call.arrived, request).await {
        CreateReply::Accepted(order) => Ok(json_response(StatusCode::CREATED, &*order)),
        CreateReply::Duplicate(order) => Ok(json_response(StatusCode::OK, &*order)),
        CreateReply::Pending(order) => Ok(json_response(StatusCode::ACCEPTED, &*order)),
        CreateReply::Rejected(order) => {
            let reason = order.reason.as_deref().unwrap_or("no reason given");
            let detail = format!("The exchange refused the order: {reason}.");
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Err(Problem::new(status, "order_rejected", detail).with("order", &*order))
        }
        CreateReply::Conflict(order) => {
            let detail = "You have already used this clientOrderId for a different order.";
            let problem = Problem::new(StatusCode::CONFLICT, "client_order_id_conflict", detail);
            Err(problem.with("field", "clientOrderId").with("order", &*order))
        }
        CreateReply::Halted(scope) => Err(halted(scope)),
        CreateReply::ExchangeAway => {
            let detail = "The exchange is not answering. Nothing was recorded. Try again.";
            Err(Problem::unavailable("exchange_unavailable", detail))
        }
        CreateReply::ExchangeBusy => {
            let detail =
                "The exchange is throttling orders (429). Nothing was recorded. Try again.";
            Err(Problem::unavailable("exchange_busy", detail))
        }
        CreateReply::Unfunded(refusal) => Err(unfunded(refusal)),
        CreateReply::PriceUnavailable => Err(price_unavailable()),
        CreateReply::NoRoom => {
            let detail = "The server's disk has no room for new orders. Nothing was recorded; \
                          cancels still work. Try again.";
            Err(Problem::unavailable("disk_full", detail))
        }
        CreateReply::OutcomeUnknown => Err(unknown_create()),
        CreateReply::KeyUnsure | CreateReply::Unavailable => Err(overloaded()),
    }
}

/// An operator's decision, not a passing failure, so `403` and no `Retry-After`: a program that
/// repeats every `503` would send its order the second the halt is lifted, at a price that nobody
/// has reviewed since.
fn halted(scope: HaltScope) -> Problem {
    let (scope, whose) = match scope {
        HaltScope::All => ("all", "New orders are"),
        HaltScope::User => ("user", "Your new orders are"),
        HaltScope::Symbol => ("symbol", "New orders in this symbol are"),
    };
    let detail =
        format!("{whose} halted by an operator. Nothing was recorded; cancels still work.");
    Problem::new(StatusCode::FORBIDDEN, "trading_halted", detail).with("scope", scope)
}

pub(super) fn price_unavailable() -> Problem {
    let detail = "There is no fresh price that says what a market order needs. Nothing was \
                  recorded. Set a limit, or try again.";
    Problem::unavailable("price_unavailable", detail)
}

/// The account does not have what the order needs. Not a passing failure of the server: `422`, as
/// for an order that the exchange refuses.
pub(super) fn unfunded(refusal: Refusal) -> Problem {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    match refusal {
        Refusal::InsufficientBuyingPower { available_cents, needed_cents } => {
            let detail = format!(
                "The order needs {needed_cents} cents; {available_cents} are available. Nothing \
                 was recorded."
            );
            Problem::new(status, "insufficient_buying_power", detail)
                .with("neededInCents", needed_cents)
                .with("availableInCents", available_cents)
        }
        Refusal::InsufficientShares { available_shares, needed_shares } => {
            let detail = format!(
                "The order needs {needed_shares} shares; {available_shares} are available. \
                 Nothing was recorded."
            );
            Problem::new(status, "insufficient_shares", detail)
                .with("neededShares", needed_shares)
                .with("availableShares", available_shares)
        }
        Refusal::InsufficientCash { .. } | Refusal::OutOfRange { .. } | Refusal::Overflow(_) => {
            unreachable!("no order is refused for that: {refusal}")
        }
    }
}

/// Whether the order reserves what the last price says.
pub(super) fn is_collared(app: &App, order: &NewOrder) -> bool {
    let is_market_buy = order.side == Side::Buy && order.price_in_cents.is_none();
    is_market_buy && app.site.accounts.rules.mode == AccountMode::Cash
}

pub(super) fn check(app: &App, order: &NewOrder) -> Result<(), Problem> {
    if app.symbols()?.index_of(&order.symbol).is_none() {
        let detail = format!("The exchange does not list {}.", order.symbol);
        return Err(Problem::field("symbol", "unknown_symbol", detail));
    }
    Ok(())
}

/// An order may be recorded.
pub(in crate::http) fn unknown_create() -> Problem {
    outcome_unknown(
        "The outcome is not known yet. Check your orders, or repeat the request with the same \
         clientOrderId.",
    )
}

/// A cancel may be recorded.
pub(in crate::http) fn unknown_cancel() -> Problem {
    outcome_unknown(
        "The outcome is not known yet: the cancel may be recorded and sent to the exchange. \
         Check the order, or repeat the request.",
    )
}

/// Cancels of many orders may be recorded.
pub(in crate::http) fn unknown_cancels() -> Problem {
    outcome_unknown(
        "The outcome is not known yet: cancels may be recorded and sent to the exchange. Check \
         your open orders, or repeat the request.",
    )
}

/// The engine ended while the answer was awaited, or Postgres did not have it in time. Not a `503`,
/// which says that nothing was recorded.
fn outcome_unknown(detail: &'static str) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "outcome_unknown", detail)
}

fn overloaded() -> Problem {
    Problem::unavailable("unavailable", "Nothing was recorded. Try again.")
}

pub(super) fn unknown_order(id: &str) -> Problem {
    Problem::not_found(format!("You have no order {:?}.", excerpt(id)))
}

/// `GET /order/:id`. Another user's order is as unknown as one that does not exist.
pub(in crate::http) async fn get(
    app: &App,
    call: &Call,
    id: &str,
) -> Result<HttpResponse, Problem> {
    Query::none(&call.head.uri)?;
    let unknown = || unknown_order(id);
    let order_id: OrderId = id.parse().map_err(|_| unknown())?;
    let order = app.site.orders.order(&call.user, order_id).await.map_err(store_unavailable)?;
    Ok(json_response(StatusCode::OK, &*order.ok_or_else(unknown)?))
}

pub(in crate::http) fn store_unavailable(error: StoreUnavailable) -> Problem {
    Problem::unavailable("unavailable", format!("{error}. Try again."))
}

/// `DELETE /order/:id`.
pub(in crate::http) async fn delete(
    app: &App,
    call: &Call,
    id: &str,
) -> Result<HttpResponse, Problem> {
    Query::none(&call.head.uri)?;
    let order_id: OrderId = id.parse().map_err(|_| unknown_order(id))?;
    let reply = app.site.orders.cancel(call.user.clone(), order_id).await;
    match cancel_outcome(app, order_id, reply)? {
        Cancelled::Confirmed => Ok(json_response(StatusCode::OK, &json!({ "ok": true }))),
        Cancelled::Pending(order) => Ok(json_response(StatusCode::ACCEPTED, &*order)),
    }
}

/// What came of a cancel.
pub(super) enum Cancelled {
    /// The exchange has confirmed it.
    Confirmed,
    /// Recorded; its outcome is not known yet.
    Pending(Arc<Order>),
}

/// What came of a cancel.
///
/// # Errors
/// The answer where the order is not cancelled.
pub(super) fn cancel_outcome(
    app: &App,
    order_id: OrderId,
    reply: CancelReply,
) -> Result<Cancelled, Problem> {
    match reply {
        CancelReply::Cancelled(_) => Ok(Cancelled::Confirmed),
        CancelReply::Pending(order) => Ok(Cancelled::Pending(order)),
        // The order is still open: the exchange refused the cancel.
        CancelReply::Conflict(order) if !order.status.is_terminal() => {
            let reason = app.site.orders.commands().views().refused_cancel(order_id);
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let detail =
                format!("The exchange refused the cancel{reason}; the order is still open.");
            let problem = Problem::new(StatusCode::CONFLICT, "cancel_rejected", detail);
            Err(problem.with("order", &*order))
        }
        CancelReply::Conflict(order) => {
            let detail = "The order can no longer be cancelled.";
            let problem = Problem::new(StatusCode::CONFLICT, "not_cancellable", detail);
            Err(problem.with("order", &*order))
        }
        CancelReply::NotFound => Err(unknown_order(&order_id.to_string())),
        CancelReply::NoRoom => {
            let detail = "The server's disk is full. Nothing was recorded. Try again.";
            Err(Problem::unavailable("disk_full", detail))
        }
        CancelReply::OutcomeUnknown => Err(unknown_cancel()),
        CancelReply::Unavailable => Err(overloaded()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_the_same_as_absent_except_for_the_price() {
        let plain = r#"{"position":"buy","symbol":"SPY","numShares":1}"#;
        let full = r#"{"position":"buy","symbol":"spy","numShares":1,"timeInForce":null,
            "clientOrderId":null}"#;
        let order = NewOrder::read(plain.as_bytes()).unwrap();
        assert_eq!(NewOrder::read(full.as_bytes()).unwrap(), order);
        assert_eq!(order.price_in_cents, None);
        let priced = plain.replace('}', r#","priceInCents":7}"#);
        let order = NewOrder::read(priced.as_bytes()).unwrap();
        assert_eq!(order.price_in_cents.map(PriceCents::cents), Some(7));
        let null = plain.replace('}', r#","priceInCents":null}"#);
        assert!(NewOrder::read(null.as_bytes()).is_err());
    }
}
