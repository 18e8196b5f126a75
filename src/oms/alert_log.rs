//! Logs alerts, each with its order, without letting an exchange that repeats itself fill the log.

use std::collections::HashMap;
use std::time::Duration;

use crate::engine::Alert;
use crate::oms::alert_words;
use crate::order::Anomaly;
use crate::types::{LogThrottle, MonotonicMicros, OrderId};

/// How often one anomaly of one order is logged.
const ORDER_INTERVAL: Duration = Duration::from_secs(600);
/// Most pairs of order and anomaly remembered. Alerts beyond these share one line per interval,
/// with their number.
const MAX_REMEMBERED: usize = 1_024;
/// The interval of the shared line.
const SHARED_INTERVAL: Duration = Duration::from_secs(1);

/// Throttles the log lines of alerts.
#[derive(Debug)]
pub(super) struct AlertLog {
    /// When each pair was last logged.
    logged_at: HashMap<(OrderId, Anomaly), MonotonicMicros>,
    others: LogThrottle,
}

impl AlertLog {
    pub(super) fn new() -> Self {
        Self { logged_at: HashMap::new(), others: LogThrottle::new(SHARED_INTERVAL) }
    }

    /// Logs an alert unless it was logged recently. Metrics count all alerts, and those that wait
    /// for an operator are listed in the quarantine.
    pub(super) fn log(&mut self, alert: &Alert, now: MonotonicMicros) {
        if let Some(count) = self.due(alert, now) {
            alert_words::log(alert, count);
        }
    }

    /// The number of alerts that a log line would stand for; `None` when no line is due.
    fn due(&mut self, alert: &Alert, now: MonotonicMicros) -> Option<u64> {
        let Alert::Order { order_id, anomaly } = *alert else {
            return match alert {
                // These come at most once a minute and carry their own counts.
                Alert::ReportsExpired { .. } | Alert::ReportsOverflowed { .. } => Some(1),
                _ => self.others.note(now),
            };
        };
        let is_recent = |at: MonotonicMicros| now < at.saturating_add(ORDER_INTERVAL);
        if self.logged_at.get(&(order_id, anomaly)).is_some_and(|at| is_recent(*at)) {
            return None;
        }
        if self.logged_at.len() >= MAX_REMEMBERED {
            self.logged_at.retain(|_, at| is_recent(*at));
        }
        if self.logged_at.len() >= MAX_REMEMBERED {
            return self.others.note(now);
        }
        self.logged_at.insert((order_id, anomaly), now);
        assert!(self.logged_at.len() <= MAX_REMEMBERED, "remembered alerts are bounded");
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
    fn each_order_is_logged_once_per_interval_and_a_flood_is_counted() {
        let mut alerts = AlertLog::new();
        for order in 0..MAX_REMEMBERED as u128 {
            assert_eq!(alerts.due(&alert(order), at(0)), Some(1), "{order}");
        }
        assert_eq!(alerts.due(&alert(7), at(599)), None);
        let logged: Vec<_> =
            (0..100).map(|order| alerts.due(&alert(9_000 + order), at(1))).collect();
        assert_eq!(logged.iter().flatten().count(), 1);
        assert_eq!(alerts.due(&alert(8_000), at(2)), Some(100));
        assert_eq!(alerts.due(&alert(7), at(600)), Some(1));
        assert_eq!(alerts.due(&alert(9_001), at(600)), Some(1));
    }
}
