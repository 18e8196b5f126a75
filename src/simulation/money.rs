//! Checks of money: accounts in memory, in the store and by the log are the same, and what a naive
//! book makes of the executions that count.

use std::collections::BTreeMap;

use super::invariant::{Checked, Invariant, ensure};
use crate::engine::Engines;
use crate::index::Index;
use crate::money::{Account, Reservation};
use crate::types::{Side, Symbol, UserId};

/// What a user has, as far as it follows from the orders alone.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    /// Without what was deposited.
    cash_cents: i128,
    reserved_cents: i128,
    /// By symbol: shares, reserved shares, and cost less profit.
    holdings: BTreeMap<Symbol, (i128, i128, i128)>,
}

/// That memory and store have the accounts that the log makes.
pub(super) fn check_accounts(log: &Engines, memory: &Engines, store: &Index) -> Checked {
    check_by_orders(log)?;
    let of_log: BTreeMap<&UserId, &Account> = log.accounts().collect();
    let of_memory: BTreeMap<&UserId, &Account> = memory.accounts().collect();
    ensure(of_log == of_memory, Invariant::MoneyIsTheOrders, || {
        format!("by the log the accounts are {of_log:?}, in memory {of_memory:?}")
    })?;
    for (user, account) in of_log {
        let stored = store.account(user);
        ensure(
            matches!(&stored, Ok(Some(stored)) if stored == account),
            Invariant::MoneyIsTheOrders,
            || format!("by the log {user} has {account:?}, in the store {stored:?}"),
        )?;
    }
    Ok(())
}

/// That accounts are what the executions that count and the open orders make of what was deposited.
pub(super) fn check_by_orders(log: &Engines) -> Checked {
    let mut expected: BTreeMap<&UserId, Figures> = BTreeMap::new();
    for order in log.orders() {
        let figures = expected.entry(&order.user).or_default();
        let holding = figures.holdings.entry(order.symbol).or_default();
        let left = i128::from(order.num_shares.saturating_sub(order.filled_shares));
        match order.reservation {
            Reservation::Cash(price) if order.is_open() => {
                figures.reserved_cents += left * i128::from(price.cents());
            }
            Reservation::Shares if order.is_open() => holding.1 += left,
            Reservation::Cash(_) | Reservation::Shares | Reservation::Nothing => {}
        }
        let sign = match order.side {
            Side::Buy => 1,
            Side::Sell => -1,
        };
        let tracked = log.tracked(order.order_id);
        let executions = tracked.iter().flat_map(|tracked| tracked.executions().iter());
        for (_, execution) in executions {
            let Some((num_shares, price)) = execution.counted() else { continue };
            let shares = sign * i128::from(num_shares);
            let cents = shares * i128::from(price.cents());
            figures.cash_cents -= cents;
            holding.0 += shares;
            holding.2 += cents;
        }
    }
    for figures in expected.values_mut() {
        figures.holdings.retain(|_, holding| *holding != (0, 0, 0));
    }
    for (user, account) in log.accounts() {
        let expected = expected.remove(user).unwrap_or_default();
        let found = Figures::of(account);
        ensure(account.is_balanced(), Invariant::MoneyIsTheOrders, || {
            format!("the account of {user} is not balanced: {account:?}")
        })?;
        ensure(found == expected, Invariant::MoneyIsTheOrders, || {
            format!("{user} has {found:?}, by their orders {expected:?}")
        })?;
    }
    let without: Vec<_> =
        expected.iter().filter(|(_, figures)| **figures != Figures::default()).collect();
    ensure(without.is_empty(), Invariant::MoneyIsTheOrders, || {
        format!("users without an account: {without:?}")
    })
}

impl Figures {
    fn of(account: &Account) -> Self {
        let holdings = account.holdings().map(|(symbol, holding)| {
            let (cost, profit) = (holding.cost_basis_cents(), holding.realized_profit_cents());
            let net = i128::from(cost) - i128::from(profit);
            let (shares, reserved) = (holding.shares(), holding.reserved_shares());
            (symbol, (i128::from(shares), i128::from(reserved), net))
        });
        let deposited = i128::from(account.deposited_cents());
        Self {
            cash_cents: i128::from(account.cash_cents()) - deposited,
            reserved_cents: i128::from(account.reserved_cents()),
            holdings: holdings.filter(|(_, holding)| *holding != (0, 0, 0)).collect(),
        }
    }
}
