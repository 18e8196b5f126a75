//! How far Postgres has followed the log, for threads that wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sync::{Beyond, LowWatermark};
use crate::wal::Lsn;

/// Tasks that wait for Postgres: one of the orders thread, and one to spare.
const MAX_TASKS: usize = 2;

/// How far all Postgres servers have followed the log, and whether they lag too far. Clones share the
/// state. Each server's thread advances its own part; the orders thread waits.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// For each server, the last record up to which it needs nothing more.
    servers: LowWatermark,
    is_backlogged: AtomicBool,
    /// Whether replies wait for Postgres and it commits too slowly.
    is_late: AtomicBool,
}

impl Progress {
    /// For `servers` servers, none of which has any record yet.
    pub fn new(servers: usize) -> Self {
        Self(Arc::new(Shared {
            servers: LowWatermark::new(servers, MAX_TASKS),
            is_backlogged: AtomicBool::new(false),
            is_late: AtomicBool::new(false),
        }))
    }

    /// The last record up to which every server has committed everything. Never goes back.
    pub fn committed(&self) -> Lsn {
        Lsn(self.0.servers.lowest().get())
    }

    /// Waits until every server has a record after `seen`.
    pub fn beyond(&self, seen: Lsn) -> Beyond<'_> {
        self.0.servers.lowest().beyond(seen.0)
    }

    /// Whether new orders are refused because the log has reached its limit for Postgres.
    pub fn is_backlogged(&self) -> bool {
        self.0.is_backlogged.load(Ordering::Relaxed)
    }

    /// Why new orders are refused because of Postgres, if they are.
    pub fn trouble(&self) -> Option<&'static str> {
        if self.is_backlogged() {
            return Some("Postgres is too far behind: new orders are refused until it catches up");
        }
        let is_late = self.0.is_late.load(Ordering::Relaxed);
        is_late.then_some("Postgres commits too slowly: new orders are refused until it catches up")
    }

    /// Sets whether new orders are refused because replies wait for Postgres and it commits too slowly.
    pub fn set_late(&self, is_late: bool) {
        self.0.is_late.store(is_late, Ordering::Relaxed);
    }

    /// Records that a server has everything up to `lsn`.
    pub fn reach(&self, server: usize, lsn: Lsn) {
        self.0.servers.advance(server, lsn.0);
    }

    /// Sets whether the log has reached its limit for Postgres.
    pub fn set_backlogged(&self, is_backlogged: bool) {
        self.0.is_backlogged.store(is_backlogged, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::pin::pin;

    #[test]
    fn the_slowest_server_counts_and_progress_wakes() {
        let progress = Progress::new(2);
        assert_eq!(progress.committed(), Lsn(0));
        progress.reach(0, Lsn(7));
        assert_eq!(progress.committed(), Lsn(0));
        let mut wait = pin!(progress.beyond(Lsn(0)));
        assert!(block_on(poll_once(&mut wait)).is_none());
        progress.reach(1, Lsn(5));
        assert!(block_on(poll_once(&mut wait)).is_some());
        progress.reach(1, Lsn(4));
        assert_eq!(progress.committed(), Lsn(5), "it never goes back");
    }

    #[test]
    fn without_servers_nothing_waits() {
        assert_eq!(Progress::new(0).committed(), Lsn(u64::MAX));
    }
}
