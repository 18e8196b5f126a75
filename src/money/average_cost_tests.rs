//! Cost and profit against exact fractions.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::types::{PriceCents, Side, Symbol};

/// A fraction in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Fraction(i128, i128);

impl Fraction {
    fn new(numerator: i128, denominator: i128) -> Self {
        let divisor = greatest_divisor(numerator.abs(), denominator);
        Self(numerator / divisor, denominator / divisor)
    }

    fn plus(self, other: Self) -> Self {
        Self::new(self.0 * other.1 + other.0 * self.1, self.1 * other.1)
    }

    fn times(self, numerator: i128, denominator: i128) -> Self {
        Self::new(self.0 * numerator, self.1 * denominator)
    }

    /// Whether a whole number lies within so many halves of it.
    fn is_within(self, halves: i128, whole: i128) -> bool {
        2 * (whole * self.1 - self.0).abs() <= halves * self.1
    }
}

fn greatest_divisor(one: i128, other: i128) -> i128 {
    if other == 0 { one.max(1) } else { greatest_divisor(other, one % other) }
}

fn spy() -> Symbol {
    Symbol::new("SPY").unwrap()
}

fn trade(is_buy: bool, num_shares: u64, price: i64) -> Trade {
    let side = if is_buy { Side::Buy } else { Side::Sell };
    Trade { symbol: spy(), side, num_shares, price: PriceCents::new(price).unwrap() }
}

fn execute(account: &mut Account, trade: &Trade) -> Booked {
    account.apply_execution(trade, (Held::Nothing, Held::Nothing)).unwrap().0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Each execution that reduces a holding rounds once, by half a cent at most, and no later one
    /// makes that more. A holding without shares has no error left.
    #[test]
    fn each_reduction_rounds_by_half_a_cent_at_most(
        trades in vec((any::<bool>(), 1..20_u64, 1..50_000_i64), 1..16),
    ) {
        let mut account = Account::default();
        let (mut held, mut cost, mut profit) = (0_i128, Fraction(0, 1), Fraction(0, 1));
        let mut reductions = 0;
        for (is_buy, num_shares, price) in trades {
            execute(&mut account, &trade(is_buy, num_shares, price));
            let (size, price) = (i128::from(num_shares), i128::from(price));
            let shares = if is_buy { size } else { -size };
            let closed = if held.signum() == -shares.signum() { size.min(held.abs()) } else { 0 };
            if closed > 0 {
                let removed = cost.times(closed, held.abs());
                let proceeds = Fraction(-shares.signum() * closed * price, 1);
                profit = profit.plus(proceeds).plus(removed.times(-1, 1));
                cost = cost.plus(removed.times(-1, 1));
                reductions += 1;
            }
            cost = cost.plus(Fraction(shares.signum() * (size - closed) * price, 1));
            held += shares;
            let holding = account.holding(spy());
            prop_assert_eq!(i128::from(holding.shares()), held);
            prop_assert!(cost.is_within(reductions, holding.cost_basis_cents().into()));
            if held == 0 {
                prop_assert_eq!(holding.cost_basis_cents(), 0);
                prop_assert_eq!(cost, Fraction(0, 1));
            }
            prop_assert!(profit.is_within(reductions, holding.realized_profit_cents().into()));
        }
    }

    /// Where nothing was sold, busts leave what never having had the executions would.
    #[test]
    fn busted_buys_were_never_there(
        buys in vec((1..20_u64, 1..50_000_i64, any::<bool>()), 1..16),
    ) {
        let (mut account, mut expected) = (Account::default(), Account::default());
        let mut void = Vec::new();
        for (num_shares, price, is_void) in buys {
            let buy = trade(true, num_shares, price);
            let booked = execute(&mut account, &buy);
            if is_void {
                void.push((buy, booked));
            } else {
                execute(&mut expected, &buy);
            }
        }
        for (buy, booked) in void.iter().rev() {
            account.bust_execution((buy, *booked), (Held::Nothing, Held::Nothing)).unwrap();
        }
        prop_assert_eq!(account.cash_cents(), expected.cash_cents());
        let symbol = spy();
        prop_assert_eq!(account.holding(symbol), expected.holding(symbol));
    }
}
