//! One user's account, and how a movement changes it.

use super::cents::{Overflow, sum, sum_of};
use super::holding::Holding;
use super::movement::Movement;
use crate::types::Symbol;

/// Cash and holdings of one user. The default is an account in which nothing has happened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// All cash, reserved or not; negative after late truths.
    cash_cents: i64,
    /// What open buys may still spend of it.
    reserved_cents: i64,
    /// Deposits less withdrawals.
    deposited_cents: i64,
    /// Sorted by symbol: most users hold a few.
    holdings: Vec<(Symbol, Holding)>,
    /// Number of movements so far.
    version: u64,
}

impl Account {
    /// An account that begins with a balance: a positive one of at most
    /// [`MAX_CASH_MOVEMENT_CENTS`](super::MAX_CASH_MOVEMENT_CENTS).
    pub fn opened_with(cents: i64) -> Self {
        let mut account = Self::default();
        let opened = account.deposit(cents);
        assert!(opened.is_ok(), "an opening balance is a deposit: {cents}");
        account
    }

    /// An account as it was stored: version; cash, reserved cash and deposits; holdings by symbol.
    pub(super) fn from_parts(
        version: u64,
        [cash_cents, reserved_cents, deposited_cents]: [i64; 3],
        holdings: Vec<(Symbol, Holding)>,
    ) -> Self {
        Self { cash_cents, reserved_cents, deposited_cents, holdings, version }
    }

    /// All cash in cents, reserved or not; negative after late truths.
    pub fn cash_cents(&self) -> i64 {
        self.cash_cents
    }

    /// Cash that open buys may still spend, in cents.
    pub fn reserved_cents(&self) -> i64 {
        self.reserved_cents
    }

    /// Deposits less withdrawals, in cents.
    pub fn deposited_cents(&self) -> i64 {
        self.deposited_cents
    }

    /// Cash that a new buy may reserve, in cents; negative after late truths. Saturates only for an
    /// account that is overdrawn by all that an `i64` holds.
    pub fn buying_power_cents(&self) -> i64 {
        self.cash_cents.saturating_sub(self.reserved_cents)
    }

    /// The holding of a symbol; an empty one if there is none.
    pub fn holding(&self, symbol: Symbol) -> Holding {
        self.place(symbol)
            .ok()
            .and_then(|place| self.holdings.get(place))
            .map_or_else(Holding::default, |(_, holding)| *holding)
    }

    /// All holdings, by symbol.
    pub fn holdings(&self) -> impl Iterator<Item = (Symbol, &Holding)> {
        self.holdings.iter().map(|(symbol, holding)| (*symbol, holding))
    }

    /// Number of movements so far. A store replaces an account only by a higher version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether cash, cost and profit are what the deposits have become. True of every account that
    /// movements have made; a store that was read is asked.
    pub fn is_balanced(&self) -> bool {
        let net =
            |holding: &Holding| i128::from(holding.cost_cents) - i128::from(holding.profit_cents);
        let invested: i128 = self.holdings.iter().map(|(_, holding)| net(holding)).sum();
        i128::from(self.cash_cents) + invested == i128::from(self.deposited_cents)
    }

    /// Whether late truths have made available cash or shares negative. What is available is at most
    /// what there is, so this covers both.
    pub fn is_overdrawn(&self) -> bool {
        let is_short = |holding: &Holding| holding.available_shares() < 0;
        self.buying_power_cents() < 0 || self.holdings.iter().any(|(_, holding)| is_short(holding))
    }

    /// Books a movement, or none of it. The only way in which an account changes; also that of a
    /// replay.
    ///
    /// # Errors
    /// [`Overflow`].
    pub fn book(&mut self, movement: Movement) -> Result<Movement, Overflow> {
        movement.assert_balanced();
        if movement.is_nothing() {
            return Ok(movement);
        }
        let cash_cents =
            sum_of([self.cash_cents, movement.available_cash_cents, movement.reserved_cash_cents])?;
        let reserved_cents = sum(self.reserved_cents, movement.reserved_cash_cents)?;
        let deposited_cents =
            self.deposited_cents.checked_sub(movement.clearing_cents).ok_or(Overflow)?;
        assert!(reserved_cents >= 0, "an account reserves what its open orders hold");
        if let Some(symbol) = movement.symbol {
            let holding = self.holding(symbol).after(&movement)?;
            self.set_holding(symbol, holding);
        }
        (self.cash_cents, self.reserved_cents) = (cash_cents, reserved_cents);
        self.deposited_cents = deposited_cents;
        self.version += 1;
        debug_assert!(self.is_balanced(), "a balanced movement leaves balanced books");
        Ok(movement)
    }

    fn set_holding(&mut self, symbol: Symbol, holding: Holding) {
        match self.place(symbol) {
            Ok(place) if holding.is_empty() => drop(self.holdings.remove(place)),
            Ok(place) => {
                if let Some((_, kept)) = self.holdings.get_mut(place) {
                    *kept = holding;
                }
            }
            Err(_) if holding.is_empty() => {}
            Err(place) => self.holdings.insert(place, (symbol, holding)),
        }
        debug_assert_eq!(self.holding(symbol), holding, "a holding is kept");
    }

    fn place(&self, symbol: Symbol) -> Result<usize, usize> {
        self.holdings.binary_search_by_key(&symbol, |(known, _)| *known)
    }
}
