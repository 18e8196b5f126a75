//! How far Postgres has come, for threads that wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

use crate::wal::Lsn;

/// How far all servers have followed the log, and whether they are too far behind. Clones are the
/// same. Each server's thread moves its own part; one other thread waits.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// For each server the last record that it needs nothing of any more.
    servers: Box<[AtomicU64]>,
    is_backlogged: AtomicBool,
    /// Whether it is awaited and does not follow in time.
    is_late: AtomicBool,
    waker: AtomicWaker,
}

impl Progress {
    /// Of so many servers, none of which has anything yet.
    pub fn new(servers: usize) -> Self {
        Self(Arc::new(Shared {
            servers: (0..servers).map(|_| AtomicU64::new(0)).collect(),
            is_backlogged: AtomicBool::new(false),
            is_late: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }))
    }

    /// Everything up to this record is committed by every server. Never goes back.
    pub fn committed(&self) -> Lsn {
        let servers = self.0.servers.iter().map(|lsn| lsn.load(Ordering::Acquire));
        Lsn(servers.min().unwrap_or(u64::MAX))
    }

    /// Ready once something changed since `seen`. One task waits at a time.
    pub fn poll_progress(&self, context: &mut Context<'_>, seen: Lsn) -> Poll<()> {
        self.0.waker.register(context.waker());
        if self.committed() > seen { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether new orders are to be refused, because the log has grown to the limit.
    pub fn is_backlogged(&self) -> bool {
        self.0.is_backlogged.load(Ordering::Relaxed)
    }

    /// Why new orders are refused because of it, if they are.
    pub fn trouble(&self) -> Option<&'static str> {
        if self.is_backlogged() {
            return Some(
                "Postgres is too far behind: new orders are refused until it has caught up",
            );
        }
        let is_late = self.0.is_late.load(Ordering::Relaxed);
        is_late.then_some("Postgres does not follow in time: new orders are refused until it does")
    }

    /// Says whether new orders are refused because it is awaited and does not follow in time.
    pub fn set_late(&self, is_late: bool) {
        self.0.is_late.store(is_late, Ordering::Relaxed);
    }

    /// A server has everything up to this record.
    pub fn reach(&self, server: usize, lsn: Lsn) {
        if let Some(reached) = self.0.servers.get(server)
            && reached.fetch_max(lsn.0, Ordering::AcqRel) < lsn.0
        {
            self.0.waker.wake();
        }
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
    use std::future::poll_fn;

    #[test]
    fn the_slowest_server_counts_and_progress_wakes() {
        let progress = Progress::new(2);
        assert_eq!(progress.committed(), Lsn(0));
        progress.reach(0, Lsn(7));
        assert_eq!(progress.committed(), Lsn(0));
        let mut wait = Box::pin(poll_fn(|context| progress.poll_progress(context, Lsn(0))));
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
