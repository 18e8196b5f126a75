//! Converts values to and from Postgres.

use std::error::Error;

use bytes::BytesMut;
use compact_str::CompactString;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use uuid::Uuid;

use crate::types::{OrderId, TimestampMicros};

/// Unix time of 2000-01-01, from which Postgres counts (documentation, 8.5: date/time types).
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The last microsecond of `timestamptz`: in the year 294276.
const LAST_TIMESTAMP: i64 = 9_223_371_331_199_999_999;
/// The same, counted from 1970.
pub(super) const LAST_TIMESTAMP_MICROS: u64 =
    LAST_TIMESTAMP.unsigned_abs() + POSTGRES_EPOCH_MICROS.unsigned_abs();
const INFINITY: i64 = i64::MAX;
const MINUS_INFINITY: i64 = i64::MIN;

/// Text without NUL, the one character that Postgres cannot store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(CompactString);

impl Text {
    pub(super) fn new(text: &str) -> Self {
        if text.contains('\0') {
            return Self(text.replace('\0', "\u{fffd}").into());
        }
        Self(text.into())
    }
}

impl From<Text> for CompactString {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl ToSql for Text {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    accepts!(TEXT);
    to_sql_checked!();
}

/// A time as `timestamptz`; beyond its range `infinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp(pub(super) TimestampMicros);

impl ToSql for Timestamp {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let value = i128::from(self.0.micros()) - i128::from(POSTGRES_EPOCH_MICROS);
        let value = i64::try_from(value).ok();
        let value = value.filter(|&value| value <= LAST_TIMESTAMP).unwrap_or(INFINITY);
        out.extend_from_slice(&value.to_be_bytes());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Timestamp {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let value = i64::from_be_bytes(raw.try_into()?);
        let micros = if value == INFINITY {
            u64::MAX
        } else {
            u64::try_from(i128::from(value) + i128::from(POSTGRES_EPOCH_MICROS)).map_err(|_| {
                match value {
                    MINUS_INFINITY => "-infinity is no time".to_owned(),
                    _ => format!("a time {} s before 1970", before_1970_seconds(value)),
                }
            })?
        };
        Ok(Self(TimestampMicros::new(micros)))
    }

    accepts!(TIMESTAMPTZ);
}

fn before_1970_seconds(postgres_micros: i64) -> u64 {
    postgres_micros.saturating_add(POSTGRES_EPOCH_MICROS).unsigned_abs().div_ceil(1_000_000)
}

/// A log number or a number of shares as a `bigint`. Real values fit; any other becomes the
/// maximum, for a constraint to refuse.
pub(super) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn uuid(order_id: OrderId) -> Uuid {
    Uuid::from_u128(order_id.as_u128())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(micros: u64) -> i64 {
        let mut out = BytesMut::new();
        Timestamp(TimestampMicros::new(micros)).to_sql(&Type::TIMESTAMPTZ, &mut out).unwrap();
        i64::from_be_bytes(out[..].try_into().unwrap())
    }

    #[test]
    fn times_round_trip() {
        let late = i64::MAX.unsigned_abs();
        let odd = [late, late + 1, LAST_TIMESTAMP_MICROS];
        for micros in [0, 1, 946_684_800_000_000, 1_732_400_000_000_123].into_iter().chain(odd) {
            let back = Timestamp::from_sql(&Type::TIMESTAMPTZ, &sql(micros).to_be_bytes()).unwrap();
            assert_eq!(back.0.micros(), micros);
        }
        assert_eq!(sql(946_684_800_000_001), 1);
        assert_eq!(sql(u64::MAX), INFINITY, "an exchange may send any time");
        let never = Timestamp::from_sql(&Type::TIMESTAMPTZ, &INFINITY.to_be_bytes()).unwrap();
        assert_eq!(never.0.micros(), u64::MAX);
        for (value, expected) in [
            (MINUS_INFINITY, "-infinity is no time"),
            (-POSTGRES_EPOCH_MICROS - 1, "a time 1 s before 1970"),
        ] {
            let error = Timestamp::from_sql(&Type::TIMESTAMPTZ, &value.to_be_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn text_has_no_nul() {
        assert_eq!(Text::new("a\0b").0, "a\u{fffd}b");
        assert_eq!(Text::new("ab").0, "ab");
    }
}
