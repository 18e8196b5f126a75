//! The shares that a user holds of one symbol, their cost and the profit made with them.

use super::cents::{Overflow, amount, negative, portion, sum, sum_of};
use super::movement::Movement;
use crate::types::{PriceCents, Shares, Side, Symbol, divide_half_even};

/// What a user has of one symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holding {
    /// Shares held; negative if more were sold than held.
    pub(super) shares: i64,
    /// Shares that open sells may still sell.
    pub(super) reserved_shares: i64,
    /// What the shares cost, in cents; negative for shares owed. See
    /// [`cost_basis_cents`](Self::cost_basis_cents).
    pub(super) cost_cents: i64,
    /// Profit of what was sold, in cents; negative for a loss.
    pub(super) profit_cents: i64,
}

/// An execution as far as money is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trade {
    /// The symbol traded.
    pub symbol: Symbol,
    /// The side of its order.
    pub side: Side,
    /// Shares executed.
    pub num_shares: Shares,
    /// Price of one share.
    pub price: PriceCents,
}

/// What an execution did besides moving cash and shares, to be taken back with it. Kept with the
/// execution; zero for one that was counted before there were accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Booked {
    /// The profit that it realized, in cents.
    pub profit_cents: i64,
}

impl Trade {
    /// Change of the shares held.
    fn signed_shares(&self) -> Result<i64, Overflow> {
        let shares = i64::try_from(self.num_shares).map_err(|_| Overflow)?;
        Ok(match self.side {
            Side::Buy => shares,
            Side::Sell => -shares,
        })
    }

    /// The movement of this trade, given the profit that it realizes.
    pub(super) fn movement(&self, booked: Booked) -> Result<Movement, Overflow> {
        let shares = self.signed_shares()?;
        let value_cents = amount(i128::from(shares) * i128::from(self.price.cents()))?;
        Movement::trade(self.symbol, shares, (value_cents, booked.profit_cents))
    }
}

impl Holding {
    pub(super) fn from_amounts(
        [shares, reserved_shares, cost_cents, profit_cents]: [i64; 4],
    ) -> Self {
        Self { shares, reserved_shares, cost_cents, profit_cents }
    }

    /// Shares, reserved shares, cost and profit as they are kept: without shares, cost that a bust left
    /// over is still cost.
    pub fn amounts(&self) -> [i64; 4] {
        [self.shares, self.reserved_shares, self.cost_cents, self.profit_cents]
    }

    /// Shares held; negative if more were sold than held.
    pub fn shares(&self) -> i64 {
        self.shares
    }

    /// Shares that open sells may still sell.
    pub fn reserved_shares(&self) -> i64 {
        self.reserved_shares
    }

    /// Shares that a new sell may reserve; negative after late truths. Saturates only for a holding
    /// that owes all that an `i64` holds.
    pub fn available_shares(&self) -> i64 {
        self.shares.saturating_sub(self.reserved_shares)
    }

    /// What the shares held have cost, in cents; negative for shares owed: what they were sold for.
    /// Zero without shares.
    pub fn cost_basis_cents(&self) -> i64 {
        if self.shares == 0 { 0 } else { self.cost_cents }
    }

    /// Cost of one share in cents, rounded half to even; of shares owed, what one was sold for. `None`
    /// without shares.
    pub fn average_cost_cents(&self) -> Option<i64> {
        if self.shares == 0 {
            return None;
        }
        let cost = i128::from(self.cost_cents) * i128::from(self.shares.signum());
        i64::try_from(divide_half_even(cost, i128::from(self.shares).abs())).ok()
    }

    /// Profit realized, in cents; negative for a loss. Without shares, cost that a bust left over
    /// is part of it.
    pub fn realized_profit_cents(&self) -> i64 {
        if self.shares == 0 {
            return self.profit_cents.saturating_sub(self.cost_cents);
        }
        self.profit_cents
    }

    /// Whether nothing is left to know about it.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a trade does here.
    pub(super) fn booked(&self, trade: &Trade) -> Result<Booked, Overflow> {
        let signed = trade.signed_shares()?;
        let held = self.shares;
        if held == 0 {
            // Cost that a bust has left over belongs to the profit.
            return Ok(Booked { profit_cents: negative(self.cost_cents)? });
        }
        if (held > 0) == (signed > 0) {
            return Ok(Booked::default());
        }
        let (held_size, trade_size) = (size(held)?, size(signed)?);
        let closed = held_size.min(trade_size);
        if closed == 0 {
            return Ok(Booked::default());
        }
        let removed_cents = portion(self.cost_cents, closed, held_size);
        let closed_signed = if signed > 0 { closed } else { -closed };
        let value_cents = i128::from(closed_signed) * i128::from(trade.price.cents());
        Ok(Booked { profit_cents: amount(-value_cents - removed_cents)? })
    }

    /// The holding after a movement of its symbol.
    pub(super) fn after(&self, movement: &Movement) -> Result<Self, Overflow> {
        let reserved_shares = sum(self.reserved_shares, movement.reserved_shares)?;
        assert!(reserved_shares >= 0, "a holding reserves what its open sells hold");
        Ok(Self {
            shares: sum_of([self.shares, movement.available_shares, movement.reserved_shares])?,
            reserved_shares,
            cost_cents: sum(self.cost_cents, movement.cost_cents)?,
            profit_cents: self.profit_cents.checked_sub(movement.profit_cents).ok_or(Overflow)?,
        })
    }
}

fn size(shares: i64) -> Result<i64, Overflow> {
    shares.checked_abs().ok_or(Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_round_half_to_even_for_shares_held_and_owed() {
        let average = |cost_cents, shares| {
            Holding { shares, cost_cents, ..Holding::default() }.average_cost_cents()
        };
        assert_eq!(average(0, 0), None);
        assert_eq!((average(101, 2), average(103, 2)), (Some(50), Some(52)));
        assert_eq!((average(-101, -2), average(-103, -2)), (Some(50), Some(52)));
    }
}
