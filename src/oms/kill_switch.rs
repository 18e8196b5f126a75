//! The operators' kill switch: refuses new orders of everybody, of some users or in some symbols
//! until it is lifted. Cancels and reads go on.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use serde_json::error::Category;

use super::halts::{HaltChange, Halts, TooManyHalts};
use crate::engine::HaltScope;
use crate::types::{Symbol, TimestampMicros, UserId};

/// Longest file that is read: both lists full of the longest names, as JSON.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Why a start cannot restore the halts of the previous run.
#[derive(Debug, thiserror::Error)]
pub enum KillSwitchError {
    /// The file cannot be read.
    #[error("the kill switch's file {path} cannot be read", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The contents are invalid.
    #[error(
        "the kill switch's file {path} cannot be read: {problem}; fix it, or remove it to lift every halt",
        path = path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// It halts too many users or symbols one by one.
    #[error(transparent)]
    TooMany(#[from] TooManyHalts),
}

/// The kill switch of the process, usable from any thread.
#[derive(Debug, Clone)]
pub struct KillSwitch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    halts: ArcSwap<Halts>,
    /// Why a restart may not find the halts: the file could not be written.
    unwritten: ArcSwapOption<String>,
    path: PathBuf,
    /// Held while a change is written, so that changes do not overtake each other.
    writing: Mutex<()>,
}

impl KillSwitch {
    /// Restores the halts from the file; nothing is halted if there is none.
    ///
    /// # Errors
    /// The file cannot be read. Whether orders may be taken is then unknown, so none are.
    pub fn open(path: PathBuf) -> Result<Self, KillSwitchError> {
        let halts = read(&path)?;
        if halts.any() {
            let (users, symbols) = (halts.user_list(), halts.symbol_list());
            let (by, reason) = (halts.by.as_deref(), halts.reason.as_deref());
            let all = halts.all;
            tracing::warn!(all, %users, %symbols, by, reason, "the kill switch is on");
        }
        Ok(Self::with(halts, path))
    }

    /// A switch with these halts, whose changes go to the file.
    pub(crate) fn with(halts: Halts, path: PathBuf) -> Self {
        let halts = ArcSwap::from_pointee(halts);
        let unwritten = ArcSwapOption::empty();
        Self(Arc::new(Inner { halts, unwritten, path, writing: Mutex::new(()) }))
    }

    /// The halts in force.
    pub fn halts(&self) -> Arc<Halts> {
        self.0.halts.load_full()
    }

    /// The scope of the halt that applies to a new order of this user in this symbol, if any.
    pub fn halted(&self, user: &UserId, symbol: Symbol) -> Option<HaltScope> {
        let halts = self.0.halts.load();
        if halts.all {
            Some(HaltScope::All)
        } else if halts.users.contains(user) {
            Some(HaltScope::User)
        } else if halts.symbols.contains(&symbol) {
            Some(HaltScope::Symbol)
        } else {
            None
        }
    }

    /// Why a restart may not find the halts in force, if so: the file could not be written. The
    /// next change that is written clears this.
    pub fn unwritten(&self) -> Option<Arc<String>> {
        self.0.unwritten.load_full()
    }

    /// Applies a change. It is in force at once: an emergency does not wait for a disk that is full
    /// or hangs. When this returns it is durable too, or [`unwritten`](Self::unwritten) says why
    /// not. Blocks on the disk.
    ///
    /// # Errors
    /// The change exceeds a limit; nothing has changed.
    pub fn change(
        &self,
        change: HaltChange,
        now: TimestampMicros,
    ) -> Result<Arc<Halts>, TooManyHalts> {
        // A thread that panicked here has changed nothing.
        let _writing = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.halts();
        let halts = before.changed(change, now);
        halts.check()?;
        assert_eq!(halts.changed_at, Some(now), "a change says when it was made");
        let halts = Arc::new(halts);
        self.put_in_force(Arc::clone(&halts));
        let written = write(&self.0.path, &halts);
        let unwritten = written.err().map(|error| Arc::new(not_durable(&self.0.path, &error)));
        self.0.unwritten.store(unwritten);
        Ok(halts)
    }

    /// Replaces the halts in force, not those in the file.
    pub(crate) fn put_in_force(&self, halts: Arc<Halts>) {
        self.0.halts.store(halts);
    }
}

fn read(path: &Path) -> Result<Halts, KillSwitchError> {
    let unusable = |source| KillSwitchError::File { path: path.to_owned(), source };
    let content = |problem| KillSwitchError::Content { path: path.to_owned(), problem };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Halts::default()),
        Err(error) => return Err(unusable(error)),
        Ok(found) if found.len() > MAX_FILE_BYTES => {
            return Err(content(format!("it has {} bytes", found.len())));
        }
        Ok(_) => {}
    }
    let text = fs::read(path).map_err(unusable)?;
    serde_json::from_slice(&text).map_err(|error| content(unreadable(&error)))
}

/// Describes the problem of a file that this program did not write.
fn unreadable(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Eof if line <= 1 && column == 0 => "it is empty".to_owned(),
        Category::Eof => format!("it ends early, in line {line}"),
        Category::Data => {
            format!("a field is missing or has the wrong type in line {line}, column {column}")
        }
        Category::Syntax | Category::Io => {
            format!("it is not valid JSON in line {line}, column {column}")
        }
    }
}

/// Why a change in force may be lost by a restart, and what to do about it.
fn not_durable(path: &Path, error: &io::Error) -> String {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let remedy = if is_full { "free space on the disk" } else { "fix the cause" };
    let path = path.display();
    format!(
        "The change is in force, but may not survive a restart: {path} cannot be written ({error}). \
         To make it durable, {remedy} and send the same request again."
    )
}

/// Atomic and durable: a new file replaces the old one, and the directory is synced.
fn write(path: &Path, halts: &Halts) -> io::Result<()> {
    let draft = path.with_extension("json.new");
    let text = serde_json::to_vec_pretty(halts)?;
    let drafted = File::create(&draft).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    if let Err(error) = drafted {
        // A partial draft is useless and takes up space.
        let _gone = fs::remove_file(&draft);
        return Err(error);
    }
    fs::rename(&draft, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    // A path without a directory is one in the working directory.
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
#[path = "kill_switch_tests.rs"]
mod tests;
