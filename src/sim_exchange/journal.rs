//! The file that makes orders survive. Entries go to the kernel with one `write` before the answer
//! or feed line that reports them is sent, so they survive the death of the process at any moment
//! (`kill -9`). They are not synced: a crash of the machine can lose the newest ones.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::SimError;
use super::entry::{Entry, FRAME_HEADER_BYTES, MAX_PAYLOAD_BYTES, checksum};

/// First bytes of the file: file type and format version.
const MAGIC: &[u8; 8] = b"LBSIMJ\x01\n";
/// Appended bytes after which the file is rewritten without forgotten records: about three million
/// orders with a fill each.
const COMPACT_AFTER_BYTES: u64 = 512 << 20;

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    file: File,
    /// Bytes appended since the file was last rewritten.
    appended: u64,
    /// Length of the file up to its last whole entry.
    length: u64,
    /// A write has failed: part of its entries may follow the last whole one.
    is_torn: bool,
    /// Held while the journal is open, for one process at a time.
    _lock: File,
}

/// What reading a journal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Loaded {
    pub(super) entries: u64,
    /// Bytes of a torn end that were discarded.
    pub(super) torn_bytes: u64,
}

impl Journal {
    /// Locks the directory, creating it if absent, and passes every entry to `visit`, oldest first.
    /// The file is unchanged; [`Self::rewrite`] must follow before anything is appended.
    pub(super) fn open(
        directory: &Path,
        visit: &mut dyn FnMut(Entry<'_>),
    ) -> Result<(Self, Loaded), SimError> {
        fs::create_dir_all(directory).map_err(|e| file_error("create", directory, e))?;
        let lock = lock(directory)?;
        let path = directory.join("journal");
        let file = private().read(true).append(true).create(true).open(&path);
        let file = file.map_err(|e| file_error("open", &path, e))?;
        let loaded = load(&file, visit).map_err(|e| file_error("read", &path, e))?;
        let journal = Self {
            directory: directory.to_owned(),
            file,
            appended: 0,
            length: 0,
            is_torn: false,
            _lock: lock,
        };
        Ok((journal, loaded))
    }

    /// Writes frames to the kernel. After an error the same frames may be appended again: what the
    /// file has of them is cut off first.
    pub(super) fn append(&mut self, frames: &[u8]) -> Result<(), SimError> {
        self.try_append(frames).map_err(|e| file_error("write", &self.path(), e))
    }

    fn try_append(&mut self, frames: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            self.is_torn = false;
        }
        self.is_torn = true;
        self.file.write_all(frames)?;
        self.is_torn = false;
        let written = frames.len() as u64;
        self.length = self.length.saturating_add(written);
        self.appended = self.appended.saturating_add(written);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.directory.join("journal")
    }

    /// Whether enough was appended to make [`Self::rewrite`] worthwhile.
    pub(super) const fn wants_rewrite(&self) -> bool {
        self.appended >= COMPACT_AFTER_BYTES
    }

    /// Replaces the whole journal by `frames`. A process killed midway leaves the old journal, and so
    /// does an error: the old one can still be appended to.
    pub(super) fn rewrite(&mut self, frames: &[u8]) -> Result<(), SimError> {
        let (new, path) = (self.directory.join("journal.new"), self.path());
        let file = private().write(true).create(true).truncate(true).open(&new);
        let mut file = file.map_err(|e| file_error("open", &new, e))?;
        file.write_all(MAGIC).and_then(|()| file.write_all(frames)).map_err(|e| {
            // It takes room that the old one needs; the next attempt replaces it anyway.
            let _left_behind = fs::remove_file(&new);
            file_error("write", &new, e)
        })?;
        fs::rename(&new, &path).map_err(|e| file_error("replace", &path, e))?;
        (self.file, self.appended, self.is_torn) = (file, 0, false);
        self.length = (MAGIC.len() + frames.len()) as u64;
        Ok(())
    }

    /// The journal could not be rewritten: it grows for a while until that is tried again.
    pub(super) fn put_rewrite_off(&mut self) {
        self.appended -= self.appended / 8;
    }
}

/// Readable by the owner only: the journal contains webhook secrets.
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn lock(directory: &Path) -> Result<File, SimError> {
    let path = directory.join("lock");
    let file = private().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|e| file_error("open", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SimError::InUse { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(file_error("lock", &path, source)),
    }
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> SimError {
    SimError::File { action, path: path.to_owned(), source }
}

fn load(file: &File, visit: &mut dyn FnMut(Entry<'_>)) -> io::Result<Loaded> {
    let total = file.metadata()?.len();
    let mut input = BufReader::with_capacity(1 << 20, file);
    let mut magic = [0; MAGIC.len()];
    if fill(&mut input, &mut magic)? < magic.len() {
        return Ok(Loaded { entries: 0, torn_bytes: total }); // killed while creating it
    }
    if &magic != MAGIC {
        let problem = "it does not start as a version 1 journal";
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    let (mut entries, mut good) = (0, MAGIC.len() as u64);
    let mut payload = Vec::new();
    while let Some(length) = next_frame(&mut input, &mut payload)? {
        let Some(entry) = Entry::read(&payload) else { break };
        visit(entry);
        entries += 1;
        good += length;
    }
    Ok(Loaded { entries, torn_bytes: total.saturating_sub(good) })
}

/// Reads a frame's payload and returns the frame's length; `None` at the end, torn or clean.
fn next_frame(input: &mut impl Read, payload: &mut Vec<u8>) -> io::Result<Option<u64>> {
    let mut header = [0; FRAME_HEADER_BYTES];
    if fill(input, &mut header)? < header.len() {
        return Ok(None);
    }
    let [l0, l1, l2, l3, c0, c1, c2, c3] = header;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length == 0 || length > MAX_PAYLOAD_BYTES {
        return Ok(None);
    }
    payload.resize(length, 0);
    if fill(input, payload)? < length || checksum(payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Ok(None);
    }
    Ok(Some((FRAME_HEADER_BYTES + length) as u64))
}

/// Reads until the buffer is full or the input ends; returns the number of bytes.
fn fill(input: &mut impl Read, mut buffer: &mut [u8]) -> io::Result<usize> {
    let wanted = buffer.len();
    while !buffer.is_empty() {
        match input.read(buffer) {
            Ok(0) => break,
            Ok(count) => buffer = buffer.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted - buffer.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(directory: &Path) -> (Vec<u64>, Loaded) {
        let mut seen = Vec::new();
        let (_journal, loaded) = Journal::open(directory, &mut |entry| {
            let Entry::Started { session } = entry else { panic!("only sessions were written") };
            seen.push(session);
        })
        .unwrap();
        (seen, loaded)
    }

    fn frames(sessions: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut out = Vec::new();
        for session in sessions {
            Entry::Started { session }.put(&mut out);
        }
        out
    }

    #[test]
    fn appended_entries_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        {
            let (mut journal, loaded) = Journal::open(directory.path(), &mut |_| {}).unwrap();
            assert_eq!(loaded, Loaded::default());
            journal.rewrite(&frames([1, 2])).unwrap();
            journal.append(&frames([3])).unwrap();
            journal.append(&frames([4, 5])).unwrap();
        }
        assert_eq!(sessions(directory.path()).0, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_torn_or_damaged_end_is_discarded() {
        let directory = tempfile::tempdir().unwrap();
        let mut whole = MAGIC.to_vec();
        whole.extend(frames(1..=3));
        let frame = (whole.len() - MAGIC.len()) / 3;
        for cut in 0..=whole.len() {
            fs::write(directory.path().join("journal"), &whole[..cut]).unwrap();
            let (seen, loaded) = sessions(directory.path());
            let complete = cut.saturating_sub(MAGIC.len()) / frame;
            assert_eq!(seen, (1..=complete as u64).collect::<Vec<_>>(), "cut at {cut}");
            let good = if cut < MAGIC.len() { 0 } else { MAGIC.len() + complete * frame };
            assert_eq!(loaded.torn_bytes, (cut - good) as u64);
        }
        let last = whole.len() - 1;
        whole[last] ^= 1;
        fs::write(directory.path().join("journal"), &whole).unwrap();
        assert_eq!(sessions(directory.path()).0, [1, 2]);
    }

    #[test]
    fn what_a_failed_write_has_left_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        {
            let (mut journal, _) = Journal::open(directory.path(), &mut |_| {}).unwrap();
            journal.rewrite(&frames([1])).unwrap();
            journal.append(&frames([2])).unwrap();
            // As a full disk leaves it.
            journal.file.write_all(&frames([3])[..5]).unwrap();
            journal.is_torn = true;
            journal.append(&frames([3, 4])).unwrap();
        }
        let (seen, loaded) = sessions(directory.path());
        assert_eq!((seen, loaded.torn_bytes), (vec![1, 2, 3, 4], 0));
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = Journal::open(directory.path(), &mut |_| {}).unwrap();
        let second = Journal::open(directory.path(), &mut |_| {});
        assert!(matches!(second, Err(SimError::InUse { .. })));
        drop(first);
        assert!(Journal::open(directory.path(), &mut |_| {}).is_ok());
    }

    #[test]
    fn a_foreign_file_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("journal"), "something else entirely").unwrap();
        let error = Journal::open(directory.path(), &mut |_| {}).map(drop).unwrap_err();
        assert!(error.to_string().contains("journal"), "{error}");
    }
}
