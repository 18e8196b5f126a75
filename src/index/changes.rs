//! Changes of orders, each with the order as it has left it: kept for a time, so that whoever watches
//! their orders and was away goes on without a hole.
//!
//! They are kept by periods of the log. An old period is dropped as a whole, which costs nothing;
//! removing its keys one by one would cost as much as writing them. Within a period what is large, the
//! orders, stands in the order of the log, many together under one key, and is written once; only the
//! small keys stand in the order of users and are moved by fjall.

use std::sync::Arc;

use super::IndexError;
use super::keys;
use super::node;
use super::store::{Bytes, Period, ScanOrder, Space, Store, View, Write};
use crate::order::{Order, StoredOrderEncoder, decode_version};
use crate::types::{TimestampMicros, UserId};
use crate::wal::Lsn;

/// Periods in the time that changes are kept: up to an eighth of it they are kept longer.
const PERIODS_KEPT: u64 = 8;
/// Most periods there are, however clocks are set: beyond it the oldest is dropped before its time.
const MAX_PERIODS: usize = 32;
const _: () = assert!(MAX_PERIODS as u64 > 2 * PERIODS_KEPT);
/// Bytes of orders from which on the next one begins another chunk: some thirty orders. Larger ones
/// cost a reader more than they spare the writer.
const CHUNK_BYTES: usize = 8 * 1024;
/// Largest chunk: one order more than that, which is as large as a record of the log at most.
const MAX_CHUNK_BYTES: usize = CHUNK_BYTES + crate::wal::MAX_RECORD_BYTES;

/// What the store knows of a user's changes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoredChanges {
    /// The store has followed the log up to here.
    pub position: Lsn,
    /// The first record of the log whose change it would still have.
    pub kept_from: Lsn,
    /// Records of the log and what they have made of an order, oldest first.
    pub changes: Vec<(Lsn, Arc<Order>)>,
}

/// A user's changes after a record of the log, at most `most` of them. None where the store does not
/// have all of them any more.
pub(super) fn read(
    view: &dyn View,
    user: &UserId,
    after: Lsn,
    most: usize,
) -> Result<StoredChanges, IndexError> {
    let position = node::meta(view)?.map_or(Lsn(0), |meta| meta.position);
    let periods = view.periods();
    let kept_from = periods.first().map_or(position.0 + 1, |oldest| oldest.first);
    let mut found = StoredChanges { position, kept_from: Lsn(kept_from), changes: Vec::new() };
    if after.0.saturating_add(1) < kept_from || most == 0 {
        return Ok(found);
    }
    let (from, to) = keys::change_range(user, after.0);
    let last_before = periods.partition_point(|period| period.first <= after.0.saturating_add(1));
    for &period in periods.iter().skip(last_before.saturating_sub(1)) {
        let range: (&[u8], &[u8]) = (&from, &to);
        // Changes that came together are often in one chunk.
        let mut chunk: Option<(u64, Bytes)> = None;
        view.scan(Space::Changes(period), range, ScanOrder::Ascending, &mut |key, value| {
            let lsn = keys::lsn_of_change(key)?;
            let place = ChangeLocation::decode(value)?;
            if chunk.as_ref().is_none_or(|(first, _)| *first != place.chunk) {
                let bytes = view.get(Space::Versions(period), &keys::chunk(place.chunk))?;
                let bytes = bytes.map(|bytes| place.unpack(bytes)).transpose()?;
                chunk = bytes.map(|bytes| (place.chunk, bytes));
            }
            let version = chunk.as_ref().and_then(|(_, bytes)| bytes.get(place.range()));
            let version = version.ok_or(IndexError::Unreadable { what: "a changed order" })?;
            found.changes.push((Lsn(lsn), decode_version(version)?));
            Ok(found.changes.len() < most)
        })?;
        if found.changes.len() == most {
            break;
        }
    }
    Ok(found)
}

/// Where an order is as a change has left it.
#[derive(Debug, Clone, Copy)]
struct ChangeLocation {
    /// First record of the log of a chunk.
    chunk: u64,
    /// Bytes before it in there.
    offset: u32,
    /// Bytes that it is.
    length: u32,
    /// Whether the chunk is compressed: those of format 2 are not.
    is_packed: bool,
}

/// Marks the length of an order in a compressed chunk.
const PACKED: u32 = 1 << 31;
const _: () = assert!(2 * MAX_CHUNK_BYTES < PACKED as usize);

impl ChangeLocation {
    fn encode(self) -> [u8; 16] {
        let Self { chunk, offset, length, is_packed } = self;
        let length = if is_packed { length | PACKED } else { length };
        (u128::from(chunk) << 64 | u128::from(offset) << 32 | u128::from(length)).to_be_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let unreadable = || IndexError::Unreadable { what: "the place of a changed order" };
        let (chunk, rest) = bytes.split_first_chunk().ok_or_else(unreadable)?;
        let (offset, rest) = rest.split_first_chunk().ok_or_else(unreadable)?;
        let length = u32::from_be_bytes(rest.try_into().map_err(|_| unreadable())?);
        Ok(Self {
            chunk: u64::from_be_bytes(*chunk),
            offset: u32::from_be_bytes(*offset),
            length: length & !PACKED,
            is_packed: length & PACKED != 0,
        })
    }

    /// The orders of its chunk as the store has it.
    fn unpack(self, chunk: Bytes) -> Result<Bytes, IndexError> {
        if !self.is_packed {
            return Ok(chunk);
        }
        let unreadable = || IndexError::Unreadable { what: "a chunk of changed orders" };
        let (bytes, packed) =
            lz4_flex::block::uncompressed_size(&chunk).map_err(|_| unreadable())?;
        if bytes > MAX_CHUNK_BYTES {
            return Err(unreadable());
        }
        let orders = lz4_flex::block::decompress(packed, bytes).map_err(|_| unreadable())?;
        Ok(orders.into())
    }

    fn range(self) -> std::ops::Range<usize> {
        self.offset as usize..self.offset as usize + self.length as usize
    }
}

/// Orders that changed one after the other.
struct Chunk {
    period: Period,
    /// Record of the log of the first one.
    first: u64,
    bytes: Vec<u8>,
}

/// The changes of a batch, and which periods there are.
pub(super) struct ChangeWriter {
    /// Oldest first.
    periods: Vec<Period>,
    /// How long changes are kept.
    keep_micros: u64,
    /// Of the batch: period, record of the log, whose order, and where it is now.
    batch: Vec<(Period, u64, UserId, ChangeLocation)>,
    /// Those orders.
    chunks: Vec<Chunk>,
    /// A period that begins with this batch.
    begun: Option<Period>,
    /// The batch has taken no record yet.
    is_first: bool,
    /// When the last record was recorded.
    now_micros: u64,
}

impl ChangeWriter {
    pub(super) fn new(store: &dyn Store, keep_micros: u64) -> Self {
        Self {
            periods: store.periods(),
            keep_micros,
            batch: Vec::new(),
            chunks: Vec::new(),
            begun: None,
            is_first: true,
            now_micros: 0,
        }
    }

    /// Takes note of the next record of the log, whatever it is.
    pub(super) fn advance(&mut self, lsn: Lsn, at: TimestampMicros) {
        self.now_micros = at.micros();
        if !std::mem::replace(&mut self.is_first, false) {
            return;
        }
        let place = self.periods.partition_point(|period| period.first <= lsn.0);
        let current = place.checked_sub(1).and_then(|place| self.periods.get(place));
        let length = (self.keep_micros / PERIODS_KEPT).max(1);
        if current.is_none_or(|period| self.is_other_time(period.start_micros, length)) {
            let period = Period { first: lsn.0, start_micros: self.now_micros };
            if current.is_none_or(|current| current.first < lsn.0) {
                self.periods.insert(place, period);
                self.begun = Some(period);
            }
        }
    }

    /// Whether it is `length` later now than it was then, or so much earlier that the clock was set
    /// back: what began then would else last until it is as late again.
    fn is_other_time(&self, then_micros: u64, length: u64) -> bool {
        let (now, then) = (self.now_micros, then_micros);
        now.saturating_sub(then) >= length || then.saturating_sub(now) >= self.keep_micros
    }

    /// Takes a new version of an order into the batch.
    pub(super) fn note(
        &mut self,
        lsn: Lsn,
        order: &Order,
        encoder: &mut StoredOrderEncoder,
    ) -> Result<(), IndexError> {
        let place = self.periods.partition_point(|period| period.first <= lsn.0);
        let period = place.checked_sub(1).and_then(|place| self.periods.get(place).copied());
        let period = period.ok_or(IndexError::Unreadable { what: "a period of changes" })?;
        let has_room = |chunk: &Chunk| chunk.period == period && chunk.bytes.len() < CHUNK_BYTES;
        if !self.chunks.last().is_some_and(has_room) {
            let bytes = Vec::with_capacity(2 * CHUNK_BYTES);
            self.chunks.push(Chunk { period, first: lsn.0, bytes });
        }
        let Some(chunk) = self.chunks.last_mut() else { return Ok(()) };
        let version = encoder.encode_version(order)?;
        let too_large = |_| IndexError::Unreadable { what: "the size of an order" };
        let offset = u32::try_from(chunk.bytes.len()).map_err(too_large)?;
        let length = u32::try_from(version.len()).map_err(too_large)?;
        chunk.bytes.extend_from_slice(version);
        let place = ChangeLocation { chunk: chunk.first, offset, length, is_packed: true };
        self.batch.push((period, lsn.0, order.user.clone(), place));
        Ok(())
    }

    /// How many writes the batch takes.
    pub(super) fn len(&self) -> usize {
        self.batch.len() + self.chunks.len()
    }

    /// Adds the batch's changes to a batch of the store.
    pub(super) fn write(
        &mut self,
        store: &dyn Store,
        batch: &mut Vec<Write>,
    ) -> Result<(), IndexError> {
        if let Some(period) = self.begun.take() {
            store.add_period(period)?;
        }
        self.is_first = true;
        let mut push = |space, key, value| batch.push(Write { space, key, value: Some(value) });
        for (period, lsn, user, place) in self.batch.drain(..) {
            let value = Bytes::from(place.encode());
            push(Space::Changes(period), keys::change(&user, lsn), value);
        }
        for Chunk { period, first, bytes } in self.chunks.drain(..) {
            // Orders resemble each other: a third of the bytes goes to the disk, twice each, where the
            // log's syncs wait behind them.
            let packed = lz4_flex::block::compress_prepend_size(&bytes);
            push(Space::Versions(period), keys::chunk(first).into(), packed.into());
        }
        Ok(())
    }

    /// Drops periods of which everything has been kept for long enough. Not before the next one has
    /// durably begun: the log may be followed again from there.
    pub(super) fn drop_old(&mut self, store: &dyn Store, durable: Lsn) -> Result<(), IndexError> {
        while let [oldest, next, ..] = self.periods[..] {
            let is_old = self.is_other_time(next.start_micros, self.keep_micros);
            let is_due = is_old || self.periods.len() > MAX_PERIODS;
            if !is_due || next.first > durable.0.saturating_add(1) {
                break;
            }
            store.drop_period(oldest)?;
            self.periods.remove(0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(is_packed: bool) -> ChangeLocation {
        ChangeLocation { chunk: 7, offset: 3, length: 2, is_packed }
    }

    #[test]
    fn chunks_come_back_compressed_or_not() {
        let orders = b"...ab".repeat(100);
        let packed = Bytes::from(lz4_flex::block::compress_prepend_size(&orders));
        assert!(packed.len() < 100);
        for (place, stored) in [(place(true), packed), (place(false), Bytes::from(&orders[..]))] {
            let back = ChangeLocation::decode(&place.encode()).unwrap();
            assert_eq!((back.chunk, back.range()), (7, 3..5));
            assert_eq!(back.unpack(stored).unwrap()[..], orders[..]);
        }
    }

    #[test]
    fn a_damaged_chunk_is_no_chunk() {
        let huge = u32::MAX.to_le_bytes();
        for stored in
            [&b""[..], b"abc", &huge, &[&huge[..], b"abc"].concat(), b"\x09\0\0\0\xff\xff"]
        {
            assert!(place(true).unpack(Bytes::from(stored)).is_err(), "{stored:?}");
        }
    }
}
