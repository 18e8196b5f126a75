use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use compact_str::CompactString;

use crate::sync::SeqLock;

/// Numbers the feed sessions of this process, from 1 on; 0 before the first. The exchange names its
/// sessions, this only tells them apart. A process sees few of them.
pub type SessionOrdinal = u16;

/// The state of the feed, for every thread to read.
#[derive(Debug)]
pub struct FeedStatus {
    up: AtomicBool,
    /// The session's ordinal, the first sequence that this process has read of it, and the last one.
    /// A name belongs to the session if ordinal and first sequence are the same before and after the
    /// name is read.
    numbers: SeqLock<3>,
    name: ArcSwap<CompactString>,
}

impl Default for FeedStatus {
    fn default() -> Self {
        Self { up: AtomicBool::new(false), numbers: SeqLock::new([0; 3]), name: ArcSwap::default() }
    }
}

impl FeedStatus {
    /// Whether the feed is connected.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// The current session.
    pub fn ordinal(&self) -> SessionOrdinal {
        let [ordinal, ..] = self.numbers.read();
        ordinal_of(ordinal)
    }

    /// The exchange's name of the current session; empty before the first.
    pub fn session(&self) -> CompactString {
        CompactString::clone(&self.name.load())
    }

    /// The name of the session with this ordinal, if it is the current one.
    pub fn session_of(&self, wanted: SessionOrdinal) -> Option<CompactString> {
        let (ordinal, session, _) = self.position()?;
        (ordinal == wanted).then_some(session)
    }

    /// The current session and the sequence of the last line of it that was read, all of one moment;
    /// `None` while another session begins.
    pub fn position(&self) -> Option<(SessionOrdinal, CompactString, u64)> {
        let [ordinal_before, first_before, _] = self.numbers.read();
        let session = self.session();
        let [ordinal, first, last] = self.numbers.read();
        let is_whole = (ordinal_before, first_before) == (ordinal, first) && first != u64::MAX;
        is_whole.then(|| (ordinal_of(ordinal), session, last))
    }

    /// The first sequence of the current session that this process has read, or that was read for it.
    pub fn first_sequence(&self) -> u64 {
        let [_, first, _] = self.numbers.read();
        first
    }

    /// The sequence of the last line that was read from the feed.
    pub fn sequence(&self) -> u64 {
        let [.., last] = self.numbers.read();
        last
    }

    /// The session of this name, if it is the current one and this process has read everything after
    /// `sequence` of it, so that the last-value table tells what has changed since.
    pub fn covers(&self, session: &str, sequence: u64) -> Option<SessionOrdinal> {
        let [ordinal_before, first_before, _] = self.numbers.read();
        let is_its_name = self.name.load().as_str() == session;
        let [ordinal, first, last] = self.numbers.read();
        let is_of_it = is_its_name && (ordinal_before, first_before) == (ordinal, first);
        // Saturating: clients send any number as the sequence that they know.
        let is_covered = sequence.saturating_add(1) >= first && sequence <= last;
        (is_of_it && is_covered).then(|| ordinal_of(ordinal))
    }

    /// Called by the feed thread: the feed is connected, or lost.
    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Release);
    }

    /// Called by the feed thread: the table includes everything up to here.
    pub(crate) fn set_sequence(&self, sequence: u64) {
        let [ordinal, first, _] = self.numbers.read();
        self.numbers.write(&[ordinal, first, sequence]);
    }

    /// Called by the feed thread: another session follows, from `first_sequence` on. Returns its
    /// ordinal.
    pub(crate) fn begin_session(&self, session: &str, first_sequence: u64) -> SessionOrdinal {
        // Saturating: after 65,535 sessions of one process, resuming clients get whole snapshots.
        let ordinal = self.ordinal().saturating_add(1);
        // Saturating: nothing comes before sequence 0 either.
        let last = first_sequence.saturating_sub(1);
        // Nothing is covered while the name is replaced.
        self.numbers.write(&[ordinal.into(), u64::MAX, last]);
        self.name.store(CompactString::new(session).into());
        self.numbers.write(&[ordinal.into(), first_sequence, last]);
        ordinal
    }
}

/// An ordinal, as it was written.
fn ordinal_of(word: u64) -> SessionOrdinal {
    let Ok(ordinal) = SessionOrdinal::try_from(word) else {
        unreachable!("the first of the numbers is an ordinal")
    };
    ordinal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_since_the_session_began_is_covered() {
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
        assert_eq!(status.position(), Some((2, "8".into(), 0)));
        assert_eq!((status.session_of(1), status.session_of(2)), (None, Some("8".into())));
    }
}
