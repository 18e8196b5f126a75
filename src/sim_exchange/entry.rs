//! Journal entries and their encoding. A frame is length, checksum (the low half of XXH3) and
//! payload; whatever follows the last valid frame is the torn end of an interrupted write.

use super::codec::{Cursor, put_text, put_varint};
use super::line::Key;
use super::orders::{Execution, Order, Record, Terms};
use crate::exchange::wire::ExchangeStatus;
use crate::types::{
    MAX_EXTERNAL_ID_BYTES, MAX_SYMBOL_BYTES, OrderType, PriceCents, Side, Symbol, TimeInForce,
    TimestampMicros,
};

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
            Self::Started { session } => {
                out.push(STARTED);
                put_varint(out, *session);
            }
            Self::Accepted { client, key, terms, at } => {
                out.push(ACCEPTED);
                put_text(out, client);
                put_key(out, *key);
                put_terms(out, terms);
                put_varint(out, at.micros());
            }
            Self::Rejected { client, code, message, at } => {
                out.push(REJECTED);
                put_text(out, client);
                put_text(out, code);
                put_text(out, message);
                put_varint(out, at.micros());
            }
            Self::Executed { order, execution } => {
                out.push(EXECUTED);
                put_key(out, *order);
                put_key(out, execution.key);
                put_varint(out, execution.price.cents().unsigned_abs());
                put_varint(out, execution.shares);
                put_varint(out, execution.at.micros());
            }
            Self::Busted { order, execution, at } => {
                out.push(BUSTED);
                put_key(out, *order);
                put_key(out, *execution);
                put_varint(out, at.micros());
            }
            Self::Ended { order, expired, at } => {
                out.push(if *expired { EXPIRED } else { CANCELLED });
                put_key(out, *order);
                put_varint(out, at.micros());
            }
            Self::Webhook { url, secret } => {
                out.push(WEBHOOK);
                put_text(out, url);
                put_text(out, secret);
            }
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
        let mut cursor = Cursor::new(payload);
        let entry = match cursor.byte()? {
            STARTED => Self::Started { session: cursor.varint()? },
            ACCEPTED => Self::Accepted {
                client: cursor.text(MAX_EXTERNAL_ID_BYTES)?,
                key: key(&mut cursor)?,
                terms: terms(&mut cursor)?,
                at: time(&mut cursor)?,
            },
            REJECTED => Self::Rejected {
                client: cursor.text(MAX_EXTERNAL_ID_BYTES)?,
                code: cursor.text(MAX_EXTERNAL_ID_BYTES)?,
                message: cursor.text(MAX_MESSAGE_BYTES)?,
                at: time(&mut cursor)?,
            },
            EXECUTED => Self::Executed {
                order: key(&mut cursor)?,
                execution: Execution {
                    key: key(&mut cursor)?,
                    price: price(&mut cursor)?,
                    shares: cursor.varint()?,
                    at: time(&mut cursor)?,
                },
            },
            BUSTED => Self::Busted {
                order: key(&mut cursor)?,
                execution: key(&mut cursor)?,
                at: time(&mut cursor)?,
            },
            kind @ (CANCELLED | EXPIRED) => Self::Ended {
                order: key(&mut cursor)?,
                expired: kind == EXPIRED,
                at: time(&mut cursor)?,
            },
            WEBHOOK => Self::Webhook {
                url: cursor.text(MAX_URL_BYTES)?,
                secret: cursor.text(MAX_SECRET_BYTES)?,
            },
            _ => return None,
        };
        cursor.is_empty().then_some(entry)
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

fn put_key(out: &mut Vec<u8>, key: Key) {
    put_varint(out, key.session);
    put_varint(out, key.number);
}

fn put_terms(out: &mut Vec<u8>, terms: &Terms) {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(
        flag(terms.side == Side::Sell, SELL)
            | flag(terms.order_type == OrderType::Limit, LIMIT)
            | flag(terms.time_in_force == TimeInForce::Gtc, GTC),
    );
    put_text(out, terms.symbol.as_str());
    put_varint(out, terms.limit.map_or(0, |limit| limit.cents().unsigned_abs()));
    put_varint(out, terms.shares);
}

fn key(cursor: &mut Cursor<'_>) -> Option<Key> {
    Some(Key { session: cursor.varint()?, number: cursor.varint()? })
}

fn terms(cursor: &mut Cursor<'_>) -> Option<Terms> {
    let flags = cursor.byte()?;
    let symbol = Symbol::new(cursor.text(MAX_SYMBOL_BYTES)?).ok()?;
    let (limit, shares) = (i64::try_from(cursor.varint()?).ok()?, cursor.varint()?);
    let is = |bit: u8| flags & bit != 0;
    Some(Terms {
        symbol,
        side: if is(SELL) { Side::Sell } else { Side::Buy },
        order_type: if is(LIMIT) { OrderType::Limit } else { OrderType::Market },
        limit: if is(LIMIT) { Some(PriceCents::new(limit).ok()?) } else { None },
        time_in_force: if is(GTC) { TimeInForce::Gtc } else { TimeInForce::Day },
        shares,
    })
}

fn price(cursor: &mut Cursor<'_>) -> Option<PriceCents> {
    PriceCents::new(i64::try_from(cursor.varint()?).ok()?).ok()
}

fn time(cursor: &mut Cursor<'_>) -> Option<TimestampMicros> {
    cursor.varint().map(TimestampMicros::new)
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
}
