//! A second book of money, kept from the log's events alone and by its own arithmetic: what cash
//! moved, and what each execution did to the shares, the cost and the profit of its user.

use std::collections::BTreeMap;

use compact_str::CompactString;

use super::invariant::{Checked, Invariant, ensure};
use crate::engine::Engines;
use crate::order::{CashMoved, CashMovementKind, CashTerms, Fill, Order};
use crate::types::{CashMovementId, ExecutionId, OrderId, Side, Symbol, UserId};

/// What the log has said about money.
#[derive(Default)]
pub(super) struct SecondBook {
    /// Each id moves cash once.
    cash: BTreeMap<(UserId, CompactString), CashTerms>,
    deposited: BTreeMap<UserId, i128>,
    holdings: BTreeMap<UserId, BTreeMap<Symbol, Lot>>,
    /// What each execution that counts did.
    done: BTreeMap<(OrderId, ExecutionId), Lot>,
}

/// Shares, cost and profit, or a change of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Lot {
    shares: i128,
    cost: i128,
    profit: i128,
}

impl Lot {
    fn add(&mut self, other: Self, sign: i128) {
        self.shares += sign * other.shares;
        self.cost += sign * other.cost;
        self.profit += sign * other.profit;
    }

    /// What buying (or selling, if negative) so many shares does.
    fn trade(self, shares: i128, price: i128) -> Self {
        let value = shares * price;
        let profit = if self.shares == 0 {
            // What busts have left over.
            -self.cost
        } else if (self.shares > 0) == (shares > 0) {
            0
        } else {
            let closed = shares.abs().min(self.shares.abs());
            let removed = half_to_even(self.cost * closed, self.shares.abs());
            -closed * shares.signum() * price - removed
        };
        Self { shares, cost: value + profit, profit }
    }

    /// As it is shown: without shares there is no cost.
    fn shown(self) -> Self {
        if self.shares == 0 {
            return Self { shares: 0, cost: 0, profit: self.profit - self.cost };
        }
        self
    }
}

/// A quotient rounded to the nearest whole number, and to the even one of two.
fn half_to_even(dividend: i128, divisor: i128) -> i128 {
    let (below, rest) = (dividend.div_euclid(divisor), dividend.rem_euclid(divisor));
    let is_above = 2 * rest > divisor || (2 * rest == divisor && below.rem_euclid(2) == 1);
    below + i128::from(is_above)
}

impl SecondBook {
    /// What an id stands for.
    pub(super) fn cash_terms(&self, user: &UserId, id: &CashMovementId) -> Option<CashTerms> {
        self.cash.get(&(user.clone(), id.as_str().into())).copied()
    }

    /// Cash has moved, and the engines of the log have taken it.
    pub(super) fn move_cash(&mut self, moved: &CashMoved, log: &Engines) -> Checked {
        let CashMoved { user, id, .. } = moved;
        let first = self.cash.insert((user.clone(), id.clone()), moved.terms());
        ensure(first.is_none(), Invariant::CashMovesOnce, || {
            format!("{moved:?}, and its id stands for {first:?}")
        })?;
        let signed = match moved.kind {
            CashMovementKind::Opening | CashMovementKind::Deposit => i128::from(moved.cents),
            CashMovementKind::Withdrawal => -i128::from(moved.cents),
        };
        *self.deposited.entry(user.clone()).or_default() += signed;
        let left = log.account(user).map_or(0, |account| account.buying_power_cents());
        let is_there = signed > 0 || left >= 0;
        ensure(is_there, Invariant::WithdrawnIsThere, || format!("{moved:?} leaves {left}"))?;
        self.check(user, log)
    }

    /// An execution counts, and the engines of the log have taken it.
    pub(super) fn count(&mut self, order: &Order, fill: &Fill, log: &Engines) -> Checked {
        let sign = match order.side {
            Side::Buy => 1,
            Side::Sell => -1,
        };
        let shares = sign * i128::from(fill.num_shares);
        let holding = self.holding(order);
        let done = holding.trade(shares, i128::from(fill.price.cents()));
        holding.add(done, 1);
        self.done.insert((order.order_id, fill.execution_id.clone()), done);
        self.check(&order.user, log)
    }

    /// An execution is void, and the engines of the log have taken it back.
    pub(super) fn void(&mut self, order: &Order, id: &ExecutionId, log: &Engines) -> Checked {
        // It did not count before.
        let Some(done) = self.done.remove(&(order.order_id, id.clone())) else { return Ok(()) };
        self.holding(order).add(done, -1);
        self.check(&order.user, log)
    }

    fn holding(&mut self, order: &Order) -> &mut Lot {
        let of_user = self.holdings.entry(order.user.clone()).or_default();
        of_user.entry(order.symbol).or_default()
    }

    /// That the account of a user is what this book says.
    fn check(&self, user: &UserId, log: &Engines) -> Checked {
        let account = log.account(user).cloned().unwrap_or_default();
        let deposited = self.deposited.get(user).copied().unwrap_or_default();
        ensure(
            deposited == i128::from(account.deposited_cents()),
            Invariant::MoneyIsTheOrders,
            || format!("cash movements of {user} come to {deposited}, the account is {account:?}"),
        )?;
        for (symbol, lot) in self.holdings.get(user).into_iter().flatten() {
            let holding = account.holding(*symbol);
            let found = Lot {
                shares: holding.shares().into(),
                cost: holding.cost_basis_cents().into(),
                profit: holding.realized_profit_cents().into(),
            };
            let expected = lot.shown();
            ensure(found == expected, Invariant::MoneyIsTheOrders, || {
                format!("{user} has {found:?} of {symbol}, by the second book {expected:?}")
            })?;
        }
        Ok(())
    }
}
