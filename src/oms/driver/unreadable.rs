//! What the exchange says and nobody can use: counted, logged once a spell, and a reason to ask about
//! the order that it names. It holds up nothing.

use std::time::Duration;

use super::Driver;
use crate::exchange::{NamedOrder, UnreadableElement, UnreadableSource};
use crate::oms::translate;
use crate::types::{Moment, Spell};

/// How long after one message about something unreadable the next may follow.
const LOG_PACE: Duration = Duration::from_secs(60);

/// Keeps the log from being filled.
pub(super) const fn log_spell() -> Spell {
    Spell::new(LOG_PACE)
}

impl Driver {
    /// Takes something that cannot be used.
    pub(super) fn unreadable(&mut self, now: Moment, unreadable: &UnreadableElement) {
        self.metrics.unreadable(unreadable.source, unreadable.cause);
        if let Some(count) = self.unreadable_spell.note(now.monotonic) {
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
        // A record that cannot be read, or a part of it, comes as the answer to its query.
        if unreadable.source != UnreadableSource::Query
            && let Some(order) = &unreadable.order
        {
            let text = translate::case_text_of(unreadable);
            match order {
                NamedOrder::Ours(id) => {
                    self.engines.unreadable_of(now.wall, *id, &text, &mut self.outbox);
                }
                NamedOrder::Theirs(id) => {
                    self.engines.unreadable(now.wall, id, &text, &mut self.outbox);
                }
            }
        }
    }
}
