use std::collections::HashSet;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use rand::RngExt;
use serde::Deserialize;

use crate::http::app::App;
use crate::http::body::{parse_json, read_body};
use crate::http::problem::{HttpResponse, Problem};
use crate::http::query::Query;
use crate::http::reply::Reply;
use crate::stream::{
    ChangeRefused, MAX_SYMBOLS_PER_STREAM, Mode, NoRoom, NotChanged, ResumePoint, StreamId,
    StreamRequest, SubscriptionChange, come_back_later,
};
use crate::types::{Symbol, SymbolIndex, UserId};

/// Most sends a second that a client may ask for.
const MAX_RATE: u32 = 1_000;
/// When a browser that cannot be served now comes back, in milliseconds.
const COME_BACK_MS: std::ops::RangeInclusive<u32> = 2_000..=8_000;

/// [`Mode`] as clients write it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModeName {
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
    mode: ModeName,
}

/// What `PATCH /subscribe/:streamId` takes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct Change {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
}

/// `POST /subscribe`.
pub(in crate::http) async fn post(
    app: &App,
    request: Request<Incoming>,
) -> Result<StreamRequest, Problem> {
    let (request, body) = read_body(request).await?;
    let user = app.site.authenticator.user_of(&request.headers)?;
    Query::parse(&request.uri, &[])?;
    let resume = last_event_id(&request.headers);
    let subscription: Subscription = parse_json(&body)?;
    validate(app, &user, &subscription, resume)
}

/// `PATCH /subscribe/:streamId`.
pub(in crate::http) async fn patch(
    app: &App,
    request: Request<Incoming>,
    id: &str,
) -> Result<HttpResponse, Problem> {
    let (request, body) = read_body(request).await?;
    let user = app.site.authenticator.user_of(&request.headers)?;
    Query::parse(&request.uri, &[])?;
    let change: Change = parse_json(&body)?;
    for (field, names) in [("add", &change.add), ("remove", &change.remove)] {
        if names.len() > MAX_SYMBOLS_PER_STREAM {
            let given = names.len();
            let detail = format!("At most {MAX_SYMBOLS_PER_STREAM} symbols at once, not {given}.");
            return Err(Problem::field(field, "invalid_field", detail));
        }
    }
    let add = known_symbols(app, "add", &change.add)?;
    let remove = known_symbols(app, "remove", &change.remove)?;
    if let Some((name, _)) = add.iter().find(|symbol| remove.contains(symbol)) {
        let detail = format!("{name} cannot be added and removed at once.");
        return Err(Problem::field("remove", "invalid_field", detail));
    }
    let unknown = || Problem::not_found("You have no open stream of this id.");
    let id = StreamId::parse(id).ok_or_else(unknown)?;
    let indexes = |symbols: Vec<(Symbol, SymbolIndex)>| symbols.iter().map(|of| of.1).collect();
    let change = SubscriptionChange { add: indexes(add), remove: indexes(remove) };
    match app.site.streams.doors.change(id, user, change).await {
        Ok(()) => {
            let mut response = Response::new(Full::new(Bytes::new()));
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Err(ChangeRefused::NotChanged(NotChanged::Unknown)) => Err(unknown()),
        Err(ChangeRefused::NotChanged(NotChanged::TooMany { symbols })) => {
            let detail = format!(
                "The stream would have {symbols} symbols; {MAX_SYMBOLS_PER_STREAM} are allowed."
            );
            Err(Problem::field("add", "invalid_field", detail))
        }
        Err(ChangeRefused::Busy) => {
            Err(Problem::unavailable("unavailable", "Too many changes wait; try again."))
        }
    }
}

/// `GET /subscribe`, for a browser's `EventSource`: what will pass is told by a stream that ends
/// with a `retry:`, because on any other answer a browser never comes back.
pub(in crate::http) fn get(app: &App, request: &Request<Incoming>) -> Reply {
    match from_query(app, request) {
        Ok(stream) => Reply::Stream(stream),
        Err(problem) if problem.is_passing() => {
            Reply::Bytes(come_back_later(rand::rng().random_range(COME_BACK_MS)))
        }
        Err(problem) => Reply::Response(problem.into_response()),
    }
}

fn from_query(app: &App, request: &Request<Incoming>) -> Result<StreamRequest, Problem> {
    let user = app.site.authenticator.user_of(request.headers())?;
    let known = ["symbols", "maxRate", "mode", "orders", "lastEventId"];
    let query = Query::parse(request.uri(), &known)?;
    if query.get("orders").is_some_and(|orders| orders != "0") {
        return Err(unsupported("orders", "Order events on a price stream are not offered yet."));
    }
    let mode = match query.get("mode") {
        None | Some("latest") => ModeName::Latest,
        Some("every") => ModeName::Every,
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
    validate(app, &user, &subscription, resume)
}

fn validate(
    app: &App,
    user: &UserId,
    subscription: &Subscription,
    resume: Option<String>,
) -> Result<StreamRequest, Problem> {
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
    let symbols = known_symbols(app, "symbols", names)?;
    Ok(StreamRequest {
        permit: app.site.streams.quotas.reserve(user).map_err(no_room)?,
        symbols,
        mode: match subscription.mode {
            ModeName::Latest => Mode::Latest,
            ModeName::Every => Mode::Every,
        },
        max_rate: subscription.max_rate.or(app.site.streams.default_rate),
        // An id that no stream has sent resumes nothing: it is answered with a reset.
        resume: resume.map(|id| ResumePoint::parse(&id).unwrap_or_default()),
        orders: None,
    })
}

/// The symbols of these names, each once.
fn known_symbols(
    app: &App,
    field: &str,
    names: &[String],
) -> Result<Vec<(Symbol, SymbolIndex)>, Problem> {
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
    if unknown.is_empty() {
        return Ok(symbols);
    }
    let detail = format!("The exchange does not list {}.", unknown.join(", "));
    Err(Problem::field(field, "unknown_symbol", detail).with("unknown", unknown))
}

fn no_room(error: NoRoom) -> Problem {
    let detail = match error {
        NoRoom::Process { limit } => format!("This server has its limit of {limit} streams."),
        NoRoom::User { limit } => format!("You have the limit of {limit} streams; close one."),
    };
    Problem::too_many("too_many_streams", detail)
}

fn unsupported(field: &str, detail: &str) -> Problem {
    Problem::new(StatusCode::NOT_IMPLEMENTED, "not_offered", detail).with("field", field)
}

fn last_event_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("last-event-id")?.to_str().ok()?;
    (!id.is_empty()).then(|| id.to_owned())
}
