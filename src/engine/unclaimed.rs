//! Throttles the alerts about discarded reports.

use super::outbox::{Alert, Effect, Outbox};
use crate::types::TimestampMicros;

/// Minimum interval between alerts about discarded reports, in microseconds. An exchange that
/// reports foreign orders does so without end.
const ALERT_PACE_MICROS: u64 = 60_000_000;

/// Discarded reports that operators have not been alerted about yet.
#[derive(Debug, Default)]
pub(super) struct Unclaimed {
    /// Expired.
    pub(super) expired: usize,
    /// Discarded for lack of room.
    pub(super) overflowed: usize,
    alerted_at: Option<TimestampMicros>,
}

impl Unclaimed {
    /// Alerts operators, at most once a minute.
    pub(super) fn alert(&mut self, now: TimestampMicros, out: &mut Outbox) {
        assert!(self.alerted_at.is_none_or(|at| at <= now), "alerts come in the order of time");
        let is_time = self.alerted_at.is_none_or(|at| now.micros_since(at) >= ALERT_PACE_MICROS);
        if self.expired + self.overflowed == 0 || !is_time {
            return;
        }
        self.alerted_at = Some(now);
        let expired = std::mem::take(&mut self.expired);
        let overflowed = std::mem::take(&mut self.overflowed);
        if expired > 0 {
            out.effects.push(Effect::Alert(Alert::ReportsExpired { count: expired }));
        }
        if overflowed > 0 {
            out.effects.push(Effect::Alert(Alert::ReportsOverflowed { count: overflowed }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_raises_one_alert_a_minute_with_the_count() {
        let (mut unclaimed, mut out) = (Unclaimed::default(), Outbox::new());
        for second in 0..=60 {
            unclaimed.expired += 600;
            unclaimed.overflowed += 1;
            unclaimed.alert(TimestampMicros::new(second * 1_000_000), &mut out);
        }
        let alert = |count, overflowed| {
            [Alert::ReportsExpired { count }, Alert::ReportsOverflowed { count: overflowed }]
        };
        let expected: Vec<Effect> =
            [alert(600, 1), alert(36_000, 60)].concat().into_iter().map(Effect::Alert).collect();
        assert_eq!(out.effects, expected);
    }
}
