use compact_str::CompactString;

use crate::order::FeedPosition;
use crate::types::TimestampMicros;

/// How far the feed has been taken, and how much of that is in the log.
#[derive(Debug, Default)]
pub(super) struct FeedProgress {
    session: Option<CompactString>,
    sequence: u64,
    is_logged: bool,
}

impl FeedProgress {
    /// The feed says which numbering follows and where it stands. Below where it stood, it has begun
    /// again under the same name.
    pub(super) fn begin(&mut self, session: &CompactString, sequence: u64) {
        if self.session.as_ref() == Some(session) && sequence >= self.sequence {
            self.reach(sequence);
        } else {
            *self = Self { session: Some(session.clone()), sequence, is_logged: false };
        }
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
        Some(FeedPosition { session, sequence: self.sequence, at: now })
    }

    /// What the log says.
    pub(super) fn replay(&mut self, position: &FeedPosition) {
        self.session = Some(position.session.clone());
        self.sequence = position.sequence;
        self.is_logged = true;
    }

    /// Session and last sequence, once there is a session.
    pub(super) fn position(&self) -> Option<(&CompactString, u64)> {
        self.session.as_ref().map(|session| (session, self.sequence))
    }
}
