use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::recent::Recent;
use super::room::Room;
use crate::sync::{Wakeup, Watermark};

/// Tasks that wait for commits: none. The appender's task waits for more than these, and has a
/// wake-up of its own.
const MAX_TASKS: usize = 0;

/// What the log's threads tell the appender and whoever follows the log. Each atomic has one writer
/// and stands for itself; the batches themselves go through channels.
#[derive(Debug)]
pub(super) struct Shared {
    /// The last durable record. Closed is poisoned: nothing more will be.
    committed: Watermark,
    ready_segment: AtomicU64,
    /// Segments behind that one, which are there and have to be made ready only.
    reserve_segments: AtomicUsize,
    out_of_space: AtomicBool,
    /// In words and figures what the last two say. Locked for a copy.
    room: Mutex<Room>,
    /// The appender's task. Woken after any of the above has changed.
    pub(super) appender: Wakeup,
    /// Where the committed records are. Locked for some loads and stores at a time, never while a
    /// file is touched: the writer takes it once for each batch.
    progress: Mutex<Progress>,
    /// What was committed last. Locked while some of it is copied.
    pub(super) recent: Recent,
}

#[derive(Debug)]
struct Progress {
    /// The segments with committed records, oldest first; the last one is being written, and may
    /// have none yet.
    segments: VecDeque<SegmentSpan>,
    /// Where the committed batches of the last segment end.
    end: u64,
}

/// A segment and where its records begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentSpan {
    pub(super) number: u64,
    /// Unknown where the segment has no record yet, or where rot has made the first one unreadable.
    pub(super) first_lsn: Option<u64>,
    pub(super) segment_bytes: u64,
}

/// A batch that has become durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommittedBatch {
    pub(super) first_lsn: u64,
    pub(super) last_lsn: u64,
    /// The segment that it is in, and where it ends there.
    pub(super) segment: u64,
    pub(super) segment_bytes: u64,
    pub(super) end: u64,
}

impl Shared {
    /// State of a log that was recovered up to `committed`, with its segments and the end of the
    /// records in the last of them.
    pub(super) fn recovered(committed: u64, segments: Vec<SegmentSpan>, end: u64) -> Self {
        Self {
            committed: Watermark::new(committed, MAX_TASKS),
            ready_segment: AtomicU64::new(0),
            reserve_segments: AtomicUsize::new(0),
            out_of_space: AtomicBool::new(false),
            room: Mutex::default(),
            appender: Wakeup::new(),
            progress: Mutex::new(Progress { segments: segments.into(), end }),
            recent: Recent::default(),
        }
    }

    /// The last durable record. Its followers are threads, which wait for more here.
    pub(super) fn committed(&self) -> &Watermark {
        &self.committed
    }

    pub(super) fn commit(&self, batch: CommittedBatch) {
        let mut progress = self.progress();
        // Only now: until a record of the new segment is durable, the one before it holds the last
        // durable record and must not be cut off.
        match progress.segments.back_mut() {
            Some(span) if span.number == batch.segment => {
                span.first_lsn.get_or_insert(batch.first_lsn);
            }
            Some(_) | None => progress.segments.push_back(SegmentSpan {
                number: batch.segment,
                first_lsn: Some(batch.first_lsn),
                segment_bytes: batch.segment_bytes,
            }),
        }
        progress.end = batch.end;
        drop(progress);
        // After the places: who is told of a record finds it.
        self.committed.advance(batch.last_lsn);
    }

    /// The segment of a record, or the oldest record where that one has been cut off.
    pub(super) fn locate(&self, lsn: u64) -> Result<u64, u64> {
        let progress = self.progress();
        let holds = |span: &&SegmentSpan| span.first_lsn.is_some_and(|first| first <= lsn);
        let found = progress.segments.iter().rev().find(holds).map(|span| span.number);
        found.ok_or(progress.first_lsn().unwrap_or(lsn))
    }

    /// Where the committed batches of a segment end; `None` where the log has left it. Bytes behind
    /// that may be half written.
    pub(super) fn readable_end(&self, segment: u64) -> Option<u64> {
        let progress = self.progress();
        let is_last = progress.segments.back().is_some_and(|span| span.number == segment);
        is_last.then_some(progress.end)
    }

    /// The oldest record whose place is known; `None` in a log without records.
    pub(super) fn first_lsn(&self) -> Option<u64> {
        self.progress().first_lsn()
    }

    /// The oldest segment, if all its records are at most `through`, other ones follow, and those
    /// take at least `keep_bytes`.
    pub(super) fn removable(&self, through: u64, keep_bytes: u64) -> Option<u64> {
        let progress = self.progress();
        let oldest = progress.segments.front()?;
        let mut later = progress.segments.iter().skip(1);
        let kept_bytes: u64 = later.clone().map(|span| span.segment_bytes).sum();
        // A later segment that begins with the next record proves where this one ends.
        let begins_in_time =
            |span: &SegmentSpan| span.first_lsn.is_some_and(|first| first <= through + 1);
        (later.any(begins_in_time) && kept_bytes >= keep_bytes).then_some(oldest.number)
    }

    /// The oldest segment is gone.
    pub(super) fn removed(&self, segment: u64) {
        self.progress().segments.retain(|span| span.number != segment);
    }

    /// Number and bytes of the segments that are kept.
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

    /// The highest segment that the writer can change to without touching the disk's free space.
    pub(super) fn ready_segment(&self) -> u64 {
        self.ready_segment.load(Ordering::Acquire)
    }

    pub(super) fn set_ready_segment(&self, number: u64, reserve_segments: usize) {
        self.ready_segment.store(number, Ordering::Release);
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
    fn first_lsn(&self) -> Option<u64> {
        self.segments.iter().find_map(|span| span.first_lsn)
    }
}
