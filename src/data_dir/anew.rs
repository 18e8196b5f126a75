use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::DataDir;

/// A data directory whose log and store begin anew: those of a member of a cluster, whose orders are all
/// in Postgres. No other member can use it until this is dropped.
#[derive(Debug)]
pub struct BegunAnew {
    _lock: File,
}

/// Why a log cannot begin anew.
#[derive(Debug, thiserror::Error)]
pub enum BeginAnewError {
    /// The directory has the orders of a node that was alone.
    #[error(
        "{} has the orders of a node that shared no users, and is not for a member of a cluster: start it without --redis until Postgres has all of them (`longbow verify --postgres`), then start the member with a new directory{}",
        .directory.display(), .kill_switch.as_deref().map(moved).unwrap_or_default()
    )]
    HasOrders {
        /// The directory.
        directory: PathBuf,
        /// What operators have halted, if there is a file with that.
        kill_switch: Option<PathBuf>,
    },
    /// Another member uses the directory.
    #[error("{} is in use by another process: stop that one first, or choose another --data-dir", .directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory cannot be changed.
    #[error("cannot change {}", .path.display())]
    Io {
        /// What cannot be changed.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn moved(kill_switch: &Path) -> String {
    format!(", into which you copy {}: what operators have halted", kill_switch.display())
}

impl BegunAnew {
    /// Removes what an earlier member has left of its log and store.
    ///
    /// # Errors
    /// The directory is in use, has orders of a node that was no member, or cannot be changed.
    pub fn begin(directory: &DataDir) -> Result<Self, BeginAnewError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| BeginAnewError::Io { path, source }
        };
        let marker = directory.member();
        let is_of_member = marker.exists();
        let has_orders = directory.wal().exists() || directory.index().exists();
        if has_orders && !is_of_member {
            return Err(BeginAnewError::HasOrders {
                directory: directory.path().to_path_buf(),
                kill_switch: Some(directory.kill_switch()).filter(|file| file.exists()),
            });
        }
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&marker);
        let lock = opened.map_err(failed(&marker))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(BeginAnewError::InUse { directory: directory.path().to_path_buf() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(&marker)(source)),
        }
        for path in [directory.wal(), directory.index()] {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(failed(&path))?,
            }
        }
        Ok(Self { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_member_has_left_is_removed_and_by_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = DataDir::from(directory.path());
        fs::create_dir(data_dir.wal()).unwrap();
        let refused = BegunAnew::begin(&data_dir).unwrap_err();
        assert!(matches!(refused, BeginAnewError::HasOrders { .. }), "{refused}");
        assert!(!refused.to_string().contains("kill-switch.json"), "{refused}");
        fs::write(data_dir.kill_switch(), "{}").unwrap();
        let refused = BegunAnew::begin(&data_dir).unwrap_err().to_string();
        assert!(refused.contains("into which you copy") && refused.contains("kill-switch.json"));
        fs::remove_dir(data_dir.wal()).unwrap();
        let first = BegunAnew::begin(&data_dir).unwrap();
        fs::create_dir(data_dir.wal()).unwrap();
        let second = BegunAnew::begin(&data_dir).unwrap_err();
        assert!(matches!(second, BeginAnewError::InUse { .. }), "{second}");
        assert!(data_dir.wal().exists());
        drop(first);
        BegunAnew::begin(&data_dir).unwrap();
        assert!(!data_dir.wal().exists(), "what an earlier member has left");
    }
}
