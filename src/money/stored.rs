//! The bytes of an account, in the store and in log records: format, version, cash, reserved cash,
//! deposits, then for each holding the symbol, shares, reserved shares, cost and profit. Numbers are
//! little endian.

use super::account::Account;
use super::holding::Holding;
use crate::types::{MAX_SYMBOL_BYTES, Symbol};

/// Format version that this code writes. Any change of the layout, or of a rule by which amounts
/// are computed, increments it.
pub const STORED_ACCOUNT_FORMAT: u8 = 1;

const NUMBER_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + 4 * NUMBER_BYTES;
const HOLDING_BYTES: usize = MAX_SYMBOL_BYTES + 4 * NUMBER_BYTES;

/// Why a stored account cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoredAccountError {
    /// Written by a newer version, or damaged.
    #[error("stored account has format {found}, this version reads up to {STORED_ACCOUNT_FORMAT}")]
    UnknownFormat {
        /// Its first byte; 0 if it is empty.
        found: u8,
    },
    /// The bytes are too few or too many.
    #[error("stored account has {length} bytes, which is no account")]
    Length {
        /// Number of bytes.
        length: usize,
    },
    /// A state that no sequence of movements makes.
    #[error("stored account contradicts itself: {contradiction}")]
    Contradiction {
        /// What cannot be.
        contradiction: &'static str,
    },
}

impl Account {
    /// Encodes the account. Equal accounts have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let holdings = self.holdings().count();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + holdings * HOLDING_BYTES);
        bytes.push(STORED_ACCOUNT_FORMAT);
        bytes.extend_from_slice(&self.version().to_le_bytes());
        for cents in [self.cash_cents(), self.reserved_cents(), self.deposited_cents()] {
            bytes.extend_from_slice(&cents.to_le_bytes());
        }
        for (symbol, holding) in self.holdings() {
            let mut name = [0; MAX_SYMBOL_BYTES];
            for (slot, byte) in name.iter_mut().zip(symbol.as_str().bytes()) {
                *slot = byte;
            }
            bytes.extend_from_slice(&name);
            for amount in holding.amounts() {
                bytes.extend_from_slice(&amount.to_le_bytes());
            }
        }
        debug_assert_eq!(Self::from_bytes(&bytes).as_ref(), Ok(self), "it can be read again");
        bytes
    }

    /// Decodes and checks an account. Any bytes yield an account or an error, never a panic.
    ///
    /// # Errors
    /// [`StoredAccountError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoredAccountError> {
        let length = bytes.len();
        let wrong_length = StoredAccountError::Length { length };
        match bytes.first() {
            Some(&STORED_ACCOUNT_FORMAT) => {}
            found => {
                let found = found.copied().unwrap_or_default();
                return Err(StoredAccountError::UnknownFormat { found });
            }
        }
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES).ok_or(wrong_length)?;
        let number = |place: usize| number(head.get(1..).unwrap_or_default(), place);
        let [version, cash_cents, reserved_cents, deposited_cents] = [0, 1, 2, 3].map(number);
        if rest.len() % HOLDING_BYTES != 0 {
            return Err(wrong_length);
        }
        let holdings = rest.chunks_exact(HOLDING_BYTES).map(holding);
        let holdings: Vec<_> = holdings.collect::<Result<_, _>>()?;
        let contradiction =
            |contradiction| Err(StoredAccountError::Contradiction { contradiction });
        if reserved_cents < 0 {
            return contradiction("it reserves less than nothing");
        }
        if !holdings.is_sorted_by(|(one, _), (next, _)| one < next) {
            return contradiction("its holdings are not in order");
        }
        let version = version.cast_unsigned();
        let cents = [cash_cents, reserved_cents, deposited_cents];
        balanced(Self::from_parts(version, cents, holdings))
    }

    /// An account as other records have it: its version; cash, reserved cash and deposits; holdings
    /// in any sequence, as [`Holding::amounts`] gives them. Those that have nothing are left out.
    ///
    /// # Errors
    /// [`StoredAccountError::Contradiction`].
    pub fn from_amounts(
        version: u64,
        cents: [i64; 3],
        holdings: impl Iterator<Item = (Symbol, [i64; 4])>,
    ) -> Result<Self, StoredAccountError> {
        let contradiction = |contradiction| StoredAccountError::Contradiction { contradiction };
        if cents[1] < 0 {
            return Err(contradiction("it reserves less than nothing"));
        }
        let of = |(symbol, amounts): (Symbol, [i64; 4])| (symbol, Holding::from_amounts(amounts));
        let mut holdings: Vec<_> =
            holdings.map(of).filter(|(_, holding)| !holding.is_empty()).collect();
        holdings.sort_unstable_by_key(|(symbol, _)| *symbol);
        if !holdings.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(contradiction("it has a holding twice"));
        }
        if holdings.iter().any(|(_, holding)| holding.reserved_shares < 0) {
            return Err(contradiction("a holding reserves less than nothing"));
        }
        balanced(Self::from_parts(version, cents, holdings))
    }
}

fn balanced(account: Account) -> Result<Account, StoredAccountError> {
    if account.is_balanced() {
        return Ok(account);
    }
    let contradiction = "cash, cost and profit are not what was deposited";
    Err(StoredAccountError::Contradiction { contradiction })
}

fn number(bytes: &[u8], place: usize) -> i64 {
    let from = place * NUMBER_BYTES;
    let number = bytes.get(from..).and_then(<[u8]>::first_chunk);
    number.map_or(0, |number| i64::from_le_bytes(*number))
}

fn holding(bytes: &[u8]) -> Result<(Symbol, Holding), StoredAccountError> {
    let contradiction = |contradiction| StoredAccountError::Contradiction { contradiction };
    let (name, amounts) =
        bytes.split_at_checked(MAX_SYMBOL_BYTES).ok_or(contradiction("a holding is cut"))?;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(MAX_SYMBOL_BYTES);
    let (name, padding) = name.split_at(end);
    let is_padded = padding.iter().all(|byte| *byte == 0);
    let name = std::str::from_utf8(name).ok().filter(|_| is_padded);
    let symbol = name.and_then(|name| Symbol::new(name).ok());
    let symbol = symbol.ok_or(contradiction("a holding has no symbol"))?;
    let [shares, reserved_shares, cost_cents, profit_cents] =
        [0, 1, 2, 3].map(|place| number(amounts, place));
    let holding = Holding::from_amounts([shares, reserved_shares, cost_cents, profit_cents]);
    if reserved_shares < 0 {
        return Err(contradiction("a holding reserves less than nothing"));
    }
    if holding.is_empty() {
        return Err(contradiction("a holding has nothing"));
    }
    Ok((symbol, holding))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::test_desk::{Desk, action};
    use super::*;

    fn desk(actions: &[super::super::test_desk::Action]) -> Desk {
        let mut desk = Desk::default();
        desk.run(actions);
        desk
    }

    #[test]
    fn amounts_that_contradict_each_other_are_no_account() {
        let [one, other] = ["IBM", "SPY"].map(|symbol| Symbol::new(symbol).unwrap());
        let account = |cents: [i64; 3], holdings: &[(Symbol, [i64; 4])]| {
            Account::from_amounts(7, cents, holdings.iter().copied())
        };
        assert!(account([90, 0, 100], &[(one, [2, 1, 10, 0])]).is_ok());
        for (cents, holdings) in [
            ([91, 0, 100], &[(one, [2, 1, 10, 0])][..]),
            ([90, -1, 100], &[(one, [2, 1, 10, 0])]),
            ([90, 0, 100], &[(one, [2, -1, 10, 0])]),
            ([90, 0, 100], &[(one, [2, 0, 5, 0]), (other, [1, 0, 0, 0]), (one, [2, 0, 5, 0])]),
        ] {
            assert!(account(cents, holdings).is_err(), "{cents:?} {holdings:?}");
        }
    }

    #[test]
    fn the_bytes_of_format_1_never_change() {
        let mut account = Account::default();
        account.deposit(1_000).unwrap();
        let price = crate::types::PriceCents::new(7).unwrap();
        account.reserve_buy(3, price).unwrap();
        let trade = super::super::Trade {
            symbol: Symbol::new("BRK.A").unwrap(),
            side: crate::types::Side::Buy,
            num_shares: 2,
            price,
        };
        let held = super::super::Held::Nothing;
        account.apply_execution(&trade, (held, held)).unwrap();
        let numbers = |numbers: [i64; 4]| numbers.map(i64::to_le_bytes).concat();
        let expected = [
            &[1][..],
            &numbers([3, 986, 21, 1_000]),
            b"BRK.A\0\0\0\0\0\0\0\0\0\0",
            &numbers([2, 0, 14, 0]),
        ];
        assert_eq!(account.to_bytes(), expected.concat());
        assert_eq!(Account::from_bytes(&expected.concat()), Ok(account));
    }

    proptest! {
        #[test]
        fn an_account_round_trips(actions in vec(action(), 0..60)) {
            let account = desk(&actions).account;
            prop_assert_eq!(Account::from_bytes(&account.to_bytes()), Ok(account.clone()));
            let cents =
                [account.cash_cents(), account.reserved_cents(), account.deposited_cents()];
            let mut holdings: Vec<_> =
                account.holdings().map(|(symbol, holding)| (symbol, holding.amounts())).collect();
            holdings.push((Symbol::new("NONE").unwrap(), [0; 4]));
            holdings.reverse();
            let again = Account::from_amounts(account.version(), cents, holdings.into_iter());
            prop_assert_eq!(again, Ok(account));
        }

        #[test]
        fn hostile_bytes_are_an_account_that_can_be_or_an_error(
            actions in vec(action(), 0..60),
            noise in vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
            mut bytes in vec(any::<u8>(), 0..200),
            cut: prop::sample::Index,
        ) {
            if let Some(first) = bytes.first_mut() {
                *first = STORED_ACCOUNT_FORMAT;
            }
            let mut stored = desk(&actions).account.to_bytes();
            let cut = cut.index(stored.len());
            prop_assert!((cut.wrapping_sub(HEAD_BYTES)) % HOLDING_BYTES == 0
                || Account::from_bytes(&stored[..cut]).is_err());
            for (at, flip) in noise {
                let at = at.index(stored.len());
                stored[at] ^= flip;
            }
            for bytes in [bytes, stored] {
                if let Ok(account) = Account::from_bytes(&bytes) {
                    prop_assert!(account.is_balanced());
                    prop_assert_eq!(account.to_bytes(), bytes);
                }
            }
        }
    }
}
