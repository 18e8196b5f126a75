//! The kill switch. Whoever reaches this listener may use them, which is why it is
//! local unless configured otherwise. Who did is logged.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::Value;
use tracing::field::display;

use crate::oms::{HaltChange, Halts, MAX_HALT_TEXT_BYTES, OrderCommands, TooManyHalts};
use crate::runtime::{sleep, spawn_blocking};
use crate::types::{InvalidValue, Symbol, UserId};

use super::app::Site;
use super::body::read_body_up_to;
use super::fields::Fields;
use super::problem::{HttpResponse, Problem, json_response};
use super::query::Query;

/// Largest body: as many users and symbols as can be halted one by one.
pub(super) const MAX_BODY_BYTES: usize = 128 * 1024;

/// How long an operator waits until Postgres has a change that is in force.
const POSTGRES_PATIENCE: Duration = Duration::from_secs(2);

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

pub(super) const A_BOOLEAN: &str = "true or false";

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

/// Who or why, as given.
pub(super) fn text(fields: &Fields, field: &str) -> Result<Option<String>, Problem> {
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

/// `PUT /kill-switch`: answers when the change is in force. By then it is durable too, and on its way to
/// all nodes, unless the disk or Postgres fails: an operator who must stop trading is not told of a failure after trading has
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
    let too_many = |error: TooManyHalts| Problem::field(error.what, "invalid_field", error);
    let halts = match switch.begin_change(&change, now).map_err(too_many)? {
        Some(changing) => changing.written_by(sleep(POSTGRES_PATIENCE)).await,
        None => {
            let switch = switch.clone();
            // The disk may be slow, and this thread serves other operators.
            let changed = spawn_blocking(move || switch.change(change, now)).await;
            changed.map_err(too_many)?
        }
    };
    let unwritten = switch.unwritten();
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

/// A mistyped symbol would halt nothing and look as if it had. Until the exchange has sent its
/// symbols every name is accepted: a kill switch waits for nothing.
pub(super) fn check_symbol(site: &Site, symbol: Symbol, field: &str) -> Result<(), Problem> {
    let directory = site.market.directory.load();
    if directory.is_empty() || directory.index_of(&symbol).is_some() {
        return Ok(());
    }
    let detail = format!("The exchange does not list {symbol}.");
    Err(Problem::field(field, "unknown_symbol", detail))
}
