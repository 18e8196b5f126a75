//! What a log holds after whatever ended its last writer.

use std::path::PathBuf;
use std::sync::Arc;

use super::log_start::segment_spans;
use super::record::RecordHeader;
use super::scan::{BadBytes, Chain, End, ScanError, Window, scan_records, scan_remains};
use super::segment::{self, FIRST_BATCH_OFFSET, LOG_FORMAT, SegmentHeader};
use super::shared::SegmentSpan;
use super::storage::{Directory, Storage};
use super::{BLOCK_BYTES, Lsn, VisitError, WalError, WalOptions, block_ceiling};

/// A record of the log, as [`recover`] shows it.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Its place.
    pub lsn: Lsn,
    /// The user partition that it belongs to.
    pub partition: u8,
    /// What the payload is.
    pub kind: u8,
    /// Which version of that.
    pub format_version: u8,
    /// Which start of the program wrote it.
    pub epoch: u32,
    /// The bytes that were appended, on a 16-byte boundary in memory.
    pub payload: &'a [u8],
}

/// A log that has been read to its end and is locked for this process, ready to be opened.
pub struct Recovery<S: Storage = Directory> {
    /// The oldest record; equal to `next_lsn` when there is none.
    pub first_lsn: Lsn,
    /// What the next record will be.
    pub next_lsn: Lsn,
    /// The epoch of the records to come: one more than that of the newest record. A start that
    /// appends nothing leaves no trace, and the next start has the same epoch.
    pub epoch: u32,
    /// How many records were visited.
    pub records: u64,
    /// Bytes of a last batch that a crash cut short, before any of it was acknowledged. Opening the
    /// log replaces them by zeros. Rot in an acknowledged last batch looks the same: only what has a
    /// later batch behind it is proven to have been synced.
    pub torn_bytes: u64,
    pub(super) storage: Arc<S>,
    pub(super) tail: Tail,
    /// All segments, oldest first.
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

/// Where the log goes on.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Checksum of the last record.
    pub(super) chain: u64,
    pub(super) log_id: u64,
    /// The segment to go on with; `None` when there is no segment at all.
    pub(super) segment: Option<TailSegment>,
    /// The segments after it, all without records.
    pub(super) later: Vec<LaterSegment>,
}

/// The segment that the next batch goes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct TailSegment {
    pub(super) number: u64,
    pub(super) segment_bytes: u64,
    /// End of what is kept, and end of the torn bytes after it. Equal when nothing is torn.
    pub(super) kept_end: u64,
    pub(super) torn_end: u64,
}

/// A segment that was prepared and not used.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaterSegment {
    pub(super) number: u64,
    pub(super) segment_bytes: u64,
    /// All zeros, as a segment has to be before its use.
    pub(super) is_clean: bool,
}

/// Locks the log and reads it up to its newest record. Visited are the records after `after`, which
/// are in some other store already; `Lsn(0)` visits all. Segments that lie wholly before that record
/// are not read, but for their first record. A directory without a log is an empty log. Nothing on
/// disk is changed.
///
/// # Errors
/// [`WalError::Locked`]; [`WalError::CutOff`] where the log begins after the next record;
/// [`WalError::LostTail`] where it ends before `after`; [`WalError::Damaged`] where bytes that were
/// durable once cannot be read; [`WalError::Newer`]; [`WalError::Visit`] with what `visit` said;
/// [`WalError::Io`]. What was visited before an error is to be thrown away.
pub fn recover(
    options: &WalOptions,
    after: Lsn,
    visit: &mut dyn FnMut(RecordView<'_>) -> Result<(), VisitError>,
) -> Result<Recovery, WalError> {
    options.check()?;
    recover_from(Arc::new(Directory::lock(&options.directory)?), Some(after), visit)
}

/// With `after` as `None`, from the oldest record that is there, whichever that is.
pub(crate) fn recover_from<S: Storage>(
    storage: Arc<S>,
    after: Option<Lsn>,
    visit: &mut dyn FnMut(RecordView<'_>) -> Result<(), VisitError>,
) -> Result<Recovery<S>, WalError> {
    let spans = segment_spans(&*storage)?;
    check_no_hole(&*storage, &spans)?;
    if let (Some(after), Some(first)) = (after, spans.first().and_then(|span| span.first_lsn))
        && first > after.0.saturating_add(1)
    {
        check_reaches(&*storage, after, Lsn(first), Lsn(u64::MAX))?;
    }
    // From the record itself on, not from the next one: it is what the next one has to follow.
    let holds = |span: &SegmentSpan| span.first_lsn.is_some_and(|first| Some(Lsn(first)) <= after);
    let start = spans.iter().rposition(holds).unwrap_or_default();
    let to_read = spans.get(start..).unwrap_or_default();
    let mut reader = Reader {
        storage: &*storage,
        after: after.unwrap_or_default().0,
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
    let Reader { chain, first_lsn, visited, torn_bytes, mut tail, log_id, .. } = reader;
    if let (Some(oldest), None) = (to_read.first(), chain.next_lsn) {
        // Starting at 1 again would give numbers out twice.
        return Err(WalError::Damaged {
            file: storage.path().join(segment::name(oldest.number)),
            offset: FIRST_BATCH_OFFSET,
            lsn: Lsn(0),
            reason: "it has no record, and the segments before it are missing".to_owned(),
        });
    }
    tail.chain = chain.checksum;
    tail.log_id = log_id.unwrap_or_default();
    let next_lsn = Lsn(chain.next_lsn.unwrap_or(1));
    let first_read = first_lsn.map_or(next_lsn, Lsn);
    if let Some(after) = after {
        check_reaches(&*storage, after, first_read, next_lsn)?;
    }
    let oldest = spans.iter().find_map(|span| span.first_lsn);
    Ok(Recovery {
        first_lsn: oldest.map_or(next_lsn, Lsn).min(first_read),
        next_lsn,
        epoch: chain.epoch.saturating_add(1),
        records: visited,
        torn_bytes,
        storage,
        tail,
        spans,
    })
}

/// Whether the log has all that comes after `after`, and had `after` itself.
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

/// Whether a log whose next record is `next` has the record `known`, which was durable once.
pub(super) fn check_end<S: Storage>(storage: &S, known: Lsn, next: Lsn) -> Result<(), WalError> {
    if next > known {
        return Ok(());
    }
    let (directory, last) = (storage.path().to_path_buf(), Lsn(next.0.saturating_sub(1)));
    Err(WalError::LostTail { directory, last, known })
}

/// The numbers of all segments that are there, in order.
pub(super) fn segment_numbers<S: Storage>(storage: &S) -> Result<Vec<u64>, WalError> {
    let names = storage.names().map_err(|error| WalError::io("list", storage.path(), error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn check_no_hole<S: Storage>(storage: &S, spans: &[SegmentSpan]) -> Result<(), WalError> {
    let numbers = spans.iter().map(|span| span.number);
    for (number, next) in numbers.clone().zip(numbers.skip(1)) {
        if next - number != 1 {
            return Err(WalError::Damaged {
                file: storage.path().join(segment::name(number + 1)),
                offset: 0,
                lsn: Lsn(0),
                reason: format!("the file is missing, but {} is there", segment::name(next)),
            });
        }
    }
    Ok(())
}

/// The state of reading one segment after the other.
struct Reader<'a, S: Storage> {
    storage: &'a S,
    /// Records up to this one are read and not visited.
    after: u64,
    chain: Chain,
    /// From the first segment; all others must have the same.
    log_id: Option<u64>,
    window: Option<Window<S::File>>,
    first_lsn: Option<u64>,
    read: u64,
    visited: u64,
    torn_bytes: u64,
    tail: Tail,
    /// Where the records ended early: any record in a later segment proves rot there.
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
            // Batches stay within a segment, so every record here is of a later batch.
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
                debug_assert_eq!(at, FIRST_BATCH_OFFSET);
                self.add_later(header, true);
            }
            End::Zeros { at } => self.set_tail(header, at, at),
            End::Misfit { at, lsn } => {
                return Err(WalError::Damaged {
                    file: path,
                    offset: at,
                    lsn: Lsn(self.chain.next_lsn.unwrap_or_default()),
                    reason: format!("record {lsn} is there and does not follow the one before"),
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
        let block =
            window.bytes(0, BLOCK_BYTES).map_err(|error| WalError::io("read", path, error))?;
        let damaged = |reason: String| WalError::Damaged {
            file: path.to_path_buf(),
            offset: 0,
            lsn: Lsn(self.chain.next_lsn.unwrap_or_default()),
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

    fn set_tail(&mut self, header: SegmentHeader, kept_end: u64, torn_end: u64) {
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
        self.tail.later.push(LaterSegment { number, segment_bytes, is_clean });
    }

    fn damaged(
        &self,
        file: PathBuf,
        bad: BadBytes,
        proof_file: &std::path::Path,
        (proof_at, proof): (u64, RecordHeader),
    ) -> WalError {
        let proof_name = proof_file.file_name().unwrap_or_default().display();
        WalError::Damaged {
            file,
            offset: bad.at,
            lsn: Lsn(self.chain.next_lsn.unwrap_or_default()),
            reason: format!(
                "it cannot be read, but record {} of a later batch can, in {proof_name} at byte \
                 {proof_at}",
                proof.lsn
            ),
        }
    }
}

pub(super) fn view<'a>(header: &RecordHeader, payload: &'a [u8]) -> RecordView<'a> {
    RecordView {
        lsn: Lsn(header.lsn),
        partition: header.partition,
        kind: header.kind,
        format_version: header.format_version,
        epoch: header.epoch,
        payload,
    }
}

impl TailSegment {
    /// Where the next batch goes.
    pub(super) fn next_offset(&self) -> u64 {
        block_ceiling(self.kept_end)
    }
}
