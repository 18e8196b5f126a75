//! The file in which a node without others keeps what operators have halted.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::error::Category;

use super::halts::{Halts, TooManyHalts};

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

/// The halts in the file; none if there is no file.
pub(super) fn read(path: &Path) -> Result<Halts, KillSwitchError> {
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

/// Describes the problem of a text that this program did not write.
pub(super) fn unreadable(error: &serde_json::Error) -> String {
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
pub(super) fn not_durable(path: &Path, error: &io::Error) -> String {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let remedy = if is_full { "free space on the disk" } else { "fix the cause" };
    let path = path.display();
    format!(
        "The change is in force, but may not survive a restart: {path} cannot be written ({error}). \
         To make it durable, {remedy} and send the same request again."
    )
}

/// Atomic and durable: a new file replaces the old one, and the directory is synced.
pub(super) fn write(path: &Path, halts: &Halts) -> io::Result<()> {
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
