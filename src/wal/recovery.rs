//! Recovery: reads a log to its end after its last writer ended in whatever way.

use std::path::PathBuf;
use std::sync::Arc;

use super::log_start::segment_spans;
use super::record::RecordHeader;
use super::record_view::{RecordView, view};
use super::scan::{BadBytes, Chain, End, ScanError, Window, scan_records, scan_remains};
use super::segment::{self, FIRST_BATCH_OFFSET, LOG_FORMAT, SegmentHeader};
use super::shared::SegmentSpan;
use super::storage::{Directory, Storage};
use super::{BLOCK_BYTES, Lsn, VisitError, WalError, WalOptions, block_ceiling};

/// A log that was read to its end, locked for this process, ready to be opened.
pub struct Recovery<S: Storage = Directory> {
    /// The oldest record; equal to `next_lsn` in an empty log.
    pub first_lsn: Lsn,
    /// The next record.
    pub next_lsn: Lsn,
    /// Epoch of the records to come: one more than that of the newest record. A start that appends
    /// nothing leaves no trace, so the next start has the same epoch.
    pub epoch: u32,
    /// Number of visited records.
    pub records: u64,
    /// Bytes of a last batch that a crash tore before any of it was acknowledged. Opening the log
    /// zeroes them. Rot in an acknowledged last batch looks the same: only a later batch proves
    /// that an earlier one was synced.
    pub torn_bytes: u64,
    pub(super) storage: Arc<S>,
    pub(super) tail: Tail,
    pub(super) spans: Vec<SegmentSpan>,
}

impl<S: Storage> std::fmt::Debug for Recovery<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery")
            .field("first_lsn", &self.first_lsn)
            .field("next_lsn", &self.next_lsn)
            .field("epoch", &self.epoch)
            .field("records", &self.records)
            .field("torn_bytes", &self.torn_bytes)
            .finish_non_exhaustive()
    }
}

/// Where the log continues.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Checksum of the last record.
    pub(super) chain: u64,
    pub(super) log_id: u64,
    /// The segment to continue; `None` if there are no segments.
    pub(super) segment: Option<TailSegment>,
    /// The segments after it, all without records.
    pub(super) later: Vec<LaterSegment>,
}

/// The segment of the next batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct TailSegment {
    pub(super) number: u64,
    pub(super) segment_bytes: u64,
    /// End of the kept bytes, and end of the torn bytes after them; equal if nothing is torn.
    pub(super) kept_end: u64,
    pub(super) torn_end: u64,
}

/// A prepared segment that is not used yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaterSegment {
    pub(super) number: u64,
    pub(super) segment_bytes: u64,
    /// All zeros, as a segment must be before its use.
    pub(super) is_clean: bool,
}

/// Locks the log and reads it to its end. Visits the records after `after`, the position of another
/// store; `Lsn(0)` visits all. Of segments that lie entirely before that position only the first
/// record is read. A directory without a log is an empty log. Changes nothing on disk.
///
/// # Errors
/// [`WalError::Locked`]; [`WalError::CutOff`] if the log begins after the next record;
/// [`WalError::LostTail`] if it ends before `after`; [`WalError::Damaged`] if bytes that were
/// durable cannot be read; [`WalError::Newer`]; [`WalError::Visit`] with the error of `visit`;
/// [`WalError::Io`]. After an error, discard what was visited.
pub fn recover(
    options: &WalOptions,
    after: Lsn,
    visit: &mut dyn FnMut(RecordView<'_>) -> Result<(), VisitError>,
) -> Result<Recovery, WalError> {
    options.check()?;
    recover_from(Arc::new(Directory::lock(&options.directory)?), Some(after), visit)
}

/// Like [`recover`], on any storage. With `after` as `None`, visits from the oldest record on.
pub(crate) fn recover_from<S: Storage>(
    storage: Arc<S>,
    after: Option<Lsn>,
    visit: &mut dyn FnMut(RecordView<'_>) -> Result<(), VisitError>,
) -> Result<Recovery<S>, WalError> {
    let spans = segment_spans(&*storage)?;
    check_no_gap(&*storage, &spans)?;
    // Saturating, here and below: another store may name any record.
    if let (Some(after), Some(first)) = (after, spans.first().and_then(|span| span.first_lsn))
        && first > after.0.saturating_add(1)
    {
        check_reaches(&*storage, after, Lsn(first), Lsn(u64::MAX))?;
    }
    // Start at the record itself, not after it: the next record must follow it in the chain.
    let holds = |span: &SegmentSpan| span.first_lsn.is_some_and(|first| Some(Lsn(first)) <= after);
    // Where no segment is known to begin before the position, all are read.
    let start = spans.iter().rposition(holds).unwrap_or(0);
    let (_, to_read) = spans.split_at(start);
    let mut reader = Reader {
        storage: &*storage,
        after: after.unwrap_or(Lsn(0)).0,
        chain: Chain::start(to_read.first().map_or(1, |span| span.number)),
        log_id: None,
        window: None,
        first_lsn: None,
        read: 0,
        visited: 0,
        torn_bytes: 0,
        tail: Tail::default(),
        bad: None,
    };
    for span in to_read {
        reader.read_segment(span.number, visit)?;
    }
    let Reader { chain, first_lsn, read, visited, torn_bytes, mut tail, log_id, .. } = reader;
    let Some(next_lsn) = chain.next_lsn else {
        let Some(oldest) = to_read.first() else {
            unreachable!("a log without segments begins with record 1");
        };
        // Starting at 1 again would reuse record numbers.
        return Err(WalError::Damaged {
            file: storage.path().join(segment::name(oldest.number)),
            offset: FIRST_BATCH_OFFSET,
            lsn: Lsn(0),
            reason: "it has no record, and the segments before it are missing".to_owned(),
        });
    };
    assert_eq!(tail.segment.is_some(), !to_read.is_empty(), "a log continues in a segment it has");
    tail.chain = chain.checksum;
    // Without segments: `open` draws the id.
    tail.log_id = log_id.unwrap_or_default();
    let next_lsn = Lsn(next_lsn);
    let first_read = first_lsn.map_or(next_lsn, Lsn);
    assert_eq!(first_read.0 + read, next_lsn.0, "the records read are numbered without a gap");
    if let Some(after) = after {
        check_reaches(&*storage, after, first_read, next_lsn)?;
        assert_eq!(visited, next_lsn.0 - after.0 - 1, "every record after the position is visited");
    }
    let oldest = spans.iter().find_map(|span| span.first_lsn);
    Ok(Recovery {
        first_lsn: oldest.map_or(next_lsn, Lsn).min(first_read),
        next_lsn,
        // Saturating: after four billion starts they are no longer told apart.
        epoch: chain.epoch.saturating_add(1),
        records: visited,
        torn_bytes,
        storage,
        tail,
        spans,
    })
}

/// Checks that the log has every record after `after`, and had `after` itself.
fn check_reaches<S: Storage>(
    storage: &S,
    after: Lsn,
    first: Lsn,
    next: Lsn,
) -> Result<(), WalError> {
    check_end(storage, after, next)?;
    let needed = Lsn(after.0.saturating_add(1));
    if first > needed {
        let directory = storage.path().to_path_buf();
        return Err(WalError::CutOff { directory, first, needed });
    }
    Ok(())
}

/// Checks that a log whose next record is `next` includes `known`, which was durable once.
pub(super) fn check_end<S: Storage>(storage: &S, known: Lsn, next: Lsn) -> Result<(), WalError> {
    if next > known {
        return Ok(());
    }
    assert!(next >= Lsn(1), "records are numbered from 1 on");
    let (directory, last) = (storage.path().to_path_buf(), Lsn(next.0 - 1));
    Err(WalError::LostTail { directory, last, known })
}

fn check_no_gap<S: Storage>(storage: &S, spans: &[SegmentSpan]) -> Result<(), WalError> {
    let numbers = spans.iter().map(|span| span.number);
    for (number, next) in numbers.clone().zip(numbers.skip(1)) {
        if next - number != 1 {
            return Err(WalError::Damaged {
                file: storage.path().join(segment::name(number + 1)),
                offset: 0,
                lsn: Lsn(0),
                reason: format!("the file is missing, but {} exists", segment::name(next)),
            });
        }
    }
    Ok(())
}

/// Reads one segment after another.
struct Reader<'a, S: Storage> {
    storage: &'a S,
    /// Records up to this one are read, but not visited.
    after: u64,
    chain: Chain,
    /// The log id of the first segment; all others must match.
    log_id: Option<u64>,
    window: Option<Window<S::File>>,
    first_lsn: Option<u64>,
    read: u64,
    visited: u64,
    torn_bytes: u64,
    tail: Tail,
    /// Where the records ended early. A record in any later segment proves that these bytes rotted.
    bad: Option<(PathBuf, BadBytes)>,
}

impl<S: Storage> Reader<'_, S> {
    fn read_segment(
        &mut self,
        number: u64,
        visit: &mut dyn FnMut(RecordView<'_>) -> Result<(), VisitError>,
    ) -> Result<(), WalError> {
        let path = self.storage.path().join(segment::name(number));
        let io_error = |error| WalError::io("read", &path, error);
        let file = self.storage.open(&segment::name(number)).map_err(io_error)?;
        let mut window = match self.window.take() {
            Some(window) => window.change_file(file),
            None => Window::new(file),
        }
        .map_err(io_error)?;
        let header = self.check_header(&mut window, number, &path)?;
        if let Some((bad_path, bad)) = self.bad.take() {
            // A batch lies in one segment, so every record here is of a later batch.
            let start = BadBytes { at: FIRST_BATCH_OFFSET, later_batch_from: None };
            let remains = scan_remains(&mut window, start, header.log_id).map_err(io_error)?;
            if let Some(proof) = remains.proof {
                return Err(self.damaged(bad_path, bad, &path, proof));
            }
            self.torn_bytes += remains.end - start.at;
            self.add_later(header, remains.end == start.at);
            self.bad = Some((bad_path, bad));
            self.window = Some(window);
            return Ok(());
        }

        let (first_lsn, read, visited) = (&mut self.first_lsn, &mut self.read, &mut self.visited);
        let (read_before, after) = (*read, self.after);
        let visit_counted = |header: &RecordHeader, payload: &[u8]| {
            first_lsn.get_or_insert(header.lsn);
            *read += 1;
            if header.lsn <= after {
                return Ok(());
            }
            *visited += 1;
            visit(view(header, payload))
        };
        let end = scan_records(&mut window, &mut self.chain, header.log_id, visit_counted)
            .map_err(|error| match error {
                ScanError::Io(error) => io_error(error),
                ScanError::Visit { lsn, source } => WalError::Visit { lsn, source },
            })?;
        match end {
            End::Zeros { at } if self.read == read_before && self.tail.segment.is_some() => {
                assert_eq!(
                    at, FIRST_BATCH_OFFSET,
                    "a segment without records is zero after its header"
                );
                self.add_later(header, true);
            }
            End::Zeros { at } => self.set_tail(header, at, at),
            End::Misfit { at, lsn } => {
                return Err(WalError::Damaged {
                    file: path,
                    offset: at,
                    lsn: self.next_lsn(),
                    reason: format!("record {lsn} does not follow the previous record"),
                });
            }
            End::Bad(bad) => {
                let remains = scan_remains(&mut window, bad, header.log_id).map_err(io_error)?;
                if let Some(proof) = remains.proof {
                    return Err(self.damaged(path.clone(), bad, &path, proof));
                }
                self.torn_bytes += remains.end - bad.at;
                self.set_tail(header, bad.at, remains.end);
                self.bad = Some((path, bad));
            }
        }
        self.window = Some(window);
        Ok(())
    }

    fn check_header(
        &mut self,
        window: &mut Window<S::File>,
        number: u64,
        path: &std::path::Path,
    ) -> Result<SegmentHeader, WalError> {
        let file_bytes = window.file_bytes();
        let next_lsn = self.next_lsn();
        let block =
            window.bytes(0, BLOCK_BYTES).map_err(|error| WalError::io("read", path, error))?;
        let damaged = |reason: String| WalError::Damaged {
            file: path.to_path_buf(),
            offset: 0,
            lsn: next_lsn,
            reason,
        };
        let Some(header) = SegmentHeader::decode(block) else {
            return Err(damaged("the header of the segment cannot be read".to_owned()));
        };
        if header.log_format > LOG_FORMAT {
            return Err(WalError::Newer {
                file: path.to_path_buf(),
                found: header.log_format,
                newest: LOG_FORMAT,
            });
        }
        if header.number != number {
            return Err(damaged(format!("the header says segment {}", header.number)));
        }
        if header.segment_bytes != file_bytes {
            let expected = header.segment_bytes;
            return Err(damaged(format!("the file has {file_bytes} bytes instead of {expected}")));
        }
        if !file_bytes.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(damaged(format!("{file_bytes} bytes are not whole blocks")));
        }
        if *self.log_id.get_or_insert(header.log_id) != header.log_id {
            return Err(damaged("the segment belongs to another log".to_owned()));
        }
        Ok(header)
    }

    /// The next record; 0 while its number is not known.
    fn next_lsn(&self) -> Lsn {
        Lsn(self.chain.next_lsn.unwrap_or(0))
    }

    fn set_tail(&mut self, header: SegmentHeader, kept_end: u64, torn_end: u64) {
        let before = self.tail.segment.map(|segment| segment.number);
        assert!(before < Some(header.number), "segments are read in their order");
        assert!(
            FIRST_BATCH_OFFSET <= kept_end && kept_end <= torn_end,
            "records follow the header, and torn bytes follow the records"
        );
        assert!(torn_end <= header.segment_bytes, "a segment's bytes end within it");
        self.tail.later.clear();
        self.tail.segment = Some(TailSegment {
            number: header.number,
            segment_bytes: header.segment_bytes,
            kept_end,
            torn_end,
        });
    }

    fn add_later(&mut self, header: SegmentHeader, is_clean: bool) {
        let SegmentHeader { number, segment_bytes, .. } = header;
        let tail = self.tail.segment.map(|segment| segment.number);
        assert_eq!(
            tail.map(|tail| tail + self.tail.later.len() as u64 + 1),
            Some(number),
            "the segments without records follow the tail"
        );
        self.tail.later.push(LaterSegment { number, segment_bytes, is_clean });
    }

    fn damaged(
        &self,
        file: PathBuf,
        bad: BadBytes,
        proof_file: &std::path::Path,
        (proof_at, proof): (u64, RecordHeader),
    ) -> WalError {
        let Some(proof_name) = proof_file.file_name() else {
            unreachable!("the path of a segment ends with its name");
        };
        let proof_name = proof_name.display();
        WalError::Damaged {
            file,
            offset: bad.at,
            lsn: self.next_lsn(),
            reason: format!(
                "it cannot be read, but record {} of a later batch can, in {proof_name} at byte \
                 {proof_at}",
                proof.lsn
            ),
        }
    }
}

impl TailSegment {
    /// Offset of the next batch.
    pub(super) fn next_offset(&self) -> u64 {
        block_ceiling(self.kept_end)
    }
}
