//! Checked amounts.

use crate::types::{PriceCents, Shares, divide_half_even};

/// An amount does not fit an `i64`. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an amount is beyond {} cents or shares", i64::MAX)]
pub struct Overflow;

/// Value of shares at a price, in cents. Fits for the shares of one order: `types` asserts it.
pub(super) fn value_cents(num_shares: Shares, price: PriceCents) -> Result<i64, Overflow> {
    amount(i128::from(num_shares) * i128::from(price.cents()))
}

/// An amount of 128 bits as one of 64.
pub(super) fn amount(wide: i128) -> Result<i64, Overflow> {
    i64::try_from(wide).map_err(|_| Overflow)
}

pub(super) fn sum(one: i64, other: i64) -> Result<i64, Overflow> {
    one.checked_add(other).ok_or(Overflow)
}

/// Fits if the sum of all does, whatever the sum of some is.
pub(super) fn sum_of(amounts: [i64; 3]) -> Result<i64, Overflow> {
    amount(amounts.into_iter().map(i128::from).sum())
}

pub(super) fn negative(amount: i64) -> Result<i64, Overflow> {
    amount.checked_neg().ok_or(Overflow)
}

/// `amount * part / whole`, rounded half to even. No more than `amount` in size, so it fits.
pub(super) fn portion(amount: i64, part: i64, whole: i64) -> i128 {
    assert!(0 < part && part <= whole, "a portion is a part of the whole: {part} of {whole}");
    divide_half_even(i128::from(amount) * i128::from(part), i128::from(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{MAX_ORDER_SHARES, MAX_PRICE_CENTS};

    #[test]
    fn portions_round_half_to_even_on_both_sides_of_zero() {
        assert_eq!(portion(101, 1, 2), 50, "50.5");
        assert_eq!(portion(103, 1, 2), 52, "51.5");
        assert_eq!(portion(1_000, 1, 3), 333);
        assert_eq!(portion(2_000, 1, 3), 667);
        assert_eq!(portion(-101, 1, 2), -50);
        assert_eq!(portion(-103, 1, 2), -52);
        assert_eq!(portion(-1_000, 1, 3), -333);
        assert_eq!(portion(i64::MAX, i64::MAX, i64::MAX), i128::from(i64::MAX));
        assert_eq!(portion(i64::MIN, 7, 7), i128::from(i64::MIN));
    }

    #[test]
    fn a_value_beyond_64_bits_is_an_error() {
        let price = PriceCents::new(MAX_PRICE_CENTS).unwrap();
        assert_eq!(value_cents(MAX_ORDER_SHARES, price), Ok(10_000_000_000_000_000));
        assert_eq!(value_cents(u64::MAX, price), Err(Overflow));
    }
}
