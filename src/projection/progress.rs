//! How far Postgres has followed the log, for threads that wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::sync::{Beyond, LowWatermark};
use crate::wal::Lsn;

/// Tasks that wait for Postgres: one of the orders thread, and one to spare.
const MAX_TASKS: usize = 2;

/// What operators are told while Postgres is away.
pub const DOES_NOT_ANSWER: &str = "Postgres does not answer: new orders are refused until it does";

/// How far all Postgres servers have followed the log, and whether they lag too far. Clones share the
/// state. Each server's thread advances its own part; the orders thread waits.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// For each server, the last record up to which it needs nothing more.
    servers: LowWatermark,
    /// For each server, the position of its slowest partition on hold; `u64::MAX` without any.
    held: Vec<AtomicU64>,
    is_backlogged: AtomicBool,
    /// Whether replies wait for Postgres and it commits too slowly.
    is_late: AtomicBool,
    /// For each server, whether it does not answer.
    away: Vec<AtomicBool>,
    /// Nothing at all is done about orders while Postgres is away: it says who has which users.
    is_needed: bool,
}

impl Progress {
    /// For `servers` servers, none of which has any record yet.
    pub fn new(servers: usize) -> Self {
        Self::of(servers, false)
    }

    /// The same of a process that shares the users with others, as the server says.
    pub fn shared(servers: usize) -> Self {
        Self::of(servers, true)
    }

    fn of(servers: usize, is_needed: bool) -> Self {
        Self(Arc::new(Shared {
            servers: LowWatermark::new(servers, MAX_TASKS),
            held: (0..servers).map(|_| AtomicU64::new(u64::MAX)).collect(),
            is_backlogged: AtomicBool::new(false),
            is_late: AtomicBool::new(false),
            away: (0..servers).map(|_| AtomicBool::new(false)).collect(),
            is_needed,
        }))
    }

    /// The last record up to which every server has committed everything. Never goes back.
    pub fn committed(&self) -> Lsn {
        Lsn(self.0.servers.lowest().get())
    }

    /// As [`committed`](Self::committed), but of the slowest partition, which may be on hold.
    pub fn slowest(&self) -> Lsn {
        let held = self.0.held.iter().map(|held| held.load(Ordering::Relaxed)).min();
        self.committed().min(Lsn(held.unwrap_or(u64::MAX)))
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
        if self.is_away() && (is_late || self.0.is_needed) {
            return Some(DOES_NOT_ANSWER);
        }
        is_late.then_some("Postgres commits too slowly: new orders are refused until it catches up")
    }

    /// Whether a server does not answer.
    pub fn is_away(&self) -> bool {
        self.0.away.iter().any(|away| away.load(Ordering::Relaxed))
    }

    /// Sets whether a server does not answer.
    pub fn set_away(&self, server: usize, is_away: bool) {
        if let Some(away) = self.0.away.get(server) {
            away.store(is_away, Ordering::Relaxed);
        }
    }

    /// Sets whether new orders are refused because replies wait for Postgres and it commits too slowly.
    pub fn set_late(&self, is_late: bool) {
        self.0.is_late.store(is_late, Ordering::Relaxed);
    }

    /// Records that a server has everything up to `lsn`.
    pub fn reach(&self, server: usize, lsn: Lsn) {
        self.0.servers.advance(server, lsn.0);
    }

    /// Sets the position of a server's slowest partition on hold.
    pub fn set_held(&self, server: usize, slowest: Option<Lsn>) {
        if let Some(held) = self.0.held.get(server) {
            held.store(slowest.map_or(u64::MAX, |lsn| lsn.0), Ordering::Relaxed);
        }
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
    fn a_partition_on_hold_is_the_slowest_and_holds_nobody_else_up() {
        let progress = Progress::new(2);
        progress.reach(0, Lsn(40));
        progress.reach(1, Lsn(48));
        assert_eq!(progress.slowest(), Lsn(40));
        progress.set_held(1, Some(Lsn(20)));
        assert_eq!((progress.slowest(), progress.committed()), (Lsn(20), Lsn(40)));
        progress.set_held(1, None);
        assert_eq!(progress.slowest(), Lsn(40));
    }

    #[test]
    fn a_server_that_is_away_troubles_who_waits_for_it() {
        for (progress, is_needed) in [(Progress::new(2), false), (Progress::shared(2), true)] {
            progress.set_away(1, true);
            assert_eq!(progress.trouble(), is_needed.then_some(DOES_NOT_ANSWER));
            progress.set_late(true);
            assert_eq!(progress.trouble(), Some(DOES_NOT_ANSWER));
            progress.set_away(1, false);
            assert!(progress.trouble().unwrap().contains("too slowly"));
            progress.set_late(false);
            assert_eq!(progress.trouble(), None);
        }
    }

    #[test]
    fn without_servers_nothing_waits() {
        assert_eq!(Progress::new(0).committed(), Lsn(u64::MAX));
    }
}
