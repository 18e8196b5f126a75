//! What stands in the channels and keys. Independent programs read them: fields are added, never
//! renamed.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::market::{
    FollowedPrice, LastValue, Listing, MAX_SEQUENCE, SessionOrdinal, TradingSession,
};
use crate::types::{MAX_PRICE_CENTS, Symbol, TimestampMicros};

/// Longest name of a session, its renumberings included.
const MAX_SESSION_BYTES: usize = 80;

/// A change of a price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PriceMessage {
    pub symbol: Symbol,
    pub price_in_cents: i64,
    /// Time of the trade, in microseconds since 1970.
    pub timestamp: u64,
    /// Its sequence in the feed session.
    pub sequence: u64,
}

/// The last price of a symbol and the figures of its day; 0 where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastMessage {
    #[serde(flatten)]
    pub price: PriceMessage,
    /// The feed session of the sequence; empty where a session before the present one set the price.
    pub session: CompactString,
    pub open_in_cents: i64,
    pub high_in_cents: i64,
    pub low_in_cents: i64,
    /// Shares traded on the day.
    pub volume: u64,
    /// The last print that is included, be its price another or not, and its session, which is empty
    /// where that is an earlier one.
    #[serde(default)]
    pub last_session: CompactString,
    #[serde(default)]
    pub last_sequence: u64,
    /// When the trading session of the figures begins and ends, in microseconds since 1970; 0 where the
    /// exchange does not tell.
    #[serde(default)]
    pub session_open: u64,
    #[serde(default)]
    pub session_close: u64,
}

/// The state of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedMessage {
    /// Whether the feed is connected.
    pub up: bool,
    /// The feed session; empty before the first.
    pub session: CompactString,
    /// The last sequence of the session whose prices are in the keys.
    pub sequence: u64,
    /// The first sequence of the session since which the keys tell what has changed.
    #[serde(default)]
    pub first_sequence: u64,
}

impl PriceMessage {
    /// The price of a symbol.
    pub(super) fn of(symbol: Symbol, value: &LastValue) -> Self {
        Self {
            symbol,
            price_in_cents: value.price_cents,
            timestamp: value.timestamp.micros(),
            sequence: value.changed_sequence,
        }
    }

    /// Whether a market has room for its numbers.
    pub(super) fn is_possible(&self) -> bool {
        (1..=MAX_PRICE_CENTS).contains(&self.price_in_cents) && self.sequence < MAX_SEQUENCE
    }

    /// What it tells a market.
    pub(super) fn followed(&self) -> FollowedPrice {
        FollowedPrice {
            price_cents: self.price_in_cents,
            timestamp: TimestampMicros::new(self.timestamp),
            sequence: self.sequence,
        }
    }
}

impl LastMessage {
    /// The last value of a symbol, where the session with this ordinal has this name.
    pub(super) fn of(
        listing: &Listing,
        value: &LastValue,
        (ordinal, session): (SessionOrdinal, &CompactString),
    ) -> Self {
        let name = |of: SessionOrdinal| if of == ordinal { session.clone() } else { "".into() };
        let is_last_of_it = value.last_ordinal == ordinal;
        let (open, close) =
            listing.session.map_or((0, 0), |day| (day.open.micros(), day.close.micros()));
        Self {
            price: PriceMessage::of(listing.symbol, value),
            session: name(value.changed_ordinal),
            open_in_cents: value.open_cents,
            high_in_cents: value.high_cents,
            low_in_cents: value.low_cents,
            volume: value.volume,
            last_session: name(value.last_ordinal),
            last_sequence: if is_last_of_it { value.last_sequence } else { 0 },
            session_open: open,
            session_close: close,
        }
    }

    /// The value, where the session of this name has this ordinal; 0 stands for all earlier ones.
    pub(super) fn value(&self, (ordinal, session): (SessionOrdinal, &str)) -> LastValue {
        let ordinal_of = |name: &str| if name == session { ordinal } else { 0 };
        let last_ordinal = ordinal_of(&self.last_session);
        LastValue {
            price_cents: self.price.price_in_cents,
            open_cents: self.open_in_cents,
            high_cents: self.high_in_cents,
            low_cents: self.low_in_cents,
            volume: self.volume,
            timestamp: TimestampMicros::new(self.price.timestamp),
            changed_ordinal: ordinal_of(&self.session),
            changed_sequence: self.price.sequence,
            last_ordinal,
            last_sequence: if last_ordinal == ordinal { self.last_sequence } else { 0 },
        }
    }

    /// The trading session of the figures.
    pub(super) fn trading_session(&self) -> Option<TradingSession> {
        let (open, close) = (self.session_open, self.session_close);
        let time = TimestampMicros::new;
        (open < close).then(|| TradingSession { open: time(open), close: time(close) })
    }

    /// Whether a market has room for its numbers.
    pub(super) fn is_possible(&self) -> bool {
        let prices =
            [self.price.price_in_cents, self.open_in_cents, self.high_in_cents, self.low_in_cents];
        prices.iter().all(|cents| (0..=MAX_PRICE_CENTS).contains(cents))
            && self.price.sequence < MAX_SEQUENCE
            && self.last_sequence < MAX_SEQUENCE
    }
}

impl FeedMessage {
    /// Whether a market has room for its numbers, and a stream for the name of its session: nothing in
    /// that may end a line.
    pub(super) fn is_possible(&self) -> bool {
        let is_printable = self.session.bytes().all(|byte| byte.is_ascii_graphic());
        is_printable
            && self.session.len() <= MAX_SESSION_BYTES
            && self.sequence < MAX_SEQUENCE
            && self.first_sequence < MAX_SEQUENCE
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

    #[test]
    fn messages_have_the_names_of_the_contract() {
        let listing = Listing {
            symbol: Symbol::new("SPY").unwrap(),
            previous_close: None,
            open: None,
            session: None,
            source: "test".into(),
            synthetic: false,
        };
        let value = LastValue {
            price_cents: 52_210,
            timestamp: TimestampMicros::new(7),
            changed_ordinal: 2,
            changed_sequence: 9,
            last_ordinal: 2,
            last_sequence: 11,
            volume: 3,
            ..LastValue::default()
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(encode(&PriceMessage::of(listing.symbol, &value))),
            r#"{"symbol":"SPY","priceInCents":52210,"timestamp":7,"sequence":9}"#
        );
        let last = LastMessage::of(&listing, &value, (2, &"s".into()));
        assert_eq!(
            text(encode(&last)),
            r#"{"symbol":"SPY","priceInCents":52210,"timestamp":7,"sequence":9,"session":"s","openInCents":0,"highInCents":0,"lowInCents":0,"volume":3,"lastSession":"s","lastSequence":11,"sessionOpen":0,"sessionClose":0}"#
        );
        let read: LastMessage = serde_json::from_slice(&encode(&last)).unwrap();
        assert_eq!(read, last);
        assert_eq!(read.value((2, "s")), value);
        let elsewhere = read.value((5, "t"));
        assert_eq!((elsewhere.changed_ordinal, elsewhere.last_sequence), (0, 0));
        assert!(read.is_possible());
    }
}
