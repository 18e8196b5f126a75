//! What open orders reserve.

use super::cents::{Overflow, value_cents};
use super::movement::Movement;
use crate::types::{MAX_PRICE_CENTS, PriceCents, Shares, Symbol};

/// What each share of an order that is left to execute reserves. Decided when the order is created
/// and part of its record. Append new kinds at the end: the position is part of the format.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub enum Reservation {
    /// Nothing: the order was not checked against its account.
    #[default]
    Nothing,
    /// Cash: a buy. The price is the limit, or that of a market order's collar.
    Cash(PriceCents),
    /// The share itself: a sell.
    Shares,
}

/// An order as far as its reservation is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderFunds {
    /// The symbol traded.
    pub symbol: Symbol,
    /// What each share left reserves.
    pub reservation: Reservation,
    /// Shares that may still be executed; zero in an over-fill.
    pub shares_left: Shares,
    /// Whether the exchange may still execute them.
    pub is_open: bool,
}

/// What one order reserves at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// Cash, in cents.
    Cash(i64),
    /// Shares of a symbol.
    Shares(Symbol, i64),
}

impl OrderFunds {
    /// What the order reserves.
    ///
    /// # Errors
    /// [`Overflow`]; never for an order whose whole size could be reserved.
    pub fn held(&self) -> Result<Held, Overflow> {
        if !self.is_open {
            return Ok(Held::Nothing);
        }
        Ok(match self.reservation {
            Reservation::Nothing => Held::Nothing,
            Reservation::Cash(price) => Held::Cash(value_cents(self.shares_left, price)?),
            Reservation::Shares => {
                let shares = i64::try_from(self.shares_left).map_err(|_| Overflow)?;
                Held::Shares(self.symbol, shares)
            }
        })
    }
}

impl Held {
    /// The movement that reserves it.
    pub(super) fn reserved(self) -> Result<Movement, Overflow> {
        match self {
            Self::Nothing => Ok(Movement::default()),
            Self::Cash(cents) => Movement::reserved_cash(cents),
            Self::Shares(symbol, shares) => Movement::reserved_shares(symbol, shares),
        }
    }

    /// The movement from this to what the same order holds after a change.
    pub(super) fn changed_to(self, after: Self) -> Result<Movement, Overflow> {
        self.reserved()?.reversed()?.and(&after.reserved()?)
    }
}

/// The price that a market buy reserves for each share: this many percent above the last price,
/// rounded up to a cent, at most the highest price.
pub fn collar_price(last: PriceCents, collar_percent: u16) -> PriceCents {
    let hundredths = i128::from(last.cents()) * (100 + i128::from(collar_percent));
    let cents = (hundredths + 99) / 100;
    let highest = i128::from(MAX_PRICE_CENTS);
    let price =
        i64::try_from(cents.min(highest)).ok().and_then(|cents| PriceCents::new(cents).ok());
    let Some(price) = price else { unreachable!("{cents} cents are at least one cent") };
    assert!(price >= last, "a collar lies above the last price");
    price
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collar_rounds_up_and_ends_at_the_highest_price() {
        let collar =
            |cents, percent| collar_price(PriceCents::new(cents).unwrap(), percent).cents();
        assert_eq!(collar(10_000, 5), 10_500);
        assert_eq!(collar(1, 5), 2);
        assert_eq!(collar(101, 5), 107, "106.05");
        assert_eq!(collar(52_210, 0), 52_210);
        assert_eq!(collar(MAX_PRICE_CENTS, u16::MAX), MAX_PRICE_CENTS);
    }

    #[test]
    fn only_open_orders_reserve() {
        let price = PriceCents::new(250).unwrap();
        let symbol = Symbol::new("SPY").unwrap();
        let order = OrderFunds {
            symbol,
            reservation: Reservation::Cash(price),
            shares_left: 4,
            is_open: true,
        };
        assert_eq!(order.held(), Ok(Held::Cash(1_000)));
        let sell = OrderFunds { reservation: Reservation::Shares, ..order };
        assert_eq!(sell.held(), Ok(Held::Shares(symbol, 4)));
        assert_eq!(OrderFunds { is_open: false, ..order }.held(), Ok(Held::Nothing));
        let unchecked = OrderFunds { reservation: Reservation::Nothing, ..order };
        assert_eq!(unchecked.held(), Ok(Held::Nothing));
    }
}
