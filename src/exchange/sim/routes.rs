//! The HTTP side of the exchange's contract.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::feed::{FeedReader, Gone};
use super::state::Shared;
use super::venue::{Venue, is_usable_id};
use super::webhook::{self, Registered};
use crate::exchange::wire::{
    CancelRequest, CancelResponse, MAX_BATCH, QueryRequest, QueryResponse, SubmitOrder,
    SubmitRequest, SubmitResponse, SubmitResult, SymbolsResponse, WebhookRequest,
};
use crate::types::{Symbol, TimestampMicros};

/// Longest request: 256 orders of at most 1 KiB.
const MAX_BODY_BYTES: usize = MAX_BATCH * 1_024;

type Exchange = State<Arc<Shared>>;
type Reply = Result<Response, Problem>;

/// Every route.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/orders", post(submit))
        .route("/v1/orders/query", post(query))
        .route("/v1/cancels", post(cancel))
        .route("/v1/symbols", get(symbols))
        .route("/v1/feed", get(feed))
        .route("/v1/webhooks", post(register_webhook))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "not_found", "no such route") })
        .method_not_allowed_fallback(|| async {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            Problem::new(status, "method_not_allowed", "this route has another method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(shared)
}

/// An error answer (RFC 9457).
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }

    fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Members<'a> {
            title: &'a str,
            status: u16,
            code: &'a str,
            detail: &'a str,
        }
        let members = Members {
            title: self.status.canonical_reason().unwrap_or("error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
        };
        let body = serde_json::to_vec(&members).unwrap_or_default();
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

/// The journal cannot be written.
fn unavailable() -> Problem {
    let detail = "the exchange cannot write its journal and stops";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
}

fn read_body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| {
        let status = rejection.status();
        let too_large = status == StatusCode::PAYLOAD_TOO_LARGE;
        let code = if too_large { "too_large" } else { "bad_request" };
        Problem::new(status, code, rejection.body_text())
    })
}

fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let deserializer = &mut serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(deserializer);
    value.map_err(|error| Problem::bad_request(error.to_string()))
}

fn check_batch(count: usize) -> Result<(), Problem> {
    if (1..=MAX_BATCH).contains(&count) {
        return Ok(());
    }
    Err(Problem::bad_request(format!("{count} entries in a request: expected 1 to {MAX_BATCH}")))
}

fn json(value: &impl Serialize) -> Reply {
    let body = serde_json::to_vec(value).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn submit(State(shared): Exchange, body: Result<Bytes, BytesRejection>) -> Reply {
    let body = read_body(body)?;
    let results = match serde_json::from_slice::<SubmitRequest>(&body) {
        Ok(request) => {
            check_batch(request.orders.len())?;
            if !request.orders.iter().all(|order| is_usable_id(&order.client_order_id)) {
                return Err(Problem::bad_request(UNUSABLE_ID));
            }
            shared.change(|state, now| {
                let orders = request.orders.iter();
                orders.map(|order| state.venue.submit(order, now)).collect()
            })
        }
        // One order that cannot be read must not take the others with it.
        Err(_) => {
            let entries = read_each_order(&body)?;
            shared.change(|state, now| {
                entries.iter().map(|entry| entry.submit(&mut state.venue, now)).collect()
            })
        }
    };
    json(&SubmitResponse { results: results.ok_or_else(unavailable)? })
}

const UNUSABLE_ID: &str = "orders: clientOrderId must be 1 to 64 printable ASCII characters";

/// One order of a request in which at least one cannot be read.
enum SubmitEntry {
    Readable(Box<SubmitOrder>),
    Unreadable { client_order_id: String, problem: String },
}

impl SubmitEntry {
    fn submit(&self, venue: &mut Venue, now: TimestampMicros) -> SubmitResult {
        match self {
            Self::Readable(order) => venue.submit(order, now),
            Self::Unreadable { client_order_id, problem } => {
                venue.submit_unreadable(client_order_id, problem, now)
            }
        }
    }
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
            Ok(order) => SubmitEntry::Readable(Box::new(order)),
            Err(error) => SubmitEntry::Unreadable { client_order_id, problem: error.to_string() },
        })
    };
    loose.orders.into_iter().map(entry).collect()
}

async fn cancel(State(shared): Exchange, body: Result<Bytes, BytesRejection>) -> Reply {
    let body = read_body(body)?;
    let request: CancelRequest = read_json(&body)?;
    check_batch(request.external_order_ids.len())?;
    let results = shared.change(|state, now| {
        request.external_order_ids.iter().map(|id| state.venue.cancel(id, now)).collect()
    });
    json(&CancelResponse { results: results.ok_or_else(unavailable)? })
}

async fn query(State(shared): Exchange, body: Result<Bytes, BytesRejection>) -> Reply {
    let body = read_body(body)?;
    let request: QueryRequest = read_json(&body)?;
    check_batch(request.client_order_ids.len())?;
    let results = shared
        .look(|state| request.client_order_ids.iter().map(|id| state.venue.query(id)).collect());
    json(&QueryResponse { results })
}

async fn symbols(State(shared): Exchange) -> Reply {
    let symbols = shared.look(|state| {
        let (session_open, session_close) = state.calendar.times();
        let mut symbols = state.symbols.clone();
        for symbol in &mut symbols {
            (symbol.session_open, symbol.session_close) = (session_open, session_close);
        }
        symbols
    });
    json(&SymbolsResponse { symbols })
}

async fn register_webhook(State(shared): Exchange, body: Result<Bytes, BytesRejection>) -> Reply {
    let body = read_body(body)?;
    let WebhookRequest { url, secret } = read_json(&body)?;
    webhook::check(&url, &secret).map_err(Problem::bad_request)?;
    let registered = shared.change(|state, now| state.register_webhook(&url, &secret, now));
    match registered.ok_or_else(unavailable)? {
        Registered::New(place) => {
            tokio::spawn(webhook::deliver(shared, place));
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
