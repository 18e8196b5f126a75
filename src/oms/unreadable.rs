//! Logs unusable elements from the exchange: one line per interval, with the number of elements.

use std::time::Duration;

use crate::exchange::UnreadableElement;
use crate::types::{LogThrottle, MonotonicMicros};

/// The interval of the log lines.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Throttles the log lines about unusable elements.
#[derive(Debug)]
pub(super) struct UnreadableLog(LogThrottle);

impl UnreadableLog {
    pub(super) const fn new() -> Self {
        Self(LogThrottle::new(LOG_INTERVAL))
    }

    /// Logs an element unless one was logged recently.
    pub(super) fn log(&mut self, unreadable: &UnreadableElement, now: MonotonicMicros) {
        // The next line has their number.
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
            "the exchange sent an unusable element; the rest of its message is used"
        );
    }
}
