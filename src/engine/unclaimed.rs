use super::outbox::{Alert, Effect, Outbox};
use crate::types::TimestampMicros;

/// How long after one alert about reports that nobody claims the next of its kind may come at the
/// earliest, in microseconds. An exchange that reports orders of others does so without end.
const ALERT_PACE_MICROS: u64 = 60_000_000;

/// Reports of unknown orders that were given up and of which nobody has been told yet.
#[derive(Debug, Default)]
pub(super) struct Unclaimed {
    /// Their time was over.
    pub(super) expired: usize,
    /// There was no room for them any longer.
    pub(super) overflowed: usize,
    told_at: Option<TimestampMicros>,
}

impl Unclaimed {
    /// Tells an operator how many there are, once a minute at most.
    pub(super) fn alert(&mut self, now: TimestampMicros, out: &mut Outbox) {
        let is_time = self.told_at.is_none_or(|at| now.micros_since(at) >= ALERT_PACE_MICROS);
        if self.expired + self.overflowed == 0 || !is_time {
            return;
        }
        self.told_at = Some(now);
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
    fn a_flood_is_told_of_once_a_minute_with_how_many_there_were() {
        let (mut unclaimed, mut out) = (Unclaimed::default(), Outbox::new());
        for second in 0..=60 {
            unclaimed.expired += 600;
            unclaimed.overflowed += 1;
            unclaimed.alert(TimestampMicros::new(second * 1_000_000), &mut out);
        }
        let alert = |count, overflowed| {
            [Alert::ReportsExpired { count }, Alert::ReportsOverflowed { count: overflowed }]
        };
        let told: Vec<Effect> =
            [alert(600, 1), alert(36_000, 60)].concat().into_iter().map(Effect::Alert).collect();
        assert_eq!(out.effects, told);
    }
}
