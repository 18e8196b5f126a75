use serde::{Deserialize, Serialize};

use super::InvalidValue;

/// Highest price that an order or a print may carry: 10 million dollars a share.
pub const MAX_PRICE_CENTS: i64 = 1_000_000_000;
/// Most shares of one order. Larger intentions are split by their owner, never by a typo.
pub const MAX_ORDER_SHARES: u64 = 10_000_000;

// A full fill of the largest order at the highest price must fit the cents of an order's value.
const _: () = assert!(MAX_PRICE_CENTS as u128 * MAX_ORDER_SHARES as u128 <= i64::MAX as u128);

/// A price of one share in integer cents, from 1 to [`MAX_PRICE_CENTS`].
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(try_from = "i64", into = "i64")]
pub struct PriceCents(i64);

impl PriceCents {
    /// Checks the range.
    ///
    /// # Errors
    /// A price below one cent or above [`MAX_PRICE_CENTS`].
    pub fn new(cents: i64) -> Result<Self, InvalidValue> {
        if (1..=MAX_PRICE_CENTS).contains(&cents) {
            Ok(Self(cents))
        } else {
            Err(InvalidValue::new(
                &cents.to_string(),
                "a whole number of cents from 1 to 1000000000",
            ))
        }
    }

    /// The price in cents.
    pub const fn cents(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for PriceCents {
    type Error = InvalidValue;
    fn try_from(cents: i64) -> Result<Self, InvalidValue> {
        Self::new(cents)
    }
}

impl From<PriceCents> for i64 {
    fn from(price: PriceCents) -> Self {
        price.0
    }
}

/// A number of whole shares.
pub type Shares = u64;

/// Average price of `shares` shares that together cost `value_cents`, rounded half to even.
/// `None` while nothing is filled.
pub fn average_price_cents(value_cents: i64, shares: Shares) -> Option<i64> {
    if shares == 0 {
        return None;
    }
    let (value, shares) = (i128::from(value_cents), i128::from(shares));
    let (quotient, remainder) = (value.div_euclid(shares), value.rem_euclid(shares));
    let round_up = match (remainder * 2).cmp(&shares) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => quotient % 2 != 0,
        std::cmp::Ordering::Greater => true,
    };
    i64::try_from(quotient + i128::from(round_up)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_outside_the_range_are_refused() {
        assert!(PriceCents::new(0).is_err());
        assert!(PriceCents::new(-5).is_err());
        assert!(PriceCents::new(MAX_PRICE_CENTS + 1).is_err());
        assert_eq!(PriceCents::new(MAX_PRICE_CENTS).map(PriceCents::cents), Ok(MAX_PRICE_CENTS));
    }

    #[test]
    fn averages_round_half_to_even() {
        assert_eq!(average_price_cents(0, 0), None);
        assert_eq!(average_price_cents(101, 2), Some(50), "50.5 goes to the even 50");
        assert_eq!(average_price_cents(103, 2), Some(52), "51.5 goes to the even 52");
        assert_eq!(average_price_cents(1_000, 3), Some(333));
        assert_eq!(average_price_cents(2_000, 3), Some(667));
    }
}
