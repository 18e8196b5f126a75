use std::sync::Arc;
use std::task::{Context, Poll};

use crossbeam::channel::{Receiver, Sender};

use super::batch::Batch;
use super::record::{RecordHeader, record_bytes};
use super::segment::FIRST_BATCH_OFFSET;
use super::shared::Shared;
use super::writer::CommitHere;
use super::{Lsn, MAX_BATCH_BYTES, MAX_PAYLOAD_BYTES, WalError};

/// A record to append. The log keeps the small fields and gives them back; it reads none.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// The user partition that it belongs to.
    pub partition: u8,
    /// What the payload is.
    pub kind: u8,
    /// Which version of that.
    pub format_version: u8,
    /// The bytes, at most [`MAX_PAYLOAD_BYTES`].
    pub payload: &'a [u8],
}

/// The appending end of the log. Belongs to one thread and never blocks it.
///
/// Dropping it ends the writer after the batch that was handed over; what was appended but not
/// flushed is gone, as in a crash. To end in order, call [`flush`](Self::flush) until it returns
/// true first.
pub struct WalAppender {
    forming: Batch,
    to_writer: Sender<Batch>,
    from_writer: Receiver<Batch>,
    file: Arc<dyn CommitHere>,
    shared: Arc<Shared>,
    next_lsn: u64,
    epoch: u32,
    /// Segment of the batch that was handed over last, and what is left behind that batch.
    segment: u64,
    segment_room: u64,
    segment_bytes: u64,
    /// Bytes in the file of a record that was refused for want of room; whoever waits is told when
    /// there is some.
    refused_bytes: Option<usize>,
}

/// Where the appender starts.
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
        Self {
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
        }
    }

    /// Puts a record into the forming batch and returns its place. It is on its way to the disk only
    /// after [`flush`](Self::flush), and durable when [`committed`](Self::committed) reaches it.
    /// A full batch is handed over first where the writer can take it.
    ///
    /// # Errors
    /// [`WalError::TooLarge`], [`WalError::Busy`], [`WalError::NoSpace`] and [`WalError::Poisoned`];
    /// nothing was appended then. An accepted record needs no more space on the disk.
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
        Ok(Lsn(lsn))
    }

    /// Hands the forming batch to the writer if it can take one. True when nothing is left behind.
    pub fn flush(&mut self) -> bool {
        if self.forming.is_empty() {
            return true;
        }
        let Ok(mut empty) = self.from_writer.try_recv() else { return false };
        empty.clear();
        let mut batch = std::mem::replace(&mut self.forming, empty);
        let batch_bytes = batch.padded_bytes() as u64;
        batch.starts_segment = batch_bytes > self.segment_room;
        if batch.starts_segment {
            debug_assert!(
                self.shared.ready_segment() > self.segment,
                "append looked for a segment"
            );
            self.segment += 1;
            self.segment_room = self.segment_bytes - FIRST_BATCH_OFFSET;
        }
        self.segment_room -= batch_bytes;
        // Never full: only as many batches exist. A writer that is gone has poisoned the log.
        self.to_writer.try_send(batch).is_ok()
    }

    /// Makes the forming batch durable on this thread, which waits for the disk, where the writer is
    /// idle: that saves a lone record two hand-offs between threads. Otherwise the same as
    /// [`flush`](Self::flush), and true as there.
    ///
    /// # Errors
    /// The write or the sync failed, and the log is poisoned.
    pub fn commit_here(&mut self) -> Result<bool, WalError> {
        let batch_bytes = self.forming.padded_bytes() as u64;
        let writer_is_idle = !self.from_writer.is_empty();
        let fits = batch_bytes <= self.segment_room;
        if self.forming.is_empty() || !writer_is_idle || !fits || self.shared.is_poisoned() {
            return Ok(self.flush());
        }
        self.file.commit_here(&mut self.forming)?;
        self.segment_room -= batch_bytes;
        self.forming.clear();
        Ok(true)
    }

    /// The last durable record; everything before it is durable too.
    pub fn committed(&self) -> Lsn {
        Lsn(self.shared.committed().get())
    }

    /// Whether the log has failed, or its writer has ended: nothing more will become durable.
    pub fn is_poisoned(&self) -> bool {
        self.shared.is_poisoned()
    }

    /// Whether the disk is full, or nearly so: what can wait should. Records are still taken until
    /// the reserve and the segments that are ready are used up.
    pub fn is_out_of_space(&self) -> bool {
        self.shared.is_out_of_space()
    }

    /// Whether nothing is left of the reserve either: when the segment that is open is full, and the
    /// one that is ready, nothing more is taken.
    pub fn is_exhausted(&self) -> bool {
        self.shared.is_out_of_space() && self.shared.reserve_segments() == 0
    }

    /// Bytes of batches that can be written at once with the space that the log already has, at
    /// least.
    #[cfg(test)]
    pub(super) fn room_bytes(&self) -> u64 {
        let forming_bytes = self.forming.padded_bytes() as u64;
        let left = self.segment_room.checked_sub(forming_bytes);
        if self.shared.ready_segment() <= self.segment {
            return left.unwrap_or_default();
        }
        let next_bytes = self.segment_bytes - FIRST_BATCH_OFFSET;
        match left {
            // May be too little for the next batch and stay unused: does not count.
            Some(_) => next_bytes,
            None => next_bytes.saturating_sub(forming_bytes),
        }
    }

    /// Waits for news: ready when more than `seen` is committed, when the log is poisoned, when
    /// [`flush`](Self::flush) can hand over a batch that waits, or when a record that
    /// [`append`](Self::append) refused for want of room would fit now. Returns what is committed.
    pub fn poll_progress(&self, context: &mut Context<'_>, seen: Lsn) -> Poll<Lsn> {
        let news = self.shared.appender.poll_wait(context, || self.has_news(seen));
        news.map(|()| self.committed())
    }

    fn has_news(&self, seen: Lsn) -> bool {
        let writer_has_room = !self.from_writer.is_empty();
        self.committed() > seen
            || self.shared.is_poisoned()
            || (writer_has_room && !self.forming.is_empty())
            || self.refused_bytes.is_some_and(|bytes| self.has_room(bytes))
    }

    /// Whether a record of so many bytes fits the forming batch and the space that is ready.
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
