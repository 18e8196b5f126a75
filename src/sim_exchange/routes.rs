//! The exchange's HTTP routes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;

use super::fault_routes;
use super::faults::{OrderFaultInjector, RequestKind, odd_listings};
use super::feed::{FeedReader, Gone};
use super::listener::Connection;
use super::problem::{Problem, Reply, check_batch, json, read_body, read_json, unavailable};
use super::records;
use super::state::{Shared, State as Exchanged};
use super::venue::{Venue, is_usable_id};
use super::webhook::{self, Registered};
use super::webhook_delivery;
use crate::exchange::wire::{
    CancelRequest, CancelResponse, MAX_BATCH, QueryRequest, QueryResponse, SubmitOrder,
    SubmitRequest, SubmitResponse, SubmitResult, SymbolsResponse, WebhookRequest,
};
use crate::types::{Symbol, TimestampMicros, TradeDate};

/// Longest request: 256 orders of at most 1 KiB.
const MAX_BODY_BYTES: usize = MAX_BATCH * 1_024;
/// How long before its submit's answer an early fill is on the feed: enough for the readers' tasks
/// to run and for the client to take the line.
const FILL_HEAD_START: Duration = Duration::from_millis(5);

type Exchange = State<Arc<Shared>>;

/// All routes.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/orders", post(submit))
        .route("/v1/orders/query", post(query))
        .route("/v1/cancels", post(cancel))
        .route("/v1/symbols", get(symbols))
        .route("/v1/candles", get(candles))
        .route("/v1/executions", get(executions))
        .route("/v1/feed", get(feed))
        .route("/v1/webhooks", post(register_webhook))
        .merge(fault_routes::routes())
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "not_found", "no such route") })
        .method_not_allowed_fallback(|| async {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            Problem::new(status, "method_not_allowed", "this route has another method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(shared)
}

async fn submit(
    State(shared): Exchange,
    ConnectInfo(connection): ConnectInfo<Connection>,
    body: Result<Bytes, BytesRejection>,
) -> Reply {
    let entries = read_orders(&read_body(body)?)?;
    let fate = shared.faults.fate(RequestKind::Submit, entries.len());
    fate.begin(&connection)?;
    let mut injector = OrderFaultInjector::new(&shared.faults, &shared.pending_actions);
    let results = shared.change(|state, now| -> Vec<SubmitResult> {
        let venue = &mut state.venue;
        entries.iter().map(|entry| entry.submit(&mut injector, venue, now)).collect()
    });
    let filled_first = injector.filled_first;
    let results = results.ok_or_else(unavailable)?;
    if filled_first {
        tokio::time::sleep(FILL_HEAD_START).await;
    }
    fate.finish(&connection, results, |results| SubmitResponse { results }).await
}

const UNUSABLE_ID: &str =
    "orders: clientOrderId must be 1 to 64 printable ASCII characters without spaces";

/// One order of a request: an unreadable order must not affect the others.
enum SubmitEntry {
    Readable(SubmitOrder),
    Unreadable { client_order_id: String, problem: String },
}

impl SubmitEntry {
    fn submit(
        &self,
        injector: &mut OrderFaultInjector<'_>,
        venue: &mut Venue,
        now: TimestampMicros,
    ) -> SubmitResult {
        match self {
            Self::Readable(order) => injector.submit(venue, order, now),
            Self::Unreadable { client_order_id, problem } => {
                venue.submit_unreadable(client_order_id, problem, now)
            }
        }
    }
}

fn read_orders(body: &[u8]) -> Result<Vec<SubmitEntry>, Problem> {
    let Ok(request) = serde_json::from_slice::<SubmitRequest>(body) else {
        return read_each_order(body);
    };
    check_batch(request.orders.len())?;
    if !request.orders.iter().all(|order| is_usable_id(&order.client_order_id)) {
        return Err(Problem::bad_request(UNUSABLE_ID));
    }
    Ok(request.orders.into_iter().map(SubmitEntry::Readable).collect())
}

fn read_each_order(body: &[u8]) -> Result<Vec<SubmitEntry>, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Loose {
        orders: Vec<serde_json::Value>,
    }
    let loose: Loose = read_json(body)?;
    check_batch(loose.orders.len())?;
    let entry = |value: serde_json::Value| {
        let id = value.get("clientOrderId").and_then(serde_json::Value::as_str);
        let Some(client_order_id) = id.filter(|id| is_usable_id(id)).map(str::to_owned) else {
            return Err(Problem::bad_request(UNUSABLE_ID));
        };
        Ok(match serde_path_to_error::deserialize(value) {
            Ok(order) => SubmitEntry::Readable(order),
            Err(error) => SubmitEntry::Unreadable { client_order_id, problem: error.to_string() },
        })
    };
    loose.orders.into_iter().map(entry).collect()
}

async fn cancel(
    State(shared): Exchange,
    ConnectInfo(connection): ConnectInfo<Connection>,
    body: Result<Bytes, BytesRejection>,
) -> Reply {
    let body = read_body(body)?;
    let CancelRequest { external_order_ids: ids } = read_json(&body)?;
    check_batch(ids.len())?;
    let fate = shared.faults.fate(RequestKind::Cancel, ids.len());
    fate.begin(&connection)?;
    let mut injector = OrderFaultInjector::new(&shared.faults, &shared.pending_actions);
    let results = shared.change(|state, now| {
        ids.iter().map(|id| injector.cancel(&mut state.venue, id, now)).collect()
    });
    let results = results.ok_or_else(unavailable)?;
    fate.finish(&connection, results, |results| CancelResponse { results }).await
}

async fn query(
    State(shared): Exchange,
    ConnectInfo(connection): ConnectInfo<Connection>,
    body: Result<Bytes, BytesRejection>,
) -> Reply {
    let body = read_body(body)?;
    let QueryRequest { client_order_ids: ids } = read_json(&body)?;
    check_batch(ids.len())?;
    let fate = shared.faults.fate(RequestKind::Query, ids.len());
    fate.begin(&connection)?;
    let (now, manner) = (shared.now(), shared.faults.manner());
    // What is not in the journal must not be reported.
    if !shared.is_written() {
        return Err(unavailable());
    }
    let results = shared.look(|state| records::query(state, &ids, (now, &manner)));
    fate.finish(&connection, results, |results| QueryResponse { results }).await
}

async fn symbols(State(shared): Exchange) -> Reply {
    let symbols = shared.look(Exchanged::listed_symbols);
    if shared.faults.hits_listings() {
        return json(&odd_listings(&symbols));
    }
    json(&SymbolsResponse { symbols })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CandlesQuery {
    symbol: String,
    interval: String,
    from: u64,
    to: u64,
}

async fn candles(
    State(shared): Exchange,
    query: Result<Query<CandlesQuery>, QueryRejection>,
) -> Reply {
    let Query(query) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    if query.interval != "1m" {
        return Err(Problem::bad_request("interval: only 1m is kept here"));
    }
    let symbol = Symbol::new(&query.symbol).ok();
    let range = (TimestampMicros::new(query.from), TimestampMicros::new(query.to));
    let answer = shared.look(|state| {
        let place = symbol.and_then(|symbol| state.venue.place(&symbol))?;
        Some(state.venue.candles.answer(place, range))
    });
    let unknown = || Problem::bad_request(format!("symbol: {} does not trade here", query.symbol));
    json(&answer.ok_or_else(unknown)?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ExecutionsQuery {
    trade_date: TradeDate,
    cursor: Option<String>,
}

async fn executions(
    State(shared): Exchange,
    query: Result<Query<ExecutionsQuery>, QueryRejection>,
) -> Reply {
    let Query(query) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    // What is not in the journal must not be reported.
    if !shared.is_written() {
        return Err(unavailable());
    }
    let (date, cursor) = (query.trade_date, query.cursor.as_deref());
    let page = shared.look(|state| state.venue.executions_of(date, cursor));
    json(&page.ok_or_else(|| Problem::bad_request("cursor: it is of no part of this list"))?)
}

async fn register_webhook(State(shared): Exchange, body: Result<Bytes, BytesRejection>) -> Reply {
    let body = read_body(body)?;
    let WebhookRequest { url, secret } = read_json(&body)?;
    webhook::check(&url, &secret).map_err(Problem::bad_request)?;
    let registered = shared.change(|state, now| state.register_webhook(&url, &secret, now));
    match registered.ok_or_else(unavailable)? {
        Registered::New(place) => {
            tokio::spawn(webhook_delivery::deliver(shared, place));
        }
        Registered::Changed => {}
        Registered::TooMany => {
            let detail = "there are as many webhooks as there may be";
            return Err(Problem::new(StatusCode::CONFLICT, "too_many_webhooks", detail));
        }
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeedQuery {
    session: Option<String>,
    from: Option<u64>,
    symbols: Option<String>,
}

async fn feed(State(shared): Exchange, query: Result<Query<FeedQuery>, QueryRejection>) -> Reply {
    let Query(query) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let filter = match &query.symbols {
        None => None,
        Some(names) => Some(shared.look(|state| read_filter(&state.venue, names))?),
    };
    let reader = FeedReader::new(shared, query.session.as_deref(), query.from, filter);
    let reader = reader.map_err(|Gone| {
        let detail = "this session and sequence are not kept; begin again without them";
        Problem::new(StatusCode::GONE, "gone", detail)
    })?;
    let lines = futures_lite::stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        let item = reader.next().await;
        let reader = item.is_ok().then_some(reader);
        Some((item, reader))
    });
    let headers =
        [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(lines)).into_response())
}

fn read_filter(venue: &Venue, names: &str) -> Result<Box<[bool]>, Problem> {
    let mut filter = vec![false; venue.symbol_count()];
    let mut unknown = Vec::new();
    for name in names.split(',') {
        let place = Symbol::new(name).ok().and_then(|symbol| venue.place(&symbol));
        match place.and_then(|place| filter.get_mut(usize::from(place))) {
            Some(wanted) => *wanted = true,
            None => unknown.push(name),
        }
    }
    if unknown.is_empty() {
        return Ok(filter.into());
    }
    Err(Problem::bad_request(format!("symbols: {} do not trade here", unknown.join(", "))))
}
