use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use compact_str::CompactString;

/// Which feed session of this process a tick belongs to: 0 before the first, then counting up.
/// Sessions of a process are few; the exchange names them, this only tells them apart.
pub type SessionOrdinal = u16;

/// The market-data connection as everybody sees it.
#[derive(Debug, Default)]
pub struct FeedStatus {
    up: AtomicBool,
    ordinal: AtomicU16,
    first_sequence: AtomicU64,
    sequence: AtomicU64,
    session: ArcSwap<CompactString>,
}

impl FeedStatus {
    /// Whether prices are flowing (or would, if anything traded).
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// The session that ticks belong to now.
    pub fn ordinal(&self) -> SessionOrdinal {
        self.ordinal.load(Ordering::Acquire)
    }

    /// The exchange's name of the session, empty before the first.
    pub fn session(&self) -> CompactString {
        CompactString::clone(&self.session.load())
    }

    /// Sequence of the last line that was taken from the feed.
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// Whether everything after `sequence` of this session has passed through this process, so
    /// that the table tells what changed since.
    pub fn covers(&self, sequence: u64) -> bool {
        let first = self.first_sequence.load(Ordering::Acquire);
        sequence.saturating_add(1) >= first && sequence <= self.sequence()
    }

    /// Feed thread: the connection is up or lost.
    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Release);
    }

    /// Feed thread: everything up to here is in the table.
    pub(crate) fn set_sequence(&self, sequence: u64) {
        self.sequence.store(sequence, Ordering::Release);
    }

    /// Feed thread: lines of another session follow, from `first_sequence` on. Returns its ordinal.
    pub(crate) fn begin_session(&self, session: &str, first_sequence: u64) -> SessionOrdinal {
        // Nothing is covered while the parts are exchanged one by one.
        self.first_sequence.store(u64::MAX, Ordering::Release);
        self.sequence.store(first_sequence.saturating_sub(1), Ordering::Release);
        self.session.store(CompactString::new(session).into());
        // Saturating: after 65,535 sessions of one process, resuming clients get full snapshots.
        let ordinal = self.ordinal.load(Ordering::Relaxed).saturating_add(1);
        self.ordinal.store(ordinal, Ordering::Release);
        self.first_sequence.store(first_sequence, Ordering::Release);
        ordinal
    }
}
