//! Kill switch and mass cancel. Whoever reaches this listener may use them, which is why it is
//! local unless configured otherwise. Who did is logged.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::field::display;

use crate::oms::{CancelScope, HaltChange, Halts, MAX_HALT_TEXT_BYTES, OrderCommands};
use crate::runtime::spawn_blocking;
use crate::types::{InvalidValue, Symbol, UserId};

use super::app::Site;
use super::body::read_body_up_to;
use super::fields::Fields;
use super::problem::{HttpResponse, Problem, json_response};
use super::query::Query;

/// Largest body: as many users and symbols as can be halted one by one.
const MAX_BODY_BYTES: usize = 128 * 1024;

/// The body of `PUT /kill-switch`. An absent member leaves its part unchanged.
#[derive(Debug)]
pub(super) struct HaltRequest(HaltChange);

impl HaltRequest {
    pub(super) fn read(body: &[u8]) -> Result<Self, Problem> {
        let fields = Fields::parse(body, &["all", "users", "symbols", "by", "reason"])?;
        let change = HaltChange {
            all: fields.optional("all", A_BOOLEAN, Value::as_bool)?,
            users: each(&fields, "users", "a user name", UserId::new)?,
            symbols: each(&fields, "symbols", "a symbol", Symbol::in_any_case)?,
            by: text(&fields, "by")?,
            reason: text(&fields, "reason")?,
        };
        if change.all.is_none() && change.users.is_none() && change.symbols.is_none() {
            let detail = "Name what to halt or resume: `all`, `users` or `symbols`.";
            return Err(Problem::field("body", "invalid_field", detail));
        }
        Ok(Self(change))
    }
}

/// The body of `POST /mass-cancel`: `all`, or a user, a symbol, or a user's orders in a symbol.
#[derive(Debug)]
pub(super) struct MassCancel {
    scope: CancelScope,
    by: Option<String>,
    reason: Option<String>,
}

impl MassCancel {
    pub(super) fn read(body: &[u8]) -> Result<Self, Problem> {
        let fields = Fields::parse(body, &["all", "user", "symbol", "by", "reason"])?;
        let is_all = fields.optional("all", A_BOOLEAN, Value::as_bool)?.unwrap_or(false);
        let (user, symbol) = (fields.text("user")?, fields.text("symbol")?);
        if is_all == (user.is_some() || symbol.is_some()) {
            let detail =
                "Name the orders to cancel: {\"all\":true}, or a `user`, a `symbol`, or both.";
            return Err(Problem::field("body", "invalid_field", detail));
        }
        let refused = |field| move |error| Problem::field(field, "invalid_field", error);
        let user = user.map(UserId::new).transpose().map_err(refused("user"))?;
        let symbol = symbol.map(Symbol::in_any_case).transpose().map_err(refused("symbol"))?;
        let scope = CancelScope { user, symbol };
        Ok(Self { scope, by: text(&fields, "by")?, reason: text(&fields, "reason")? })
    }
}

const A_BOOLEAN: &str = "true or false";

/// A list whose members are parsed one by one.
fn each<T: Ord>(
    fields: &Fields,
    field: &str,
    allowed: &str,
    read: impl Fn(&str) -> Result<T, InvalidValue>,
) -> Result<Option<BTreeSet<T>>, Problem> {
    let Some(names) = fields.texts(field, allowed)? else { return Ok(None) };
    let read = |(place, name): (usize, &str)| {
        read(name)
            .map_err(|error| Problem::field(format!("{field}[{place}]"), "invalid_field", error))
    };
    names.into_iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
}

fn text(fields: &Fields, field: &str) -> Result<Option<String>, Problem> {
    let text = fields.text(field)?;
    if let Some(length) = text.map(str::len).filter(|&length| length > MAX_HALT_TEXT_BYTES) {
        let detail =
            format!("The text has {length} bytes; at most {MAX_HALT_TEXT_BYTES} are allowed.");
        return Err(Problem::field(field, "invalid_field", detail));
    }
    Ok(text.map(str::to_owned))
}

/// The halts in force, and whether they survive a restart.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    halts: &'a Halts,
    durable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
}

fn shown(halts: &Halts, unwritten: Option<&str>) -> HttpResponse {
    let shown = Shown { halts, durable: unwritten.is_none(), warning: unwritten };
    json_response(StatusCode::OK, &shown)
}

/// `GET /kill-switch`.
pub(super) fn kill_switch(orders: &OrderCommands) -> HttpResponse {
    let switch = orders.kill_switch();
    let unwritten = switch.unwritten();
    shown(&switch.halts(), unwritten.as_deref().map(String::as_str))
}

/// `PUT /kill-switch`: answers when the change is in force. By then it is durable too, unless the
/// disk fails: an operator who must stop trading is not told of a failure after trading has
/// stopped. `durable` is then `false` in this answer, and in those of `GET` until a change is
/// written; `warning` says why and what helps.
pub(super) async fn halt(
    site: &Site,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Result<HttpResponse, Problem> {
    let (request, body) = read_body_up_to(MAX_BODY_BYTES, request).await?;
    Query::none(&request.uri)?;
    let HaltRequest(change) = HaltRequest::read(&body)?;
    for symbol in change.symbols.iter().flatten() {
        check_symbol(site, *symbol, "symbols")?;
    }
    let (by, reason) = (change.by.clone(), change.reason.clone());
    let switch = site.orders.commands().kill_switch().clone();
    let now = site.orders.commands().clock().now();
    // The disk may be slow, and this thread serves streams.
    let changing = move || switch.change(change, now).map(|halts| (halts, switch.unwritten()));
    let changed = spawn_blocking(changing).await;
    let (halts, unwritten) =
        changed.map_err(|error| Problem::field(error.what, "invalid_field", error))?;
    let (users, symbols) = (halts.user_list(), halts.symbol_list());
    let peer = peer.map(display);
    tracing::warn!(
        peer, by, reason, all = halts.all, %users, %symbols, "the kill switch was set"
    );
    let unwritten = unwritten.as_deref().map(String::as_str);
    if let Some(warning) = unwritten {
        tracing::error!(warning, "the kill switch is not durable");
    }
    Ok(shown(&halts, unwritten))
}

/// `POST /mass-cancel`: answers when every cancel is recorded; the exchange is told meanwhile.
pub(super) async fn mass_cancel(
    site: &Site,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Result<HttpResponse, Problem> {
    let (request, body) = read_body_up_to(MAX_BODY_BYTES, request).await?;
    Query::none(&request.uri)?;
    let MassCancel { scope, by, reason } = MassCancel::read(&body)?;
    if let Some(symbol) = scope.symbol {
        check_symbol(site, symbol, "symbol")?;
    }
    let peer = peer.map(display);
    let (user, symbol) = (scope.user.as_ref().map(UserId::as_str), scope.symbol.map(display));
    tracing::warn!(peer, by, reason, user, symbol, "a mass cancel was requested");
    let busy = || Problem::unavailable("unavailable", "Other mass cancels are waiting. Try again.");
    let waiting = site.orders.commands().mass_cancel(scope).map_err(|_overloaded| busy())?;
    let ending = |_gone| {
        let detail = "The server is shutting down. Some cancels may not have been requested.";
        Problem::unavailable("unavailable", detail)
    };
    let outcome = waiting.await.map_err(ending)?;
    tracing::warn!(peer, by, asked = outcome.asked, "a mass cancel is recorded");
    let answer = if outcome.is_shown {
        json!({ "asked": outcome.asked })
    } else {
        // Recorded and being sent; readers see it once Postgres has it.
        json!({ "asked": outcome.asked, "shown": false })
    };
    Ok(json_response(StatusCode::ACCEPTED, &answer))
}

/// A mistyped symbol would halt nothing and look as if it had. Until the exchange has sent its
/// symbols every name is accepted: a kill switch waits for nothing.
fn check_symbol(site: &Site, symbol: Symbol, field: &str) -> Result<(), Problem> {
    let directory = site.market.directory.load();
    if directory.is_empty() || directory.index_of(&symbol).is_some() {
        return Ok(());
    }
    let detail = format!("The exchange does not list {symbol}.");
    Err(Problem::field(field, "unknown_symbol", detail))
}
