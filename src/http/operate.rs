//! What operators do: stop new orders, and cancel what is open. Whoever reaches this listener may,
//! which is why it is local unless configured otherwise; who it was is logged.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use crate::execution::{
    CancelScope, HaltChange, KillSwitchError, MAX_HALT_TEXT_BYTES, OrderGateway,
};
use crate::types::{Symbol, UserId};

use super::app::Site;
use super::body::{parse_json, read_body_up_to};
use super::problem::{HttpResponse, Problem, json_response};

/// Largest body: as many users and symbols as can be halted one by one.
const MAX_BODY_BYTES: usize = 128 * 1024;

/// `PUT /kill-switch`. A member that is not there leaves its part as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Halt {
    all: Option<bool>,
    users: Option<Vec<String>>,
    symbols: Option<Vec<Symbol>>,
    by: Option<String>,
    reason: Option<String>,
}

/// `POST /mass-cancel`: `all`, or a user, a symbol, or a user's orders in a symbol.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MassCancel {
    all: bool,
    user: Option<String>,
    symbol: Option<Symbol>,
    by: Option<String>,
    reason: Option<String>,
}

/// `GET /kill-switch`.
pub(super) fn kill_switch(orders: &OrderGateway) -> HttpResponse {
    json_response(StatusCode::OK, &*orders.kill_switch().halts())
}

/// `PUT /kill-switch`: answered when the change is durable and in force.
pub(super) async fn halt(
    site: &Site,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Result<HttpResponse, Problem> {
    let (_, body) = read_body_up_to(MAX_BODY_BYTES, request).await?;
    let halt: Halt = parse_json(&body)?;
    if halt.all.is_none() && halt.users.is_none() && halt.symbols.is_none() {
        let detail = "Say what to halt or to lift: `all`, `users` or `symbols`.";
        return Err(Problem::field("body", "invalid_field", detail));
    }
    for symbol in halt.symbols.iter().flatten() {
        check_symbol(site, *symbol, "symbols")?;
    }
    let user = |(place, name): (usize, &String)| {
        UserId::new(name)
            .map_err(|error| Problem::field(format!("users[{place}]"), "invalid_field", error))
    };
    let users = halt.users.map(|users| users.iter().enumerate().map(user).collect());
    let change = HaltChange {
        all: halt.all,
        users: users.transpose()?,
        symbols: halt.symbols.map(BTreeSet::from_iter),
        by: check_text(halt.by, "by")?,
        reason: check_text(halt.reason, "reason")?,
    };
    let switch = site.orders.gateway().kill_switch().clone();
    let now = site.orders.gateway().clock().now();
    // The disk may take its time, and this thread has streams to serve.
    let changing = move || switch.change(change, now);
    let halts = glommio::executor().spawn_blocking(changing).await.map_err(refused)?;
    tracing::warn!(
        ?peer, by = halts.by, reason = halts.reason, all = halts.all, users = ?halts.users,
        symbols = ?halts.symbols, "the kill switch was set"
    );
    Ok(json_response(StatusCode::OK, &*halts))
}

fn refused(error: KillSwitchError) -> Problem {
    match error {
        KillSwitchError::TooMany { what, .. } => Problem::field(what, "invalid_field", error),
        KillSwitchError::File { .. } | KillSwitchError::Content { .. } => {
            tracing::error!(%error, "the kill switch could not be set");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            let detail = format!("Nothing is halted or lifted by this request: {error}.");
            Problem::new(status, "kill_switch_not_written", detail)
        }
    }
}

/// `POST /mass-cancel`: answered when every cancel is recorded; the exchange is told meanwhile.
pub(super) async fn mass_cancel(
    site: &Site,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Result<HttpResponse, Problem> {
    let (_, body) = read_body_up_to(MAX_BODY_BYTES, request).await?;
    let asked: MassCancel = parse_json(&body)?;
    if asked.all == (asked.user.is_some() || asked.symbol.is_some()) {
        let detail = "Say which orders: {\"all\":true}, or a `user`, a `symbol`, or both.";
        return Err(Problem::field("body", "invalid_field", detail));
    }
    if let Some(symbol) = asked.symbol {
        check_symbol(site, symbol, "symbol")?;
    }
    let user = asked.user.map(|user| UserId::new(&user)).transpose();
    let user = user.map_err(|error| Problem::field("user", "invalid_field", error))?;
    let (by, reason) = (check_text(asked.by, "by")?, check_text(asked.reason, "reason")?);
    let scope = CancelScope { user, symbol: asked.symbol };
    tracing::warn!(?peer, by, reason, ?scope, "a mass cancel was asked for");
    let busy = || Problem::unavailable("unavailable", "Other mass cancels wait. Try again.");
    let waiting = site.orders.gateway().mass_cancel(scope).map_err(|_overloaded| busy())?;
    let ending = |_gone| {
        let detail = "The process ends. Some orders may not have been asked to be cancelled.";
        Problem::unavailable("unavailable", detail)
    };
    let outcome = waiting.await.map_err(ending)?;
    tracing::warn!(?peer, by, asked = outcome.asked, "a mass cancel is recorded");
    let answer = if outcome.is_shown {
        json!({ "asked": outcome.asked })
    } else {
        // Recorded and on its way; readers see it once Postgres has it.
        json!({ "asked": outcome.asked, "shown": false })
    };
    Ok(json_response(StatusCode::ACCEPTED, &answer))
}

/// A name with a typing error would halt nothing, and look as if it had. Before the exchange has
/// told its symbols every name is taken: a kill switch waits for nobody.
fn check_symbol(site: &Site, symbol: Symbol, field: &str) -> Result<(), Problem> {
    let directory = site.market.directory.load();
    if directory.is_empty() || directory.index_of(&symbol).is_some() {
        return Ok(());
    }
    let detail = format!("The exchange does not list {symbol}.");
    Err(Problem::field(field, "unknown_symbol", detail))
}

fn check_text(text: Option<String>, field: &str) -> Result<Option<String>, Problem> {
    match &text {
        Some(given) if given.len() > MAX_HALT_TEXT_BYTES => {
            let length = given.len();
            let detail = format!("{length} bytes; at most {MAX_HALT_TEXT_BYTES} are allowed.");
            Err(Problem::field(field, "invalid_field", detail))
        }
        _ => Ok(text),
    }
}
