//! What may happen to an account: orders reserve and execute, cash comes and goes.

use super::account::Account;
use super::cents::{Overflow, value_cents};
use super::holding::{Booked, Trade};
use super::movement::Movement;
use super::refusal::{MAX_CASH_MOVEMENT_CENTS, Refusal};
use super::reservation::Held;
use crate::types::{PriceCents, Shares, Symbol};

impl Account {
    /// What a new buy would reserve.
    ///
    /// # Errors
    /// [`Refusal::InsufficientBuyingPower`].
    pub fn check_buy(&self, num_shares: Shares, price: PriceCents) -> Result<Held, Refusal> {
        let available_cents = self.buying_power_cents();
        let needed = value_cents(num_shares, price);
        match needed {
            Ok(needed_cents) if needed_cents <= available_cents => Ok(Held::Cash(needed_cents)),
            Ok(_) | Err(Overflow) => {
                let needed_cents = needed.unwrap_or(i64::MAX);
                Err(Refusal::InsufficientBuyingPower { available_cents, needed_cents })
            }
        }
    }

    /// What a new sell would reserve.
    ///
    /// # Errors
    /// [`Refusal::InsufficientShares`].
    pub fn check_sell(&self, symbol: Symbol, num_shares: Shares) -> Result<Held, Refusal> {
        let available_shares = self.holding(symbol).available_shares();
        match i64::try_from(num_shares) {
            Ok(needed) if needed <= available_shares => Ok(Held::Shares(symbol, needed)),
            Ok(_) | Err(_) => {
                let needed_shares = num_shares;
                Err(Refusal::InsufficientShares { available_shares, needed_shares })
            }
        }
    }

    /// Reserves the cash of a new buy.
    ///
    /// # Errors
    /// As [`check_buy`](Self::check_buy).
    pub fn reserve_buy(
        &mut self,
        num_shares: Shares,
        price: PriceCents,
    ) -> Result<Movement, Refusal> {
        let held = self.check_buy(num_shares, price)?;
        Ok(self.book(held.reserved()?)?)
    }

    /// Reserves the shares of a new sell.
    ///
    /// # Errors
    /// As [`check_sell`](Self::check_sell).
    pub fn reserve_sell(
        &mut self,
        symbol: Symbol,
        num_shares: Shares,
    ) -> Result<Movement, Refusal> {
        let held = self.check_sell(symbol, num_shares)?;
        Ok(self.book(held.reserved()?)?)
    }

    /// Changes the reservation of an order from what it held before a change to what it holds after.
    /// One that has ended releases it; one that is open again reserves again, whatever is available.
    ///
    /// # Errors
    /// [`Overflow`].
    pub fn change_held(&mut self, (before, after): (Held, Held)) -> Result<Movement, Overflow> {
        self.book(before.changed_to(after)?)
    }

    /// Counts an execution of an order that held so much before and after it. [`Booked`] is kept with
    /// the execution.
    ///
    /// # Errors
    /// [`Overflow`].
    pub fn apply_execution(
        &mut self,
        trade: &Trade,
        (before, after): (Held, Held),
    ) -> Result<(Booked, Movement), Overflow> {
        let booked = self.holding(trade.symbol).booked(trade)?;
        let movement = trade.movement(booked)?.and(&before.changed_to(after)?)?;
        Ok((booked, self.book(movement)?))
    }

    /// Takes back an execution that counted, of an order that held so much before and after that.
    ///
    /// # Errors
    /// [`Overflow`].
    pub fn bust_execution(
        &mut self,
        (trade, booked): (&Trade, Booked),
        (before, after): (Held, Held),
    ) -> Result<Movement, Overflow> {
        let movement = trade.movement(booked)?.reversed()?.and(&before.changed_to(after)?)?;
        self.book(movement)
    }

    /// Takes an execution back and counts what replaces it, in one movement. Both are of an order
    /// that held so much before and after that.
    ///
    /// # Errors
    /// [`Overflow`].
    pub fn replace_execution(
        &mut self,
        (trade, booked): (&Trade, Booked),
        by: &Trade,
        (before, after): (Held, Held),
    ) -> Result<(Booked, Movement), Overflow> {
        let reversal = trade.movement(booked)?.reversed()?;
        let booked = self.holding(by.symbol).after(&reversal)?.booked(by)?;
        let movement = reversal.and(&by.movement(booked)?)?.and(&before.changed_to(after)?)?;
        Ok((booked, self.book(movement)?))
    }

    /// Counts an execution of before there were accounts: its shares come in, or go, with what they
    /// cost, and no cash, which was kept elsewhere.
    ///
    /// # Errors
    /// [`Overflow`].
    pub fn bring_forward(&mut self, trade: &Trade) -> Result<Movement, Overflow> {
        let booked = self.holding(trade.symbol).booked(trade)?;
        let movement = trade.movement(booked)?.without_cash()?;
        self.book(movement)
    }

    /// Adds cash from outside.
    ///
    /// # Errors
    /// [`Refusal::OutOfRange`] and [`Refusal::Overflow`].
    pub fn deposit(&mut self, cents: i64) -> Result<Movement, Refusal> {
        check_range(cents)?;
        Ok(self.book(Movement::cash(cents)?)?)
    }

    /// Removes cash that is available.
    ///
    /// # Errors
    /// [`Refusal::OutOfRange`] and [`Refusal::InsufficientCash`].
    pub fn withdraw(&mut self, cents: i64) -> Result<Movement, Refusal> {
        check_range(cents)?;
        let available_cents = self.buying_power_cents();
        if cents > available_cents {
            return Err(Refusal::InsufficientCash { available_cents, needed_cents: cents });
        }
        Ok(self.book(Movement::cash(-cents)?)?)
    }
}

fn check_range(cents: i64) -> Result<(), Refusal> {
    let is_allowed = (1..=MAX_CASH_MOVEMENT_CENTS).contains(&cents);
    if is_allowed { Ok(()) } else { Err(Refusal::OutOfRange { cents }) }
}
