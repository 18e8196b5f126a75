//! State of the log that its threads publish: what is durable, where it is, and disk space.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::BLOCK_BYTES;
use super::recent::Recent;
use super::room::Room;
use super::segment::FIRST_BATCH_OFFSET;
use crate::sync::{Wakeup, Watermark};

/// No task waits on the commit watermark: the appender's task also waits for other events, so it
/// has a wake-up of its own.
const MAX_TASKS: usize = 0;

/// State that the log's threads share with the appender and with everything that follows the log.
/// Each atomic has one writer and is independent of the others; batches go through channels.
#[derive(Debug)]
pub(super) struct Shared {
    /// The last durable record. Closed means poisoned: nothing more becomes durable.
    committed: Watermark,
    ready_segment: AtomicU64,
    /// Segments reserved after that one: their space is allocated, they only need preparation.
    reserve_segments: AtomicUsize,
    out_of_space: AtomicBool,
    /// The disk space behind the last two, for readers. Locked only while it is copied.
    room: Mutex<Room>,
    /// Wakes the appender's task after any change of the above.
    pub(super) appender: Wakeup,
    /// Where the committed records are. Locked briefly and never during file I/O: the writer takes
    /// the lock once per batch.
    progress: Mutex<Progress>,
    /// The most recent batches. Locked while records are copied out.
    pub(super) recent: Recent,
}

#[derive(Debug)]
struct Progress {
    /// The segments, oldest first. The last one is being written and may have no committed records
    /// yet.
    segments: VecDeque<SegmentSpan>,
    /// End of the committed batches in the last segment, in bytes.
    end: u64,
}

/// A segment and its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentSpan {
    pub(super) number: u64,
    /// `None` if the segment has no record yet, or if its first record is unreadable.
    pub(super) first_lsn: Option<u64>,
    pub(super) segment_bytes: u64,
}

/// A batch that became durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommittedBatch {
    pub(super) first_lsn: u64,
    pub(super) last_lsn: u64,
    /// Its segment; `end` is where it ends in the segment, in bytes.
    pub(super) segment: u64,
    pub(super) segment_bytes: u64,
    pub(super) end: u64,
}

impl Shared {
    /// The state of a log recovered up to `committed`, whose records end at `end` in the last
    /// segment.
    pub(super) fn recovered(committed: u64, segments: Vec<SegmentSpan>, end: u64) -> Self {
        let progress = Progress { segments: segments.into(), end };
        progress.check();
        Self {
            committed: Watermark::new(committed, MAX_TASKS),
            ready_segment: AtomicU64::new(0),
            reserve_segments: AtomicUsize::new(0),
            out_of_space: AtomicBool::new(false),
            room: Mutex::default(),
            appender: Wakeup::new(),
            progress: Mutex::new(progress),
            recent: Recent::default(),
        }
    }

    /// The last durable record. Threads that follow the log block on it.
    pub(super) fn committed(&self) -> &Watermark {
        &self.committed
    }

    pub(super) fn commit(&self, batch: CommittedBatch) {
        assert!(batch.first_lsn <= batch.last_lsn, "a batch has a record");
        let mut guard = self.progress();
        let progress = &mut *guard;
        let Some(last) = progress.segments.back_mut() else {
            unreachable!("the segment that is being written is never removed");
        };
        // A new segment is added only with its first durable record: until then, the previous one
        // holds the last durable record and must not be removed.
        if last.number == batch.segment {
            assert!(batch.end > progress.end, "a batch follows the one before it");
            last.first_lsn.get_or_insert(batch.first_lsn);
        } else {
            assert_eq!(batch.segment, last.number + 1, "segments are written in their order");
            progress.segments.push_back(SegmentSpan {
                number: batch.segment,
                first_lsn: Some(batch.first_lsn),
                segment_bytes: batch.segment_bytes,
            });
        }
        progress.end = batch.end;
        progress.check();
        drop(guard);
        // After the location, so that whoever sees a record as durable can locate it.
        self.committed.advance(batch.last_lsn);
    }

    /// The segment of a record; `Err` with the oldest record if that segment was removed.
    pub(super) fn locate(&self, lsn: u64) -> Result<u64, u64> {
        let progress = self.progress();
        let holds = |span: &&SegmentSpan| span.first_lsn.is_some_and(|first| first <= lsn);
        let found = progress.segments.iter().rev().find(holds).map(|span| span.number);
        // Without a located record in the log it begins after this one at the earliest.
        found.ok_or(progress.first_lsn().unwrap_or(lsn))
    }

    /// Where the committed batches of the segment being written end; `None` for older segments.
    /// Bytes past the end may be partly written.
    pub(super) fn readable_end(&self, segment: u64) -> Option<u64> {
        let progress = self.progress();
        let is_last = progress.segments.back().is_some_and(|span| span.number == segment);
        is_last.then_some(progress.end)
    }

    /// The oldest record with a known location; `None` in a log without records.
    pub(super) fn first_lsn(&self) -> Option<u64> {
        self.progress().first_lsn()
    }

    /// The oldest segment, if it holds no record after `through` and the segments after it have at
    /// least `keep_bytes`.
    pub(super) fn removable(&self, through: u64, keep_bytes: u64) -> Option<u64> {
        let progress = self.progress();
        let Some(oldest) = progress.segments.front() else {
            unreachable!("the segment that is being written is never removed");
        };
        let mut later = progress.segments.iter().skip(1);
        let kept_bytes: u64 = later.clone().map(|span| span.segment_bytes).sum();
        // A later segment that begins with the next record proves where this one ends.
        let begins_in_time =
            |span: &SegmentSpan| span.first_lsn.is_some_and(|first| first <= through + 1);
        (later.any(begins_in_time) && kept_bytes >= keep_bytes).then_some(oldest.number)
    }

    /// Forgets a removed segment.
    pub(super) fn removed(&self, segment: u64) {
        let mut progress = self.progress();
        let oldest = progress.segments.pop_front().map(|span| span.number);
        assert_eq!(oldest, Some(segment), "segments are removed from the oldest on");
        progress.check();
    }

    /// Number and total bytes of the segments.
    pub(super) fn kept(&self) -> (usize, u64) {
        let progress = self.progress();
        let bytes = progress.segments.iter().map(|span| span.segment_bytes).sum();
        (progress.segments.len(), bytes)
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.committed.is_closed()
    }

    pub(super) fn poison(&self) {
        self.committed.close();
        self.appender.wake();
    }

    /// The highest segment that the writer can move on to without allocating disk space.
    pub(super) fn ready_segment(&self) -> u64 {
        self.ready_segment.load(Ordering::Acquire)
    }

    pub(super) fn set_ready_segment(&self, number: u64, reserve_segments: usize) {
        let before = self.ready_segment.swap(number, Ordering::AcqRel);
        assert!(before < number, "segments become ready in their order");
        self.set_reserve_segments(reserve_segments);
        self.appender.wake();
    }

    pub(super) fn set_reserve_segments(&self, reserve_segments: usize) {
        self.reserve_segments.store(reserve_segments, Ordering::Release);
    }

    pub(super) fn reserve_segments(&self) -> usize {
        self.reserve_segments.load(Ordering::Acquire)
    }

    pub(super) fn is_out_of_space(&self) -> bool {
        self.out_of_space.load(Ordering::Acquire)
    }

    pub(super) fn set_room(&self, room: Room) {
        self.out_of_space.store(room.trouble.is_some(), Ordering::Release);
        *self.room.lock().unwrap_or_else(PoisonError::into_inner) = room;
    }

    pub(super) fn room(&self) -> Room {
        self.room.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// Checks what it says of the segments, whose first records are what the disk said.
    fn check(&self) {
        let Some(last) = self.segments.back() else {
            unreachable!("the segment that is being written is never removed");
        };
        assert!(
            (FIRST_BATCH_OFFSET..=last.segment_bytes).contains(&self.end),
            "the committed batches end within their segment"
        );
        assert!(self.end.is_multiple_of(BLOCK_BYTES as u64), "batches end on block boundaries");
        let numbers = || self.segments.iter().map(|span| span.number);
        debug_assert!(
            numbers().zip(numbers().skip(1)).all(|(number, next)| number + 1 == next),
            "no segment is missing between others"
        );
    }

    fn first_lsn(&self) -> Option<u64> {
        self.segments.iter().find_map(|span| span.first_lsn)
    }
}
