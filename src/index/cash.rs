//! Deposits and withdrawals in the store: what each id stands for, for good.

use super::store::{Bytes, Space, Write};
use super::{Index, IndexError, keys};
use crate::order::{CashMoved, CashMovementKind, CashTerms};
use crate::types::{CashMovementId, UserId};
use crate::wal::Lsn;

/// First byte of a value.
const FORMAT: u8 = 1;
const BYTES: usize = 1 + 1 + 3 * 8;

impl Index {
    /// What an id stands for among the cash movements of a user. May wait for the disk.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn cash_terms(
        &self,
        user: &UserId,
        id: &CashMovementId,
    ) -> Result<Option<CashTerms>, IndexError> {
        let found = self.view()?.get(Space::Cash, &keys::cash(user, id.as_str()))?;
        found.map(|bytes| decode(&bytes)).transpose()
    }
}

/// A write that keeps what the id of a cash movement stands for.
pub(super) fn write(moved: &CashMoved, Lsn(lsn): Lsn) -> Write {
    let key = keys::cash(&moved.user, &moved.id);
    let mut value = Vec::with_capacity(BYTES);
    value.extend([FORMAT, kind_byte(moved.kind)]);
    value.extend(moved.cents.to_le_bytes());
    value.extend(moved.at.micros().to_le_bytes());
    value.extend(lsn.to_le_bytes());
    Write { space: Space::Cash, key, value: Some(Bytes::from(value)) }
}

fn decode(bytes: &[u8]) -> Result<CashTerms, IndexError> {
    let terms = match bytes.split_first_chunk::<2>() {
        Some(([FORMAT, kind], rest)) if bytes.len() == BYTES => {
            let cents = rest.first_chunk().copied().map(i64::from_le_bytes);
            kind_of(*kind).zip(cents).map(|(kind, cents)| CashTerms { kind, cents })
        }
        _ => None,
    };
    terms.ok_or(IndexError::Unreadable { what: "a cash movement" })
}

const fn kind_byte(kind: CashMovementKind) -> u8 {
    match kind {
        CashMovementKind::Opening => 0,
        CashMovementKind::Deposit => 1,
        CashMovementKind::Withdrawal => 2,
    }
}

const fn kind_of(byte: u8) -> Option<CashMovementKind> {
    match byte {
        0 => Some(CashMovementKind::Opening),
        1 => Some(CashMovementKind::Deposit),
        2 => Some(CashMovementKind::Withdrawal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TimestampMicros;

    #[test]
    fn values_are_read_as_they_were_written() {
        for kind in [0, 1, 2].map(|byte| kind_of(byte).unwrap()) {
            let user = UserId::new("alice").unwrap();
            let at = TimestampMicros::new(7);
            let (by, reason) = (None, "".into());
            let moved = CashMoved { user, id: "d1".into(), at, cents: 500, kind, by, reason };
            let value = write(&moved, Lsn(9)).value.unwrap();
            assert_eq!(decode(&value).unwrap(), moved.terms());
            assert!(decode(&value[1..]).is_err());
            assert!(decode(&[&value[..], &[0]].concat()).is_err());
        }
        assert_eq!(kind_of(3), None);
    }
}
