use std::sync::Arc;
use std::time::Instant;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::execution::{
    CancelReply, CreateOrder, CreateReply, HaltScope, PageRequest, StoreUnavailable,
};
use crate::http::app::App;
use crate::http::body::{parse_json, read_body};
use crate::http::problem::{HttpResponse, Problem, json_response};
use crate::http::query::Query;
use crate::order::{Order, Status};
use crate::types::{
    ClientOrderId, MAX_ORDER_SHARES, OrderId, Position, PriceCents, Shares, Symbol, TimeInForce,
    TimestampMicros,
};

/// Orders of one page unless the client asks for another number.
const DEFAULT_LIMIT: usize = 50;
/// Most orders of one page.
const MAX_LIMIT: usize = 500;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct NewOrder {
    position: Position,
    symbol: Symbol,
    num_shares: Shares,
    #[serde(default)]
    price_in_cents: Option<PriceCents>,
    #[serde(default)]
    time_in_force: TimeInForce,
    #[serde(default)]
    client_order_id: Option<ClientOrderId>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    orders: Vec<Arc<Order>>,
    next_cursor: Option<OrderId>,
}

/// `POST /order`.
pub(in crate::http) async fn post(
    app: &App,
    request: Request<Incoming>,
) -> Result<HttpResponse, Problem> {
    let arrived = Instant::now();
    let (request, body) = read_body(request).await?;
    let user = app.site.authenticator.user_of(&request.headers)?;
    Query::parse(&request.uri, &[])?;
    let order: NewOrder = parse_json(&body)?;
    check(app, &order)?;
    let now_nanos = app.site.orders.gateway().clock().now_nanos();
    let order_id = OrderId::new(now_nanos.into(), rand::random(), user.partition());
    let request = CreateOrder {
        order_id,
        user,
        client_order_id: order.client_order_id,
        symbol: order.symbol,
        position: order.position,
        limit_price: order.price_in_cents,
        time_in_force: order.time_in_force,
        num_shares: order.num_shares,
        created_at: TimestampMicros::new(now_nanos / 1_000),
    };
    match app.site.orders.create_since(arrived, request).await {
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
            let detail = "This clientOrderId names another order of yours.";
            let problem = Problem::new(StatusCode::CONFLICT, "client_order_id_conflict", detail);
            Err(problem.with("field", "clientOrderId").with("order", &*order))
        }
        CreateReply::Halted(scope) => Err(halted(scope)),
        CreateReply::ExchangeAway => {
            let detail = "The exchange does not answer. Nothing was recorded. Try again.";
            Err(Problem::unavailable("exchange_unavailable", detail))
        }
        CreateReply::NoRoom => {
            let detail = "The server has no room on its disk for new orders. Nothing was recorded; \
                          cancels go on. Try again.";
            Err(Problem::unavailable("disk_full", detail))
        }
        CreateReply::OutcomeUnknown => Err(outcome_unknown()),
        CreateReply::Unavailable => Err(overloaded()),
    }
}

/// An operator's decision and no passing failure, so `403` and nothing that asks to try again: a
/// program that repeats every `503` would send its order the second that the halt is lifted, at a
/// price that nobody has looked at since.
fn halted(scope: HaltScope) -> Problem {
    let (scope, whose) = match scope {
        HaltScope::All => ("all", "New orders are"),
        HaltScope::User => ("user", "Your new orders are"),
        HaltScope::Symbol => ("symbol", "New orders in this symbol are"),
    };
    let detail = format!("{whose} halted by an operator. Nothing was recorded; cancels go on.");
    Problem::new(StatusCode::FORBIDDEN, "trading_halted", detail).with("scope", scope)
}

fn check(app: &App, order: &NewOrder) -> Result<(), Problem> {
    if !(1..=MAX_ORDER_SHARES).contains(&order.num_shares) {
        let given = order.num_shares;
        let detail = format!("{given} is not a whole number from 1 to {MAX_ORDER_SHARES}.");
        return Err(Problem::field("numShares", "invalid_field", detail));
    }
    if app.symbols()?.index_of(&order.symbol).is_none() {
        let detail = format!("The exchange does not list {}.", order.symbol);
        return Err(Problem::field("symbol", "unknown_symbol", detail));
    }
    Ok(())
}

/// The engine ended while the answer was awaited, or Postgres did not take it in time: no 503, which
/// says that nothing was recorded.
fn outcome_unknown() -> Problem {
    let detail = "The outcome is not known yet. Look at your orders, or repeat the request with the \
                  same clientOrderId.";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "outcome_unknown", detail)
}

fn overloaded() -> Problem {
    Problem::unavailable("unavailable", "Nothing was recorded. Try again.")
}

/// `GET /order/:id`. Another user's order is as unknown as one that never was.
pub(in crate::http) async fn get(
    app: &App,
    request: &Request<Incoming>,
    id: &str,
) -> Result<HttpResponse, Problem> {
    let user = app.site.authenticator.user_of(request.headers())?;
    Query::parse(request.uri(), &[])?;
    let unknown = || Problem::not_found(format!("You have no order {id:?}."));
    let order_id: OrderId = id.parse().map_err(|_| unknown())?;
    let order = app.site.orders.order(&user, order_id).await.map_err(store_unavailable)?;
    Ok(json_response(StatusCode::OK, &*order.ok_or_else(unknown)?))
}

fn store_unavailable(error: StoreUnavailable) -> Problem {
    Problem::unavailable("unavailable", format!("{error}. Try again."))
}

/// `DELETE /order/:id`.
pub(in crate::http) async fn delete(
    app: &App,
    request: &Request<Incoming>,
    id: &str,
) -> Result<HttpResponse, Problem> {
    let user = app.site.authenticator.user_of(request.headers())?;
    Query::parse(request.uri(), &[])?;
    let unknown = || Problem::not_found(format!("You have no order {id:?}."));
    let order_id: OrderId = id.parse().map_err(|_| unknown())?;
    match app.site.orders.cancel(user, order_id).await {
        CancelReply::Cancelled(_) => Ok(json_response(StatusCode::OK, &json!({ "ok": true }))),
        CancelReply::Pending(order) => Ok(json_response(StatusCode::ACCEPTED, &*order)),
        CancelReply::Conflict(order) => {
            let detail = "The order can no longer be cancelled.";
            let problem = Problem::new(StatusCode::CONFLICT, "not_cancellable", detail);
            Err(problem.with("order", &*order))
        }
        CancelReply::NotFound => Err(unknown()),
        CancelReply::NoRoom => {
            let detail =
                "The server has no room left on its disk. Nothing was recorded. Try again.";
            Err(Problem::unavailable("disk_full", detail))
        }
        CancelReply::OutcomeUnknown => Err(outcome_unknown()),
        CancelReply::Unavailable => Err(overloaded()),
    }
}

/// `GET /orders`: newest first; new orders do not move the pages behind a cursor.
pub(in crate::http) async fn list(
    app: &App,
    request: &Request<Incoming>,
) -> Result<HttpResponse, Problem> {
    let user = app.site.authenticator.user_of(request.headers())?;
    let query = Query::parse(request.uri(), &["status", "symbol", "limit", "cursor"])?;
    let wanted = PageRequest {
        before: query.parsed("cursor", "a cursor of an earlier page")?,
        status: query.get("status").map(parse_status).transpose()?,
        symbol: query.parsed("symbol", "a symbol")?,
        limit: query.number("limit", 1..=MAX_LIMIT, DEFAULT_LIMIT)?,
    };
    let page = app.site.orders.page(&user, &wanted).await.map_err(store_unavailable)?;
    Ok(json_response(StatusCode::OK, &Page { orders: page.orders, next_cursor: page.next }))
}

/// A status as a query gives it.
pub(in crate::http) fn parse_status(text: &str) -> Result<Status, Problem> {
    serde_json::from_value(json!(text)).map_err(|_| {
        let text: String = text.chars().take(64).collect();
        let detail = format!("{text:?} is not a status of an order.");
        Problem::field("status", "invalid_field", detail)
    })
}
