//! The appending end of the log.

use std::sync::Arc;
use std::task::{Context, Poll};

use crossbeam::channel::{Receiver, Sender};

use super::batch::Batch;
use super::record::{RecordHeader, record_bytes};
use super::segment::FIRST_BATCH_OFFSET;
use super::shared::Shared;
use super::writer::CommitHere;
use super::{BLOCK_BYTES, Lsn, MAX_BATCH_BYTES, MAX_PAYLOAD_BYTES, MAX_RECORD_BYTES, WalError};

/// A record to append. The log stores the small fields and returns them; it interprets none.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    pub partition: u8,
    /// Kind of the payload.
    pub kind: u8,
    /// Format version of the payload.
    pub format_version: u8,
    /// At most [`MAX_PAYLOAD_BYTES`].
    pub payload: &'a [u8],
}

/// The appending end of the log. Belongs to one thread and never blocks it, except in
/// [`commit_here`](Self::commit_here).
///
/// Dropping it ends the writer after the batch in flight; records appended but not flushed are
/// lost, as in a crash. For an orderly end, call [`flush`](Self::flush) until it returns true
/// first.
pub struct WalAppender {
    forming: Batch,
    to_writer: Sender<Batch>,
    from_writer: Receiver<Batch>,
    file: Arc<dyn CommitHere>,
    shared: Arc<Shared>,
    next_lsn: u64,
    epoch: u32,
    /// Segment of the last batch handed over.
    segment: u64,
    /// Bytes left in that segment after that batch.
    segment_room: u64,
    segment_bytes: u64,
    /// Size of a record that was refused for lack of room: `poll_progress` signals when it fits.
    refused_bytes: Option<usize>,
}

/// Initial state of the appender.
pub(super) struct AppenderStart {
    pub(super) next_lsn: u64,
    pub(super) epoch: u32,
    pub(super) segment: u64,
    pub(super) segment_room: u64,
    pub(super) segment_bytes: u64,
}

impl WalAppender {
    pub(super) fn new(
        start: &AppenderStart,
        shared: Arc<Shared>,
        (to_writer, from_writer): (Sender<Batch>, Receiver<Batch>),
        file: Arc<dyn CommitHere>,
    ) -> Self {
        let committed = shared.committed().get();
        assert_eq!(start.next_lsn, committed + 1, "the next record follows the last durable one");
        let appender = Self {
            forming: Batch::new(),
            to_writer,
            from_writer,
            file,
            shared,
            next_lsn: start.next_lsn,
            epoch: start.epoch,
            segment: start.segment,
            segment_room: start.segment_room,
            segment_bytes: start.segment_bytes,
            refused_bytes: None,
        };
        appender.check();
        appender
    }

    /// Checks how the forming batch, the record numbers and the space relate.
    fn check(&self) {
        assert!(
            self.forming.is_empty() || self.forming.last_lsn() + 1 == self.next_lsn,
            "the forming batch ends with the record that was appended last"
        );
        assert!(self.has_room(0), "every appended record has its space in the log");
        assert!(
            self.segment_room.is_multiple_of(BLOCK_BYTES as u64),
            "batches end on block boundaries, and so does the rest of a segment"
        );
    }

    /// Adds a record to the forming batch. It is written only after [`flush`](Self::flush), and
    /// durable once [`committed`](Self::committed) reaches it. Hands a full batch over first if the
    /// writer can take it.
    ///
    /// # Errors
    /// [`WalError::TooLarge`], [`WalError::Busy`], [`WalError::NoSpace`] and
    /// [`WalError::Poisoned`]; nothing was appended then. An accepted record needs no further space
    /// on the disk.
    pub fn append(&mut self, record: NewRecord<'_>) -> Result<Lsn, WalError> {
        let bytes = record.payload.len();
        let too_large = WalError::TooLarge { bytes, limit: MAX_PAYLOAD_BYTES };
        let payload_bytes = match u32::try_from(bytes) {
            Ok(payload_bytes) if bytes <= MAX_PAYLOAD_BYTES => payload_bytes,
            _ => return Err(too_large),
        };
        if self.shared.is_poisoned() {
            return Err(WalError::Poisoned);
        }
        let record_bytes = record_bytes(bytes);
        if !self.has_room(record_bytes) && (self.forming.is_empty() || !self.flush()) {
            return Err(self.refuse(record_bytes));
        }
        if !self.has_room(record_bytes) {
            return Err(self.refuse(record_bytes));
        }
        self.refused_bytes = None;
        let lsn = self.next_lsn;
        let header = RecordHeader {
            checksum: 0,
            previous_checksum: 0,
            lsn,
            batch_first_lsn: 0,
            epoch: self.epoch,
            payload_bytes,
            kind: record.kind,
            format_version: record.format_version,
            partition: record.partition,
        };
        self.forming.push(header, record.payload);
        self.next_lsn += 1;
        self.check();
        Ok(Lsn(lsn))
    }

    /// Hands the forming batch to the writer if it can take one. Returns true if nothing remains.
    pub fn flush(&mut self) -> bool {
        if self.forming.is_empty() {
            return true;
        }
        // The writer has not given the other batch back yet.
        let Ok(mut empty) = self.from_writer.try_recv() else { return false };
        empty.clear();
        let mut batch = std::mem::replace(&mut self.forming, empty);
        let batch_bytes = batch.padded_bytes() as u64;
        assert_eq!(batch.last_lsn() + 1, self.next_lsn, "a batch has all records not handed over");
        batch.starts_segment = batch_bytes > self.segment_room;
        if batch.starts_segment {
            assert!(
                self.shared.ready_segment() > self.segment,
                "append checked that the next segment is ready"
            );
            self.segment += 1;
            self.segment_room = self.segment_bytes - FIRST_BATCH_OFFSET;
        }
        assert!(batch_bytes <= self.segment_room, "append checked that the batch fits a segment");
        self.segment_room -= batch_bytes;
        match self.to_writer.try_send(batch) {
            Ok(()) => true,
            Err(refused) => {
                assert!(refused.is_disconnected(), "of two batches the writer has at most one");
                // The writer has ended: the log is poisoned.
                false
            }
        }
    }

    /// Makes the forming batch durable on this thread, blocking on the disk, if the writer is idle:
    /// that saves a lone record two hand-offs between threads. Otherwise the same as
    /// [`flush`](Self::flush), with the same result.
    ///
    /// # Errors
    /// The write or sync failed, and the log is poisoned.
    pub fn commit_here(&mut self) -> Result<bool, WalError> {
        let batch_bytes = self.forming.padded_bytes() as u64;
        let writer_is_idle = !self.from_writer.is_empty();
        let fits = batch_bytes <= self.segment_room;
        if self.forming.is_empty() || !writer_is_idle || !fits || self.shared.is_poisoned() {
            return Ok(self.flush());
        }
        assert!(!self.forming.starts_segment, "only a batch that was handed over starts a segment");
        self.file.commit_here(&mut self.forming)?;
        self.segment_room -= batch_bytes;
        self.forming.clear();
        assert_eq!(
            self.committed().0 + 1,
            self.next_lsn,
            "with an idle writer, everything appended is committed here"
        );
        self.check();
        Ok(true)
    }

    /// The last durable record; all earlier ones are durable, too.
    pub fn committed(&self) -> Lsn {
        Lsn(self.shared.committed().get())
    }

    /// Whether the log has failed or its writer has ended: nothing more becomes durable.
    pub fn is_poisoned(&self) -> bool {
        self.shared.is_poisoned()
    }

    /// Whether the disk is full or nearly so: whatever can wait should. Records are still accepted
    /// until the reserve and the ready segments are used up.
    pub fn is_out_of_space(&self) -> bool {
        self.shared.is_out_of_space()
    }

    /// Whether the reserve is used up as well: nothing more is accepted once the open and the ready
    /// segment are full.
    pub fn is_exhausted(&self) -> bool {
        self.shared.is_out_of_space() && self.shared.reserve_segments() == 0
    }

    /// Minimum bytes of batches that can be written with the space that the log already has.
    #[cfg(test)]
    pub(super) fn room_bytes(&self) -> u64 {
        let forming_bytes = self.forming.padded_bytes() as u64;
        let left = self.segment_room.checked_sub(forming_bytes);
        if self.shared.ready_segment() <= self.segment {
            return left.unwrap_or_default();
        }
        let next_bytes = self.segment_bytes - FIRST_BATCH_OFFSET;
        match left {
            // The rest may be too small for the next batch and stay unused.
            Some(_) => next_bytes,
            None => next_bytes.saturating_sub(forming_bytes),
        }
    }

    /// Ready when more than `seen` is committed, when the log is poisoned, when
    /// [`flush`](Self::flush) can hand over a waiting batch, or when a record that
    /// [`append`](Self::append) refused for lack of room would fit. Returns the last committed
    /// record.
    pub fn poll_progress(&self, context: &mut Context<'_>, seen: Lsn) -> Poll<Lsn> {
        let ready = self.shared.appender.poll_wait(context, || self.has_progress(seen));
        ready.map(|()| self.committed())
    }

    fn has_progress(&self, seen: Lsn) -> bool {
        let writer_has_room = !self.from_writer.is_empty();
        self.committed() > seen
            || self.shared.is_poisoned()
            || (writer_has_room && !self.forming.is_empty())
            || self.refused_bytes.is_some_and(|bytes| self.has_room(bytes))
    }

    /// Whether a record of `record_bytes` fits the forming batch and the ready space.
    fn has_room(&self, record_bytes: usize) -> bool {
        let padded_bytes = self.forming.padded_bytes_with(record_bytes);
        if padded_bytes > MAX_BATCH_BYTES {
            return false;
        }
        let padded_bytes = padded_bytes as u64;
        padded_bytes <= self.segment_room
            || (padded_bytes <= self.segment_bytes - FIRST_BATCH_OFFSET
                && self.shared.ready_segment() > self.segment)
    }

    fn refuse(&mut self, record_bytes: usize) -> WalError {
        assert!(
            record_bytes <= MAX_RECORD_BYTES,
            "a larger record never fits, so none waits for it"
        );
        self.refused_bytes = Some(record_bytes);
        if self.shared.is_poisoned() {
            WalError::Poisoned
        } else if self.is_exhausted() {
            WalError::NoSpace
        } else {
            WalError::Busy
        }
    }
}

impl std::fmt::Debug for WalAppender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalAppender").field("next_lsn", &self.next_lsn).finish_non_exhaustive()
    }
}
