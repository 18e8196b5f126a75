//! The newest committed bytes in memory, for followers that are close behind the writer.
//!
//! Batches are written around the page cache: whoever reads them back waits for the disk, and keeps
//! the writer's next sync waiting.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How much is kept: some 20 ms at the highest rate. Copied under a lock that the writer takes too.
const RECENT_BYTES: usize = 256 * 1024;

/// The end of the segment that is being written.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Tail>);

#[derive(Debug, Default)]
struct Tail {
    segment: u64,
    /// Where in the segment the first byte is.
    start: u64,
    bytes: VecDeque<u8>,
}

impl Recent {
    /// Keeps a batch that is durable, and forgets the oldest bytes.
    pub(super) fn keep(&self, segment: u64, offset: u64, batch: &[u8]) {
        let mut tail = self.tail();
        if tail.segment != segment || tail.end() != offset {
            tail.bytes.clear();
            (tail.segment, tail.start) = (segment, offset);
        }
        tail.bytes.extend(batch);
        let surplus = tail.bytes.len().saturating_sub(RECENT_BYTES);
        tail.bytes.drain(..surplus);
        tail.start += surplus as u64;
    }

    /// Copies bytes of a segment from an offset on; false where they are not all here.
    pub(super) fn copy(&self, segment: u64, offset: u64, into: &mut [u8]) -> bool {
        let tail = self.tail();
        let end = offset + into.len() as u64;
        if tail.segment != segment || offset < tail.start || end > tail.end() {
            return false;
        }
        let from = super::to_usize(offset - tail.start);
        let (older, newer) = tail.bytes.as_slices();
        let from_older = older.get(from..).unwrap_or_default();
        let from_newer = newer.get(from.saturating_sub(older.len())..).unwrap_or_default();
        let count = from_older.len().min(into.len());
        let (first, rest) = into.split_at_mut(count);
        first.copy_from_slice(from_older.get(..count).unwrap_or_default());
        rest.copy_from_slice(from_newer.get(..rest.len()).unwrap_or_default());
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
    fn what_is_kept_comes_back_and_nothing_else() {
        let recent = Recent::default();
        let (mut offset, mut kept_from) = (4_096, 4_096);
        for len in [4_096, 100_000, 160_000, 4_096, 200_000] {
            recent.keep(3, offset, &batch(offset, len));
            offset += len as u64;
            kept_from = kept_from.max(offset.saturating_sub(RECENT_BYTES as u64));
            for from in [kept_from, kept_from + 1, offset - 4_096, offset - 1] {
                let mut into = vec![0; super::super::to_usize(offset - from)];
                assert!(recent.copy(3, from, &mut into), "from {from} to {offset}");
                assert_eq!(into, batch(from, into.len()));
            }
            assert!(!recent.copy(3, offset - 1, &mut [0; 2]), "not written yet");
            assert!(!recent.copy(2, offset - 1, &mut [0]), "another segment");
            assert!(kept_from == 4_096 || !recent.copy(3, kept_from - 1, &mut [0]), "forgotten");
        }
    }

    #[test]
    fn a_segment_begins_anew() {
        let recent = Recent::default();
        recent.keep(3, 4_096, &batch(4_096, 8_192));
        recent.keep(4, 4_096, &batch(7, 4_096));
        let mut into = [0; 16];
        assert!(recent.copy(4, 4_096, &mut into));
        assert_eq!(into[..], batch(7, 16));
        assert!(!recent.copy(3, 4_096, &mut into) && !recent.copy(4, 8_192, &mut into));
        recent.keep(4, 16_384, &batch(0, 4_096));
        assert!(!recent.copy(4, 4_096, &mut into), "there is a hole");
    }
}
