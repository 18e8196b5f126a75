//! Alerts in the log: each names its order, and what an exchange repeats without end does not fill it.

use std::collections::HashMap;
use std::time::Duration;

use crate::engine::Alert;
use crate::oms::alert_words;
use crate::order::Anomaly;
use crate::types::{MonotonicMicros, OrderId, Spell};

/// How long after a message about an order the next of its kind may follow.
const PACE_OF_ORDER: Duration = Duration::from_secs(600);
/// Messages that are remembered. Of more there is one in a while, with how many there were.
const MAX_REMEMBERED: usize = 1_024;
/// How long that while is.
const PACE: Duration = Duration::from_secs(1);

/// Which alerts the log has had of late.
#[derive(Debug)]
pub(super) struct AlertSpells {
    told: HashMap<(OrderId, Anomaly), MonotonicMicros>,
    others: Spell,
}

impl AlertSpells {
    pub(super) fn new() -> Self {
        Self { told: HashMap::new(), others: Spell::new(PACE) }
    }

    /// Logs an alert, unless the log has had it of late: metrics count all of them, and those that
    /// wait for operators stand in the list of the quarantine.
    pub(super) fn log(&mut self, alert: &Alert, now: MonotonicMicros) {
        if let Some(count) = self.news(alert, now) {
            alert_words::log(alert, count);
        }
    }

    /// How many alerts a message would stand for; `None` where there is to be none.
    fn news(&mut self, alert: &Alert, now: MonotonicMicros) -> Option<u64> {
        let Alert::Order { order_id, anomaly } = *alert else {
            return match alert {
                // These come once a minute at most, with their numbers.
                Alert::ReportsExpired { .. } | Alert::ReportsOverflowed { .. } => Some(1),
                _ => self.others.note(now),
            };
        };
        let is_recent = |at: MonotonicMicros| now < at.saturating_add(PACE_OF_ORDER);
        if self.told.get(&(order_id, anomaly)).is_some_and(|at| is_recent(*at)) {
            return None;
        }
        if self.told.len() >= MAX_REMEMBERED {
            self.told.retain(|_, at| is_recent(*at));
        }
        if self.told.len() >= MAX_REMEMBERED {
            return self.others.note(now);
        }
        self.told.insert((order_id, anomaly), now);
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonotonicMicros {
        MonotonicMicros::new(seconds * 1_000_000)
    }

    fn alert(order: u128) -> Alert {
        let order_id = OrderId::from_u128(order);
        Alert::Order { order_id, anomaly: Anomaly::Contradiction }
    }

    #[test]
    fn each_order_is_named_once_in_a_while_and_a_flood_is_counted() {
        let mut spells = AlertSpells::new();
        for order in 0..MAX_REMEMBERED as u128 {
            assert_eq!(spells.news(&alert(order), at(0)), Some(1), "{order}");
        }
        assert_eq!(spells.news(&alert(7), at(599)), None);
        let told: Vec<_> =
            (0..100).map(|order| spells.news(&alert(9_000 + order), at(1))).collect();
        assert_eq!(told.iter().flatten().count(), 1);
        assert_eq!(spells.news(&alert(8_000), at(2)), Some(100));
        assert_eq!(spells.news(&alert(7), at(600)), Some(1));
        assert_eq!(spells.news(&alert(9_001), at(600)), Some(1));
    }
}
