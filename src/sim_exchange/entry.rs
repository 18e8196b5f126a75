//! Journal entries and their encoding. A frame is length, checksum (the low half of XXH3) and
//! payload; whatever follows the last valid frame is the torn end of an interrupted write.

use serde::{Deserialize, Serialize};

use super::line::Key;
use super::orders::{Execution, Order, Record, Terms};
use crate::exchange::wire::ExchangeStatus;
use crate::types::{OrderType, PriceCents, Shares, Side, Symbol, TimeInForce, TimestampMicros};

/// Bytes before a payload: length and checksum.
pub(super) const FRAME_HEADER_BYTES: usize = 8;
/// Longest payload: room for a webhook's URL and secret.
pub(super) const MAX_PAYLOAD_BYTES: usize = 8 * 1024;
/// Longest stored message of a refusal.
pub(super) const MAX_MESSAGE_BYTES: usize = 512;
/// Longest webhook URL.
pub(super) const MAX_URL_BYTES: usize = 2_048;
/// Longest webhook secret.
pub(super) const MAX_SECRET_BYTES: usize = 512;

/// A fact that must survive a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    /// A feed session began.
    Started { session: u64 },
    /// An order was accepted.
    Accepted { client: &'a str, key: Key, terms: Terms, at: TimestampMicros },
    /// An order was refused.
    Rejected { client: &'a str, code: &'a str, message: &'a str, at: TimestampMicros },
    /// Shares changed hands.
    Executed { order: Key, execution: Execution },
    /// An execution was declared void.
    Busted { order: Key, execution: Key, at: TimestampMicros },
    /// An order was cancelled or expired.
    Ended { order: Key, expired: bool, at: TimestampMicros },
    /// A webhook was registered.
    Webhook { url: &'a str, secret: &'a str },
}

const STARTED: u8 = 1;
const ACCEPTED: u8 = 2;
const REJECTED: u8 = 3;
const EXECUTED: u8 = 4;
const CANCELLED: u8 = 5;
const EXPIRED: u8 = 6;
const WEBHOOK: u8 = 7;
const BUSTED: u8 = 8;

const SELL: u8 = 1;
const LIMIT: u8 = 2;
const GTC: u8 = 4;

impl<'a> Entry<'a> {
    /// Appends the entry as a frame.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        let payload_start = out.len();
        self.put_payload(out);
        let payload = out.get(payload_start..).unwrap_or_default();
        assert!(payload.len() <= MAX_PAYLOAD_BYTES, "an entry that is written can be read");
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
        let checksum = checksum(payload).to_le_bytes();
        let header = out.get_mut(start..).unwrap_or_default();
        for (slot, byte) in header.iter_mut().zip(length.into_iter().chain(checksum)) {
            *slot = byte;
        }
    }

    fn put_payload(&self, out: &mut Vec<u8>) {
        match self {
            Self::Started { session } => put_fields(out, STARTED, session),
            Self::Accepted { client, key, terms, at } => {
                put_fields(out, ACCEPTED, &(client, key, StoredTerms::from(terms), at));
            }
            Self::Rejected { client, code, message, at } => {
                put_fields(out, REJECTED, &(client, code, message, at));
            }
            Self::Executed { order, execution: Execution { key, price, shares, at } } => {
                let cents = price.cents().unsigned_abs();
                put_fields(out, EXECUTED, &(order, key, cents, shares, at));
            }
            Self::Busted { order, execution, at } => {
                put_fields(out, BUSTED, &(order, execution, at));
            }
            Self::Ended { order, expired, at } => {
                put_fields(out, if *expired { EXPIRED } else { CANCELLED }, &(order, at));
            }
            Self::Webhook { url, secret } => put_fields(out, WEBHOOK, &(url, secret)),
        }
    }

    /// When it happened; `None` for entries without a time.
    pub(super) const fn at(&self) -> Option<TimestampMicros> {
        match self {
            Self::Started { .. } | Self::Webhook { .. } => None,
            Self::Accepted { at, .. }
            | Self::Rejected { at, .. }
            | Self::Busted { at, .. }
            | Self::Ended { at, .. } => Some(*at),
            Self::Executed { execution, .. } => Some(execution.at),
        }
    }

    /// Decodes a payload; `None` if it is not a valid entry.
    pub(super) fn read(payload: &'a [u8]) -> Option<Self> {
        let (&kind, fields) = payload.split_first()?;
        Some(match kind {
            STARTED => Self::Started { session: read_fields(fields)? },
            ACCEPTED => {
                let (client, key, terms, at) = read_fields::<(_, _, StoredTerms, _)>(fields)?;
                Self::Accepted { client, key, terms: terms.read()?, at }
            }
            REJECTED => {
                let (client, code, message, at) = read_fields(fields)?;
                Self::Rejected { client, code, message, at }
            }
            EXECUTED => {
                let (order, key, cents, shares, at) = read_fields(fields)?;
                let execution = Execution { key, price: price(cents)?, shares, at };
                Self::Executed { order, execution }
            }
            BUSTED => {
                let (order, execution, at) = read_fields(fields)?;
                Self::Busted { order, execution, at }
            }
            CANCELLED | EXPIRED => {
                let (order, at) = read_fields(fields)?;
                Self::Ended { order, expired: kind == EXPIRED, at }
            }
            WEBHOOK => {
                let (url, secret) = read_fields(fields)?;
                Self::Webhook { url, secret }
            }
            _ => return None,
        })
    }
}

/// The terms of an order as an entry has them.
#[derive(Debug, Serialize, Deserialize)]
struct StoredTerms {
    /// [`SELL`], [`LIMIT`] and [`GTC`].
    flags: u8,
    symbol: Symbol,
    /// Without a meaning where there is no [`LIMIT`].
    limit_cents: u64,
    shares: Shares,
}

impl From<&Terms> for StoredTerms {
    fn from(terms: &Terms) -> Self {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        Self {
            flags: flag(terms.side == Side::Sell, SELL)
                | flag(terms.order_type == OrderType::Limit, LIMIT)
                | flag(terms.time_in_force == TimeInForce::Gtc, GTC),
            symbol: terms.symbol,
            limit_cents: terms.limit.map_or(0, |limit| limit.cents().unsigned_abs()),
            shares: terms.shares,
        }
    }
}

impl StoredTerms {
    fn read(self) -> Option<Terms> {
        let is = |bit: u8| self.flags & bit != 0;
        Some(Terms {
            symbol: self.symbol,
            side: if is(SELL) { Side::Sell } else { Side::Buy },
            order_type: if is(LIMIT) { OrderType::Limit } else { OrderType::Market },
            limit: if is(LIMIT) { Some(price(self.limit_cents)?) } else { None },
            time_in_force: if is(GTC) { TimeInForce::Gtc } else { TimeInForce::Day },
            shares: self.shares,
        })
    }
}

fn price(cents: u64) -> Option<PriceCents> {
    PriceCents::new(i64::try_from(cents).ok()?).ok()
}

fn put_fields(out: &mut Vec<u8>, kind: u8, fields: &impl Serialize) {
    out.push(kind);
    let put = postcard::to_io(fields, out);
    assert!(put.is_ok(), "numbers and texts always go into memory");
}

fn read_fields<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((fields, [])) => Some(fields),
        Ok(_) | Err(_) => None,
    }
}

/// Appends the entries that restore one record.
pub(super) fn put_record(out: &mut Vec<u8>, record: &Record) {
    match record {
        Record::Rejected(rejection) => Entry::Rejected {
            client: &rejection.client.to_text(),
            code: &rejection.refusal.code,
            message: &rejection.refusal.message,
            at: rejection.at,
        }
        .put(out),
        Record::Accepted(order) => put_order(out, order),
    }
}

fn put_order(out: &mut Vec<u8>, order: &Order) {
    let (key, client) = (order.key, order.client.to_text());
    Entry::Accepted { client: &client, key, terms: order.terms, at: order.accepted_at }.put(out);
    for &execution in &order.executions {
        Entry::Executed { order: key, execution }.put(out);
    }
    let expired = match order.status {
        ExchangeStatus::Cancelled => false,
        ExchangeStatus::Expired => true,
        ExchangeStatus::Open
        | ExchangeStatus::Filled
        | ExchangeStatus::Rejected
        | ExchangeStatus::Unknown => return,
    };
    Entry::Ended { order: key, expired, at: order.at }.put(out);
}

/// Checksum of a payload.
pub(super) fn checksum(payload: &[u8]) -> u32 {
    let [a, b, c, d, ..] = xxhash_rust::xxh3::xxh3_64(payload).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms_of(sell: bool, limit: Option<i64>, gtc: bool, shares: u64) -> Terms {
        Terms {
            symbol: Symbol::new("BRK.A").unwrap(),
            side: if sell { Side::Sell } else { Side::Buy },
            order_type: if limit.is_some() { OrderType::Limit } else { OrderType::Market },
            limit: limit.map(|cents| PriceCents::new(cents).unwrap()),
            time_in_force: if gtc { TimeInForce::Gtc } else { TimeInForce::Day },
            shares,
        }
    }

    proptest! {
        #[test]
        fn entries_round_trip(
            sell: bool, limit in prop::option::of(1..1_000_000_000_i64), gtc: bool,
            shares: u64, session: u64, number: u64, micros: u64, text in "[!-~]{1,64}",
        ) {
            let (key, at) = (Key { session, number }, TimestampMicros::new(micros));
            let price = PriceCents::new(5).unwrap();
            for entry in [
                Entry::Started { session },
                Entry::Accepted { client: &text, key, terms: terms_of(sell, limit, gtc, shares), at },
                Entry::Rejected { client: &text, code: "too_late", message: &text, at },
                Entry::Executed { order: key, execution: Execution { key, price, shares, at } },
                Entry::Busted { order: key, execution: key, at },
                Entry::Ended { order: key, expired: gtc, at },
                Entry::Webhook { url: &text, secret: &text },
            ] {
                let mut frame = Vec::new();
                entry.put(&mut frame);
                prop_assert_eq!(Entry::read(&frame[FRAME_HEADER_BYTES..]), Some(entry));
            }
        }

        #[test]
        fn no_payload_causes_a_panic(payload: Vec<u8>) {
            let _ = Entry::read(&payload);
        }
    }

    #[test]
    fn the_bytes_of_an_entry_stay_what_they_are() {
        let (key, at) = (Key { session: 1, number: 300 }, TimestampMicros::new(5));
        let entry =
            Entry::Accepted { client: "c", key, terms: terms_of(true, Some(200), false, 7), at };
        let mut frame = Vec::new();
        entry.put(&mut frame);
        let terms = b"\x03\x05BRK.A\xc8\x01\x07";
        let expected = [b"\x02\x01c\x01\xac\x02", &terms[..], b"\x05"].concat();
        assert_eq!(frame[FRAME_HEADER_BYTES..], expected);
    }
}
