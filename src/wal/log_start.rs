//! Finds the first record of each segment without reading the rest.

use std::io;

use super::aligned::AlignedBuffer;
use super::log_id::LogId;
use super::segment::{self, FIRST_BATCH_OFFSET, SegmentHeader};
use super::shared::SegmentSpan;
use super::storage::{Directory, Storage, StorageFile};
use super::{BLOCK_BYTES, Lsn, MAX_RECORD_BYTES, WalError, WalOptions, record};

/// Size of a header and a maximum first record.
const BEGINNING_BYTES: usize = BLOCK_BYTES + MAX_RECORD_BYTES;

/// The id of a log and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStart {
    /// `None` if there is no log, or no segment has a readable header.
    pub log_id: Option<LogId>,
    /// The oldest readable record; 1 in an empty log.
    pub first_lsn: Lsn,
}

/// Reads the beginning of each segment. Takes no lock, changes nothing and reports no damage; that
/// is the job of [`recover`](super::recover).
///
/// # Errors
/// [`WalError::Io`]; [`WalError::NoRecords`] if all records of a log are gone.
pub fn log_start(options: &WalOptions) -> Result<LogStart, WalError> {
    options.check()?;
    let nothing = LogStart { log_id: None, first_lsn: Lsn(1) };
    if !options.directory.is_dir() {
        return Ok(nothing);
    }
    let beginnings = beginnings(&Directory::open_unlocked(&options.directory)?)?;
    let Some(oldest) = beginnings.first().map(|beginning| beginning.span.number) else {
        return Ok(nothing);
    };
    let first_record = beginnings.iter().find_map(|beginning| beginning.span.first_lsn);
    // The segments before the oldest one held records, and the last segment with records is never
    // cut.
    if first_record.is_none() && oldest != 1 {
        let directory = options.directory.clone();
        return Err(WalError::NoRecords { directory, oldest: segment::name(oldest) });
    }
    Ok(LogStart {
        log_id: beginnings.iter().find_map(|beginning| beginning.log_id),
        // Without a record the log is still in its first segment.
        first_lsn: Lsn(first_record.unwrap_or(1)),
    })
}

/// All segments, in order, with their first records.
pub(super) fn segment_spans<S: Storage>(storage: &S) -> Result<Vec<SegmentSpan>, WalError> {
    Ok(beginnings(storage)?.into_iter().map(|beginning| beginning.span).collect())
}

struct Beginning {
    span: SegmentSpan,
    log_id: Option<LogId>,
}

fn beginnings<S: Storage>(storage: &S) -> Result<Vec<Beginning>, WalError> {
    let mut buffer = AlignedBuffer::new(BEGINNING_BYTES);
    let mut beginnings = Vec::new();
    for number in segment::segment_numbers(storage)? {
        let name = segment::name(number);
        let beginning = beginning(storage, number, &mut buffer)
            .map_err(|error| WalError::io("read", storage.path().join(name), error))?;
        beginnings.push(beginning);
    }
    Ok(beginnings)
}

fn beginning<S: Storage>(
    storage: &S,
    number: u64,
    buffer: &mut AlignedBuffer,
) -> io::Result<Beginning> {
    let file = storage.open(&segment::name(number))?;
    let segment_bytes = file.len()?;
    let filled = file.read_at(0, buffer.as_mut_slice())?;
    let Some(bytes) = buffer.as_slice().get(..filled) else {
        unreachable!("a read fills at most the buffer");
    };
    let header = SegmentHeader::decode(bytes).filter(|header| header.number == number);
    let first_lsn = header.and_then(|header| {
        let (record, _) =
            record::read(bytes.get(super::to_usize(FIRST_BATCH_OFFSET)..)?, header.log_id)?;
        Some(record.lsn)
    });
    Ok(Beginning {
        span: SegmentSpan { number, first_lsn, segment_bytes },
        log_id: header.map(|header| LogId(header.log_id)),
    })
}
