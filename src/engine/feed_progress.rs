use compact_str::CompactString;

use super::inputs::FeedPlace;
use crate::order::FeedPosition;
use crate::types::TimestampMicros;

/// How far the feed has been taken, and how much of that is in the log.
#[derive(Debug, Default)]
pub(super) struct FeedProgress {
    session: Option<CompactString>,
    sequence: u64,
    is_logged: bool,
    /// The numbering has begun again under the session's name.
    is_again: bool,
    /// Counts the sessions of this run; 0 before the first.
    number: u32,
}

impl FeedProgress {
    /// The feed says which numbering follows and where it stands. Below where it stood, it has begun
    /// again under the same name.
    pub(super) fn begin(&mut self, session: &CompactString, sequence: u64) {
        let is_same = self.session.as_ref() == Some(session);
        if is_same && sequence >= self.sequence {
            self.reach(sequence);
        } else {
            self.begin_numbering(session, sequence, is_same);
        }
    }

    /// The numbering has begun again under this name.
    pub(super) fn begin_again(&mut self, session: &CompactString, sequence: u64) {
        self.begin_numbering(session, sequence, true);
    }

    fn begin_numbering(&mut self, session: &CompactString, sequence: u64, is_again: bool) {
        let (session, number) = (Some(session.clone()), self.number + 1);
        *self = Self { session, sequence, is_logged: false, is_again, number };
    }

    /// Everything up to here has been taken.
    pub(super) fn reach(&mut self, sequence: u64) {
        if self.session.is_some() && sequence > self.sequence {
            self.sequence = sequence;
            self.is_logged = false;
        }
    }

    /// The position to log, when it is not what the log says already.
    pub(super) fn take_unlogged(&mut self, now: TimestampMicros) -> Option<FeedPosition> {
        if self.is_logged {
            return None;
        }
        let session = self.session.clone()?;
        self.is_logged = true;
        let session = FeedPosition::numbering_name(&session, self.is_again);
        Some(FeedPosition { session, sequence: self.sequence, at: now })
    }

    /// The same of an earlier place: where that is in the session that is being read.
    pub(super) fn take_unlogged_up_to(
        &self,
        (number, sequence): (u32, u64),
        at: TimestampMicros,
    ) -> Option<FeedPosition> {
        if self.is_logged || number != self.number || sequence > self.sequence {
            return None;
        }
        Some(FeedPosition { session: self.session.clone()?, sequence, at })
    }

    /// What the log says.
    pub(super) fn replay(&mut self, position: &FeedPosition) {
        let session = CompactString::from(position.session_name());
        if self.session.as_ref() != Some(&session) || self.is_again != position.is_again() {
            self.number += 1;
        }
        self.is_again = position.is_again();
        self.session = Some(session);
        self.sequence = position.sequence;
        self.is_logged = true;
    }

    /// Where the feed stands: the number of its session in this run, and the last sequence.
    pub(super) fn place(&self) -> (u32, u64) {
        (self.number, self.sequence)
    }

    /// How far a record is complete in the session that is being read; `None` where it says nothing
    /// of it.
    pub(super) fn covered_by(&self, as_of: Option<&FeedPlace>) -> Option<u64> {
        let as_of = as_of?;
        (self.session.as_ref() == Some(&as_of.session)).then_some(as_of.sequence)
    }

    /// How complete a record says that it is, as far as that can be believed: under a name whose
    /// numbering has begun again nobody knows which of its lines a record means, since records lag.
    pub(super) fn believed(&self, as_of: Option<FeedPlace>) -> Option<FeedPlace> {
        let is_meant = |as_of: &FeedPlace| self.session.as_ref() == Some(&as_of.session);
        as_of.filter(|as_of| !(self.is_again && is_meant(as_of)))
    }

    /// Session and last sequence, once there is a session.
    pub(super) fn position(&self) -> Option<(&CompactString, u64)> {
        self.session.as_ref().map(|session| (session, self.sequence))
    }
}
