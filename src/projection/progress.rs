//! How far Postgres has come, for threads that wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sync::{Beyond, LowWatermark};
use crate::wal::Lsn;

/// Tasks that wait for Postgres: the orders thread's, and one to spare.
const MAX_TASKS: usize = 2;

/// How far all servers have followed the log, and whether they are too far behind. Clones are the
/// same. Each server's thread moves its own part; the orders thread waits.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// For each server the last record that it needs nothing of any more.
    servers: LowWatermark,
    is_backlogged: AtomicBool,
    /// Whether it is awaited and does not follow in time.
    is_late: AtomicBool,
}

impl Progress {
    /// Of so many servers, none of which has anything yet.
    pub fn new(servers: usize) -> Self {
        Self(Arc::new(Shared {
            servers: LowWatermark::new(servers, MAX_TASKS),
            is_backlogged: AtomicBool::new(false),
            is_late: AtomicBool::new(false),
        }))
    }

    /// Everything up to this record is committed by every server. Never goes back.
    pub fn committed(&self) -> Lsn {
        Lsn(self.0.servers.lowest().get())
    }

    /// Waits until every server has more than `seen`.
    pub fn beyond(&self, seen: Lsn) -> Beyond<'_> {
        self.0.servers.lowest().beyond(seen.0)
    }

    /// Whether new orders are to be refused, because the log has grown to the limit.
    pub fn is_backlogged(&self) -> bool {
        self.0.is_backlogged.load(Ordering::Relaxed)
    }

    /// Why new orders are refused because of it, if they are.
    pub fn trouble(&self) -> Option<&'static str> {
        if self.is_backlogged() {
            return Some("Postgres is too far behind: new orders are refused until it catches up");
        }
        let is_late = self.0.is_late.load(Ordering::Relaxed);
        is_late.then_some("Postgres lags too far: new orders are refused until it catches up")
    }

    /// Says whether new orders are refused because it is awaited and does not follow in time.
    pub fn set_late(&self, is_late: bool) {
        self.0.is_late.store(is_late, Ordering::Relaxed);
    }

    /// A server has everything up to this record.
    pub fn reach(&self, server: usize, lsn: Lsn) {
        self.0.servers.advance(server, lsn.0);
    }

    /// Says whether the log has grown to the limit.
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
