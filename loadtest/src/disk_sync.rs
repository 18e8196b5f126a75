//! The unit of order latency: one `fdatasync` after a 4 KiB write to the same disk, measured between
//! the windows of the same run.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::{
    clock::Moment,
    error::{Context, Error, Result},
};

/// Bytes written per sync; also the alignment that `O_DIRECT` requires.
const BLOCK_BYTES: usize = 4096;
/// Blocks of the file, all written in advance, so that no write changes the file's size.
const BLOCKS: usize = 1024;
/// Syncs per measurement.
const SYNCS: usize = 200;

/// A file on the measured disk, removed at the end.
#[derive(Debug)]
pub(crate) struct DiskSync {
    file: File,
    path: PathBuf,
    memory: Vec<u8>,
    /// Where the next block goes.
    next: usize,
}

/// Microseconds of one sync.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SyncMicros {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl DiskSync {
    /// Creates the file as the log creates its segments: zero-filled, and bypassing the page cache if
    /// the file system allows it.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be created.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let path = directory.join(format!("sync-{}", std::process::id()));
        let what = format!("making {}", path.display());
        fs::create_dir_all(directory).context(&what)?;
        fs::write(&path, vec![0; BLOCKS * BLOCK_BYTES]).context(&what)?;
        let open = |flags: OFlags| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(flags.bits().cast_signed()).open(&path)
        };
        let file = open(OFlags::DIRECT).or_else(|_| open(OFlags::empty())).context(&what)?;
        file.sync_all().context(&what)?;
        Ok(Self { file, path, memory: vec![1; 2 * BLOCK_BYTES], next: 0 })
    }

    /// Measures a series of syncs.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses one.
    pub(crate) fn measure(&mut self) -> Result<SyncMicros> {
        let address = self.memory.as_ptr().addr();
        let start = address.next_multiple_of(BLOCK_BYTES) - address;
        let block = self.memory.get(start..start + BLOCK_BYTES).unwrap_or_default();
        let mut nanos = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let began = Moment::now();
            let written = self.file.write_all_at(block, (self.next * BLOCK_BYTES) as u64);
            written.and_then(|()| self.file.sync_data()).context("syncing a block")?;
            nanos.push(Moment::now().nanos_since(began));
            self.next = (self.next + 1) % BLOCKS;
        }
        nanos.sort_unstable();
        let at = |index: usize| nanos.get(index).map(|nanos| *nanos as f64 / 1_000.0);
        let none = || Error::Thread("sync");
        let (p50, p99) = (at(SYNCS / 2).ok_or_else(none)?, at(SYNCS * 99 / 100).ok_or_else(none)?);
        Ok(SyncMicros { p50, p99 })
    }
}

impl Drop for DiskSync {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_are_measured_and_the_file_goes() {
        let directory =
            std::env::temp_dir().join(format!("longbow-sync-test-{}", std::process::id()));
        let mut disk = DiskSync::open(&directory).unwrap();
        let measured = disk.measure().unwrap();
        assert!(measured.p50 > 0.0 && measured.p99 >= measured.p50);
        drop(disk);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir(&directory).unwrap();
    }
}
