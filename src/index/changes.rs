//! Changes of orders, each with the order as the change left it. Kept for a time, so that an order
//! stream that reconnects resumes without a gap.
//!
//! Changes are kept by periods of the log. Dropping an old period as a whole costs nothing;
//! removing its keys one by one would cost as much as writing them. Within a period the orders,
//! which are large, are in log order, many to a key, and written once; only the small keys are
//! sorted by user and moved by fjall.

use std::sync::Arc;

use super::IndexError;
use super::keys;
use super::node;
use super::store::{Bytes, Period, ScanOrder, Space, Store, View, Write};
use crate::order::{Order, StoredOrderEncoder, decode_version};
use crate::types::{TimestampMicros, UserId};
use crate::wal::Lsn;

/// Periods within the retention time. Changes are kept for up to an eighth longer than that.
const PERIODS_KEPT: u64 = 8;
/// Most periods, however clocks are set. Beyond it the oldest is dropped early.
const MAX_PERIODS: usize = 32;
const _: () = assert!(MAX_PERIODS as u64 > 2 * PERIODS_KEPT);
/// Bytes after which a chunk is full: some thirty orders. Larger chunks cost a reader more than
/// they save the writer.
const CHUNK_BYTES: usize = 8 * 1024;
/// Largest chunk: a full one plus one order, which is at most as large as a log record.
const MAX_CHUNK_BYTES: usize = CHUNK_BYTES + crate::wal::MAX_RECORD_BYTES;

/// A user's changes as the store has them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StoredChanges {
    /// The store has applied the log up to here.
    pub position: Lsn,
    /// The oldest record whose change would still be kept.
    pub kept_from: Lsn,
    /// Each record and the order as it left it, oldest first.
    pub changes: Vec<(Lsn, Arc<Order>)>,
}

/// A user's changes after an LSN, at most `most` of them. Empty if the store no longer has all of
/// them.
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
    // Saturating, here and below: a client's cursor may be any number.
    if after.0.saturating_add(1) < kept_from || most == 0 {
        return Ok(found);
    }
    let (from, to) = keys::change_range(user, after.0);
    let last_before = periods.partition_point(|period| period.first <= after.0.saturating_add(1));
    // Without periods nothing is skipped: nothing is kept.
    for &period in periods.iter().skip(last_before.saturating_sub(1)) {
        let range: (&[u8], &[u8]) = (&from, &to);
        // Changes close in time often share a chunk.
        let mut chunk: Option<(u64, Bytes)> = None;
        view.scan(Space::Changes(period), range, ScanOrder::Ascending, &mut |key, value| {
            let lsn = keys::lsn_of_change(key)?;
            let location = ChangeLocation::decode(value)?;
            if chunk.as_ref().is_none_or(|(first, _)| *first != location.chunk) {
                let bytes = view.get(Space::Versions(period), &keys::chunk(location.chunk))?;
                let bytes = bytes.map(|bytes| location.unpack(bytes)).transpose()?;
                chunk = bytes.map(|bytes| (location.chunk, bytes));
            }
            let version = chunk.as_ref().and_then(|(_, bytes)| bytes.get(location.range()));
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

/// Where the version of an order is stored.
#[derive(Debug, Clone, Copy)]
struct ChangeLocation {
    /// First LSN of its chunk.
    chunk: u64,
    /// Offset in the chunk, in bytes.
    offset: u32,
    /// Length in bytes.
    length: u32,
    /// Whether the chunk is compressed; format 2 did not compress.
    is_packed: bool,
}

/// Bit in the length that says that the chunk is compressed.
const PACKED: u32 = 1 << 31;
const _: () = assert!(2 * MAX_CHUNK_BYTES < PACKED as usize);

impl ChangeLocation {
    fn encode(self) -> [u8; 16] {
        let Self { chunk, offset, length, is_packed } = self;
        let length = if is_packed { length | PACKED } else { length };
        (u128::from(chunk) << 64 | u128::from(offset) << 32 | u128::from(length)).to_be_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let unreadable = || IndexError::Unreadable { what: "the location of a changed order" };
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

    /// The orders of its chunk, decompressed.
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

/// Consecutive versions of orders, stored under one key.
struct Chunk {
    period: Period,
    /// LSN of the first one.
    first: u64,
    bytes: Vec<u8>,
}

/// The changes of a batch, and the periods.
pub(super) struct ChangeWriter {
    /// Oldest first.
    periods: Vec<Period>,
    /// How long changes are kept.
    keep_micros: u64,
    /// The batch's changes: period, LSN, user, and where the order is.
    batch: Vec<(Period, u64, UserId, ChangeLocation)>,
    /// The orders of these changes.
    chunks: Vec<Chunk>,
    /// A period that begins with this batch.
    begun: Option<Period>,
    /// True until the batch has taken its first record.
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

    /// Takes note of the next log record, of whatever kind; may begin a period.
    pub(super) fn advance(&mut self, lsn: Lsn, at: TimestampMicros) {
        self.now_micros = at.micros();
        if !std::mem::replace(&mut self.is_first, false) {
            return;
        }
        assert!(self.periods.is_sorted(), "periods follow each other in the log");
        let index = self.periods.partition_point(|period| period.first <= lsn.0);
        let current = index.checked_sub(1).and_then(|index| self.periods.get(index));
        let length = (self.keep_micros / PERIODS_KEPT).max(1);
        if current.is_none_or(|period| self.has_elapsed(period.start_micros, length)) {
            let period = Period { first: lsn.0, start_micros: self.now_micros };
            if current.is_none_or(|current| current.first < lsn.0) {
                self.periods.insert(index, period);
                self.begun = Some(period);
            }
        }
    }

    /// Whether the clock is `length` past then, or so far before then that it was set back: the
    /// period would otherwise last until the clock is there again.
    fn has_elapsed(&self, then_micros: u64, length: u64) -> bool {
        let (now, then) = (self.now_micros, then_micros);
        // One of the differences is zero.
        now.saturating_sub(then) >= length || then.saturating_sub(now) >= self.keep_micros
    }

    /// Adds a new version of an order to the batch.
    pub(super) fn note(
        &mut self,
        lsn: Lsn,
        order: &Order,
        encoder: &mut StoredOrderEncoder,
    ) -> Result<(), IndexError> {
        let index = self.periods.partition_point(|period| period.first <= lsn.0);
        let Some(&period) = index.checked_sub(1).and_then(|index| self.periods.get(index)) else {
            unreachable!("the batch's first record is in a period, or has begun one")
        };
        let has_room = |chunk: &Chunk| chunk.period == period && chunk.bytes.len() < CHUNK_BYTES;
        if !self.chunks.last().is_some_and(has_room) {
            let bytes = Vec::with_capacity(2 * CHUNK_BYTES);
            self.chunks.push(Chunk { period, first: lsn.0, bytes });
        }
        let Some(chunk) = self.chunks.last_mut() else {
            unreachable!("the last chunk has room, or a new one was just added")
        };
        assert!(chunk.first <= lsn.0, "a chunk begins with its oldest change");
        assert!(
            self.batch.last().is_none_or(|(_, last, ..)| *last < lsn.0),
            "changes are noted in log order, one for each record"
        );
        let version = encoder.encode_version(order)?;
        let too_large = |_| IndexError::Unreadable { what: "the size of an order" };
        let offset = u32::try_from(chunk.bytes.len()).map_err(too_large)?;
        let length = u32::try_from(version.len()).map_err(too_large)?;
        chunk.bytes.extend_from_slice(version);
        let location = ChangeLocation { chunk: chunk.first, offset, length, is_packed: true };
        self.batch.push((period, lsn.0, order.user.clone(), location));
        Ok(())
    }

    /// Number of writes that the batch takes.
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
        assert!(!self.is_first, "a batch has taken a record");
        self.is_first = true;
        let mut push = |space, key, value| batch.push(Write { space, key, value: Some(value) });
        for (period, lsn, user, location) in self.batch.drain(..) {
            let value = Bytes::from(location.encode());
            push(Space::Changes(period), keys::change(&user, lsn), value);
        }
        for Chunk { period, first, bytes } in self.chunks.drain(..) {
            // Orders resemble each other: compression leaves a third of the bytes to the disk. They
            // are written twice there, and the log's syncs wait for them.
            let packed = lz4_flex::block::compress_prepend_size(&bytes);
            push(Space::Versions(period), keys::chunk(first).into(), packed.into());
        }
        Ok(())
    }

    /// Drops periods whose changes have all been kept long enough, but only once the next period
    /// has durably begun: after a crash the log may be followed again from there.
    pub(super) fn drop_old(&mut self, store: &dyn Store, durable: Lsn) -> Result<(), IndexError> {
        while let [oldest, next, ..] = self.periods[..] {
            let is_old = self.has_elapsed(next.start_micros, self.keep_micros);
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

    fn location(is_packed: bool) -> ChangeLocation {
        ChangeLocation { chunk: 7, offset: 3, length: 2, is_packed }
    }

    #[test]
    fn chunks_round_trip_compressed_or_not() {
        let orders = b"...ab".repeat(100);
        let packed = Bytes::from(lz4_flex::block::compress_prepend_size(&orders));
        assert!(packed.len() < 100);
        for (location, stored) in
            [(location(true), packed), (location(false), Bytes::from(&orders[..]))]
        {
            let back = ChangeLocation::decode(&location.encode()).unwrap();
            assert_eq!((back.chunk, back.range()), (7, 3..5));
            assert_eq!(back.unpack(stored).unwrap()[..], orders[..]);
        }
    }

    #[test]
    fn a_damaged_chunk_is_refused() {
        let huge = u32::MAX.to_le_bytes();
        for stored in
            [&b""[..], b"abc", &huge, &[&huge[..], b"abc"].concat(), b"\x09\0\0\0\xff\xff"]
        {
            assert!(location(true).unpack(Bytes::from(stored)).is_err(), "{stored:?}");
        }
    }
}
