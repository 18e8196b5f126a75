//! Where the records of each segment begin, without reading them all.

use std::io;

use super::aligned::AlignedBuffer;
use super::handle::LogId;
use super::recovery::segment_numbers;
use super::segment::{self, FIRST_BATCH_OFFSET, SegmentHeader};
use super::shared::SegmentSpan;
use super::storage::{Directory, Storage, StorageFile};
use super::{BLOCK_BYTES, Lsn, MAX_RECORD_BYTES, WalError, WalOptions, record};

/// The header of a segment and its first record, whatever its size.
const BEGINNING_BYTES: usize = BLOCK_BYTES + MAX_RECORD_BYTES;

/// Which log a directory has, and where that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStart {
    /// `None` where there is no log, or no segment says which one it is.
    pub log_id: Option<LogId>,
    /// The oldest record that can be read; 1 in a log that has none yet.
    pub first_lsn: Lsn,
}

/// Looks at the beginning of each segment. Takes no lock, changes nothing and refuses no damage:
/// [`recover`](super::recover) does.
///
/// # Errors
/// [`WalError::Io`]; [`WalError::NoRecords`] where all records of a log are gone.
pub fn log_start(options: &WalOptions) -> Result<LogStart, WalError> {
    options.check()?;
    let nothing = LogStart { log_id: None, first_lsn: Lsn(1) };
    if !options.directory.is_dir() {
        return Ok(nothing);
    }
    let beginnings = beginnings(&Directory::look(&options.directory)?)?;
    let Some(oldest) = beginnings.first().map(|beginning| beginning.span.number) else {
        return Ok(nothing);
    };
    let first_record = beginnings.iter().find_map(|beginning| beginning.span.first_lsn);
    // The segments before the oldest one have held records, and one of those is never cut off.
    if first_record.is_none() && oldest != 1 {
        let directory = options.directory.clone();
        return Err(WalError::NoRecords { directory, oldest: segment::name(oldest) });
    }
    Ok(LogStart {
        log_id: beginnings.iter().find_map(|beginning| beginning.log_id),
        first_lsn: Lsn(first_record.unwrap_or(1)),
    })
}

/// All segments that are there, in order, with their first records.
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
    for number in segment_numbers(storage)? {
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
    let bytes = buffer.as_slice().get(..filled).unwrap_or_default();
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
