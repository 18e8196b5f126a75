//! Progress of the feed: how far it was taken, and how much of that is logged.

use std::collections::VecDeque;

use compact_str::CompactString;

use super::inputs::FeedPlace;
use crate::order::FeedPosition;
use crate::types::TimestampMicros;

/// Progress of the feed, and how much of it is logged.
#[derive(Debug, Default)]
pub(super) struct FeedProgress {
    session: Option<CompactString>,
    sequence: u64,
    is_logged: bool,
    /// The session has restarted its numbering.
    is_renumbered: bool,
    /// Number of the session within this run; 0 before the first.
    number: u32,
    /// Names of earlier sessions, oldest first, without repetition.
    past: VecDeque<CompactString>,
}

/// Maximum number of remembered names of earlier sessions.
const MAX_PAST_SESSIONS: usize = 16;

impl FeedProgress {
    /// The feed names its session and position. A position below the last one of the same session
    /// means that its numbering restarted.
    pub(super) fn begin(&mut self, session: &CompactString, sequence: u64) {
        let is_same = self.session.as_ref() == Some(session);
        if is_same && sequence >= self.sequence {
            self.reach(sequence);
        } else {
            self.begin_numbering(session, sequence, is_same);
        }
        assert!(self.is_current(session), "the feed is in the session that it names");
        assert_eq!(self.sequence, sequence, "the feed continues where it says");
        self.assert_invariants();
    }

    fn assert_invariants(&self) {
        assert_eq!(self.session.is_some(), self.number > 0, "sessions are numbered from 1");
        assert!(self.session.is_some() || self.sequence == 0, "a sequence is one of a session");
        assert!(self.session.is_some() || self.past.is_empty(), "no session is before the first");
    }

    /// The session restarted its numbering.
    pub(super) fn begin_renumbered(&mut self, session: &CompactString, sequence: u64) {
        self.begin_numbering(session, sequence, true);
    }

    fn begin_numbering(&mut self, session: &CompactString, sequence: u64, is_renumbered: bool) {
        // A session that comes back may number its lines anew.
        let is_renumbered = is_renumbered || self.past.contains(session);
        self.name(session.clone());
        self.sequence = sequence;
        self.is_logged = false;
        self.is_renumbered = is_renumbered;
        self.number += 1;
        self.assert_invariants();
    }

    /// Names the current session, and remembers the one before.
    fn name(&mut self, session: CompactString) {
        let remembered = self.past.len();
        let before = self.session.replace(session);
        if let Some(before) = before.filter(|before| self.session.as_ref() != Some(before)) {
            self.past.retain(|past| *past != before);
            self.past.push_back(before);
            if self.past.len() > MAX_PAST_SESSIONS {
                self.past.pop_front();
            }
        }
        assert!(self.past.len() <= remembered + 1, "one name at most is remembered at a time");
        assert!(
            self.past.len() <= remembered.max(MAX_PAST_SESSIONS),
            "names of earlier sessions are bounded"
        );
    }

    /// Everything up to `sequence` was taken.
    pub(super) fn reach(&mut self, sequence: u64) {
        // Before the first session there is nothing to reach.
        if self.session.is_some() && sequence > self.sequence {
            self.sequence = sequence;
            self.is_logged = false;
        }
        assert!(self.session.is_none() || self.sequence >= sequence, "the feed has come as far");
    }

    /// The position to log, unless the log has it.
    pub(super) fn take_unlogged(&mut self, now: TimestampMicros) -> Option<FeedPosition> {
        if self.is_logged {
            return None;
        }
        let position = self.position_at(self.sequence, now)?;
        self.is_logged = true;
        Some(position)
    }

    /// An earlier position to log, if it is in the current session.
    pub(super) fn take_unlogged_up_to(
        &self,
        (number, sequence): (u32, u64),
        at: TimestampMicros,
    ) -> Option<FeedPosition> {
        if self.is_logged || number != self.number || sequence > self.sequence {
            return None;
        }
        self.position_at(sequence, at)
    }

    /// A position in the current numbering; `None` before the first session.
    fn position_at(&self, sequence: u64, at: TimestampMicros) -> Option<FeedPosition> {
        let session = self.session.as_ref()?;
        let session = FeedPosition::numbering_name(session, self.is_renumbered);
        Some(FeedPosition { session, sequence, at, past: self.past.iter().cloned().collect() })
    }

    /// Takes a position from the log.
    pub(super) fn replay(&mut self, position: &FeedPosition) {
        let session = CompactString::from(position.session_name());
        if self.session.as_ref() != Some(&session) || self.is_renumbered != position.is_renumbered()
        {
            self.number += 1;
        }
        self.is_renumbered = position.is_renumbered();
        self.name(session);
        // Older formats name none.
        if !position.past.is_empty() {
            self.past = position.past.iter().cloned().collect();
        }
        self.sequence = position.sequence;
        self.is_logged = true;
        self.assert_invariants();
    }

    /// The current position: number of the session within this run, and last sequence.
    pub(super) fn place(&self) -> (u32, u64) {
        (self.number, self.sequence)
    }

    /// Whether this is the name of the current session.
    pub(super) fn is_current(&self, session: &CompactString) -> bool {
        self.session.as_ref() == Some(session)
    }

    /// Up to which sequence of the current session a record is complete; `None` if unknown.
    pub(super) fn covered_by(&self, as_of: Option<&FeedPlace>) -> Option<u64> {
        let as_of = as_of?;
        (self.session.as_ref() == Some(&as_of.session)).then_some(as_of.sequence)
    }

    /// Filters an `as_of` that cannot be trusted. Under a session name whose numbering restarted,
    /// it is ambiguous which numbering a record means, since records lag.
    pub(super) fn believed(&self, as_of: Option<FeedPlace>) -> Option<FeedPlace> {
        let is_meant = |as_of: &FeedPlace| self.session.as_ref() == Some(&as_of.session);
        as_of.filter(|as_of| !(self.is_renumbered && is_meant(as_of)))
    }

    /// Session and last sequence, once known.
    pub(super) fn position(&self) -> Option<(&CompactString, u64)> {
        self.session.as_ref().map(|session| (session, self.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_logged_position_says_that_the_session_restarted_its_numbering() {
        let (mut feed, at) = (FeedProgress::default(), TimestampMicros::new(7));
        feed.begin(&"s".into(), 900);
        feed.begin_renumbered(&"s".into(), 3);
        let place = feed.place();
        feed.reach(5);
        let earlier = feed.take_unlogged_up_to(place, at).unwrap();
        let newest = feed.take_unlogged(at).unwrap();
        assert_eq!((earlier.sequence, newest.sequence), (3, 5));
        for position in [earlier, newest] {
            let mut restarted = FeedProgress::default();
            restarted.replay(&position);
            let as_of = FeedPlace { session: "s".into(), sequence: 900 };
            assert_eq!(restarted.believed(Some(as_of)), None, "{position:?}");
        }
    }

    #[test]
    fn a_session_that_comes_back_after_a_restart_is_known() {
        let (mut feed, at) = (FeedProgress::default(), TimestampMicros::new(7));
        feed.begin(&"s".into(), 1_000);
        feed.begin(&"t".into(), 2);
        let position = feed.take_unlogged(at).unwrap();
        assert_eq!((&*position.session, &position.past[..]), ("t", &["s".into()][..]));
        let mut restarted = FeedProgress::default();
        restarted.replay(&position);
        restarted.begin(&"s".into(), 0);
        let as_of = FeedPlace { session: "s".into(), sequence: 900 };
        assert_eq!(restarted.believed(Some(as_of.clone())), None);
        assert!(restarted.take_unlogged(at).unwrap().is_renumbered());
        // Positions of older formats name one session each.
        let mut restarted = FeedProgress::default();
        for session in ["s", "t"] {
            let position =
                FeedPosition { session: session.into(), past: vec![], ..position.clone() };
            restarted.replay(&position);
        }
        restarted.begin(&"s".into(), 0);
        assert_eq!(restarted.believed(Some(as_of)), None);
    }

    #[test]
    fn sessions_that_alternate_push_no_other_name_out() {
        let mut feed = FeedProgress::default();
        feed.begin(&"first".into(), 1);
        for number in 0..2 * MAX_PAST_SESSIONS {
            feed.begin(&["s", "t"][number % 2].into(), 1);
        }
        assert_eq!(feed.past, ["first", "t", "s"]);
    }
}
