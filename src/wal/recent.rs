//! The newest committed bytes, kept in memory for followers close to the writer.
//!
//! Batches bypass the page cache: reading them back waits for the disk and delays the writer's next
//! sync.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes kept: some 20 ms at the peak rate. Copied under a lock that the writer takes, too.
const RECENT_BYTES: usize = 256 * 1024;

/// The tail of the current segment.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Tail>);

#[derive(Debug, Default)]
struct Tail {
    segment: u64,
    /// Offset of the first byte in the segment.
    start: u64,
    bytes: VecDeque<u8>,
}

impl Recent {
    /// Adds a durable batch and drops the oldest bytes.
    pub(super) fn push(&self, segment: u64, offset: u64, batch: &[u8]) {
        let mut tail = self.tail();
        if tail.segment != segment || tail.end() != offset {
            tail.bytes.clear();
            (tail.segment, tail.start) = (segment, offset);
        }
        tail.bytes.extend(batch);
        // Zero while the segment is new.
        let surplus = tail.bytes.len().saturating_sub(RECENT_BYTES);
        tail.bytes.drain(..surplus);
        tail.start += surplus as u64;
        let end = offset + batch.len() as u64;
        assert_eq!(tail.end(), end, "the newest bytes are those of the batch");
        assert!(tail.bytes.len() <= RECENT_BYTES, "no more is kept than followers may need");
    }

    /// Copies bytes of a segment from an offset on. Returns false unless all of them are here.
    pub(super) fn copy(&self, segment: u64, offset: u64, into: &mut [u8]) -> bool {
        let tail = self.tail();
        let end = offset + into.len() as u64;
        if tail.segment != segment || offset < tail.start || end > tail.end() {
            return false;
        }
        let from = super::to_usize(offset - tail.start);
        let (older, newer) = tail.bytes.as_slices();
        // The ring is in two halves; the range may lie in either, or span both. What it has none of
        // is empty.
        let from_older = older.get(from..).unwrap_or_default();
        let from_newer = newer.get(from.saturating_sub(older.len())..).unwrap_or_default();
        let count = from_older.len().min(into.len());
        let (first, rest) = into.split_at_mut(count);
        let halves = (from_older.get(..first.len()), from_newer.get(..rest.len()));
        let (Some(from_older), Some(from_newer)) = halves else {
            unreachable!("the kept bytes reach up to the end of the tail");
        };
        first.copy_from_slice(from_older);
        rest.copy_from_slice(from_newer);
        true
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn byte_at(offset: u64) -> u8 {
        u8::try_from(offset % 251).unwrap()
    }

    fn batch(offset: u64, len: usize) -> Vec<u8> {
        (offset..).take(len).map(byte_at).collect()
    }

    #[test]
    fn recent_bytes_are_copied_and_no_others() {
        let recent = Recent::default();
        let (mut offset, mut kept_from) = (4_096, 4_096);
        for len in [4_096, 100_000, 160_000, 4_096, 200_000] {
            recent.push(3, offset, &batch(offset, len));
            offset += len as u64;
            kept_from = kept_from.max(offset.saturating_sub(RECENT_BYTES as u64));
            for from in [kept_from, kept_from + 1, offset - 4_096, offset - 1] {
                let mut into = vec![0; super::super::to_usize(offset - from)];
                assert!(recent.copy(3, from, &mut into), "from {from} to {offset}");
                assert_eq!(into, batch(from, into.len()));
            }
            assert!(!recent.copy(3, offset - 1, &mut [0; 2]), "not written yet");
            assert!(!recent.copy(2, offset - 1, &mut [0]), "another segment");
            assert!(kept_from == 4_096 || !recent.copy(3, kept_from - 1, &mut [0]), "dropped");
        }
    }

    #[test]
    fn a_new_segment_replaces_the_old_one() {
        let recent = Recent::default();
        recent.push(3, 4_096, &batch(4_096, 8_192));
        recent.push(4, 4_096, &batch(7, 4_096));
        let mut into = [0; 16];
        assert!(recent.copy(4, 4_096, &mut into));
        assert_eq!(into[..], batch(7, 16));
        assert!(!recent.copy(3, 4_096, &mut into) && !recent.copy(4, 8_192, &mut into));
        recent.push(4, 16_384, &batch(0, 4_096));
        assert!(!recent.copy(4, 4_096, &mut into), "the bytes are not contiguous");
    }
}
