//! Users' cash, for operators: `POST /accounts/{user}/deposits` and `.../withdrawals`, `GET
//! /accounts/{user}`, `GET /trial-balance`.
//!
//! Each movement names who and why, has an id that moves cash once, and is durable before it is
//! answered. What users see is in `routes/accounts.rs`.

use std::net::SocketAddr;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use tracing::field::display;

use super::app::Site;
use super::body::read_body_up_to;
use super::fields::{Fields, whole};
use super::problem::{HttpResponse, Problem, json_response};
use super::quarantine::text;
use super::query::Query;
use super::routes::accounts::{ShownAccount, account_of_user, check_kept, no_accounts};
use super::routes::orders::store_unavailable;
use crate::engine::{CashReply, OPENING_ID};
use crate::money::{MAX_CASH_MOVEMENT_CENTS, Refusal, TrialBalance};
use crate::order::{CashMovementKind, CashTerms, OperatorAct};
use crate::types::{CashMovementId, InvalidValue, Symbol, UserId};
use crate::wal::Lsn;

/// Largest body: an id, a number and two texts.
const MAX_BODY_BYTES: usize = 4 * 1024;

/// What moved, and the account as it is then.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Moved {
    id: String,
    kind: &'static str,
    amount_in_cents: i64,
    /// Whether the id had moved it before.
    is_repeated: bool,
    #[serde(flatten)]
    shown: ShownAccount,
}

/// A movement as its request names it.
struct Asked {
    id: CashMovementId,
    terms: CashTerms,
    act: OperatorAct,
}

impl Asked {
    fn read(kind: CashMovementKind, body: &[u8]) -> Result<Self, Problem> {
        let fields = Fields::parse(body, &["id", "amountInCents", "by", "reason"])?;
        let invalid_id = |error: InvalidValue| Problem::field("id", "invalid_field", error);
        let id = fields.required("id", "the id of this movement, a string", |id| id.as_str())?;
        let id = CashMovementId::new(id).map_err(invalid_id)?;
        if id.as_str() == OPENING_ID {
            let detail = format!("\"{OPENING_ID}\" is the id of opening balances.");
            return Err(Problem::field("id", "invalid_field", detail));
        }
        let allowed = format!("a whole number of cents from 1 to {MAX_CASH_MOVEMENT_CENTS}");
        let cents = fields.required("amountInCents", &allowed, |value| {
            whole(value).filter(|cents| (1..=MAX_CASH_MOVEMENT_CENTS).contains(cents))
        })?;
        let act = OperatorAct {
            by: text(fields.text("by")?, "by")?.into(),
            reason: text(fields.text("reason")?, "reason")?.into(),
        };
        Ok(Self { id, terms: CashTerms { kind, cents }, act })
    }
}

/// The movement that a path ends with.
pub(super) fn kind_of(name: &str) -> Option<CashMovementKind> {
    match name {
        "deposits" => Some(CashMovementKind::Deposit),
        "withdrawals" => Some(CashMovementKind::Withdrawal),
        _ => None,
    }
}

/// `POST /accounts/{user}/deposits` and `.../withdrawals`: answers when it is durable.
pub(super) async fn move_cash(
    site: &Site,
    (user, kind): (&str, CashMovementKind),
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Result<HttpResponse, Problem> {
    let (request, body) = read_body_up_to(MAX_BODY_BYTES, request).await?;
    Query::none(&request.uri)?;
    let user = user_of(user)?;
    let Asked { id, terms, act } = Asked::read(kind, &body)?;
    check_kept(site)?;
    let (kind, cents) = (terms.kind.into_str(), terms.cents);
    let (by, reason, peer) = (act.by.as_str(), act.reason.as_str(), peer.map(display));
    tracing::warn!(peer, by, reason, %user, %id, cents, kind, "an operator moves cash");
    let reply = site.orders.move_cash(user.clone(), id.clone(), (terms, act)).await;
    let (account, is_repeated) = match reply {
        CashReply::Moved(account) => (account, false),
        CashReply::Repeated(account) => (account, true),
        CashReply::Conflict(first) => return Err(conflict(first)),
        CashReply::Refused(refusal) => return Err(refused(refusal)),
        CashReply::NoAccounts => return Err(no_accounts()),
        CashReply::NoRoom => {
            let detail = "The server's disk has no room. Nothing was recorded. Try again.";
            return Err(Problem::unavailable("disk_full", detail));
        }
        CashReply::OutcomeUnknown => {
            let detail = "The server is shutting down, and whether cash has moved is unknown. Try \
                          again with the same id.";
            return Err(Problem::unavailable("unavailable", detail));
        }
        CashReply::CheckAgain | CashReply::Unavailable => {
            let detail = "Cash cannot be moved right now. Nothing was recorded. Try again.";
            return Err(Problem::unavailable("unavailable", detail));
        }
    };
    let (id, amount_in_cents) = (id.as_str().to_owned(), cents);
    let shown = ShownAccount::of(site, &user, &account);
    Ok(json_response(StatusCode::OK, &Moved { id, kind, amount_in_cents, is_repeated, shown }))
}

fn conflict(CashTerms { kind, cents }: CashTerms) -> Problem {
    let kind = kind.into_str();
    let detail = format!(
        "The id already stands for another movement of this user, a {kind} of {cents} cents. \
         Nothing was recorded."
    );
    Problem::new(StatusCode::CONFLICT, "cash_movement_conflict", detail)
        .with("field", "id")
        .with("kind", kind)
        .with("amountInCents", cents)
}

fn refused(refusal: Refusal) -> Problem {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    match refusal {
        Refusal::InsufficientCash { available_cents, needed_cents } => {
            let detail = format!("{refusal}. Nothing was recorded.");
            Problem::new(status, "insufficient_cash", detail)
                .with("neededInCents", needed_cents)
                .with("availableInCents", available_cents)
        }
        Refusal::OutOfRange { .. } | Refusal::Overflow(_) => {
            let detail = format!("The account would have amounts beyond its range: {refusal}.");
            Problem::new(status, "amount_out_of_range", detail).with("field", "amountInCents")
        }
        Refusal::InsufficientBuyingPower { .. } | Refusal::InsufficientShares { .. } => {
            unreachable!("no cash movement is refused for that: {refusal}")
        }
    }
}

/// `GET /accounts/{user}`.
pub(super) async fn show(site: &Site, user: &str) -> Result<HttpResponse, Problem> {
    let user = user_of(user)?;
    let account = account_of_user(site, &user).await?;
    Ok(json_response(StatusCode::OK, &ShownAccount::of(site, &user, &account)))
}

fn user_of(name: &str) -> Result<UserId, Problem> {
    UserId::new(name).map_err(|error| Problem::field("user", "invalid_field", error))
}

/// The sums of all ledger accounts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownBalance {
    /// The last record of the log that they include.
    log_position: u64,
    accounts: u64,
    overdrawn: u64,
    available_cash_in_cents: i128,
    reserved_cash_in_cents: i128,
    cost_in_cents: i128,
    realized_profit_in_cents: i128,
    clearing_in_cents: i128,
    /// Available and reserved cash and cost, less profit, and clearing: zero.
    sum_in_cents: i128,
    symbols: Vec<ShownSymbol>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownSymbol {
    symbol: Symbol,
    shares: i128,
    reserved_shares: i128,
    cost_in_cents: i128,
    realized_profit_in_cents: i128,
    clearing_shares: i128,
}

impl ShownBalance {
    fn of(Lsn(log_position): Lsn, all: &TrialBalance) -> Self {
        let symbols = all.symbols.iter().map(|(symbol, of_symbol)| ShownSymbol {
            symbol: *symbol,
            shares: of_symbol.shares,
            reserved_shares: of_symbol.reserved_shares,
            cost_in_cents: of_symbol.cost_cents,
            realized_profit_in_cents: of_symbol.profit_cents,
            clearing_shares: -of_symbol.shares,
        });
        Self {
            log_position,
            accounts: all.accounts,
            overdrawn: all.overdrawn,
            available_cash_in_cents: all.available_cash_cents,
            reserved_cash_in_cents: all.reserved_cash_cents,
            cost_in_cents: all.cost_cents(),
            realized_profit_in_cents: all.profit_cents(),
            clearing_in_cents: all.clearing_cents,
            sum_in_cents: all.sum_cents(),
            symbols: symbols.collect(),
        }
    }
}

/// `GET /trial-balance`: of all that had been shown when it was asked for.
pub(super) async fn trial_balance(site: &Site) -> Result<HttpResponse, Problem> {
    check_kept(site)?;
    let (position, all) = site.orders.trial_balance().await.map_err(store_unavailable)?;
    Ok(json_response(StatusCode::OK, &ShownBalance::of(position, &all)))
}
