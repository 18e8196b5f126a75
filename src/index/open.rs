//! Opens an index: checks that it and the log belong together, and moves a damaged one aside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fjall_store::{FjallStore, is_damage};
use super::node::{self, INDEX_FORMAT, Meta};
use super::store::Store;
use super::{IndexError, IndexOptions};
use crate::wal::Lsn;

/// Most damaged indexes kept beside the one in use; the last one is overwritten.
const MAX_DAMAGED: u32 = 16;

pub(super) fn open(options: &IndexOptions) -> Result<(Arc<FjallStore>, Option<Meta>), IndexError> {
    let directory = &options.directory;
    let first = options.log.first_lsn;
    if is_missing(directory)? {
        if first > Lsn(1) {
            return Err(IndexError::Missing { directory: directory.clone(), first });
        }
        make_durably(directory)?;
        return Ok((Arc::new(FjallStore::open(directory, options.cache_bytes)?), None));
    }
    match open_existing(options) {
        Err(error) if is_damage(&error) && first > Lsn(1) => Err(IndexError::Damaged {
            directory: directory.clone(),
            first,
            source: Box::new(error),
        }),
        Err(error) if is_damage(&error) => {
            let aside = move_aside(directory)?;
            tracing::warn!(
                directory = %directory.display(),
                moved_to = %aside.display(),
                error = &error as &dyn std::error::Error,
                "the index is damaged: it was moved aside and is rebuilt from the log"
            );
            Ok((Arc::new(FjallStore::open(directory, options.cache_bytes)?), None))
        }
        opened => opened,
    }
}

/// Opens an existing index; leaves one alone that cannot be read.
pub(super) fn open_existing(
    options: &IndexOptions,
) -> Result<(Arc<FjallStore>, Option<Meta>), IndexError> {
    let directory = options.directory.clone();
    if is_missing(&directory)? {
        return Err(IndexError::NotThere { directory });
    }
    let store = Arc::new(FjallStore::open(&directory, options.cache_bytes)?);
    let meta = node::meta(&*Arc::clone(&store).view())?;
    let position = meta.map_or(Lsn(0), |meta| meta.position);
    if let Some(Meta { format, log_id, .. }) = meta {
        if format > INDEX_FORMAT {
            return Err(IndexError::Newer { directory, found: format, newest: INDEX_FORMAT });
        }
        match options.log.log_id {
            Some(log) if log != log_id => {
                return Err(IndexError::OtherLog { directory, index_log: log_id, log });
            }
            None if position > Lsn(0) => {
                return Err(IndexError::LogMissing { directory, index_log: log_id, position });
            }
            Some(_) | None => {}
        }
    }
    let first = options.log.first_lsn;
    // Saturating: the position is what the disk says.
    if first.0 > position.0.saturating_add(1) {
        return Err(IndexError::TooOld { directory, position, first });
    }
    Ok((store, meta))
}

/// Whether the directory is missing or empty.
pub(super) fn is_missing(directory: &Path) -> Result<bool, IndexError> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => {
            Err(IndexError::Io { action: "list", path: directory.to_path_buf(), source })
        }
    }
}

/// Creates a directory that survives a power cut: the log is cut up to what is in it.
pub(super) fn make_durably(directory: &Path) -> Result<(), IndexError> {
    let failed = |action, source| {
        let path = directory.to_path_buf();
        IndexError::Io { action, path, source }
    };
    fs::create_dir_all(directory).map_err(|source| failed("create the directory", source))?;
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let synced = fs::File::open(parent).and_then(|parent| parent.sync_all());
    synced.map_err(|source| failed("sync the parent of", source))
}

/// Renames a damaged index to `<directory>.damaged-<n>`.
fn move_aside(directory: &Path) -> Result<PathBuf, IndexError> {
    let name_with = |number: u32| {
        // A path such as `..` has no name.
        let mut name = directory.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".damaged-{number}"));
        directory.with_file_name(name)
    };
    let free = (1..=MAX_DAMAGED).map(name_with).find(|path| !path.exists());
    let aside = free.unwrap_or_else(|| name_with(MAX_DAMAGED));
    let failed = |action, path: &Path| {
        let path = path.to_path_buf();
        move |source| IndexError::Io { action, path, source }
    };
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(failed("remove", &aside))?;
    }
    fs::rename(directory, &aside).map_err(failed("move aside", directory))?;
    make_durably(directory)?;
    Ok(aside)
}
