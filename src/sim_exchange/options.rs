//! Options of the simulated exchange.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::SimError;
use super::faults::FaultSettings;

/// Slowest and fastest replay. At the fastest a session would take a quarter of a second; if the
/// core cannot keep up, the replay slips.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.01..=100_000.0;
/// Default number of synthetic symbols beside the recorded ones.
pub const DEFAULT_UNIVERSE: usize = 500;
/// Default for the bytes of feed lines retained for readers that resume: at 880 lines/s (the
/// default run) about eight minutes, at 100,000 lines/s four seconds.
pub const DEFAULT_FEED_RETAINED_BYTES: usize = 64 << 20;
/// Allowed bytes of retained lines.
const FEED_RETAINED_BYTES: std::ops::RangeInclusive<usize> = 64 << 10..=4 << 30;

/// Options of the simulated exchange.
#[derive(Debug, Clone)]
pub struct SimOptions {
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Directory of the journal; without one, orders are lost when the exchange stops.
    pub data_dir: Option<PathBuf>,
    /// A tape file instead of the built-in one.
    pub tape: Option<PathBuf>,
    /// Session seconds per second.
    pub speed: Speed,
    /// Where in the session each replay begins; `None` for its open.
    pub from: Option<SessionTime>,
    /// Number of synthetic symbols, the most active first.
    pub universe: usize,
    /// Seed of the synthetic prints.
    pub seed: u64,
    /// Bytes of feed lines retained for readers that resume.
    pub feed_retained_bytes: usize,
    /// Faults from the start on.
    pub faults: FaultSettings,
}

impl SimOptions {
    /// The defaults: the built-in tape from its open in real time, 500 synthetic symbols, orders in
    /// memory only.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            data_dir: None,
            tape: None,
            speed: Speed::default(),
            from: None,
            universe: DEFAULT_UNIVERSE,
            seed: 0,
            feed_retained_bytes: DEFAULT_FEED_RETAINED_BYTES,
            faults: FaultSettings::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), SimError> {
        if FEED_RETAINED_BYTES.contains(&self.feed_retained_bytes) {
            return Ok(());
        }
        Err(SimError::Setting {
            setting: "feed-retained-bytes",
            value: self.feed_retained_bytes.to_string(),
            allowed: "65536 (64 KiB) to 4294967296 (4 GiB)".to_owned(),
        })
    }
}

/// Session seconds per second, from 0.01 to 100,000.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed(f64);

impl Speed {
    /// Checks the range.
    ///
    /// # Errors
    /// [`SimError::Setting`] if the factor is outside of 0.01 to 100,000 or not a number.
    pub fn new(factor: f64) -> Result<Self, SimError> {
        if SPEEDS.contains(&factor) { Ok(Self(factor)) } else { Err(Self::refuse(factor)) }
    }

    /// Session seconds per second.
    pub const fn factor(self) -> f64 {
        self.0
    }

    fn refuse(value: impl fmt::Display) -> SimError {
        SimError::Setting {
            setting: "speed",
            value: value.to_string(),
            allowed: "a number from 0.01 to 100000".to_owned(),
        }
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self(1.0)
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

impl FromStr for Speed {
    type Err = SimError;
    fn from_str(text: &str) -> Result<Self, SimError> {
        text.parse().map_err(|_| Self::refuse(text)).and_then(Self::new)
    }
}

/// A time of day in New York, `HH:MM` or `HH:MM:SS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionTime {
    seconds: u32,
}

impl SessionTime {
    /// Milliseconds since midnight.
    pub const fn millis(self) -> u32 {
        self.seconds * 1_000
    }

    pub(super) const fn of_millis(millis: u32) -> Self {
        Self { seconds: millis / 1_000 }
    }
}

impl fmt::Display for SessionTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes) = (self.seconds / 3_600, self.seconds / 60 % 60);
        write!(formatter, "{hours:02}:{minutes:02}:{:02}", self.seconds % 60)
    }
}

impl FromStr for SessionTime {
    type Err = SimError;

    fn from_str(text: &str) -> Result<Self, SimError> {
        let refuse = || SimError::Setting {
            setting: "from",
            value: text.to_owned(),
            allowed: "a time of day as HH:MM or HH:MM:SS".to_owned(),
        };
        let two_digits = |part: &str, below: u32| {
            let plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            let number = plain.then(|| part.parse::<u32>().ok()).flatten();
            number.filter(|&number| number < below).ok_or_else(refuse)
        };
        let mut parts = text.split(':');
        let hours = two_digits(parts.next().unwrap_or_default(), 24)?;
        let minutes = two_digits(parts.next().unwrap_or_default(), 60)?;
        let seconds = parts.next().map_or(Ok(0), |part| two_digits(part, 60))?;
        if parts.next().is_some() {
            return Err(refuse());
        }
        Ok(Self { seconds: (hours * 60 + minutes) * 60 + seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_positive_and_bounded() {
        for text in ["0.1", "1", "100000", "2.5e2"] {
            assert!(text.parse::<Speed>().is_ok(), "{text}");
        }
        for text in ["0", "-1", "NaN", "inf", "100001", "fast", ""] {
            let error = text.parse::<Speed>().unwrap_err().to_string();
            assert!(error.contains("speed") && error.contains("0.01 to 100000"), "{error}");
        }
    }

    #[test]
    fn times_of_day_are_parsed_strictly() {
        let millis = |text: &str| text.parse::<SessionTime>().map(SessionTime::millis).ok();
        assert_eq!(millis("09:30"), Some(34_200_000));
        assert_eq!(millis("15:59:59"), Some(57_599_000));
        assert_eq!("09:30".parse::<SessionTime>().unwrap().to_string(), "09:30:00");
        for text in ["9:30", "09:60", "24:00", "09:30:00:00", "09", "", "+9:30", "09:3x"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }
}
