//! Rebuilds log and index from Postgres, for a machine that lost them.
//!
//! They are built in a directory `restoring` inside the data directory, and moved into target once
//! all is durable and every server has committed. A server does not start while that directory
//! exists, so an interrupted restore is detected and can be repeated.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use super::OfflineError;
use super::reserved::Reserved;
use crate::data_dir::{DataDir, LOST_AND_FOUND};
use crate::index::{DEFAULT_CACHE_BYTES, IndexFiller};
use crate::projection::{PostgresRestore, PostgresServers};
use crate::wal::{self, LogId, Lsn, WalOptions};

/// The result of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The new log. Servers of the old one can no longer write to Postgres.
    pub log_id: LogId,
    /// Orders restored.
    pub orders: u64,
    /// How many of them are open.
    pub open: u64,
    /// What Postgres lacks, one sentence each; only after a forced restore.
    pub lacking: Vec<String>,
}

/// Fills an empty data directory from Postgres, and takes over there: earlier writers are
/// superseded. Only by force if rows are missing that other rows refer to.
///
/// # Errors
/// The directory is not empty; Postgres cannot be read or taken over, or members run with its orders. The
/// restore can be repeated.
pub fn restore(
    data_dir: &DataDir,
    servers: &PostgresServers,
    is_forced: bool,
) -> Result<Restored, OfflineError> {
    let target = RestoreTarget::prepare(data_dir)?;
    let (postgres, restored) = match fill(&target.restoring, servers, is_forced) {
        Ok(filled) => filled,
        Err(error) => {
            target.abandon();
            return Err(error);
        }
    };
    // Postgres first: records that it does not follow would be worse than none.
    postgres.commit()?;
    target.finish()?;
    Ok(restored)
}

/// Fills a directory. Nothing has changed in Postgres until its part is committed.
fn fill(
    restoring: &DataDir,
    servers: &PostgresServers,
    is_forced: bool,
) -> Result<(PostgresRestore, Restored), OfflineError> {
    let log_id = new_log(restoring)?;
    let mut filler = IndexFiller::create(&restoring.index(), DEFAULT_CACHE_BYTES)?;
    let mut postgres = PostgresRestore::begin(servers, log_id, is_forced)?;
    let mut reserved = Reserved::default();
    loop {
        let orders = postgres.next_orders()?;
        if orders.is_empty() {
            break;
        }
        for order in &orders {
            reserved.add(order.order());
            filler.order(order)?;
        }
    }
    if postgres.keeps_accounts()? {
        fill_accounts(&mut filler, &mut postgres, reserved)?;
    }
    loop {
        let external = postgres.next_external()?;
        if external.is_empty() {
            break;
        }
        external.iter().try_for_each(|(id, order_id)| filler.external(id, *order_id))?;
    }
    let (orders, open) = filler.counts();
    filler.finish(log_id, postgres.feed_position()?)?;
    let lacking = postgres.lacking().to_vec();
    Ok((postgres, Restored { log_id, orders, open, lacking }))
}

/// Fills in the accounts. Each balances, and reserves what its open orders do.
fn fill_accounts(
    filler: &mut IndexFiller,
    postgres: &mut PostgresRestore,
    mut reserved: Reserved,
) -> Result<(), OfflineError> {
    filler.keep_accounts();
    loop {
        let accounts = postgres.next_accounts()?;
        if accounts.is_empty() {
            break;
        }
        for (user, account) in &accounts {
            if !reserved.take_if_equal(user, account) {
                return Err(OfflineError::Reserved { user: user.to_string() });
            }
            filler.account(user, account)?;
        }
    }
    match reserved.left() {
        Some(user) => Err(OfflineError::Reserved { user: user.to_string() }),
        None => Ok(()),
    }
}

/// Checks that no restore into a data directory is running or was interrupted.
///
/// # Errors
/// [`OfflineError::HalfRestored`].
pub fn check_restored(data_dir: &DataDir) -> Result<(), OfflineError> {
    if data_dir.restoring().path().exists() {
        return Err(OfflineError::HalfRestored { data_dir: data_dir.path().to_path_buf() });
    }
    Ok(())
}

/// Creates a log without records, durably.
fn new_log(directory: &DataDir) -> Result<LogId, OfflineError> {
    let options = WalOptions::new(directory.wal());
    let recovery = wal::recover(&options, Lsn(0), &mut |_| Ok(()))?;
    let (_appender, writer) = wal::open(options, recovery)?;
    Ok(writer.handle().log_id())
}

/// A data directory that is being filled.
struct RestoreTarget {
    data_dir: DataDir,
    restoring: DataDir,
    _lock: File,
}

impl RestoreTarget {
    /// Checks that the directory is empty, except for the remains of an interrupted restore.
    fn prepare(data_dir: &DataDir) -> Result<Self, OfflineError> {
        create_durably(data_dir.path())?;
        let restoring = data_dir.restoring();
        if !restoring.path().exists() {
            check_empty(data_dir.path())?;
            make_directory(restoring.path())?;
        }
        let lock_path = restoring.fill_lock();
        let lock = File::create(&lock_path).map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OfflineError::InUse { data_dir: data_dir.path().to_path_buf() });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &lock_path)(error)),
        }
        // No server has ever started with these.
        for directory in [data_dir, &restoring] {
            remove_directory(&directory.wal())?;
            remove_directory(&directory.index())?;
        }
        sync(data_dir.path())?;
        Ok(Self { data_dir: data_dir.clone(), restoring, _lock: lock })
    }

    /// Leaves the directory as it was, as far as possible: the reason of the failure is what matters.
    fn abandon(self) {
        let _half_restored = fs::remove_dir_all(self.restoring.path());
    }

    /// Moves the records into target.
    fn finish(self) -> Result<(), OfflineError> {
        for place in [DataDir::index, DataDir::wal] {
            let (from, to) = (place(&self.restoring), place(&self.data_dir));
            fs::rename(&from, &to).map_err(failed("move into place", &from))?;
        }
        sync(self.data_dir.path())?;
        // Last: a server may start from here on.
        let restoring = self.restoring.path();
        fs::remove_dir_all(restoring).map_err(failed("remove", restoring))?;
        sync(self.data_dir.path())
    }
}

fn check_empty(data_dir: &Path) -> Result<(), OfflineError> {
    let entries = fs::read_dir(data_dir).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<OsString>>>()
    });
    let names = entries.map_err(failed("list", data_dir))?;
    let first = names.into_iter().filter(|name| name != LOST_AND_FOUND).min();
    let Some(first) = first else { return Ok(()) };
    let found = first.to_string_lossy().into_owned();
    Err(OfflineError::NotEmpty { data_dir: data_dir.to_path_buf(), found })
}

/// Creates a directory and every missing parent, each durable in its own parent.
fn create_durably(path: &Path) -> Result<(), OfflineError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_durably(parent)?;
    }
    make_directory(path)
}

fn make_directory(path: &Path) -> Result<(), OfflineError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed("create the directory", path)(error));
        }
        _ => {}
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        Some(_) => sync(Path::new(".")),
        None => Ok(()),
    }
}

fn remove_directory(path: &Path) -> Result<(), OfflineError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

fn sync(directory: &Path) -> Result<(), OfflineError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(failed("sync", directory))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OfflineError + use<> {
    let path = path.to_path_buf();
    move |source| OfflineError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_directory_is_prepared() {
        let data = tempfile::tempdir().unwrap();
        let data_dir = DataDir::from(data.path().join("deep/data"));
        fs::create_dir_all(data_dir.path()).unwrap();
        fs::write(data_dir.token_secret(), "x").unwrap();
        let refused = RestoreTarget::prepare(&data_dir).err().unwrap().to_string();
        assert!(refused.contains("\"jwt-secret\"") && refused.contains("empty"), "{refused}");
        fs::remove_file(data_dir.token_secret()).unwrap();
        fs::create_dir(data_dir.path().join(LOST_AND_FOUND)).unwrap();
        let target = RestoreTarget::prepare(&data_dir).unwrap();
        let second = RestoreTarget::prepare(&data_dir).err().unwrap();
        assert!(matches!(second, OfflineError::InUse { .. }), "{second}");
        drop(target);
    }

    #[test]
    fn an_interrupted_restore_is_detected_and_repeated() {
        let data = tempfile::tempdir().unwrap();
        let data_dir = DataDir::from(data.path().join("data"));
        assert!(check_restored(&data_dir).is_ok(), "nothing there yet");
        let target = RestoreTarget::prepare(&data_dir).unwrap();
        let first = new_log(&target.restoring).unwrap();
        fs::create_dir(target.restoring.index()).unwrap();
        // Killed between the two renames.
        fs::rename(target.restoring.index(), data_dir.index()).unwrap();
        drop(target);
        let half = check_restored(&data_dir).unwrap_err().to_string();
        assert!(half.contains("run `longbow restore"), "{half}");

        let target = RestoreTarget::prepare(&data_dir).unwrap();
        assert!(!data_dir.index().exists(), "the remains are gone");
        let second = new_log(&target.restoring).unwrap();
        assert_ne!(first, second);
        fs::create_dir(target.restoring.index()).unwrap();
        target.finish().unwrap();
        check_restored(&data_dir).unwrap();
        let log_start = wal::log_start(&WalOptions::new(data_dir.wal())).unwrap();
        assert_eq!((log_start.log_id, log_start.first_lsn), (Some(second), Lsn(1)));
    }
}
