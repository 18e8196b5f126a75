//! Times in queries.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::types::TimestampMicros;

/// What a query may have for a time.
pub(super) const A_TIME: &str = "a time as in RFC 3339 (2026-01-31T14:30:00Z, the + of an offset written as \
                                 %2B), or in microseconds since 1970 (16 digits)";
/// The lowest number that is taken for one of microseconds: in 1973. Seconds and milliseconds of this
/// century are lower, and would select everything.
const LEAST_MICROS: u64 = 100_000_000_000_000;
/// The end of the year 9999, the last that RFC 3339 writes.
const LAST_MICROS: u64 = 253_402_300_799_999_999;

/// Reads a time.
pub(super) fn moment(text: &str) -> Option<TimestampMicros> {
    let micros = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok().filter(|micros| *micros >= LEAST_MICROS)?
    } else {
        let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
        u64::try_from(nanos.div_euclid(1_000)).ok()?
    };
    (micros <= LAST_MICROS).then_some(TimestampMicros::new(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_both_forms() {
        let micros = 1_732_458_600_123_456;
        for text in [
            "1732458600123456",
            "2024-11-24T14:30:00.123456Z",
            "2024-11-24T14:30:00.123456789Z",
            "2024-11-24t16:30:00.123456+02:00",
        ] {
            assert_eq!(moment(text).map(TimestampMicros::micros), Some(micros), "{text}");
        }
        assert_eq!(moment("1970-01-01T00:00:00Z"), Some(TimestampMicros::new(0)));
        for text in [
            "",
            "1732458600",
            "1732458600123",
            "99999999999999999999",
            "2024-11-24",
            "2024-11-24T14:30:00",
            "2024-13-24T14:30:00Z",
            "1960-11-24T14:30:00Z",
            "now",
            "-1",
        ] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}
