//! What stands in the channels and keys. Independent programs read them: fields are added, never
//! renamed.

use serde::Serialize;

use crate::market::LastValue;
use crate::types::Symbol;

/// A change of a price.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PriceMessage<'a> {
    pub symbol: &'a Symbol,
    pub price_in_cents: i64,
    /// Time of the trade, in microseconds since 1970.
    pub timestamp: u64,
    /// Its sequence in the feed session.
    pub sequence: u64,
}

/// The last price of a symbol and the figures of its day; 0 where there is none.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastMessage<'a> {
    #[serde(flatten)]
    pub price: PriceMessage<'a>,
    /// The feed session of the sequence; empty where a session before this process's first one set
    /// the price.
    pub session: &'a str,
    pub open_in_cents: i64,
    pub high_in_cents: i64,
    pub low_in_cents: i64,
    /// Shares traded on the day.
    pub volume: u64,
}

/// The state of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedMessage {
    /// Whether the feed is connected.
    pub up: bool,
    /// The feed session; empty before the first.
    pub session: String,
    /// The last sequence of the session whose prices are in the keys.
    pub sequence: u64,
}

impl<'a> PriceMessage<'a> {
    /// The price of a symbol.
    pub(super) fn of(symbol: &'a Symbol, value: &LastValue) -> Self {
        Self {
            symbol,
            price_in_cents: value.price_cents,
            timestamp: value.timestamp.micros(),
            sequence: value.changed_sequence,
        }
    }
}

impl<'a> LastMessage<'a> {
    /// The last value of a symbol.
    pub(super) fn of(symbol: &'a Symbol, value: &LastValue, session: &'a str) -> Self {
        Self {
            price: PriceMessage::of(symbol, value),
            session,
            open_in_cents: value.open_cents,
            high_in_cents: value.high_cents,
            low_in_cents: value.low_cents,
            volume: value.volume,
        }
    }
}

/// A message as Redis carries it.
pub(super) fn encode(message: &impl Serialize) -> Vec<u8> {
    let Ok(bytes) = serde_json::to_vec(message) else {
        unreachable!("strings and numbers are always JSON")
    };
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TimestampMicros;

    #[test]
    fn messages_have_the_names_of_the_contract() {
        let symbol = Symbol::new("SPY").unwrap();
        let value = LastValue {
            price_cents: 52_210,
            timestamp: TimestampMicros::new(7),
            changed_sequence: 9,
            volume: 3,
            ..LastValue::default()
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(encode(&PriceMessage::of(&symbol, &value))),
            r#"{"symbol":"SPY","priceInCents":52210,"timestamp":7,"sequence":9}"#
        );
        assert_eq!(
            text(encode(&LastMessage::of(&symbol, &value, "s"))),
            r#"{"symbol":"SPY","priceInCents":52210,"timestamp":7,"sequence":9,"session":"s","openInCents":0,"highInCents":0,"lowInCents":0,"volume":3}"#
        );
    }
}
