//! Movements: balanced changes of one account's books.

use super::cents::{Overflow, negative, sum};
use crate::types::Symbol;

/// A ledger account. All but the clearing accounts belong to a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ledger {
    /// Cash that no open buy reserves, in cents.
    AvailableCash,
    /// Cash that open buys may still spend, in cents.
    ReservedCash,
    /// Cost of the shares held of a symbol, in cents.
    Cost(Symbol),
    /// Profit realized with a symbol, in cents. A credit account: a profit is negative.
    Profit(Symbol),
    /// The other side of all deposits and withdrawals, in cents.
    Clearing,
    /// Shares held of a symbol that no open sell may sell.
    AvailableShares(Symbol),
    /// Shares held of a symbol that open sells may still sell.
    ReservedShares(Symbol),
    /// The other side of all shares of a symbol that were bought and sold.
    ClearingShares(Symbol),
}

/// What a ledger account is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Money.
    Cents,
    /// Shares of one symbol.
    Shares(Symbol),
}

/// What a movement adds to one ledger account. The postings of a movement sum to zero in each unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// The ledger account.
    pub ledger: Ledger,
    /// The amount, in the account's unit.
    pub amount: i64,
}

/// One movement, as the amounts that it adds to each ledger account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Movement {
    /// The symbol of its cost, profit and shares, if it has any.
    pub(super) symbol: Option<Symbol>,
    pub(super) available_cash_cents: i64,
    pub(super) reserved_cash_cents: i64,
    pub(super) cost_cents: i64,
    pub(super) profit_cents: i64,
    pub(super) clearing_cents: i64,
    pub(super) available_shares: i64,
    pub(super) reserved_shares: i64,
    pub(super) clearing_shares: i64,
}

impl Ledger {
    /// What its amounts are kept in.
    pub fn unit(self) -> Unit {
        match self {
            Self::AvailableCash
            | Self::ReservedCash
            | Self::Cost(_)
            | Self::Profit(_)
            | Self::Clearing => Unit::Cents,
            Self::AvailableShares(symbol)
            | Self::ReservedShares(symbol)
            | Self::ClearingShares(symbol) => Unit::Shares(symbol),
        }
    }
}

impl Movement {
    /// Cash that comes from outside, or goes there if negative.
    pub(super) fn cash(cents: i64) -> Result<Self, Overflow> {
        let clearing_cents = negative(cents)?;
        Ok(Self { available_cash_cents: cents, clearing_cents, ..Self::default() })
    }

    /// Cash that is reserved, or released if negative.
    pub(super) fn reserved_cash(cents: i64) -> Result<Self, Overflow> {
        let available_cash_cents = negative(cents)?;
        Ok(Self { available_cash_cents, reserved_cash_cents: cents, ..Self::default() })
    }

    /// Shares that are reserved, or released if negative.
    pub(super) fn reserved_shares(symbol: Symbol, shares: i64) -> Result<Self, Overflow> {
        let available_shares = negative(shares)?;
        let symbol = Some(symbol);
        Ok(Self { symbol, available_shares, reserved_shares: shares, ..Self::default() })
    }

    /// Shares that come, or go if negative, for their value, also negative then, with the profit
    /// that this realizes.
    pub(super) fn trade(
        symbol: Symbol,
        shares: i64,
        (value_cents, profit_cents): (i64, i64),
    ) -> Result<Self, Overflow> {
        Ok(Self {
            symbol: Some(symbol),
            available_cash_cents: negative(value_cents)?,
            cost_cents: sum(value_cents, profit_cents)?,
            profit_cents: negative(profit_cents)?,
            available_shares: shares,
            clearing_shares: negative(shares)?,
            ..Self::default()
        })
    }

    /// This movement with its cash moved outside: the user has it already, or pays elsewhere.
    pub(super) fn without_cash(&self) -> Result<Self, Overflow> {
        assert_eq!(self.reserved_cash_cents, 0, "what is outside is not reserved");
        let clearing_cents = sum(self.clearing_cents, self.available_cash_cents)?;
        Ok(Self { available_cash_cents: 0, clearing_cents, ..*self })
    }

    /// The movement that takes this one back.
    pub(super) fn reversed(&self) -> Result<Self, Overflow> {
        self.each(&Self::default(), |amount, _| negative(amount))
    }

    /// Both movements as one. They are about the same symbol, where both are about one.
    pub(super) fn and(&self, other: &Self) -> Result<Self, Overflow> {
        assert!(
            self.symbol.is_none() || other.symbol.is_none() || self.symbol == other.symbol,
            "a movement is about one symbol"
        );
        let symbol = self.symbol.or(other.symbol);
        Ok(Self { symbol, ..self.each(other, sum)? })
    }

    fn each(
        &self,
        other: &Self,
        combine: impl Fn(i64, i64) -> Result<i64, Overflow>,
    ) -> Result<Self, Overflow> {
        Ok(Self {
            symbol: self.symbol,
            available_cash_cents: combine(self.available_cash_cents, other.available_cash_cents)?,
            reserved_cash_cents: combine(self.reserved_cash_cents, other.reserved_cash_cents)?,
            cost_cents: combine(self.cost_cents, other.cost_cents)?,
            profit_cents: combine(self.profit_cents, other.profit_cents)?,
            clearing_cents: combine(self.clearing_cents, other.clearing_cents)?,
            available_shares: combine(self.available_shares, other.available_shares)?,
            reserved_shares: combine(self.reserved_shares, other.reserved_shares)?,
            clearing_shares: combine(self.clearing_shares, other.clearing_shares)?,
        })
    }

    /// The symbol of its cost, profit and shares, if it has any.
    pub fn symbol(&self) -> Option<Symbol> {
        self.symbol
    }

    /// What it adds to cash (reserved or not), cost, profit (a credit account) and clearing, in cents.
    /// They sum to zero.
    pub fn cents(&self) -> [i64; 4] {
        // What is reserved is taken from what is available, so that the sum of both fits.
        let cash_cents = self.available_cash_cents.wrapping_add(self.reserved_cash_cents);
        [cash_cents, self.cost_cents, self.profit_cents, self.clearing_cents]
    }

    /// What it adds to the shares of its symbol, reserved or not.
    pub fn shares(&self) -> i64 {
        self.available_shares.wrapping_add(self.reserved_shares)
    }

    /// Whether it moves no more than what is reserved.
    pub fn is_reservation(&self) -> bool {
        self.cents() == [0; 4] && self.shares() == 0
    }

    /// Whether it moves nothing.
    pub fn is_nothing(&self) -> bool {
        Self { symbol: None, ..*self } == Self::default()
    }

    /// Its postings, without those of zero.
    pub fn postings(&self) -> impl Iterator<Item = Posting> {
        let cents = [
            (Ledger::AvailableCash, self.available_cash_cents),
            (Ledger::ReservedCash, self.reserved_cash_cents),
            (Ledger::Clearing, self.clearing_cents),
        ];
        let of_symbol = self.symbol.map(|symbol| {
            [
                (Ledger::Cost(symbol), self.cost_cents),
                (Ledger::Profit(symbol), self.profit_cents),
                (Ledger::AvailableShares(symbol), self.available_shares),
                (Ledger::ReservedShares(symbol), self.reserved_shares),
                (Ledger::ClearingShares(symbol), self.clearing_shares),
            ]
        });
        let all = cents.into_iter().chain(of_symbol.into_iter().flatten());
        all.filter(|(_, amount)| *amount != 0).map(|(ledger, amount)| Posting { ledger, amount })
    }

    pub(super) fn assert_balanced(&self) {
        let cents = [
            self.available_cash_cents,
            self.reserved_cash_cents,
            self.cost_cents,
            self.profit_cents,
            self.clearing_cents,
        ];
        let shares = [self.available_shares, self.reserved_shares, self.clearing_shares];
        let total = |amounts: &[i64]| amounts.iter().copied().map(i128::from).sum::<i128>();
        assert_eq!(total(&cents), 0, "the postings of a movement sum to zero in cents");
        assert_eq!(total(&shares), 0, "the postings of a movement sum to zero in shares");
        assert!(
            self.symbol.is_some() || (self.cost_cents, self.profit_cents, shares) == (0, 0, [0; 3]),
            "cost, profit and shares are of a symbol"
        );
    }
}
