//! `GET /clock` and `GET /calendar`: the exchange's time and its trading sessions, as it tells them.

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;

use super::order_list::read_times;
use crate::http::app::App;
use crate::http::problem::{HttpResponse, Problem, json_response};
use crate::http::query::Query;
use crate::market::{Directory, Hours, TradingSession};
use crate::types::{Symbol, TimestampMicros};

/// Most sessions in an answer; with all symbols at one exchange there are few.
const MAX_SESSIONS: usize = 500;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClockAnswer {
    /// The exchange's time; `null` while its clock is not known.
    timestamp: Option<TimestampMicros>,
    is_open: Option<bool>,
    next_open: Option<TimestampMicros>,
    next_close: Option<TimestampMicros>,
}

#[derive(Serialize)]
struct CalendarAnswer {
    sessions: Vec<Session>,
}

#[derive(Serialize)]
struct Session {
    open: TimestampMicros,
    close: TimestampMicros,
    /// How many symbols have it.
    symbols: usize,
}

/// `GET /clock`.
pub(in crate::http) fn clock(
    app: &App,
    request: &Request<Incoming>,
) -> Result<HttpResponse, Problem> {
    app.site.authenticator.user_of(request.headers())?;
    let query = Query::parse(request.uri(), &["symbol"])?;
    let symbol = query.symbol("symbol")?;
    let directory = app.symbols()?;
    let commands = app.site.orders.commands();
    let timestamp = commands.exchange_clock().time(commands.clock().moment());
    let is_current = app.site.market.status.is_up();
    let sessions = sessions(&directory, symbol)?;
    let hours = timestamp
        .map(|now| Hours::at(now, sessions.iter().map(|(session, _)| *session), is_current));
    let Hours { is_open, next_open, next_close } = hours.unwrap_or_default();
    let answer = ClockAnswer { timestamp, is_open, next_open, next_close };
    Ok(json_response(StatusCode::OK, &answer))
}

/// `GET /calendar`.
pub(in crate::http) fn calendar(
    app: &App,
    request: &Request<Incoming>,
) -> Result<HttpResponse, Problem> {
    app.site.authenticator.user_of(request.headers())?;
    let query = Query::parse(request.uri(), &["symbol", "from", "to"])?;
    let symbol = query.symbol("symbol")?;
    let (from, to) = read_times(&query)?;
    let directory = app.symbols()?;
    let is_wanted = |session: &TradingSession| {
        from.is_none_or(|from| session.close > from) && to.is_none_or(|to| session.open < to)
    };
    let sessions = sessions(&directory, symbol)?;
    let sessions = sessions.iter().filter(|(session, _)| is_wanted(session)).take(MAX_SESSIONS);
    let sessions = sessions.map(|(TradingSession { open, close }, symbols)| Session {
        open: *open,
        close: *close,
        symbols: *symbols,
    });
    Ok(json_response(StatusCode::OK, &CalendarAnswer { sessions: sessions.collect() }))
}

/// The sessions of a symbol, or of all, each with the number of its symbols.
fn sessions(
    directory: &Directory,
    symbol: Option<Symbol>,
) -> Result<Vec<(TradingSession, usize)>, Problem> {
    let Some(symbol) = symbol else { return Ok(directory.sessions().to_vec()) };
    let listing = directory.index_of(&symbol).and_then(|index| directory.listing(index));
    let listing = listing.ok_or_else(|| {
        let detail = format!("The exchange does not list {symbol}.");
        Problem::field("symbol", "unknown_symbol", detail)
    })?;
    Ok(listing.session.map(|session| (session, 1)).into_iter().collect())
}
