//! Compares the clocks once a second, exports the differences and warns about large ones.

use std::time::Duration;

use super::metrics::OmsMetrics;
use crate::exchange::ExchangeClock;
use crate::runtime::sleep;
use crate::types::SteadyClock;

const INTERVAL: Duration = Duration::from_secs(1);
/// Difference, in microseconds, above which the machine's clock counts as having been set.
const SET_MICROS: u64 = 1_000_000;

/// A difference that is reported when it becomes large, and when it is small again.
#[derive(Debug, Default)]
struct Spell {
    is_told: bool,
}

/// A change worth reporting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Large,
    SmallAgain,
}

impl Spell {
    /// Small again means within half of the limit: a difference that varies around the limit is
    /// reported once.
    fn look(&mut self, micros: i64, limit_micros: u64) -> Option<News> {
        let (distance, was_told) = (micros.unsigned_abs(), self.is_told);
        self.is_told = distance > if was_told { limit_micros / 2 } else { limit_micros };
        match (was_told, self.is_told) {
            (false, true) => Some(News::Large),
            (true, false) => Some(News::SmallAgain),
            (true, true) | (false, false) => None,
        }
    }
}

/// Compares the clocks for as long as the task lives, and warns when the exchange's clock is
/// further from ours than `warning`.
pub(super) async fn watch_clocks(
    clock: SteadyClock,
    exchange: ExchangeClock,
    warning: Duration,
    metrics: OmsMetrics,
) {
    let warning_micros = u64::try_from(warning.as_micros()).unwrap_or(u64::MAX);
    let (mut of_exchange, mut of_machine) = (Spell::default(), Spell::default());
    loop {
        let ahead_micros = clock.ahead_of_wall_micros();
        metrics.clock_ahead.set(ahead_micros);
        match of_machine.look(ahead_micros, SET_MICROS) {
            Some(News::Large) => tracing::warn!(
                ahead_micros,
                "the machine's clock was set: order timestamps stay monotonic and approach it slowly"
            ),
            Some(News::SmallAgain) => {
                tracing::info!(ahead_micros, "order timestamps follow the machine's clock again");
            }
            None => {}
        }
        if let Some(offset_micros) = exchange.offset_micros(clock.moment()) {
            metrics.exchange_clock_offset.set(offset_micros);
            match of_exchange.look(offset_micros, warning_micros) {
                Some(News::Large) => tracing::warn!(
                    offset_micros,
                    "the exchange's clock is far from ours; deadlines are sent in its time"
                ),
                Some(News::SmallAgain) => {
                    tracing::info!(offset_micros, "the exchange's clock is near ours again");
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
        let mut spell = Spell::default();
        let mut look = |micros| spell.look(micros, 500);
        assert_eq!(look(500), None);
        assert_eq!(look(-501), Some(News::Large));
        assert_eq!(look(499), None, "it varies about the limit");
        assert_eq!(look(9_000), None);
        assert_eq!(look(-250), Some(News::SmallAgain));
        assert_eq!(look(i64::MIN), Some(News::Large));
    }
}
