//! Reads committed records while the writer continues after them.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::log::Log;
use super::record::{RECORD_ALIGNMENT, RecordHeader};
use super::record_view::view;
use super::scan::Window;
use super::segment::{self, FIRST_BATCH_OFFSET};
use super::storage::{Directory, Storage};
use super::{Lsn, RecordView, WalError, block_ceiling};

/// Reads committed records in order, while the writer continues after them.
///
/// It never reads uncommitted bytes, so its buffer never holds half-written ones, however long it
/// is kept.
pub struct LogReader<S: Storage = Directory> {
    log: Arc<Log<S>>,
    /// The next record to return.
    next_lsn: u64,
    /// The last committed record when the end of the open segment was read.
    committed: u64,
    open: Option<OpenSegment<S>>,
}

struct OpenSegment<S: Storage> {
    number: u64,
    name: String,
    window: Window<S::File>,
    /// Offset of the next record, or of padding before it.
    at: u64,
    /// Whether the log has moved on to the next segment, so that all records here are committed.
    is_complete: bool,
}

/// What is at an offset.
enum Found {
    Record(RecordHeader),
    /// Padding: a record may follow at the next block.
    Padding,
    /// The end of the records in this segment.
    End,
}

impl<S: Storage> LogReader<S> {
    pub(super) fn new(log: Arc<Log<S>>, after: Lsn) -> Self {
        Self { log, next_lsn: after.0 + 1, committed: 0, open: None }
    }

    /// The last record returned, or the one that reading began after.
    pub fn position(&self) -> Lsn {
        Lsn(self.next_lsn - 1)
    }

    /// Returns the next record; `None` while no further one is committed.
    ///
    /// # Errors
    /// [`WalError::Damaged`] if a committed record cannot be read, [`WalError::CutOff`] if it was
    /// removed, and [`WalError::Io`].
    pub fn next_record(&mut self) -> Result<Option<RecordView<'_>>, WalError> {
        if self.next_lsn > self.committed {
            self.committed = self.log.shared.committed().get();
            if self.next_lsn > self.committed {
                return Ok(None);
            }
            if let Some(mut open) = self.open.take() {
                self.update_end(&mut open)?;
                self.open = Some(open);
            }
        }
        let at = self.seek()?;
        let Some(open) = &mut self.open else {
            unreachable!("seeking leaves the segment of the record open");
        };
        let path = self.log.storage.path();
        let found = open.window.record(at, self.log.log_id.0);
        match found.map_err(|error| WalError::io("read", path.join(&open.name), error))? {
            Some((header, payload)) if header.lsn == self.next_lsn => {
                open.at = at + header.record_bytes() as u64;
                self.next_lsn = header.lsn + 1;
                Ok(Some(view(&header, payload)))
            }
            // Seeking has just read it: `Ok(None)` would say that it is not committed yet.
            Some(_) | None => Err(damaged(&self.log, &open.name, at, self.next_lsn)),
        }
    }

    /// Advances to the next record, across segments and past earlier records. Returns its offset.
    fn seek(&mut self) -> Result<u64, WalError> {
        assert!(self.next_lsn <= self.committed, "only committed records are read");
        loop {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => self.open_segment_of(self.next_lsn)?,
            };
            let found = look(&mut open, self.log.log_id.0);
            let found = found.map_err(|error| self.io_error("read", &open.name, error))?;
            match found {
                Found::Record(header) if header.lsn < self.next_lsn => {
                    open.at += header.record_bytes() as u64;
                }
                Found::Record(header) if header.lsn == self.next_lsn => {
                    let at = open.at;
                    self.open = Some(open);
                    return Ok(at);
                }
                Found::Padding => open.at = block_ceiling(open.at),
                Found::End if open.is_complete => open = self.open_segment(open.number + 1)?,
                Found::Record(_) | Found::End => {
                    return Err(damaged(&self.log, &open.name, open.at, self.next_lsn));
                }
            }
            self.open = Some(open);
        }
    }

    fn open_segment_of(&self, lsn: u64) -> Result<OpenSegment<S>, WalError> {
        match self.log.shared.locate(lsn) {
            Ok(number) => self.open_segment(number),
            Err(first) => Err(WalError::CutOff {
                directory: self.log.storage.path().to_path_buf(),
                first: Lsn(first),
                needed: Lsn(lsn),
            }),
        }
    }

    fn open_segment(&self, number: u64) -> Result<OpenSegment<S>, WalError> {
        let name = segment::name(number);
        let shared = Arc::clone(&self.log.shared);
        let opened = self.log.storage.open(&name);
        let window = opened.and_then(|file| Window::of_written_segment(file, shared, number));
        let window = window.map_err(|error| self.io_error("open", &name, error))?;
        let at = FIRST_BATCH_OFFSET;
        let mut open = OpenSegment { number, name, window, at, is_complete: false };
        self.update_end(&mut open)?;
        Ok(open)
    }

    /// Sets the end of the open segment to the end of the committed batches.
    fn update_end(&self, open: &mut OpenSegment<S>) -> Result<(), WalError> {
        let end = self.log.shared.readable_end(open.number);
        open.is_complete = end.is_none();
        let seen = open.window.end_at(end.unwrap_or(u64::MAX));
        seen.map_err(|error| self.io_error("read", &open.name, error))
    }

    fn io_error(&self, action: &'static str, name: &str, error: io::Error) -> WalError {
        WalError::io(action, self.log.storage.path().join(name), error)
    }
}

/// A committed record that cannot be read at its offset.
fn damaged<S: Storage>(log: &Log<S>, name: &str, offset: u64, lsn: u64) -> WalError {
    WalError::Damaged {
        file: log.storage.path().join(name),
        offset,
        lsn: Lsn(lsn),
        reason: "it was written and synced, but cannot be read back".to_owned(),
    }
}

fn look<S: Storage>(open: &mut OpenSegment<S>, seed: u64) -> io::Result<Found> {
    assert!(open.at >= FIRST_BATCH_OFFSET, "records follow the segment's header");
    assert!(
        open.at.is_multiple_of(RECORD_ALIGNMENT as u64),
        "records start on multiples of their alignment"
    );
    if let Some((header, _)) = open.window.record(open.at, seed)? {
        return Ok(Found::Record(header));
    }
    let next_block = block_ceiling(open.at);
    // A batch starts on a block boundary: no record there means the end.
    let is_padding = next_block > open.at && open.window.is_zero(open.at, next_block)?;
    Ok(if is_padding { Found::Padding } else { Found::End })
}

impl<S: Storage> fmt::Debug for LogReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader").field("next_lsn", &self.next_lsn).finish_non_exhaustive()
    }
}
