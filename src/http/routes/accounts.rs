//! The routes of accounts: `GET /account`, `GET /positions`, `GET /positions/:symbol`, `GET
//! /portfolio`.

use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;

use super::orders::store_unavailable;
use crate::engine::AccountMode;
use crate::http::app::{App, Site};
use crate::http::call::Call;
use crate::http::problem::{HttpResponse, Problem, excerpt, json_response};
use crate::http::query::Query;
use crate::money::{Account, Holding};
use crate::types::{Symbol, SymbolIndex, UserId};

/// Cash, and what all positions come to.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountSummary {
    cash_in_cents: i64,
    reserved_cash_in_cents: i64,
    buying_power_in_cents: i64,
    deposits_in_cents: i64,
    cost_in_cents: i64,
    market_value_in_cents: i64,
    equity_in_cents: i64,
    realized_profit_in_cents: i64,
    unrealized_profit_in_cents: i64,
    /// Positions without a price: they count at their cost.
    unpriced: Vec<Symbol>,
    mode: &'static str,
    is_overdrawn: bool,
    version: u64,
}

#[derive(Serialize)]
struct Positions {
    positions: Vec<Position>,
}

/// The shares of one symbol.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Position {
    symbol: Symbol,
    shares: i64,
    available_shares: i64,
    reserved_shares: i64,
    cost_in_cents: i64,
    average_cost_in_cents: Option<i64>,
    price_in_cents: Option<i64>,
    market_value_in_cents: Option<i64>,
    realized_profit_in_cents: i64,
    unrealized_profit_in_cents: Option<i64>,
    /// Of the shares held now, since the close before.
    day_profit_in_cents: Option<i64>,
}

/// Prices of one symbol, in cents.
#[derive(Debug, Clone, Copy, Default)]
struct Prices {
    last: Option<i64>,
    previous_close: Option<i64>,
}

impl Position {
    fn of(symbol: Symbol, holding: &Holding, prices: Prices) -> Self {
        let (shares, cost) = (holding.shares(), holding.cost_basis_cents());
        let value = prices.last.map(|price| product(shares, price));
        let since_close = prices.last.zip(prices.previous_close);
        Self {
            symbol,
            shares,
            available_shares: holding.available_shares(),
            reserved_shares: holding.reserved_shares(),
            cost_in_cents: cost,
            average_cost_in_cents: holding.average_cost_cents(),
            price_in_cents: prices.last,
            market_value_in_cents: value,
            realized_profit_in_cents: holding.realized_profit_cents(),
            unrealized_profit_in_cents: value.map(|value| value.saturating_sub(cost)),
            day_profit_in_cents: since_close.map(|(last, close)| product(shares, last - close)),
        }
    }

    fn is_held(&self) -> bool {
        self.shares != 0 || self.reserved_shares != 0
    }
}

/// Saturates only for shares that no real account has.
fn product(shares: i64, cents: i64) -> i64 {
    shares.saturating_mul(cents)
}

impl AccountSummary {
    fn of(account: &Account, positions: &[Position], mode: AccountMode) -> Self {
        let sum =
            |each: fn(&Position) -> i64| positions.iter().map(each).fold(0, i64::saturating_add);
        let value = sum(|one| one.market_value_in_cents.unwrap_or(one.cost_in_cents));
        let cost = sum(|one| one.cost_in_cents);
        let is_unpriced = |one: &&Position| one.shares != 0 && one.price_in_cents.is_none();
        Self {
            cash_in_cents: account.cash_cents(),
            reserved_cash_in_cents: account.reserved_cents(),
            buying_power_in_cents: account.buying_power_cents(),
            deposits_in_cents: account.deposited_cents(),
            cost_in_cents: cost,
            market_value_in_cents: value,
            equity_in_cents: account.cash_cents().saturating_add(value),
            realized_profit_in_cents: sum(|one| one.realized_profit_in_cents),
            unrealized_profit_in_cents: value.saturating_sub(cost),
            unpriced: positions.iter().filter(is_unpriced).map(|one| one.symbol).collect(),
            mode: mode.into_str(),
            is_overdrawn: account.is_overdrawn(),
            version: account.version(),
        }
    }
}

/// `GET /account`.
pub(in crate::http) async fn account(app: &App, call: &Call) -> Result<HttpResponse, Problem> {
    Query::none(&call.head.uri)?;
    let account = account_of(app, call).await?;
    let positions = positions_of(app, &account).await;
    let summary = AccountSummary::of(&account, &positions, app.site.accounts.rules.mode);
    Ok(json_response(StatusCode::OK, &summary))
}

/// `GET /positions`: what the user holds or owes, by symbol.
pub(in crate::http) async fn positions(app: &App, call: &Call) -> Result<HttpResponse, Problem> {
    Query::none(&call.head.uri)?;
    let account = account_of(app, call).await?;
    let mut positions = positions_of(app, &account).await;
    positions.retain(Position::is_held);
    Ok(json_response(StatusCode::OK, &Positions { positions }))
}

/// Cash, and all positions.
#[derive(Serialize)]
struct Portfolio {
    account: AccountSummary,
    positions: Vec<Position>,
}

/// `GET /portfolio`: the account and its positions, of one moment.
pub(in crate::http) async fn portfolio(app: &App, call: &Call) -> Result<HttpResponse, Problem> {
    Query::none(&call.head.uri)?;
    let account = account_of(app, call).await?;
    let mut positions = positions_of(app, &account).await;
    let summary = AccountSummary::of(&account, &positions, app.site.accounts.rules.mode);
    positions.retain(Position::is_held);
    Ok(json_response(StatusCode::OK, &Portfolio { account: summary, positions }))
}

/// `GET /positions/:symbol`: also one that was sold, with the profit made.
pub(in crate::http) async fn position(
    app: &App,
    call: &Call,
    name: &str,
) -> Result<HttpResponse, Problem> {
    Query::none(&call.head.uri)?;
    let unknown = || Problem::not_found(format!("You have no shares of {:?}.", excerpt(name)));
    let symbol = Symbol::in_any_case(name).map_err(|_| unknown())?;
    let account = account_of(app, call).await?;
    let holding = account.holding(symbol);
    if holding == Holding::default() {
        return Err(unknown());
    }
    let index = index_of(&app.site, symbol);
    app.await_prices(index.as_slice()).await;
    let position = Position::of(symbol, &holding, prices_of(&app.site, index));
    Ok(json_response(StatusCode::OK, &position))
}

async fn account_of(app: &App, call: &Call) -> Result<Arc<Account>, Problem> {
    account_of_user(&app.site, &call.user).await
}

/// The account of a user. One that has not begun has what its first order begins it with.
pub(in crate::http) async fn account_of_user(
    site: &Site,
    user: &UserId,
) -> Result<Arc<Account>, Problem> {
    let account = site.orders.account(user).await.map_err(store_unavailable)?;
    let rules = &site.accounts.rules;
    let is_new = *account == Account::default();
    let begins = is_new && rules.mode == AccountMode::Cash && rules.opening_cents > 0;
    Ok(if begins { Arc::new(Account::opened_with(rules.opening_cents)) } else { account })
}

/// That this server keeps accounts.
pub(in crate::http) fn check_kept(site: &Site) -> Result<(), Problem> {
    if site.peers.is_none() { Ok(()) } else { Err(no_accounts()) }
}

pub(in crate::http) fn no_accounts() -> Problem {
    let detail = "Nodes that share users neither move cash nor list activities yet.";
    Problem::new(StatusCode::NOT_IMPLEMENTED, "no_accounts", detail)
}

/// All positions of an account, those that were sold included.
async fn positions_of(app: &App, account: &Account) -> Vec<Position> {
    let held = account.holdings().filter_map(|(symbol, _)| index_of(&app.site, symbol));
    let indexes: Vec<SymbolIndex> = held.collect();
    app.await_prices(&indexes).await;
    positions_at_hand(&app.site, account)
}

/// The same with the prices that this node has.
fn positions_at_hand(site: &Site, account: &Account) -> Vec<Position> {
    let position =
        |(symbol, holding)| Position::of(symbol, holding, prices_of(site, index_of(site, symbol)));
    account.holdings().map(position).collect()
}

/// An account as operators see it.
#[derive(Serialize)]
pub(in crate::http) struct ShownAccount {
    user: String,
    account: AccountSummary,
    positions: Vec<Position>,
}

impl ShownAccount {
    pub(in crate::http) fn of(site: &Site, user: &UserId, account: &Account) -> Self {
        let mut positions = positions_at_hand(site, account);
        let summary = AccountSummary::of(account, &positions, site.accounts.rules.mode);
        positions.retain(Position::is_held);
        Self { user: user.as_str().to_owned(), account: summary, positions }
    }
}

/// `None` for a symbol that the exchange does not list any more.
fn index_of(site: &Site, symbol: Symbol) -> Option<SymbolIndex> {
    site.market.directory.load().index_of(&symbol)
}

fn prices_of(site: &Site, index: Option<SymbolIndex>) -> Prices {
    let Some(index) = index else { return Prices::default() };
    let (value, _) = site.market.last_value(index);
    let directory = site.market.directory.load();
    let listing = directory.listing(index);
    Prices {
        last: value.has_price().then_some(value.price_cents),
        previous_close: listing
            .and_then(|listing| listing.previous_close)
            .map(|price| price.cents()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::{Held, Trade};
    use crate::types::{PriceCents, Side};

    const NOTHING: (Held, Held) = (Held::Nothing, Held::Nothing);

    fn symbol(name: &str) -> Symbol {
        Symbol::new(name).unwrap()
    }

    fn trade(account: &mut Account, name: &str, side: Side, num_shares: u64, cents: i64) {
        let price = PriceCents::new(cents).unwrap();
        let trade = Trade { symbol: symbol(name), side, num_shares, price };
        account.apply_execution(&trade, NOTHING).unwrap();
    }

    #[test]
    fn figures_by_hand() {
        let mut account = Account::opened_with(100_000);
        trade(&mut account, "IBM", Side::Buy, 10, 1_000);
        trade(&mut account, "IBM", Side::Buy, 5, 1_300);
        trade(&mut account, "IBM", Side::Sell, 3, 1_200);
        trade(&mut account, "SPY", Side::Sell, 2, 5_001);
        account.reserve_sell(symbol("IBM"), 4).unwrap();
        let prices = |name: &str| match name {
            "IBM" => Prices { last: Some(1_250), previous_close: Some(1_240) },
            _ => Prices::default(),
        };
        let positions: Vec<Position> = account
            .holdings()
            .map(|(symbol, holding)| Position::of(symbol, holding, prices(symbol.as_str())))
            .collect();
        let [ibm, spy] = &positions[..] else { panic!("two symbols") };
        assert_eq!((ibm.shares, ibm.available_shares, ibm.reserved_shares), (12, 8, 4));
        assert_eq!((ibm.cost_in_cents, ibm.average_cost_in_cents), (13_200, Some(1_100)));
        assert_eq!(ibm.realized_profit_in_cents, 300);
        assert_eq!(ibm.market_value_in_cents, Some(15_000));
        assert_eq!(ibm.unrealized_profit_in_cents, Some(1_800));
        assert_eq!(ibm.day_profit_in_cents, Some(120));
        assert_eq!((spy.shares, spy.cost_in_cents), (-2, -10_002));
        assert_eq!((spy.average_cost_in_cents, spy.market_value_in_cents), (Some(5_001), None));
        let all = AccountSummary::of(&account, &positions, AccountMode::Cash);
        assert_eq!(all.cash_in_cents, 100_000 - 10_000 - 6_500 + 3_600 + 10_002);
        assert_eq!(all.market_value_in_cents, 15_000 - 10_002);
        assert_eq!(all.equity_in_cents, all.cash_in_cents + 15_000 - 10_002);
        assert_eq!(all.unpriced, [symbol("SPY")]);
        assert_eq!((all.realized_profit_in_cents, all.unrealized_profit_in_cents), (300, 1_800));
        assert!(all.is_overdrawn, "two shares are owed");
        assert_eq!(all.mode, "cash");
    }
}
