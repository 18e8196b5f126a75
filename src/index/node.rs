//! The index's records about the node itself: its position in which log, the feed position,
//! unmatched reports, and orders to look at again.

use std::ops::Range;

use super::IndexError;
use super::keys;
use super::store::{Bytes, ScanOrder, Space, View};
use crate::order::{
    Event, EventEncoder, FeedPosition, RECORD_FORMAT_VERSION, UnmatchedReport, decode,
};
use crate::types::{OrderId, TimestampMicros};
use crate::wal::{LogId, Lsn};

/// Format of the keys and values that this version writes. Older ones are still read.
pub(super) const INDEX_FORMAT: u32 = 5;

pub(super) const META_KEY: [u8; 1] = *b"m";
pub(super) const FEED_KEY: [u8; 1] = *b"f";
/// Present once accounts follow the orders.
pub(super) const ACCOUNTS_KEY: [u8; 1] = *b"b";
const UNMATCHED_PREFIX: u8 = b'h';
const ENDED_PREFIX: u8 = b'e';
const ATTENDED_PREFIX: u8 = b'a';
const GTC_EXECUTED_PREFIX: u8 = b'g';
const MICROS_PER_DAY: u64 = 24 * 3_600 * 1_000_000;
const META_BYTES: usize = 20;
const ORDER_ID_BYTES: usize = 16;

/// The state that a node resumes from, besides its orders.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeState {
    /// Position in the feed, if it was ever read.
    pub feed_position: Option<FeedPosition>,
    /// Unmatched reports within their retention time, oldest first. Orders of some may be known by
    /// now.
    pub unmatched: Vec<UnmatchedReport>,
    /// Orders that ended since the feed position, or within the reconciliation window before it,
    /// each with when: in log order, some more than once.
    pub ended: Vec<(TimestampMicros, OrderId)>,
    /// Orders to look at although they may have ended: those with open cases, and failed ones that
    /// the exchange may have.
    pub attended: Vec<OrderId>,
}

/// Written with every batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(super) format: u32,
    pub(super) log_id: LogId,
    pub(super) position: Lsn,
    /// The latest recorded time up to the position. A clock that begins after it never repeats a
    /// time.
    pub(super) last_at: TimestampMicros,
}

impl Meta {
    pub(super) fn encode(&self) -> Bytes {
        let Self { format, log_id, position, last_at } = self;
        let (log_id, last_at) = (log_id.0.to_le_bytes(), last_at.micros().to_le_bytes());
        [&format.to_le_bytes()[..], &log_id, &position.0.to_le_bytes(), &last_at].concat().into()
    }

    /// Decodes any format: newer ones begin the same way.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let unreadable = || IndexError::Unreadable { what: "a position" };
        let (bytes, rest) = bytes.split_first_chunk::<META_BYTES>().ok_or_else(unreadable)?;
        // Older versions wrote none.
        let last_at = rest.first_chunk().map_or(0, |at| u64::from_le_bytes(*at));
        let (format, rest) = bytes.split_first_chunk().ok_or_else(unreadable)?;
        let (log_id, position) = rest.split_first_chunk().ok_or_else(unreadable)?;
        let position = position.first_chunk().ok_or_else(unreadable)?;
        Ok(Self {
            format: u32::from_le_bytes(*format),
            log_id: LogId(u64::from_le_bytes(*log_id)),
            position: Lsn(u64::from_le_bytes(*position)),
            last_at: TimestampMicros::new(last_at),
        })
    }
}

/// Key of an unmatched report, by its LSN.
pub(super) fn unmatched_key(lsn: u64) -> Bytes {
    numbered_key(UNMATCHED_PREFIX, lsn)
}

/// Key of an order to look at although it may have ended.
pub(super) fn attended_key(order_id: OrderId) -> Bytes {
    [&[ATTENDED_PREFIX][..], &keys::order_id_bytes(order_id)].concat().into()
}

/// Key of the orders that ended in a batch, by the last LSN of the batch.
pub(super) fn ended_key(lsn: u64) -> Bytes {
    numbered_key(ENDED_PREFIX, lsn)
}

/// Key of an order good till cancelled that was executed on a day.
pub(super) fn gtc_executed_key(day: u32, order_id: OrderId) -> Bytes {
    [&[GTC_EXECUTED_PREFIX][..], &day.to_be_bytes(), &keys::order_id_bytes(order_id)]
        .concat()
        .into()
}

/// Days since 1970.
pub(super) fn utc_day(at: TimestampMicros) -> u32 {
    u32::try_from(at.micros() / MICROS_PER_DAY).unwrap_or(u32::MAX)
}

fn numbered_key(prefix: u8, lsn: u64) -> Bytes {
    [&[prefix][..], &lsn.to_be_bytes()].concat().into()
}

/// The orders that ended in a batch, and when the last of them did.
pub(super) fn ended_value(at: TimestampMicros, ended: &[OrderId]) -> Bytes {
    let ids = ended.iter().flat_map(|&id| keys::order_id_bytes(id));
    let bytes: Vec<u8> = at.micros().to_be_bytes().into_iter().chain(ids).collect();
    bytes.into()
}

/// A record of the node as a value: kind, format version, and the payload of its log record.
pub(super) fn event_value(
    encoder: &mut EventEncoder,
    event: &Event,
    lsn: Lsn,
) -> Result<Bytes, IndexError> {
    let kind = event.kind();
    let payload = encoder.encode(event).map_err(|source| IndexError::Record { lsn, source })?;
    Ok([&[kind, RECORD_FORMAT_VERSION][..], payload].concat().into())
}

fn event(bytes: &[u8]) -> Result<Event, IndexError> {
    let unreadable = IndexError::Unreadable { what: "an event of the feed" };
    let [kind, format_version, payload @ ..] = bytes else { return Err(unreadable) };
    decode(*kind, *format_version, payload).map_err(|_| unreadable)
}

/// Visits the number and value of each key with this prefix, in ascending order.
fn scan_numbered(
    view: &dyn View,
    prefix: u8,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let range: (&[u8], &[u8]) = (&[prefix], &[prefix + 1]);
    view.scan(Space::Node, range, ScanOrder::Ascending, &mut |key, value| {
        let number = key.get(1..).and_then(|number| number.try_into().ok());
        let number = number.ok_or(IndexError::Unreadable { what: "a key of the feed" })?;
        visit(u64::from_be_bytes(number), value)?;
        Ok(true)
    })
}

pub(crate) fn meta(view: &dyn View) -> Result<Option<Meta>, IndexError> {
    view.get(Space::Node, &META_KEY)?.map(|bytes| Meta::decode(&bytes)).transpose()
}

pub(super) fn feed_position(view: &dyn View) -> Result<Option<FeedPosition>, IndexError> {
    let Some(bytes) = view.get(Space::Node, &FEED_KEY)? else { return Ok(None) };
    match event(&bytes)? {
        Event::FeedPosition(position) => Ok(Some(position)),
        _ => Err(IndexError::Unreadable { what: "a feed position" }),
    }
}

/// The unmatched reports, each with its LSN.
pub(super) fn unmatched(view: &dyn View) -> Result<Vec<(u64, UnmatchedReport)>, IndexError> {
    let mut unmatched = Vec::new();
    scan_numbered(view, UNMATCHED_PREFIX, |lsn, value| match event(value)? {
        Event::UnmatchedReport(report) => {
            unmatched.push((lsn, report));
            Ok(())
        }
        _ => Err(IndexError::Unreadable { what: "an unmatched report" }),
    })?;
    Ok(unmatched)
}

/// The orders that ended in one batch.
pub(super) struct EndedBatch {
    /// The last LSN of the batch.
    pub(super) lsn: u64,
    /// When the last of them ended; 0 in batches of older versions, which kept them only briefly.
    pub(super) at: TimestampMicros,
    pub(super) order_ids: Vec<OrderId>,
}

/// The ended orders, by batch.
pub(super) fn ended(view: &dyn View) -> Result<Vec<EndedBatch>, IndexError> {
    let mut batches = Vec::new();
    scan_numbered(view, ENDED_PREFIX, |lsn, value| {
        // Older formats have no time.
        let (at, ids) = match value.split_first_chunk() {
            Some((at, ids)) if value.len() % ORDER_ID_BYTES != 0 => (u64::from_be_bytes(*at), ids),
            Some(_) | None => (0, value),
        };
        let order_ids = ids.chunks(ORDER_ID_BYTES).map(keys::order_id).collect::<Result<_, _>>()?;
        batches.push(EndedBatch { lsn, at: TimestampMicros::new(at), order_ids });
        Ok(())
    })?;
    Ok(batches)
}

/// Orders to look at although they may have ended.
pub(super) fn attended(view: &dyn View) -> Result<Vec<OrderId>, IndexError> {
    let mut order_ids = Vec::new();
    let range: (&[u8], &[u8]) = (&[ATTENDED_PREFIX], &[ATTENDED_PREFIX + 1]);
    view.scan(Space::Node, range, ScanOrder::Ascending, &mut |key, _value| {
        order_ids.push(keys::order_id(key.get(1..).unwrap_or_default())?);
        Ok(true)
    })?;
    Ok(order_ids)
}

/// Orders good till cancelled that were executed on the UTC days which a stretch of time touches.
pub(super) fn gtc_executed(
    view: &dyn View,
    time: &Range<TimestampMicros>,
) -> Result<Vec<OrderId>, IndexError> {
    let mut order_ids = Vec::new();
    let key = |day: u32| [&[GTC_EXECUTED_PREFIX][..], &day.to_be_bytes()].concat();
    let (from, to) = (key(utc_day(time.start)), key(utc_day(time.end).saturating_add(1)));
    view.scan(Space::Node, (&from, &to), ScanOrder::Ascending, &mut |key, _value| {
        order_ids.push(keys::order_id(key.get(from.len()..).unwrap_or_default())?);
        Ok(true)
    })?;
    Ok(order_ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_round_trips_and_a_short_one_is_refused() {
        let last_at = TimestampMicros::new(77);
        let (log_id, position) = (LogId(u64::MAX - 1), Lsn(1 << 40));
        let meta = Meta { format: 7, log_id, position, last_at };
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes).unwrap(), meta);
        let without_time = Meta { last_at: TimestampMicros::default(), ..meta };
        assert_eq!(
            Meta::decode(&bytes[..META_BYTES]).unwrap(),
            without_time,
            "as older versions wrote it"
        );
        assert!(Meta::decode(&bytes[..META_BYTES - 1]).is_err());
    }
}
