//! Log lines of alerts: what an operator has to look at.

use crate::engine::Alert;
use crate::order::Anomaly;

/// Logs an alert that stands for `count` of its kind.
pub(super) fn log(alert: &Alert, count: u64) {
    match alert {
        Alert::Order { order_id, anomaly } => {
            let what = words(*anomaly);
            tracing::warn!(%order_id, what, count, "an order needs attention");
        }
        Alert::ReportsExpired { count: reports } => tracing::warn!(
            reports,
            "unmatched reports expired: the exchange reported on orders unknown to Longbow"
        ),
        Alert::ReportsOverflowed { count: reports } => {
            tracing::warn!(reports, "too many unmatched reports: dropping the oldest");
        }
        Alert::UnreadableOfUnknown => tracing::warn!(
            count,
            "the exchange sent something unreadable about an order unknown to Longbow"
        ),
        Alert::ExternalIdReused { order_id } => {
            tracing::warn!(%order_id, count, "the exchange gave this order the id of another order");
        }
    }
}

const fn words(anomaly: Anomaly) -> &'static str {
    match anomaly {
        Anomaly::LateAccept => "accepted after it had failed; it is being cancelled",
        Anomaly::SecondExternalId => "the exchange gave it a second id",
        Anomaly::Contradiction => "the exchange contradicts an earlier statement",
        Anomaly::LateFill => "filled after it was cancelled",
        Anomaly::OverFill => "more shares filled than ordered",
        Anomaly::FillOfFailed => "filled after it had failed",
        Anomaly::UnknownAtExchange => "accepted earlier, but now unknown to the exchange",
        Anomaly::DoubtfulExecution => "the exchange's record lacks a counted execution",
        Anomaly::Quarantined => "a report does not match the order and is quarantined",
        Anomaly::QuarantineFull => {
            "a report does not match the order and is dropped: the order's quarantine is full"
        }
        Anomaly::MisfitConfirmed => "the exchange confirmed a mismatched report, which now counts",
        Anomaly::BeyondAccount => {
            "an execution has amounts beyond any account and is not in that of its user"
        }
        Anomaly::Overdrawn => {
            "it has made available cash or shares of its user negative; new buys are refused"
        }
        Anomaly::TakenBack => "the exchange's record proves that an execution does not count",
    }
}
