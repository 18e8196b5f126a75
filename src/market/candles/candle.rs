//! One bar: open, high, low, close, volume and trades.

use crate::types::TimestampMicros;

/// Microseconds of a minute.
pub const MINUTE_MICROS: u64 = 60_000_000;
/// Minutes of a day.
pub const DAY_MINUTES: u32 = 24 * 60;

/// A minute, counted since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Minute(pub u32);

/// The trades of an interval. Prices in cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candle {
    pub open: i64,
    pub high: i64,
    pub low: i64,
    pub close: i64,
    /// Shares.
    pub volume: u64,
    /// Executions.
    pub trades: u64,
    /// A price may be wrong: a trade was taken out of it, and the next one is not known.
    pub is_partial: bool,
}

/// The length of a candle.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
pub enum Interval {
    #[strum(serialize = "1m")]
    Minute,
    #[strum(serialize = "5m")]
    FiveMinutes,
    #[strum(serialize = "15m")]
    FifteenMinutes,
    #[strum(serialize = "1h")]
    Hour,
    #[strum(serialize = "1d")]
    Day,
}

impl Minute {
    /// The minute of a time. The last one that counts is in the year 10136.
    pub fn of(time: TimestampMicros) -> Self {
        Self(u32::try_from(time.micros() / MINUTE_MICROS).unwrap_or(u32::MAX))
    }

    /// When it begins.
    pub fn start(self) -> TimestampMicros {
        TimestampMicros::new(u64::from(self.0) * MINUTE_MICROS)
    }

    /// The first minute of the interval that it is in.
    #[must_use]
    pub fn floor(self, interval: Interval) -> Self {
        Self(self.0 - self.0 % interval.minutes())
    }
}

impl Interval {
    pub const fn minutes(self) -> u32 {
        match self {
            Self::Minute => 1,
            Self::FiveMinutes => 5,
            Self::FifteenMinutes => 15,
            Self::Hour => 60,
            Self::Day => DAY_MINUTES,
        }
    }
}

impl Candle {
    /// The candle of one trade.
    pub const fn of(cents: i64, shares: u64) -> Self {
        Self {
            open: cents,
            high: cents,
            low: cents,
            close: cents,
            volume: shares,
            trades: 1,
            is_partial: false,
        }
    }

    /// Adds what came later.
    pub fn add(&mut self, later: &Self) {
        self.high = self.high.max(later.high);
        self.low = self.low.min(later.low);
        self.close = later.close;
        self.count(later);
    }

    /// Adds what came earlier.
    pub fn add_earlier(&mut self, earlier: &Self) {
        self.high = self.high.max(earlier.high);
        self.low = self.low.min(earlier.low);
        self.open = earlier.open;
        self.count(earlier);
    }

    fn count(&mut self, other: &Self) {
        // Saturating: the exchange decides how many shares a line tells.
        self.volume = self.volume.saturating_add(other.volume);
        self.trades = self.trades.saturating_add(other.trades);
        self.is_partial |= other.is_partial;
    }

    /// Whether a price is one of its four.
    pub const fn shows(&self, cents: i64) -> bool {
        cents == self.open || cents == self.high || cents == self.low || cents == self.close
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_by_their_words() {
        for (word, minutes) in [("1m", 1), ("5m", 5), ("15m", 15), ("1h", 60), ("1d", 1_440)] {
            let interval: Interval = word.parse().unwrap();
            assert_eq!((interval.minutes(), <&str>::from(interval)), (minutes, word));
            assert_eq!(Minute(10_000_001).floor(interval).0 % minutes, 0);
        }
        assert!("2m".parse::<Interval>().is_err());
    }

    #[test]
    fn candles_add_up_in_either_sequence() {
        let trades = [(100, 5), (90, 1), (120, 2), (110, 3)];
        let candles: Vec<Candle> = trades.iter().map(|&(cents, n)| Candle::of(cents, n)).collect();
        let mut upwards = candles[0];
        candles[1..].iter().for_each(|candle| upwards.add(candle));
        let mut downwards = candles[3];
        candles[..3].iter().rev().for_each(|candle| downwards.add_earlier(candle));
        let expected = Candle {
            open: 100,
            high: 120,
            low: 90,
            close: 110,
            volume: 11,
            trades: 4,
            is_partial: false,
        };
        assert_eq!((upwards, downwards), (expected, expected));
        assert_eq!(Minute::of(Minute(7).start()), Minute(7));
    }
}
