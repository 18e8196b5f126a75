//! Prices in cents and numbers of shares.

use serde::{Deserialize, Serialize};

use super::InvalidValue;

/// Maximum price of an order or a print: 10 million dollars a share.
pub const MAX_PRICE_CENTS: i64 = 1_000_000_000;
/// Maximum shares of one order: a limit against typing errors. A larger trade takes several orders.
pub const MAX_ORDER_SHARES: u64 = 10_000_000;

/// Maximum shares of one execution: far more than any order has, and few enough that sums of many such
/// executions do not overflow. Their value may: an order records at most `i64::MAX` cents.
pub const MAX_EXECUTION_SHARES: u64 = 1_000_000_000_000;

// The value of a full fill of the largest order at the highest price fits an `i64` of cents.
const _: () = assert!(MAX_PRICE_CENTS as u128 * MAX_ORDER_SHARES as u128 <= i64::MAX as u128);

/// Price of one share in integer cents, from 1 to [`MAX_PRICE_CENTS`].
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
    /// Validates the range.
    ///
    /// # Errors
    /// The price is below one cent or above [`MAX_PRICE_CENTS`].
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

/// A number of shares. There are no fractional shares.
pub type Shares = u64;

/// Average price of `shares` shares with a total value of `value_cents`, rounded half to even.
/// `None` for zero shares.
pub fn average_price_cents(value_cents: i64, shares: Shares) -> Option<i64> {
    if shares == 0 {
        return None;
    }
    i64::try_from(divide_half_even(i128::from(value_cents), i128::from(shares))).ok()
}

/// The quotient rounded to the nearest whole number, to the even one of two that are equally near.
/// The divisor is positive, and at most half of what an `i128` holds.
pub fn divide_half_even(dividend: i128, divisor: i128) -> i128 {
    assert!(0 < divisor && divisor <= i128::MAX / 2, "the remainder is doubled: {divisor}");
    let (quotient, remainder) = (dividend.div_euclid(divisor), dividend.rem_euclid(divisor));
    let rounds_up = match (remainder * 2).cmp(&divisor) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => quotient % 2 != 0,
        std::cmp::Ordering::Greater => true,
    };
    quotient + i128::from(rounds_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_outside_the_range_are_rejected() {
        assert!(PriceCents::new(0).is_err());
        assert!(PriceCents::new(-5).is_err());
        assert!(PriceCents::new(MAX_PRICE_CENTS + 1).is_err());
        assert_eq!(PriceCents::new(MAX_PRICE_CENTS).map(PriceCents::cents), Ok(MAX_PRICE_CENTS));
    }

    #[test]
    fn averages_round_half_to_even() {
        assert_eq!(average_price_cents(0, 0), None);
        assert_eq!(average_price_cents(101, 2), Some(50), "50.5 rounds to the even 50");
        assert_eq!(average_price_cents(103, 2), Some(52), "51.5 rounds to the even 52");
        assert_eq!(average_price_cents(1_000, 3), Some(333));
        assert_eq!(average_price_cents(2_000, 3), Some(667));
    }
}
