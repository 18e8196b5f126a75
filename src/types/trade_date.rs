//! Trade dates: days of the exchange's place, New York.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{InvalidValue, TimestampMicros};

/// Where the day of a trade begins and ends at midnight.
const PLACE: &str = "America/New_York";
const ALLOWED: &str = "a date such as 2026-11-27";

static NEW_YORK: LazyLock<TimeZone> = LazyLock::new(|| {
    // The time zones are built in.
    TimeZone::get(PLACE).unwrap_or_else(|error| unreachable!("{PLACE} is known: {error}"))
});

/// The day of a trade: FIX calls it `TradeDate` (75).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TradeDate(Date);

impl TradeDate {
    /// The date of a time. `None` beyond the year 9999.
    pub fn of(at: TimestampMicros) -> Option<Self> {
        let micros = i64::try_from(at.micros()).ok()?;
        let time = Timestamp::from_microsecond(micros).ok()?;
        Some(Self(time.to_zoned_datetime(NEW_YORK.clone()).date()))
    }

    /// When it begins.
    pub fn begins(self) -> TimestampMicros {
        let midnight = self.0.to_zoned_datetime(NEW_YORK.clone());
        let micros = midnight.map_or(0, |midnight| midnight.timestamp().as_microsecond());
        // Days before 1970 have no trades.
        TimestampMicros::new(u64::try_from(micros).unwrap_or(0))
    }

    /// When the next one begins.
    pub fn ends(self) -> TimestampMicros {
        self.plus_days(1).begins()
    }

    /// So many days later, or earlier if negative. Stays within the calendar.
    #[must_use]
    pub fn plus_days(self, days: i32) -> Self {
        Self(self.0.saturating_add(days.days()))
    }

    /// Whether a time is on this day.
    pub fn has(self, at: TimestampMicros) -> bool {
        Self::of(at) == Some(self)
    }
}

impl fmt::Display for TradeDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TradeDate {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let is_plain = |date: &Date| date.year() > 0 && date.to_string() == text;
        let date = text.parse().ok().filter(is_plain);
        date.map(Self).ok_or_else(|| InvalidValue::new(text, ALLOWED))
    }
}

impl Serialize for TradeDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TradeDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> TimestampMicros {
        let time: Timestamp = text.parse().unwrap();
        TimestampMicros::new(time.as_microsecond().try_into().unwrap())
    }

    #[test]
    fn a_date_is_of_new_york() {
        let date = |time| TradeDate::of(at(time)).unwrap().to_string();
        assert_eq!(date("2026-11-27T04:59:59.999999Z"), "2026-11-26");
        assert_eq!(date("2026-11-27T05:00:00Z"), "2026-11-27");
        assert_eq!(date("2026-07-03T03:59:59Z"), "2026-07-02", "daylight saving time");
        assert_eq!(date("2026-07-03T04:00:00Z"), "2026-07-03");
        assert_eq!(TradeDate::of(TimestampMicros::new(u64::MAX)), None);
    }

    #[test]
    fn a_day_ends_where_the_next_one_begins() {
        let day: TradeDate = "2026-11-01".parse().unwrap();
        assert_eq!(day.begins(), at("2026-11-01T04:00:00Z"));
        assert_eq!(day.ends(), at("2026-11-02T05:00:00Z"), "a day of 25 hours");
        assert!(day.has(day.begins()) && !day.has(day.ends()));
        assert_eq!(day.plus_days(-1).ends(), day.begins());
    }

    #[test]
    fn only_dates_are_read() {
        for text in ["", "2026-11-31", "2026-1-1", "20261127", "2026-11-27T10:00", "-002026-11-27"]
        {
            let error = text.parse::<TradeDate>().unwrap_err();
            assert!(error.to_string().contains("expected a date such as"), "{error}");
        }
        let day: TradeDate = serde_json::from_str("\"2026-11-27\"").unwrap();
        assert_eq!(serde_json::to_string(&day).unwrap(), "\"2026-11-27\"");
    }
}
