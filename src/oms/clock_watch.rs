//! Compares the clocks once a second, exports the differences and warns about large ones.

use std::time::Duration;

use super::metrics::OmsMetrics;
use crate::exchange::ExchangeClock;
use crate::runtime::sleep;
use crate::types::{Clock, SteadyClock};

const INTERVAL: Duration = Duration::from_secs(1);
/// Difference, in microseconds, above which the machine's clock counts as having been set.
const SET_MICROS: u64 = 1_000_000;

/// A difference that is reported when it becomes large, and when it is small again.
#[derive(Debug, Default)]
struct DriftAlarm {
    is_raised: bool,
}

/// A change worth reporting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DriftChange {
    Large,
    SmallAgain,
}

impl DriftAlarm {
    /// Small again means within half of the limit: a difference that varies around the limit is
    /// reported once.
    fn update(&mut self, micros: i64, limit_micros: u64) -> Option<DriftChange> {
        let (distance, was_raised) = (micros.unsigned_abs(), self.is_raised);
        self.is_raised = distance > if was_raised { limit_micros / 2 } else { limit_micros };
        assert!(
            !self.is_raised || distance > limit_micros / 2,
            "what is within half of the limit is no longer large"
        );
        match (was_raised, self.is_raised) {
            (false, true) => Some(DriftChange::Large),
            (true, false) => Some(DriftChange::SmallAgain),
            (true, true) | (false, false) => None,
        }
    }
}

/// Compares the clocks for as long as the task lives, and warns when the exchange's clock is
/// further from the machine's than `warning`.
pub(super) async fn watch_clocks(
    clock: SteadyClock,
    exchange: ExchangeClock,
    warning: Duration,
    metrics: OmsMetrics,
) {
    // A limit beyond all times warns of nothing.
    let warning_micros = u64::try_from(warning.as_micros()).unwrap_or(u64::MAX);
    let (mut of_exchange, mut of_machine) = (DriftAlarm::default(), DriftAlarm::default());
    loop {
        let ahead_micros = clock.ahead_of_wall_micros();
        metrics.clock_ahead.set(ahead_micros);
        match of_machine.update(ahead_micros, SET_MICROS) {
            Some(DriftChange::Large) => tracing::warn!(
                ahead_micros,
                "the machine's clock was stepped: order timestamps stay monotonic and converge slowly"
            ),
            Some(DriftChange::SmallAgain) => {
                tracing::info!(ahead_micros, "order timestamps follow the machine's clock again");
            }
            None => {}
        }
        if let Some(offset_micros) = exchange.offset_micros(Clock.moment()) {
            metrics.exchange_clock_offset.set(offset_micros);
            match of_exchange.update(offset_micros, warning_micros) {
                Some(DriftChange::Large) => tracing::warn!(
                    offset_micros,
                    "the exchange's clock differs a lot from ours; deadlines are sent in its time"
                ),
                Some(DriftChange::SmallAgain) => {
                    tracing::info!(offset_micros, "the exchange's clock agrees with ours again");
                }
                None => {}
            }
        }
        sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_difference_is_reported_once_and_so_is_its_end() {
        let mut alarm = DriftAlarm::default();
        let mut update = |micros| alarm.update(micros, 500);
        assert_eq!(update(500), None);
        assert_eq!(update(-501), Some(DriftChange::Large));
        assert_eq!(update(499), None, "it varies about the limit");
        assert_eq!(update(9_000), None);
        assert_eq!(update(-250), Some(DriftChange::SmallAgain));
        assert_eq!(update(i64::MIN), Some(DriftChange::Large));
    }
}
