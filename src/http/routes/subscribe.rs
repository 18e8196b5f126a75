//! `POST` and `GET /subscribe`: price streams, optionally with the user's orders.

use std::collections::HashSet;

use http::{HeaderMap, Method, Request, Uri};
use hyper::body::Incoming;
use rand::RngExt;
use serde_json::Value;

use crate::http::app::App;
use crate::http::body::read_body;
use crate::http::call::Call;
use crate::http::fields::{Fields, whole};
use crate::http::problem::{Problem, excerpt};
use crate::http::query::Query;
use crate::http::reply::Reply;
use crate::http::user_limit;
use crate::oms::{ChangeId, NoChangeId};
use crate::stream::{
    Heartbeat, ID_SEPARATOR, MAX_SYMBOLS_PER_STREAM, Mode, NoRoom, OrderWish, OrdersFrom, RETRY_MS,
    ResumePoint, StreamRequest, come_back_later, stream_head,
};
use crate::types::{Symbol, SymbolIndex, UserId};

/// Most sends per second that a client may request.
const MAX_RATE: u32 = 1_000;

const MODES: &str = "\"latest\" or \"every\"";
const HEARTBEATS: &str = "\"comment\" or \"event\"";

/// Options of a price stream.
#[derive(Debug)]
pub(in crate::http) struct Subscription {
    symbols: Vec<String>,
    max_rate: Option<u32>,
    mode: Mode,
    heartbeat: Heartbeat,
}

impl Subscription {
    /// Parses the body of `POST /subscribe`.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Problem> {
        let fields = Fields::parse(body, &["symbols", "maxRate", "mode", "heartbeat"])?;
        let symbols = fields.texts("symbols", "a symbol")?.ok_or_else(|| no_symbols(0))?;
        let mode = |value: &Value| value.as_str()?.parse().ok();
        let heartbeat = |value: &Value| value.as_str()?.parse().ok();
        let rate = |value: &Value| u32::try_from(whole(value)?).ok().filter(is_rate);
        Ok(Self {
            symbols: symbols.into_iter().map(str::to_owned).collect(),
            max_rate: fields.optional("maxRate", &allowed_rate(), rate)?,
            mode: fields.optional("mode", MODES, mode)?.unwrap_or_default(),
            heartbeat: fields.optional("heartbeat", HEARTBEATS, heartbeat)?.unwrap_or_default(),
        })
    }
}

fn is_rate(rate: &u32) -> bool {
    (1..=MAX_RATE).contains(rate)
}

fn allowed_rate() -> String {
    format!("a whole number from 1 to {MAX_RATE}")
}

/// The heartbeat that a query asks for.
pub(super) fn heartbeat_of(query: &Query) -> Result<Heartbeat, Problem> {
    Ok(query.parsed("heartbeat", HEARTBEATS)?.unwrap_or_default())
}

fn bit(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn no_symbols(given: usize) -> Problem {
    let detail =
        format!("A stream takes 1 to {MAX_SYMBOLS_PER_STREAM} symbols; {given} were given.");
    Problem::field("symbols", "invalid_field", detail)
}

/// `POST /subscribe`.
pub(in crate::http) async fn post(
    app: &App,
    request: Request<Incoming>,
) -> Result<StreamRequest, Problem> {
    let (request, body) = read_body(request).await?;
    let user = app.site.authenticator.user_of(&request.headers)?;
    let query = Query::parse(&request.uri, &["lastEventId"])?;
    let resume = last_event_id_of(&request.headers, &query);
    let subscription = Subscription::read(&body)?;
    user_limit::check(app, &user).await.map_err(no_room)?;
    let stream = validate(app, &user, &subscription, resume)?;
    await_prices(app, &stream).await;
    Ok(stream)
}

/// A stream begins with a price of each symbol: an id that it sends stands for all of them.
async fn await_prices(app: &App, stream: &StreamRequest) {
    let symbols: Vec<SymbolIndex> = stream.symbols.iter().map(|(_, index)| *index).collect();
    app.await_prices(&symbols).await;
}

/// `GET /subscribe`, for a browser's `EventSource`. A passing problem is answered with a stream
/// that ends after a `retry:`, because after any other answer a browser never reconnects.
pub(in crate::http) async fn get(app: &App, call: &Call) -> Result<StreamRequest, Problem> {
    let Call { user, head, .. } = call;
    let query = parse(&head.uri)?;
    let wants_orders = query.word("orders", "\"0\" or \"1\"", bit)?.unwrap_or(false);
    let rate = |text: &str| text.parse().ok().filter(is_rate);
    let max_rate = query.word("maxRate", &allowed_rate(), rate)?;
    let symbols = query.get("symbols").ok_or_else(|| no_symbols(0))?;
    let subscription = Subscription {
        symbols: symbols.split(',').map(str::to_owned).collect(),
        max_rate,
        mode: query.parsed("mode", MODES)?.unwrap_or_default(),
        heartbeat: heartbeat_of(&query)?,
    };
    let id = last_event_id_of(&head.headers, &query).map(|id| LastEventId::parse(&id));
    let (prices, orders) = id.map(|id| (id.prices, id.orders)).unwrap_or_default();
    let stream = validate(app, user, &subscription, prices)?;
    let orders =
        if wants_orders { Some(order_wish(app, user.clone(), orders, &query)?) } else { None };
    await_prices(app, &stream).await;
    Ok(StreamRequest { orders, ..stream })
}

fn parse(uri: &Uri) -> Result<Query, Problem> {
    Query::parse(
        uri,
        &["symbols", "maxRate", "mode", "orders", "account", "heartbeat", "lastEventId"],
    )
}

/// Whether a request for a price stream wants the user's orders on it.
pub(in crate::http) fn wants_orders(call: &Call) -> bool {
    parse(&call.head.uri).is_ok_and(|query| query.get("orders") == Some("1"))
}

/// The answer to a browser's `EventSource`; for `HEAD` only the head of it.
///
/// # Errors
/// A problem that does not pass.
pub(in crate::http) fn reply(
    method: &Method,
    node: Option<u16>,
    stream: Result<Reply, Problem>,
) -> Result<Reply, Problem> {
    match stream {
        Err(problem) if !problem.is_passing() => Err(problem),
        // Dropping the stream request frees its permit.
        Ok(_) | Err(_) if method == Method::HEAD => Ok(Reply::Bytes(stream_head(node))),
        Ok(stream) => Ok(stream),
        Err(_) => Ok(Reply::Bytes(come_back_later(node, rand::rng().random_range(RETRY_MS)))),
    }
}

fn validate(
    app: &App,
    user: &UserId,
    subscription: &Subscription,
    resume: Option<String>,
) -> Result<StreamRequest, Problem> {
    let names = &subscription.symbols;
    if names.is_empty() || names.len() > MAX_SYMBOLS_PER_STREAM {
        return Err(no_symbols(names.len()));
    }
    let symbols = known_symbols(app, "symbols", names)?;
    Ok(StreamRequest {
        permit: app.site.streams.quotas.reserve(user).map_err(no_room)?,
        symbols,
        mode: subscription.mode,
        heartbeat: subscription.heartbeat,
        max_rate: subscription.max_rate.or(app.site.streams.default_rate),
        // An id that no stream has sent resumes nothing and leads to a reset.
        resume: resume.map(|id| ResumePoint::parse(&id).unwrap_or_default()),
        orders: None,
    })
}

/// The symbols with these names, without duplicates.
pub(super) fn known_symbols(
    app: &App,
    field: &str,
    names: &[String],
) -> Result<Vec<(Symbol, SymbolIndex)>, Problem> {
    let directory = app.symbols()?;
    let mut symbols = Vec::with_capacity(names.len());
    let mut seen = HashSet::with_capacity(names.len());
    let mut unknown: Vec<String> = Vec::new();
    for name in names {
        let found = Symbol::in_any_case(name)
            .ok()
            .and_then(|symbol| directory.index_of(&symbol).map(|index| (symbol, index)));
        match found {
            Some((symbol, index)) if seen.insert(index) => symbols.push((symbol, index)),
            Some(_) => {}
            None => unknown.push(excerpt(name)),
        }
    }
    if unknown.is_empty() {
        return Ok(symbols);
    }
    let detail = format!("The exchange does not list {}.", listed(&unknown));
    Err(Problem::field(field, "unknown_symbol", detail).with("unknown", unknown))
}

/// Lists names in a sentence, quoted and abbreviated.
fn listed(names: &[String]) -> String {
    const MOST: usize = 10;
    let shown: Vec<String> = names.iter().take(MOST).map(|name| format!("{name:?}")).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

pub(in crate::http) fn no_room(error: NoRoom) -> Problem {
    let detail = match error {
        NoRoom::Process { limit } => {
            format!("This server has reached its limit of {limit} streams.")
        }
        NoRoom::User { limit } => {
            format!("You have reached the limit of {limit} streams; close one first.")
        }
    };
    Problem::too_many("too_many_streams", detail)
}

/// The two halves of the id that a combined stream sends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LastEventId {
    /// The position in the prices.
    pub prices: Option<String>,
    /// The position in the orders.
    pub orders: Option<String>,
}

impl LastEventId {
    pub(super) fn parse(id: &str) -> Self {
        let present = |half: &str| (!half.is_empty()).then(|| half.to_owned());
        match id.rsplit_once(char::from(ID_SEPARATOR)) {
            None => Self { prices: present(id), orders: None },
            Some((prices, orders)) => Self { prices: present(prices), orders: present(orders) },
        }
    }
}

/// Requests the orders of a user after the position in `known`.
pub(super) fn order_wish(
    app: &App,
    user: UserId,
    known: Option<String>,
    query: &Query,
) -> Result<OrderWish, Problem> {
    if !app.site.orders.is_readable() {
        let detail = "Orders cannot be read right now. Try again.";
        return Err(Problem::unavailable("unavailable", detail));
    }
    let with_account = query.word("account", "1", |word| (word == "1").then_some(()))?.is_some();
    Ok(OrderWish { from: orders_from(app, known), user, with_account })
}

/// Where a stream's orders begin for a client with this position.
fn orders_from(app: &App, known: Option<String>) -> OrdersFrom {
    let Some(known) = known else { return OrdersFrom::Open };
    let id: Result<ChangeId, NoChangeId> = known.parse();
    let cursor = id.ok().and_then(|id| app.site.orders.changes().resume(id));
    cursor.map_or(OrdersFrom::Reset, OrdersFrom::Cursor)
}

/// The header is the newer of the two: a reconnecting browser repeats the query unchanged.
pub(super) fn last_event_id_of(headers: &HeaderMap, query: &Query) -> Option<String> {
    last_event_id(headers).or_else(|| query.get("lastEventId").map(str::to_owned))
}

fn last_event_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("last-event-id")?.to_str().ok()?;
    (!id.is_empty()).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_half_for_prices_and_one_for_orders() {
        let id = |prices: &str, orders: &str| {
            let half = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            LastEventId { prices: half(prices), orders: half(orders) }
        };
        assert_eq!(LastEventId::parse("7-12"), id("7-12", ""));
        assert_eq!(LastEventId::parse("7-12/00ab.5"), id("7-12", "00ab.5"));
        assert_eq!(LastEventId::parse("/00ab.5"), id("", "00ab.5"));
        assert_eq!(LastEventId::parse("a/b-12/00ab.5"), id("a/b-12", "00ab.5"));
        assert_eq!(LastEventId::parse(""), id("", ""));
    }
}
