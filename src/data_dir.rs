//! Where everything is that must survive a restart.

mod anew;
mod home;

use std::fmt;
use std::path::{Path, PathBuf};

pub use anew::{BeginAnewError, BegunAnew};
pub use home::DataHome;

/// The data directory of a server. Every path below it has its name here, but for what the log, the
/// store and the simulated exchange have inside the directories of their own.
///
/// ```text
/// wal/                 the log
/// index/               the store, which follows it
/// member               locked by a member of a cluster, whose log and store begin anew
/// home                 where the directory was when it was last used
/// market.checkpoint    the figures of the day
/// candles/             candles of all symbols
/// day-ends/             reports of the comparisons at the ends of days
/// kill-switch.json     what operators have halted, on a node without others
/// jwt-secret           the key of tokens, where none is configured
/// books.sock           where `verify` looks at a running server
/// exchange/            orders of the simulated exchange
/// verifying/index/     copies that `verify` makes of a running server's orders
/// restoring/           log and store while `restore` makes them, laid out as here
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

/// What file systems have at their roots; a directory with nothing else is empty.
pub const LOST_AND_FOUND: &str = "lost+found";

impl DataDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The log.
    pub fn wal(&self) -> PathBuf {
        self.0.join("wal")
    }

    /// The store.
    pub fn index(&self) -> PathBuf {
        self.0.join("index")
    }

    /// Locked by a member of a cluster while it runs.
    pub fn member(&self) -> PathBuf {
        self.0.join("member")
    }

    /// Where the directory was when it was last used.
    pub fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    /// The figures of the day, from which the feed goes on.
    pub fn checkpoint(&self) -> PathBuf {
        self.0.join("market.checkpoint")
    }

    /// Candles of all symbols.
    pub fn candles(&self) -> PathBuf {
        self.0.join("candles")
    }

    /// Reports of the comparisons at the ends of days.
    pub fn day_ends(&self) -> PathBuf {
        self.0.join("day-ends")
    }

    /// What operators have halted.
    pub fn kill_switch(&self) -> PathBuf {
        self.0.join("kill-switch.json")
    }

    /// The key of tokens that the server has made itself.
    pub fn token_secret(&self) -> PathBuf {
        self.0.join("jwt-secret")
    }

    /// The same while a process makes it.
    pub fn token_secret_draft(&self, process_id: u32) -> PathBuf {
        self.0.join(format!("jwt-secret.{process_id}"))
    }

    /// The socket through which `verify` looks at a running server.
    pub fn verify_socket(&self) -> PathBuf {
        self.0.join("books.sock")
    }

    /// The simulated exchange's own directory.
    pub fn exchange(&self) -> PathBuf {
        self.0.join("exchange")
    }

    /// Where `verify` copies the orders of a running server to.
    pub fn verifying(&self) -> Self {
        Self(self.0.join("verifying"))
    }

    /// Where a restore is at work, or was interrupted.
    pub fn restoring(&self) -> Self {
        Self(self.0.join("restoring"))
    }

    /// Locked by whoever fills one of the last two.
    pub fn fill_lock(&self) -> PathBuf {
        self.0.join("lock")
    }
}

impl From<PathBuf> for DataDir {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl From<&Path> for DataDir {
    fn from(path: &Path) -> Self {
        Self(path.to_path_buf())
    }
}

impl From<&DataDir> for DataDir {
    fn from(directory: &DataDir) -> Self {
        directory.clone()
    }
}

impl fmt::Debug for DataDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
