//! Verification: what is readable in a log, past any damage.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::log_id::LogId;
use super::record::RECORD_ALIGNMENT;
use super::recovery::{check_end, recover_from};
use super::scan::Window;
use super::segment::{self, FIRST_BATCH_OFFSET, SegmentHeader};
use super::storage::{Directory, Storage};
use super::taken;
use super::{BLOCK_BYTES, Lsn, WalError, block_floor};

/// The readable contents of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentReport {
    pub file: PathBuf,
    /// Whether the header is intact.
    pub header_is_intact: bool,
    /// Number of intact records.
    pub records: u64,
    /// The first intact record; 0 if there is none.
    pub first_lsn: Lsn,
    /// The last intact record; 0 if there is none.
    pub last_lsn: Lsn,
    /// Bytes that are neither zero nor in an intact record.
    pub unreadable_bytes: u64,
    /// Offset of the first of them.
    pub first_unreadable: Option<u64>,
}

/// The readable contents of a log. Displays as one line per segment and one for the verdict.
#[derive(Debug)]
pub struct Verification {
    pub segments: Vec<SegmentReport>,
    /// The number of records and of torn bytes that [`recover`](super::recover) would find after
    /// what the store has, or why it would refuse.
    pub verdict: Result<(u64, u64), WalError>,
    /// Damage in records that the store has and no start reads.
    pub old_damage: Option<OldDamage>,
}

/// Damage that does not keep a server from starting.
#[derive(Debug)]
pub struct OldDamage {
    /// The store has everything up to this record.
    pub stored: Lsn,
    /// The damage found before it.
    pub error: WalError,
}

/// Reads all of a log, past any damage. Takes no lock and changes nothing, so it works beside a
/// running server; what that is writing at the moment may look torn. `stored` is the position of
/// the store, if it could be asked; the position noted beside the log counts as well. Every record
/// that the store has was durable, so a log that ends before that has lost its tail.
///
/// # Errors
/// [`WalError::Io`] if files cannot be read at all.
pub fn verify(directory: &Path, stored: Option<Lsn>) -> Result<Verification, WalError> {
    let storage = Arc::new(Directory::open_unlocked(directory)?);
    let numbers = segment::segment_numbers(&*storage)?;
    let mut log_id = None;
    for &number in &numbers {
        let (mut window, _) = open(&storage, number)?;
        log_id = log_id.or(header(&mut window, &storage, number)?.map(|header| header.log_id));
    }
    // Read the position before the records: a running server advances both.
    let stored = stored.max(log_id.and_then(|log_id| taken::read(&*storage, LogId(log_id))));
    let opens = |after| {
        let recovery = recover_from(storage.clone(), after, &mut |_| Ok(()))?;
        if let Some(stored) = stored {
            check_end(&*storage, stored, recovery.next_lsn)?;
        }
        Ok((recovery.records, recovery.torn_bytes))
    };
    let mut verdict = opens(None);
    let mut old_damage = None;
    // As a start does, which begins with the segment that holds the store's position.
    if let Some(stored) = stored
        && matches!(verdict, Err(WalError::Damaged { .. }))
        && let Ok(found) = opens(Some(stored))
        && let Err(error) = std::mem::replace(&mut verdict, Ok(found))
    {
        old_damage = Some(OldDamage { stored, error });
    }
    let mut segments = Vec::new();
    for number in numbers {
        // Without a readable header the id is unknown, and no record verifies.
        segments.push(report(&storage, number, log_id.unwrap_or_default())?);
    }
    Ok(Verification { segments, verdict, old_damage })
}

type DirectoryWindow = Window<<Directory as Storage>::File>;

fn open(storage: &Directory, number: u64) -> Result<(DirectoryWindow, PathBuf), WalError> {
    let name = segment::name(number);
    let path = storage.path().join(&name);
    let window = storage.open(&name).and_then(Window::new);
    Ok((window.map_err(|error| WalError::io("read", &path, error))?, path))
}

fn header(
    window: &mut DirectoryWindow,
    storage: &Directory,
    number: u64,
) -> Result<Option<SegmentHeader>, WalError> {
    let block = window
        .bytes(0, BLOCK_BYTES)
        .map_err(|error| WalError::io("read", storage.path().join(segment::name(number)), error))?;
    Ok(SegmentHeader::decode(block).filter(|header| header.number == number))
}

fn report(storage: &Directory, number: u64, log_id: u64) -> Result<SegmentReport, WalError> {
    let (mut window, file) = open(storage, number)?;
    let mut report = SegmentReport {
        header_is_intact: header(&mut window, storage, number)?.is_some(),
        records: 0,
        first_lsn: Lsn(0),
        last_lsn: Lsn(0),
        unreadable_bytes: 0,
        first_unreadable: None,
        file,
    };
    let read = read_all(&mut window, log_id, &mut report);
    read.map_err(|error| WalError::io("read", &report.file, error))?;
    report.check();
    Ok(report)
}

fn read_all(
    window: &mut DirectoryWindow,
    log_id: u64,
    report: &mut SegmentReport,
) -> std::io::Result<()> {
    let mut at = FIRST_BATCH_OFFSET;
    while at < window.file_bytes() {
        assert!(
            at.is_multiple_of(RECORD_ALIGNMENT as u64),
            "records are padded to their alignment"
        );
        let next_block = block_floor(at) + BLOCK_BYTES as u64;
        if window.is_zero(at, next_block)? {
            at = next_block;
        } else if let Some((header, _)) = window.record(at, log_id)? {
            if report.records == 0 {
                report.first_lsn = Lsn(header.lsn);
            }
            report.last_lsn = Lsn(header.lsn);
            report.records += 1;
            at += header.record_bytes() as u64;
        } else {
            let unit_end = at + RECORD_ALIGNMENT as u64;
            if !window.is_zero(at, unit_end)? {
                report.first_unreadable.get_or_insert(at);
                report.unreadable_bytes += RECORD_ALIGNMENT as u64;
            }
            at = unit_end;
        }
    }
    Ok(())
}

impl SegmentReport {
    /// Checks that its figures are of the same bytes.
    fn check(&self) {
        assert_eq!(self.records == 0, self.last_lsn == Lsn(0), "a record has a number from 1 on");
        assert_eq!(
            self.unreadable_bytes == 0,
            self.first_unreadable.is_none(),
            "unreadable bytes begin somewhere"
        );
    }
}

fn counted(records: u64) -> String {
    if records == 1 { "1 record".to_owned() } else { format!("{records} records") }
}

impl fmt::Display for SegmentReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        match self.records {
            0 => f.write_str("no record")?,
            records => {
                let (first, last) = (self.first_lsn, self.last_lsn);
                write!(f, "{}, from {first} to {last}", counted(records))?;
            }
        }
        if !self.header_is_intact {
            f.write_str("; its header is unreadable")?;
        }
        if let Some(first) = self.first_unreadable {
            write!(f, "; {} bytes are unreadable, from byte {first} on", self.unreadable_bytes)?;
        }
        Ok(())
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            writeln!(f, "{segment}")?;
        }
        if let Some(OldDamage { stored, error }) = &self.old_damage {
            writeln!(
                f,
                "records that the store already has, up to {stored}, are damaged; no start reads them: {error}"
            )?;
            writeln!(
                f,
                "only a Postgres that lags that far (run `longbow backfill`) or a rebuilt store would \
                 need them: back up index/ and wal/"
            )?;
        }
        match &self.verdict {
            Ok((records, torn_bytes)) if self.old_damage.is_some() => write!(
                f,
                "the log will open with {} past those of the store, and will truncate {torn_bytes} \
                 bytes of a torn last batch",
                counted(*records)
            ),
            Ok((records, 0)) => write!(f, "the log is whole: {}", counted(*records)),
            Ok((records, torn_bytes)) => write!(
                f,
                "the log will open with {}, and will truncate {torn_bytes} bytes of a torn last \
                 batch",
                counted(*records)
            ),
            Err(error) => write!(f, "the log will not open: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_is_no_plural() {
        let said = |records, torn_bytes| {
            let verdict = Ok((records, torn_bytes));
            Verification { segments: Vec::new(), verdict, old_damage: None }.to_string()
        };
        assert_eq!(said(1, 0), "the log is whole: 1 record");
        assert!(
            said(1, 16).contains("open with 1 record, ") && said(2, 16).contains("2 records, ")
        );
    }
}
