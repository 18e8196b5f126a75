//! How often a fault happens, and how long it takes: parsed from flags and JSON.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Longest delay or stall: ten minutes, beyond every timeout.
const MAX_MILLIS: u32 = 600_000;
/// Largest N of `next:N`.
const MAX_NEXT: u32 = 1_000_000;

const CHANCE_ALLOWED: &str = "a probability from 0 to 1, or next:N for the next N occasions";
const MILLIS_ALLOWED: &str = "milliseconds from 0 to 600000, or a range such as 5..20";

/// How often a fault happens: `0.05` is a probability, `next:3` means the next three occasions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Chance {
    /// On each occasion with this probability.
    Probability(f64),
    /// On this many occasions from now on, then no more.
    Next(u32),
}

impl Chance {
    /// Whether the fault can happen at all.
    pub fn is_possible(self) -> bool {
        match self {
            Self::Probability(probability) => probability > 0.0,
            Self::Next(count) => count > 0,
        }
    }

    fn probability(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self::Probability(value))
    }
}

impl Default for Chance {
    fn default() -> Self {
        Self::Probability(0.0)
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probability(probability) => write!(formatter, "{probability}"),
            Self::Next(count) => write!(formatter, "next:{count}"),
        }
    }
}

impl FromStr for Chance {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let chance = match text.strip_prefix("next:") {
            Some(count) => count.parse().ok().filter(|count| *count <= MAX_NEXT).map(Self::Next),
            None => text.parse().ok().and_then(Self::probability),
        };
        chance.ok_or(CHANCE_ALLOWED)
    }
}

impl Serialize for Chance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Probability(probability) => serializer.serialize_f64(*probability),
            Self::Next(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Chance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Chance;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(CHANCE_ALLOWED)
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Chance, E> {
                let refuse = || E::invalid_value(de::Unexpected::Float(value), &self);
                Chance::probability(value).ok_or_else(refuse)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Chance, E> {
                let refuse = || E::invalid_value(de::Unexpected::Unsigned(value), &self);
                let probability = [(0, 0.0), (1, 1.0)].into_iter().find(|(n, _)| *n == value);
                probability.map(|(_, value)| Chance::Probability(value)).ok_or_else(refuse)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Chance, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A time drawn on each occasion: `20`, or the inclusive range `5..20`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MillisRange {
    /// Shortest, in milliseconds.
    pub least: u32,
    /// Longest, in milliseconds.
    pub most: u32,
}

impl MillisRange {
    /// From `least` to `most` milliseconds.
    pub(super) const fn new(least: u32, most: u32) -> Self {
        Self { least, most }
    }
}

impl fmt::Display for MillisRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, most } = self;
        if least == most {
            write!(formatter, "{least}")
        } else {
            write!(formatter, "{least}..{most}")
        }
    }
}

impl FromStr for MillisRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        match (least.parse(), most.parse()) {
            (Ok(least), Ok(most)) if least <= most && most <= MAX_MILLIS => {
                Ok(Self { least, most })
            }
            _ => Err(MILLIS_ALLOWED),
        }
    }
}

impl Serialize for MillisRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.least == self.most {
            serializer.serialize_u32(self.least)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for MillisRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = MillisRange;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(MILLIS_ALLOWED)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<MillisRange, E> {
                let millis = u32::try_from(value).ok().filter(|millis| *millis <= MAX_MILLIS);
                let refuse = || E::invalid_value(de::Unexpected::Unsigned(value), &self);
                millis.map(|millis| MillisRange::new(millis, millis)).ok_or_else(refuse)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<MillisRange, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
