//! Alerts in the log: each names its order, and what an exchange repeats without end does not fill it.

use std::time::Duration;

use crate::engine::Alert;
use crate::order::Anomaly;
use crate::types::{MonotonicMicros, Spell};

/// How long after one message of a kind that an exchange may cause without end the next may follow.
const PACE: Duration = Duration::from_secs(1);

/// Keeps alerts of the kinds that may come by the thousand to one in a while, each kind for itself.
#[derive(Debug)]
pub(super) struct AlertSpells {
    doubtful: Spell,
    quarantined: Spell,
    quarantine_full: Spell,
    unknown_at_exchange: Spell,
    unreadable_of_unknown: Spell,
}

impl AlertSpells {
    pub(super) const fn new() -> Self {
        Self {
            doubtful: Spell::new(PACE),
            quarantined: Spell::new(PACE),
            quarantine_full: Spell::new(PACE),
            unknown_at_exchange: Spell::new(PACE),
            unreadable_of_unknown: Spell::new(PACE),
        }
    }

    /// Logs an alert, or counts it towards the next of its kind. Those that wait for operators are
    /// all in the list of the quarantine.
    pub(super) fn log(&mut self, alert: &Alert, now: MonotonicMicros) {
        let spell = match alert {
            Alert::Order { anomaly, .. } => match anomaly {
                Anomaly::DoubtfulExecution => Some(&mut self.doubtful),
                Anomaly::Quarantined => Some(&mut self.quarantined),
                Anomaly::QuarantineFull => Some(&mut self.quarantine_full),
                Anomaly::UnknownAtExchange => Some(&mut self.unknown_at_exchange),
                Anomaly::LateAccept
                | Anomaly::SecondExternalId
                | Anomaly::Contradiction
                | Anomaly::LateFill
                | Anomaly::OverFill
                | Anomaly::FillOfFailed
                | Anomaly::MisfitConfirmed
                | Anomaly::TakenBack => None,
            },
            Alert::UnreadableOfUnknown => Some(&mut self.unreadable_of_unknown),
            Alert::ReportsExpired { .. }
            | Alert::ReportsOverflowed { .. }
            | Alert::ExternalIdReused { .. } => None,
        };
        let Some(count) = spell.map_or(Some(1), |spell| spell.note(now)) else { return };
        tracing::warn!(?alert, count, "something that should not happen to orders did");
    }
}
