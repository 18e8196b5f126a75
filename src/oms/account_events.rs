//! Encodes accounts and positions as events of a stream, without prices, which streams have of their own.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::money::{Account, Holding};
use crate::types::Symbol;

/// The data of an `account` event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountData {
    cash_in_cents: i64,
    reserved_cash_in_cents: i64,
    buying_power_in_cents: i64,
    deposits_in_cents: i64,
    cost_in_cents: i64,
    realized_profit_in_cents: i64,
    is_overdrawn: bool,
    version: u64,
}

/// The data of a `position` event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PositionData {
    symbol: Symbol,
    shares: i64,
    available_shares: i64,
    reserved_shares: i64,
    cost_in_cents: i64,
    average_cost_in_cents: Option<i64>,
    realized_profit_in_cents: i64,
    /// Of the account.
    version: u64,
}

/// Appends an `account` event, and `position` events of these symbols, or of all. They carry no ids.
pub(super) fn write_account(
    out: &mut Vec<u8>,
    account: &Account,
    symbols: Option<&BTreeSet<Symbol>>,
) {
    let sum = |each: fn(&Holding) -> i64| {
        account.holdings().map(|(_, holding)| each(holding)).fold(0, i64::saturating_add)
    };
    let version = account.version();
    let data = AccountData {
        cash_in_cents: account.cash_cents(),
        reserved_cash_in_cents: account.reserved_cents(),
        buying_power_in_cents: account.buying_power_cents(),
        deposits_in_cents: account.deposited_cents(),
        cost_in_cents: sum(Holding::cost_basis_cents),
        realized_profit_in_cents: sum(Holding::realized_profit_cents),
        is_overdrawn: account.is_overdrawn(),
        version,
    };
    write_event(out, "account", &data);
    let all = || account.holdings().map(|(symbol, _)| symbol).collect();
    for symbol in symbols.cloned().unwrap_or_else(all) {
        let holding = account.holding(symbol);
        let data = PositionData {
            symbol,
            shares: holding.shares(),
            available_shares: holding.available_shares(),
            reserved_shares: holding.reserved_shares(),
            cost_in_cents: holding.cost_basis_cents(),
            average_cost_in_cents: holding.average_cost_cents(),
            realized_profit_in_cents: holding.realized_profit_cents(),
            version,
        };
        write_event(out, "position", &data);
    }
}

/// The JSON contains no line ends.
fn write_event(out: &mut Vec<u8>, name: &str, data: &impl Serialize) {
    out.extend_from_slice(format!("event: {name}\ndata: ").as_bytes());
    let written = serde_json::to_writer(&mut *out, data);
    debug_assert!(written.is_ok(), "every account can be serialized");
    out.extend_from_slice(b"\n\n");
}
