//! What somebody has to look at, as a line of the log.

use crate::engine::Alert;
use crate::order::Anomaly;

/// Logs an alert that stands for so many of its kind.
pub(super) fn log(alert: &Alert, count: u64) {
    match alert {
        Alert::Order { order_id, anomaly } => {
            let what = words(*anomaly);
            tracing::warn!(%order_id, what, count, "something that should not happen to an order did");
        }
        Alert::ReportsExpired { count: reports } => tracing::warn!(
            reports,
            "reports of the exchange about orders that nobody here knows are given up after their time"
        ),
        Alert::ReportsOverflowed { count: reports } => tracing::warn!(
            reports,
            "there are more reports about orders that nobody here knows than are kept: the oldest are \
             given up"
        ),
        Alert::UnreadableOfUnknown => tracing::warn!(
            count,
            "the exchange said something that cannot be read about an order that nobody here knows"
        ),
        Alert::ExternalIdReused { order_id } => {
            tracing::warn!(%order_id, count, "the exchange gave the id of another order to this one as well");
        }
    }
}

const fn words(anomaly: Anomaly) -> &'static str {
    match anomaly {
        Anomaly::LateAccept => "accepted after it was called failed: it is cancelled",
        Anomaly::SecondExternalId => "the exchange gave it a second id",
        Anomaly::Contradiction => "the exchange contradicts what it said before",
        Anomaly::LateFill => "filled after it was cancelled",
        Anomaly::OverFill => "more of it is filled than was ordered",
        Anomaly::FillOfFailed => "filled after it was called failed",
        Anomaly::UnknownAtExchange => "the exchange does not know it, although it had accepted it",
        Anomaly::DoubtfulExecution => "the exchange's record lacks an execution that counts here",
        Anomaly::Quarantined => "something was heard that does not fit it, and is quarantined",
        Anomaly::QuarantineFull => "something was heard that does not fit it, and is dropped",
        Anomaly::MisfitConfirmed => "the exchange confirms what does not fit it, so that it counts",
        Anomaly::TakenBack => "the exchange's record proves that an execution does not count",
    }
}
