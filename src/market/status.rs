use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use compact_str::CompactString;

use crate::sync::SeqLock;

/// Which feed session of this process a tick belongs to: 0 before the first, then counting up.
/// Sessions of a process are few; the exchange names them, this only tells them apart.
pub type SessionOrdinal = u16;

/// The market-data connection as everybody sees it.
#[derive(Debug)]
pub struct FeedStatus {
    up: AtomicBool,
    /// Of the session: its ordinal, the sequence that it begins with here, and the last one taken. The
    /// name is of the same session where these were the same before it was read and after.
    numbers: SeqLock<3>,
    name: ArcSwap<CompactString>,
}

impl Default for FeedStatus {
    fn default() -> Self {
        Self { up: AtomicBool::new(false), numbers: SeqLock::new([0; 3]), name: ArcSwap::default() }
    }
}

impl FeedStatus {
    /// Whether prices are flowing (or would, if anything traded).
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// The session that ticks belong to now.
    pub fn ordinal(&self) -> SessionOrdinal {
        let [ordinal, ..] = self.numbers.read();
        told(ordinal)
    }

    /// The exchange's name of the session, empty before the first.
    pub fn session(&self) -> CompactString {
        CompactString::clone(&self.name.load())
    }

    /// Sequence of the last line that was taken from the feed.
    pub fn sequence(&self) -> u64 {
        let [.., last] = self.numbers.read();
        last
    }

    /// The session of this name, if it is the one now and everything after `sequence` of it has passed
    /// through this process, so that the table tells what changed since.
    pub fn covers(&self, session: &str, sequence: u64) -> Option<SessionOrdinal> {
        let [ordinal_before, first_before, _] = self.numbers.read();
        let is_its_name = self.name.load().as_str() == session;
        let [ordinal, first, last] = self.numbers.read();
        let is_of_it = is_its_name && (ordinal_before, first_before) == (ordinal, first);
        let is_covered = sequence.saturating_add(1) >= first && sequence <= last;
        (is_of_it && is_covered).then(|| told(ordinal))
    }

    /// Feed thread: the connection is up or lost.
    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Release);
    }

    /// Feed thread: everything up to here is in the table.
    pub(crate) fn set_sequence(&self, sequence: u64) {
        let [ordinal, first, _] = self.numbers.read();
        self.numbers.write(&[ordinal, first, sequence]);
    }

    /// Feed thread: lines of another session follow, from `first_sequence` on. Returns its ordinal.
    pub(crate) fn begin_session(&self, session: &str, first_sequence: u64) -> SessionOrdinal {
        // Saturating: after 65,535 sessions of one process, resuming clients get full snapshots.
        let ordinal = self.ordinal().saturating_add(1);
        let last = first_sequence.saturating_sub(1);
        // Nothing is covered while the name is exchanged.
        self.numbers.write(&[ordinal.into(), u64::MAX, last]);
        self.name.store(CompactString::new(session).into());
        self.numbers.write(&[ordinal.into(), first_sequence, last]);
        ordinal
    }
}

/// An ordinal as it was put in.
fn told(ordinal: u64) -> SessionOrdinal {
    SessionOrdinal::try_from(ordinal).unwrap_or(SessionOrdinal::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_passed_through_since_the_session_began_is_covered() {
        let status = FeedStatus::default();
        assert_eq!(status.begin_session("7", 10), 1);
        status.set_sequence(12);
        for (sequence, covered) in [(8, None), (9, Some(1)), (12, Some(1)), (13, None)] {
            assert_eq!(status.covers("7", sequence), covered, "{sequence}");
        }
        assert_eq!(status.covers("6", 12), None);
        assert_eq!(status.begin_session("8", 1), 2);
        assert_eq!((status.covers("7", 12), status.covers("8", 0)), (None, Some(2)));
        assert_eq!((status.session().as_str(), status.sequence(), status.ordinal()), ("8", 0, 2));
    }
}
