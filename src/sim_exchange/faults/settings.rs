//! Settings of the faults: JSON of the admin route and text of `--fault`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::chance::{Chance, MillisRange};
use super::kinds::{FaultTable, FeedFaults, OrderFaults, RequestFaults};

/// How many lines late a reordered line may be.
const REORDER_WINDOW: std::ops::RangeInclusive<u32> = 1..=64;
/// Longest span of records that a restart can lose, in milliseconds: an hour.
pub(in crate::sim_exchange) const MAX_FORGET_MILLIS: u64 = 3_600_000;
/// Longest lag of a record, in milliseconds: ten minutes.
pub(in crate::sim_exchange) const MAX_RECORD_LAG_MILLIS: u64 = 600_000;
/// Largest error of the clock, in milliseconds: a day.
const MAX_CLOCK_AHEAD_MILLIS: u64 = 86_400_000;

/// Faults of the exchange. The default is none.
///
/// As a flag: `submits.drop-reply=0.05,submits.delay=1,manner.submit-delay-ms=5..20,seed=7`. As
/// JSON: the same names in camelCase, one object per group. Omitted faults are off.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultSettings {
    /// Seed of all draws: the same requests in the same order meet the same faults.
    pub seed: u64,
    /// `POST /v1/orders`.
    pub submits: RequestFaults<Chance>,
    /// `POST /v1/cancels`.
    pub cancels: RequestFaults<Chance>,
    /// `POST /v1/orders/query`.
    pub queries: RequestFaults<Chance>,
    /// Orders, however they are reached.
    pub orders: OrderFaults<Chance>,
    /// `GET /v1/feed`.
    pub feed: FeedFaults<Chance>,
    /// How long faults take and how far they reach.
    pub manner: FaultManner,
}

/// How long faults take and how far they reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultManner {
    /// Delay of a submit's answer.
    pub submit_delay_ms: MillisRange,
    /// Delay of a cancel's answer.
    pub cancel_delay_ms: MillisRange,
    /// Delay of a query's answer.
    pub query_delay_ms: MillisRange,
    /// Delay between the cause and an unasked cancel, an unasked expiry or a bust.
    pub later_ms: MillisRange,
    /// How long the feed stalls.
    pub stall_ms: MillisRange,
    /// Most lines that a reordered line is late by, 1 to 64.
    pub reorder_window: u32,
    /// Whether feed faults affect order lines only.
    pub only_order_lines: bool,
    /// How far the records in query answers lag, up to ten minutes: they do not show what was
    /// accepted, executed or ended since.
    pub record_lag_ms: u64,
    /// Whether records say how complete they are (`asOf`).
    pub record_as_of: bool,
    /// How far the exchange's clock is ahead of the true time, up to a day; negative if behind. Its
    /// timestamps never go back, even then.
    pub clock_ahead_ms: i64,
    /// At its next start the exchange forgets this many milliseconds before the newest entry of its
    /// journal, up to an hour. Takes effect with `--fault` only; `POST /admin/restart` has its own
    /// `forgetMs`.
    pub forget_ms: u64,
}

impl Default for FaultManner {
    fn default() -> Self {
        Self {
            submit_delay_ms: MillisRange::new(1, 50),
            cancel_delay_ms: MillisRange::new(1, 50),
            query_delay_ms: MillisRange::new(1, 50),
            later_ms: MillisRange::new(0, 20),
            stall_ms: MillisRange::new(3_000, 3_000),
            reorder_window: 8,
            only_order_lines: false,
            record_lag_ms: 0,
            record_as_of: true,
            clock_ahead_ms: 0,
            forget_ms: 0,
        }
    }
}

impl FaultManner {
    /// Whether this has an effect without any fault being drawn.
    const fn changes_all(&self) -> bool {
        self.record_lag_ms > 0 || !self.record_as_of || self.clock_ahead_ms != 0
    }
}

/// An invalid fault setting: its name, its value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct FaultError {
    /// The setting, such as `submits.dropReply`.
    pub setting: String,
    /// Its value and what is allowed.
    pub problem: String,
}

impl FaultError {
    fn new(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { setting: setting.into(), problem: problem.into() }
    }
}

impl FaultSettings {
    /// Parses JSON.
    ///
    /// # Errors
    /// A field is unknown, or its value is not allowed.
    pub fn from_json(json: &[u8]) -> Result<Self, FaultError> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let settings: Self =
            serde_path_to_error::deserialize(&mut deserializer).map_err(in_field)?;
        deserializer.end().map_err(|error| FaultError::new("settings", error.to_string()))?;
        settings.checked()
    }

    /// The chance of each kind.
    pub fn chances(&self) -> FaultTable<Chance> {
        let &Self { submits, cancels, queries, orders, feed, .. } = self;
        FaultTable { submits, cancels, queries, orders, feed }
    }

    /// Whether anything at all can go wrong.
    pub(super) fn any(&self) -> bool {
        let mut any = self.manner.changes_all();
        let chances = self.chances();
        let _ = chances.zip(&chances, |_, _, chance, _| any |= chance.is_possible());
        any
    }

    fn checked(self) -> Result<Self, FaultError> {
        let FaultManner { reorder_window, forget_ms, record_lag_ms, clock_ahead_ms, .. } =
            self.manner;
        if !REORDER_WINDOW.contains(&reorder_window) {
            let problem = format!("{reorder_window} is not a number of lines from 1 to 64");
            return Err(FaultError::new("manner.reorderWindow", problem));
        }
        if forget_ms > MAX_FORGET_MILLIS {
            let problem = format!("{forget_ms} is not a number of milliseconds from 0 to 3600000");
            return Err(FaultError::new("manner.forgetMs", problem));
        }
        if record_lag_ms > MAX_RECORD_LAG_MILLIS {
            let problem = format!("{record_lag_ms} is not a number of milliseconds up to 600000");
            return Err(FaultError::new("manner.recordLagMs", problem));
        }
        if clock_ahead_ms.unsigned_abs() > MAX_CLOCK_AHEAD_MILLIS {
            let problem =
                format!("{clock_ahead_ms} is not from -86400000 to 86400000 milliseconds");
            return Err(FaultError::new("manner.clockAheadMs", problem));
        }
        Ok(self)
    }
}

impl FromStr for FaultSettings {
    type Err = FaultError;

    /// Parses `group.kind=value,...`; an empty text means no faults.
    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut settings = Map::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| {
                FaultError::new(part, "expected KIND=VALUE, such as submits.drop-reply=0.05")
            })?;
            let twice = || FaultError::new(name, "it is set twice");
            let value = read_value(value.trim());
            let before = match name.trim().split_once('.') {
                None => settings.insert(camel_case(name), value),
                Some((group, kind)) => {
                    let empty = || Value::Object(Map::new());
                    let group = settings.entry(camel_case(group)).or_insert_with(empty);
                    let group = group.as_object_mut().ok_or_else(twice)?;
                    group.insert(camel_case(kind), value)
                }
            };
            if before.is_some() {
                return Err(twice());
            }
        }
        let settings: Self =
            serde_path_to_error::deserialize(Value::Object(settings)).map_err(in_field)?;
        settings.checked()
    }
}

fn in_field(error: serde_path_to_error::Error<serde_json::Error>) -> FaultError {
    FaultError::new(error.path().to_string(), error.inner().to_string())
}

/// Parses numbers and booleans as such, everything else as text.
fn read_value(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        Ok(_) | Err(_) => Value::from(text),
    }
}

/// `drop-reply` as `dropReply`; camelCase stays as it is.
fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut capital = false;
    for letter in name.trim().chars() {
        if letter == '-' || letter == '_' {
            capital = true;
        } else if std::mem::take(&mut capital) {
            out.extend(letter.to_uppercase());
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_and_json_mean_the_same() {
        let flag = "submits.drop-reply=0.05,queries.garbage=next:3,seed=7,\
                    manner.submit-delay-ms=5..20,manner.stall-ms=9,manner.only-order-lines=true";
        let settings: FaultSettings = flag.parse().unwrap();
        let json = br#"{"seed":7,"submits":{"dropReply":0.05},"queries":{"garbage":"next:3"},
            "manner":{"submitDelayMs":"5..20","stallMs":9,"onlyOrderLines":true}}"#;
        assert_eq!(FaultSettings::from_json(json).unwrap(), settings);
        let again = serde_json::to_vec(&settings).unwrap();
        assert_eq!(FaultSettings::from_json(&again).unwrap(), settings);
        assert_eq!(settings.queries.garbage, Chance::Next(3));
        assert_eq!(settings.manner.submit_delay_ms, MillisRange::new(5, 20));
        assert_eq!("".parse::<FaultSettings>().unwrap(), FaultSettings::default());
    }

    #[test]
    fn errors_name_the_setting_the_value_and_what_is_allowed() {
        for (flag, parts) in [
            ("submits.drop-reply=2", ["submits.dropReply", "2", "probability from 0 to 1"]),
            ("submits.drop-reply=1.5", ["submits.dropReply", "1.5", "probability from 0 to 1"]),
            ("feed.skip=next:x", ["feed.skip", "next:x", "next:N"]),
            ("feed.skip=true", ["feed.skip", "true", "probability"]),
            ("submits.drop=1", ["submits.drop", "unknown field", "dropReply"]),
            ("submit.delay=1", ["submit", "unknown field", "`submits`"]),
            ("manner.stall-ms=20..5", ["manner.stallMs", "20..5", "range such as 5..20"]),
            ("manner.stall-ms=700000", ["manner.stallMs", "700000", "0 to 600000"]),
            ("manner.reorder-window=0", ["manner.reorderWindow", "0", "1 to 64"]),
            ("manner.forget-ms=3600001", ["manner.forgetMs", "3600001", "0 to 3600000"]),
            ("manner.record-lag-ms=600001", ["manner.recordLagMs", "600001", "up to 600000"]),
            ("manner.clock-ahead-ms=-86400001", ["manner.clockAheadMs", "-86400001", "86400000"]),
            ("seed=-1", ["seed", "-1", "u64"]),
            ("feed.skip", ["feed.skip", "KIND=VALUE", "submits.drop-reply=0.05"]),
            ("feed.skip=1,feed.skip=0", ["feed.skip", "set twice", ""]),
        ] {
            let error = flag.parse::<FaultSettings>().unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{flag}: {error}");
        }
        let error = FaultSettings::from_json(br#"{"feed":{"skip":7}}"#).unwrap_err().to_string();
        assert!(error.contains("feed.skip") && error.contains('7'), "{error}");
    }
}
