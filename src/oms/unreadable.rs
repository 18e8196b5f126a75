//! Elements of the exchange that cannot be used, in the log: one of a spell, with how many there were.

use std::time::Duration;

use crate::exchange::UnreadableElement;
use crate::types::{MonotonicMicros, Spell};

/// How long after one message about something unreadable the next may follow.
const LOG_PACE: Duration = Duration::from_secs(60);

/// Keeps the log from being filled.
#[derive(Debug)]
pub(super) struct UnreadableLog(Spell);

impl UnreadableLog {
    pub(super) const fn new() -> Self {
        Self(Spell::new(LOG_PACE))
    }

    /// Logs an element, unless the log had one of late.
    pub(super) fn log(&mut self, unreadable: &UnreadableElement, now: MonotonicMicros) {
        let Some(count) = self.0.note(now) else { return };
        let UnreadableElement { source, cause, order, problem, text } = unreadable;
        let (source, cause) = (source.into_str(), cause.into_str());
        let order = order.as_ref().map(ToString::to_string);
        tracing::warn!(
            source,
            cause,
            order,
            problem,
            text,
            count,
            "the exchange said something that cannot be used; everything beside it is used"
        );
    }
}
