use std::collections::HashSet;

use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use rand::RngExt;
use serde::Deserialize;

use crate::http::app::App;
use crate::http::body::{parse_json, read_body};
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::reply::Reply;
use crate::stream::{MAX_SYMBOLS_PER_STREAM, ResumePoint, StreamRequest, come_back_later};
use crate::types::Symbol;

/// Most sends a second that a client may ask for.
const MAX_RATE: u32 = 1_000;
/// When a browser that cannot be served now comes back, in milliseconds.
const COME_BACK_MS: std::ops::RangeInclusive<u32> = 2_000..=8_000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Latest,
    Every,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct Subscription {
    symbols: Vec<String>,
    #[serde(default)]
    max_rate: Option<u32>,
    #[serde(default)]
    mode: Mode,
}

/// `POST /subscribe`.
pub(in crate::http) async fn post(
    app: &App,
    request: Request<Incoming>,
) -> Result<StreamRequest, Problem> {
    let (request, body) = read_body(request).await?;
    app.site.authenticator.user_of(&request.headers)?;
    Query::parse(&request.uri, &[])?;
    let resume = last_event_id(&request.headers);
    let subscription: Subscription = parse_json(&body)?;
    let stream = validate(app, &subscription, resume)?;
    check_room(app)?;
    Ok(stream)
}

/// `GET /subscribe`, for a browser's `EventSource`: what will pass is told by a stream that ends
/// with a `retry:`, because on any other answer a browser never comes back.
pub(in crate::http) fn get(app: &App, request: &Request<Incoming>) -> Reply {
    let stream = from_query(app, request).and_then(|stream| check_room(app).map(|()| stream));
    match stream {
        Ok(stream) => Reply::Stream(stream),
        Err(problem) if problem.is_passing() => {
            Reply::Bytes(come_back_later(rand::rng().random_range(COME_BACK_MS)))
        }
        Err(problem) => Reply::Response(problem.into_response()),
    }
}

fn from_query(app: &App, request: &Request<Incoming>) -> Result<StreamRequest, Problem> {
    app.site.authenticator.user_of(request.headers())?;
    let known = ["symbols", "maxRate", "mode", "orders", "lastEventId"];
    let query = Query::parse(request.uri(), &known)?;
    if query.get("orders").is_some_and(|orders| orders != "0") {
        return Err(unsupported("orders", "Order events on a price stream are not offered yet."));
    }
    let mode = match query.get("mode") {
        None | Some("latest") => Mode::Latest,
        Some("every") => Mode::Every,
        Some(other) => {
            let detail = format!("{other:?} is not \"latest\" or \"every\".");
            return Err(Problem::field("mode", "invalid_field", detail));
        }
    };
    let allowed = format!("a whole number from 1 to {MAX_RATE}");
    let subscription = Subscription {
        symbols: query.get("symbols").unwrap_or("").split(',').map(str::to_owned).collect(),
        max_rate: query.parsed("maxRate", &allowed)?,
        mode,
    };
    // The header is the newer of the two: a browser that reconnects repeats the query as it was.
    let resume =
        last_event_id(request.headers()).or_else(|| query.get("lastEventId").map(str::to_owned));
    validate(app, &subscription, resume)
}

fn validate(
    app: &App,
    subscription: &Subscription,
    resume: Option<String>,
) -> Result<StreamRequest, Problem> {
    if subscription.mode == Mode::Every {
        return Err(unsupported("mode", "\"every\" is not offered yet; use \"latest\"."));
    }
    if subscription.max_rate.is_some_and(|rate| !(1..=MAX_RATE).contains(&rate)) {
        let detail = format!("The rate must be a whole number from 1 to {MAX_RATE}.");
        return Err(Problem::field("maxRate", "invalid_field", detail));
    }
    let names = &subscription.symbols;
    if names.is_empty() || names.len() > MAX_SYMBOLS_PER_STREAM {
        let given = names.len();
        let detail = format!("A stream has 1 to {MAX_SYMBOLS_PER_STREAM} symbols, not {given}.");
        return Err(Problem::field("symbols", "invalid_field", detail));
    }
    let directory = app.site.market.directory.load();
    if directory.is_empty() {
        let detail = "The exchange has not told its symbols yet.";
        return Err(Problem::unavailable("no_symbols_yet", detail));
    }
    let mut symbols = Vec::with_capacity(names.len());
    let mut seen = HashSet::with_capacity(names.len());
    let mut unknown: Vec<String> = Vec::new();
    for name in names {
        let found = Symbol::new(name)
            .ok()
            .and_then(|symbol| directory.index_of(&symbol).map(|index| (symbol, index)));
        match found {
            Some((symbol, index)) if seen.insert(index) => symbols.push((symbol, index)),
            Some(_) => {}
            None => unknown.push(name.chars().take(64).collect()),
        }
    }
    if !unknown.is_empty() {
        let detail = format!("The exchange does not list {}.", unknown.join(", "));
        return Err(Problem::field("symbols", "unknown_symbol", detail).with("unknown", unknown));
    }
    Ok(StreamRequest {
        stream_id: uuid::Uuid::from_u128(rand::random()).simple().to_string(),
        symbols,
        max_rate: subscription.max_rate,
        // An id that no stream has sent resumes nothing: it is answered with a reset.
        resume: resume.map(|id| ResumePoint::parse(&id).unwrap_or_default()),
    })
}

fn check_room(app: &App) -> Result<(), Problem> {
    if app.hub.borrow().has_room() {
        Ok(())
    } else {
        Err(Problem::unavailable("too_many_streams", "No more streams fit here; try again later."))
    }
}

fn unsupported(field: &str, detail: &str) -> Problem {
    Problem::new(StatusCode::NOT_IMPLEMENTED, "not_offered", detail).with("field", field)
}

fn last_event_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("last-event-id")?.to_str().ok()?;
    (!id.is_empty()).then(|| id.to_owned())
}
