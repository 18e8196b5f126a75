//! The trial balance: the sums of all ledger accounts.

use std::collections::BTreeMap;

use super::account::Account;
use crate::types::Symbol;

/// Sums over accounts at one position of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrialBalance {
    /// Number of accounts.
    pub accounts: u64,
    /// Accounts whose available cash or shares are negative.
    pub overdrawn: u64,
    /// Cash that no open buy reserves, in cents.
    pub available_cash_cents: i128,
    /// Cash that open buys may still spend, in cents.
    pub reserved_cash_cents: i128,
    /// The other side of all that came in and went out, in cents: negative while more came in.
    pub clearing_cents: i128,
    /// What there is of each symbol.
    pub symbols: BTreeMap<Symbol, SymbolBalance>,
}

/// Sums over the holdings of one symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SymbolBalance {
    /// All shares of users. What clearing has is the negative of it.
    pub shares: i128,
    /// Those of them that open sells may still deliver.
    pub reserved_shares: i128,
    /// What they cost, in cents.
    pub cost_cents: i128,
    /// Profit realized, in cents.
    pub profit_cents: i128,
}

impl TrialBalance {
    /// Counts an account.
    pub fn add(&mut self, account: &Account) {
        self.accounts += 1;
        self.overdrawn += u64::from(account.is_overdrawn());
        let (cash, reserved) = (account.cash_cents(), account.reserved_cents());
        self.available_cash_cents += i128::from(cash) - i128::from(reserved);
        self.reserved_cash_cents += i128::from(reserved);
        self.clearing_cents -= i128::from(account.deposited_cents());
        for (symbol, holding) in account.holdings() {
            let of_symbol = self.symbols.entry(symbol).or_default();
            of_symbol.shares += i128::from(holding.shares());
            of_symbol.reserved_shares += i128::from(holding.reserved_shares());
            of_symbol.cost_cents += i128::from(holding.cost_cents);
            of_symbol.profit_cents += i128::from(holding.profit_cents);
        }
    }

    /// What the shares held cost, in cents.
    pub fn cost_cents(&self) -> i128 {
        self.symbols.values().map(|symbol| symbol.cost_cents).sum()
    }

    /// Profit realized, in cents.
    pub fn profit_cents(&self) -> i128 {
        self.symbols.values().map(|symbol| symbol.profit_cents).sum()
    }

    /// The sum of all ledger accounts in cents, that of profit being a credit account: zero.
    pub fn sum_cents(&self) -> i128 {
        self.available_cash_cents + self.reserved_cash_cents + self.cost_cents()
            - self.profit_cents()
            + self.clearing_cents
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::{Held, Trade};
    use crate::types::{PriceCents, Side};

    #[test]
    fn sums_by_hand() {
        let symbol = Symbol::new("IBM").unwrap();
        let trade = |account: &mut Account, side, num_shares, cents| {
            let price = PriceCents::new(cents).unwrap();
            let trade = Trade { symbol, side, num_shares, price };
            account.apply_execution(&trade, (Held::Nothing, Held::Nothing)).unwrap();
        };
        let mut alice = Account::opened_with(10_000);
        trade(&mut alice, Side::Buy, 10, 100);
        trade(&mut alice, Side::Sell, 4, 150);
        alice.reserve_sell(symbol, 2).unwrap();
        alice.reserve_buy(3, PriceCents::new(7).unwrap()).unwrap();
        let mut bob = Account::default();
        trade(&mut bob, Side::Sell, 1, 90);
        let mut all = TrialBalance::default();
        [&alice, &bob].into_iter().for_each(|account| all.add(account));
        assert_eq!((all.accounts, all.overdrawn), (2, 1));
        assert_eq!((all.available_cash_cents, all.reserved_cash_cents), (9_669, 21));
        assert_eq!(all.clearing_cents, -10_000);
        let ibm = SymbolBalance {
            shares: 5,
            reserved_shares: 2,
            cost_cents: 600 - 90,
            profit_cents: 200,
        };
        assert_eq!(all.symbols, BTreeMap::from([(symbol, ibm)]));
        assert_eq!(all.sum_cents(), 0);
    }
}
