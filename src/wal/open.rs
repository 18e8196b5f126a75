//! Opens a recovered log for appending.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crossbeam::channel::bounded;

use super::aligned::AlignedBuffer;
use super::appender::{AppenderStart, WalAppender};
use super::batch::Batch;
use super::log::Log;
use super::log_id::LogId;
use super::prepare::Preparer;
use super::recovery::{LaterSegment, Recovery, TailSegment};
use super::room::Reserve;
use super::segment::{self, FIRST_BATCH_OFFSET, NotMade, SegmentMaker};
use super::shared::{SegmentSpan, Shared};
use super::storage::{Storage, StorageFile, remove};
use super::writer::{Hold, LogFile, SharedLogFile, WalWriter};
use super::{BLOCK_BYTES, Lsn, WalError, WalOptions, block_ceiling, block_floor, to_usize};

/// Opens a recovered log for appending: cuts the torn tail, makes everything recovered durable, and
/// creates the first segment if there is none. The directory stays locked until the writer has
/// ended and all handles are dropped.
///
/// # Errors
/// [`WalError::SegmentBytes`] and [`WalError::Io`].
pub fn open<S: Storage>(
    options: WalOptions,
    recovery: Recovery<S>,
) -> Result<(WalAppender, WalWriter<S>), WalError> {
    options.check()?;
    let Recovery { storage, mut tail, next_lsn, epoch, mut spans, .. } = recovery;
    let segment_bytes = options.segment_bytes;
    remove_preparing(&*storage)?;
    if tail.segment.is_none() {
        tail.log_id = rand::random();
    }
    let mut maker = SegmentMaker::new(tail.log_id, segment_bytes);
    let (file, segment) = match tail.segment {
        Some(segment) => (open_tail(&*storage, segment)?, segment),
        None => make_first(&*storage, &mut maker, Reserve::of(&options))?,
    };
    let reserve = Reserve::of(&options);
    let mut ahead = keep_ahead(&*storage, &tail.later, segment.number, reserve)?;
    let newest = segment.number + ahead.len() as u64;
    let next = ahead.pop_front();
    assert!(
        ahead.len() <= reserve.segments,
        "beside the next segment, no more than the reserve is kept"
    );
    // A kill may have come between a rename and its sync.
    storage.sync().map_err(|error| WalError::io("sync", storage.path(), error))?;

    spans.retain(|span| span.number <= segment.number);
    if segment.kept_end == FIRST_BATCH_OFFSET {
        // What looked like its first record was part of the torn tail.
        let TailSegment { number, segment_bytes, .. } = segment;
        spans.retain(|span| span.number < number);
        spans.push(SegmentSpan { number, first_lsn: None, segment_bytes });
    }
    let continued = spans.last().map(|span| span.number);
    assert_eq!(continued, Some(segment.number), "the last known segment is the one to continue");
    let offset = segment.next_offset();
    assert!(offset <= segment.segment_bytes, "the records of a segment end within it");
    assert!(epoch >= 1, "epochs start at 1");
    assert!(next_lsn >= Lsn(1), "record numbers start at 1");
    let committed = next_lsn.0 - 1;
    let shared = Arc::new(Shared::recovered(committed, spans, offset));
    // Two batches and one request exist at a time, and an error follows the request: sending never
    // blocks.
    let (to_writer, batches) = bounded(1);
    let (returned, from_writer) = bounded(1);
    let (requests, requested) = bounded(1);
    let (prepared_sender, prepared) = bounded(2);
    assert!(returned.try_send(Batch::new()).is_ok(), "a new channel has room for a batch");
    if next.is_some() {
        shared.set_ready_segment(segment.number + 1, ahead.len());
    } else {
        let requested = requests.try_send(segment.number + 1);
        assert!(requested.is_ok(), "a new channel has room for a request");
    }

    let start = AppenderStart {
        next_lsn: next_lsn.0,
        epoch,
        segment: segment.number,
        segment_room: segment.segment_bytes - offset,
        segment_bytes,
    };
    let followed = Log::new(
        storage.clone(),
        shared.clone(),
        LogId(tail.log_id),
        (options.keep_bytes, reserve),
    );
    let log = LogFile {
        storage: storage.clone(),
        shared: shared.clone(),
        file,
        number: segment.number,
        segment_bytes: segment.segment_bytes,
        next_segment_bytes: segment_bytes,
        offset,
        chain: tail.chain,
        log_id: tail.log_id,
        next,
        returned,
        requests,
        prepared: prepared.clone(),
    };
    let log = Arc::new(SharedLogFile::new(log));
    let channels = (to_writer, from_writer);
    let appender = WalAppender::new(&start, shared.clone(), channels, log.clone());
    let preparer = Preparer {
        storage,
        maker,
        shared,
        requests: requested,
        prepared: prepared_sender,
        reserve,
        ahead,
        newest,
        wanted: None,
        has_ended: false,
    };
    let followed = Arc::new(followed);
    Ok((appender, WalWriter { hold: Hold(log), batches, prepared, preparer, followed }))
}

/// Removes segments whose preparation the last process did not finish.
fn remove_preparing<S: Storage>(storage: &S) -> Result<(), WalError> {
    let names = storage.names().map_err(|error| WalError::io("list", storage.path(), error))?;
    for name in names.iter().filter(|name| segment::is_preparing(name)) {
        remove(storage, name)?;
    }
    Ok(())
}

/// Opens the last segment. Afterwards everything recovered is durable, including what the last
/// process wrote but did not sync, and zeros follow it.
fn open_tail<S: Storage>(storage: &S, segment: TailSegment) -> Result<S::File, WalError> {
    let name = segment::name(segment.number);
    let path = storage.path().join(&name);
    let file = storage.open(&name).map_err(|error| WalError::io("open", &path, error))?;
    cut(&file, segment.kept_end, segment.torn_end)
        .and_then(|()| file.sync())
        .map_err(|error| WalError::io("truncate the torn end of", &path, error))?;
    Ok(file)
}

/// Overwrites torn bytes with zeros. After a crash in here fewer remain, still torn.
fn cut<F: StorageFile>(file: &F, kept_end: u64, torn_end: u64) -> io::Result<()> {
    assert!(kept_end <= torn_end, "what is torn follows what is kept");
    if torn_end == kept_end {
        return Ok(());
    }
    let mut block = AlignedBuffer::new(BLOCK_BYTES);
    let mut offset = block_floor(kept_end);
    if offset < kept_end {
        // The block keeps its bytes up to the cut, so they survive a crash during this write.
        if file.read_at(offset, block.as_mut_slice())? < BLOCK_BYTES {
            // Zeros in place of the missing bytes would overwrite records.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(torn) = block.as_mut_slice().get_mut(to_usize(kept_end - offset)..) else {
            unreachable!("the kept bytes end within their last block");
        };
        torn.fill(0);
        file.write_at(offset, block.as_slice())?;
        block.as_mut_slice().fill(0);
        offset += BLOCK_BYTES as u64;
    }
    while offset < block_ceiling(torn_end) {
        file.write_at(offset, block.as_slice())?;
        offset += BLOCK_BYTES as u64;
    }
    assert_eq!(offset, block_ceiling(torn_end), "all torn bytes are overwritten, and no others");
    Ok(())
}

fn make_first<S: Storage>(
    storage: &S,
    maker: &mut SegmentMaker,
    reserve: Reserve,
) -> Result<(S::File, TailSegment), WalError> {
    let path = storage.path().join(segment::name(1));
    let made = maker.make(storage, 1).map_err(NotMade::into_io);
    let file = made.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WalError::NoRoomToStart {
            directory: storage.path().to_path_buf(),
            segment_bytes: reserve.segment_bytes,
            more_bytes: reserve.bytes_to_accept_orders(),
            source: error,
        },
        _ => WalError::io("prepare", &path, error),
    })?;
    let segment_bytes = file.len().map_err(|error| WalError::io("read", &path, error))?;
    if segment_bytes != reserve.segment_bytes {
        let error =
            io::Error::other(format!("the file has {segment_bytes} bytes after it was filled"));
        return Err(WalError::io("prepare", &path, error));
    }
    let end = FIRST_BATCH_OFFSET;
    Ok((file, TailSegment { number: 1, segment_bytes, kept_end: end, torn_end: end }))
}

/// Opens the usable segments after the last one, the next one and the reserve, and removes all
/// others.
fn keep_ahead<S: Storage>(
    storage: &S,
    later: &[LaterSegment],
    current: u64,
    reserve: Reserve,
) -> Result<VecDeque<S::File>, WalError> {
    let fits = |(segment, number): &(&LaterSegment, u64)| {
        let is_fit = segment.is_clean && segment.segment_bytes == reserve.segment_bytes;
        is_fit && segment.number == *number
    };
    assert!(
        later.first().is_none_or(|first| first.number == current + 1),
        "the segments ahead follow the last one with records"
    );
    let kept = later.iter().zip(current + 1..).take(1 + reserve.segments).take_while(fits).count();
    let (kept, others) = later.split_at(kept);
    // From the newest on, each durably: a gap in the numbers would mean damage.
    for segment in others.iter().rev() {
        remove(storage, &segment::name(segment.number))?;
    }
    let open = |segment: &LaterSegment| {
        let name = segment::name(segment.number);
        let open = storage.open(&name);
        open.map_err(|error| WalError::io("open", storage.path().join(&name), error))
    };
    kept.iter().map(open).collect()
}
