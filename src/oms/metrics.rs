//! Counters and gauges of the orders thread.

use prometheus_client::registry::Registry;
use strum::VariantArray;

use crate::engine::{Alert, RepairCause};
use crate::exchange::{UnreadableCause, UnreadableSource};
use crate::metrics::{Counter, Gauge};
use crate::order::Anomaly;
use crate::types::OrderId;

/// Counters and gauges of the orders thread.
#[derive(Debug, Clone, Default)]
pub struct OmsMetrics {
    pub(crate) creates: Counter,
    pub(super) cancels: Counter,
    pub(super) refused_creates: Counter,
    pub(super) events: Counter,
    pub(super) submit_requests: Counter,
    pub(super) submitted_orders: Counter,
    pub(super) cancel_requests: Counter,
    pub(super) query_requests: Counter,
    pub(super) queried_orders: Counter,
    pub(super) unknown_outcomes: Counter,
    pub(super) reply_timeouts: Counter,
    pub(super) unreadable_reports: Counter,
    unreadable: [[Counter; UnreadableCause::VARIANTS.len()]; UnreadableSource::VARIANTS.len()],
    pub(super) throttled_requests: Counter,
    pub(super) throttled_orders: Counter,
    pub(super) throttled_creates: Counter,
    pub(super) failed_queries: Counter,
    pub(super) away_creates: Counter,
    pub(super) circuit_openings: Counter,
    pub(super) halted_creates: Counter,
    pub(super) postgres_refused: Counter,
    pub(super) postgres_unknown: Counter,
    pub(super) postgres_pending: Counter,
    pub(super) mass_cancelled: Counter,
    pub(super) webhook_lines: Counter,
    pub(super) webhook_registrations: Counter,
    pub(super) late_accepts: Counter,
    pub(super) second_external_ids: Counter,
    pub(super) contradictions: Counter,
    pub(super) late_fills: Counter,
    pub(crate) over_fills: Counter,
    pub(super) fills_of_failed: Counter,
    pub(super) unknown_at_exchange: Counter,
    pub(super) doubtful_executions: Counter,
    pub(super) quarantined: Counter,
    pub(super) quarantine_full: Counter,
    pub(super) misfits_confirmed: Counter,
    pub(super) beyond_account: Counter,
    pub(super) overdrawn: Counter,
    pub(super) taken_back: Counter,
    pub(super) reports_given_up: Counter,
    pub(super) report_overflows: Counter,
    pub(super) repairs: [Counter; RepairCause::VARIANTS.len()],
    pub(super) open_orders: Gauge,
    pub(super) ended_orders: Gauge,
    pub(super) unmatched_reports: Gauge,
    pub(super) open_cases: Gauge,
    pub(super) overdrawn_accounts: Gauge,
    pub(super) waiting_replies: Gauge,
    pub(super) held_effects: Gauge,
    pub(super) halts: Gauge,
    pub(super) exchange_away: Gauge,
    pub(super) exchange_clock_offset: Gauge,
    pub(super) clock_ahead: Gauge,
}

impl OmsMetrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let gauges = [
            ("orders_open", "Orders that the exchange may still change", &self.open_orders),
            ("orders_ended_in_memory", "Ended orders still in memory", &self.ended_orders),
            ("orders_open_cases", "Cases in quarantine that wait for a decision", &self.open_cases),
            (
                "accounts_overdrawn",
                "Accounts whose available cash or shares are negative, in cash mode",
                &self.overdrawn_accounts,
            ),
            ("orders_held_reports", "Reports about orders not known yet", &self.unmatched_reports),
            ("orders_waiting_replies", "Requests without an answer yet", &self.waiting_replies),
            (
                "orders_waiting_for_postgres",
                "Publications and answers that wait for Postgres",
                &self.held_effects,
            ),
            ("orders_exchange_away", "1 while the exchange takes no orders", &self.exchange_away),
            (
                "exchange_clock_offset_micros",
                "Microseconds that the exchange's clock is ahead of ours",
                &self.exchange_clock_offset,
            ),
            (
                "clock_ahead_micros",
                "Microseconds that times of orders are ahead of the machine's clock",
                &self.clock_ahead,
            ),
            ("orders_halts", "Halts of the kill switch in force", &self.halts),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        let counters = [
            ("orders_creates", "Orders recorded", &self.creates),
            ("orders_cancels", "Cancels taken", &self.cancels),
            ("orders_refused_creates", "Creates refused without a record", &self.refused_creates),
            ("orders_events", "Events appended to the log", &self.events),
            ("orders_submit_requests", "Submit requests to the exchange", &self.submit_requests),
            ("orders_submitted", "Orders in submit requests", &self.submitted_orders),
            ("orders_cancel_requests", "Cancel requests to the exchange", &self.cancel_requests),
            ("orders_query_requests", "Query requests to the exchange", &self.query_requests),
            ("orders_queried", "Orders in query requests", &self.queried_orders),
            ("orders_unknown_outcomes", "Requests without a known outcome", &self.unknown_outcomes),
            ("orders_reply_timeouts", "Answers given before the outcome", &self.reply_timeouts),
            ("orders_unreadable_reports", "Feed lines refused", &self.unreadable_reports),
            (
                "orders_throttled_requests",
                "Requests that the exchange refused for now (429)",
                &self.throttled_requests,
            ),
            (
                "orders_throttled",
                "Orders that failed because the exchange took none",
                &self.throttled_orders,
            ),
            (
                "orders_throttled_creates",
                "Creates refused while the exchange took none",
                &self.throttled_creates,
            ),
            ("orders_failed_queries", "Query requests without an answer", &self.failed_queries),
            ("orders_away_creates", "Creates refused without the exchange", &self.away_creates),
            ("orders_circuit_openings", "Openings of the circuit breaker", &self.circuit_openings),
            ("orders_halted_creates", "Creates that the kill switch refused", &self.halted_creates),
            (
                "orders_postgres_refused",
                "Requests refused because Postgres lags",
                &self.postgres_refused,
            ),
            (
                "orders_postgres_unknown",
                "Answers without the outcome, because Postgres did not have it in time",
                &self.postgres_unknown,
            ),
            (
                "orders_postgres_pending",
                "Answers as Postgres had the order, before it had the outcome",
                &self.postgres_pending,
            ),
            ("orders_mass_cancelled", "Orders cancelled by operators", &self.mass_cancelled),
            ("orders_webhook_lines", "Lines that the exchange posted", &self.webhook_lines),
            (
                "orders_webhook_registrations",
                "Registrations of our webhook at the exchange",
                &self.webhook_registrations,
            ),
            ("orders_late_accepts", "Accepts of failed orders", &self.late_accepts),
            ("orders_second_external_ids", "Conflicting external ids", &self.second_external_ids),
            ("orders_contradictions", "Contradictions of the exchange", &self.contradictions),
            ("orders_late_fills", "Fills after a cancel", &self.late_fills),
            ("orders_over_fills", "Orders filled beyond their size", &self.over_fills),
            ("orders_fills_of_failed", "Fills of failed orders", &self.fills_of_failed),
            (
                "orders_unknown_at_exchange",
                "Accepted orders that the exchange no longer knows",
                &self.unknown_at_exchange,
            ),
            (
                "orders_doubtful_executions",
                "Counted executions that the exchange's record lacks",
                &self.doubtful_executions,
            ),
            ("orders_quarantined", "Reports that do not fit their orders", &self.quarantined),
            (
                "orders_quarantine_full",
                "The same, dropped because the quarantine is full",
                &self.quarantine_full,
            ),
            (
                "orders_misfits_confirmed",
                "Executions that do not fit, confirmed by the exchange",
                &self.misfits_confirmed,
            ),
            (
                "orders_beyond_account",
                "Executions with amounts that no account holds",
                &self.beyond_account,
            ),
            (
                "accounts_became_overdrawn",
                "Orders that made available cash or shares of their user negative, in cash mode",
                &self.overdrawn,
            ),
            ("orders_taken_back", "Executions that a record proved void", &self.taken_back),
            ("orders_reports_given_up", "Unmatched reports that expired", &self.reports_given_up),
            (
                "orders_report_overflows",
                "Unmatched reports dropped for lack of room",
                &self.report_overflows,
            ),
        ];
        for (cause, counter) in RepairCause::VARIANTS.iter().zip(&self.repairs) {
            let label = ("cause".into(), cause.into_str().into());
            let help = "Orders put right by the exchange's record";
            registry.sub_registry_with_label(label).register(
                "orders_repairs",
                help,
                counter.clone(),
            );
        }
        for (source, counters) in UnreadableSource::VARIANTS.iter().zip(&self.unreadable) {
            let source = ("source".into(), source.into_str().into());
            let of_source = registry.sub_registry_with_label(source);
            for (cause, counter) in UnreadableCause::VARIANTS.iter().zip(counters) {
                let cause = ("cause".into(), cause.into_str().into());
                let help = "What the exchange said and cannot be used";
                let of_cause = of_source.sub_registry_with_label(cause);
                of_cause.register("orders_unreadable", help, counter.clone());
            }
        }
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }

    /// Counts and logs an order that reconciliation corrected.
    pub(super) fn repaired(&self, order_id: OrderId, cause: RepairCause) {
        tracing::info!(%order_id, cause = cause.into_str(), "an order was repaired");
        let causes = RepairCause::VARIANTS.iter().zip(&self.repairs);
        for (_, counter) in causes.filter(|(counted, _)| **counted == cause) {
            counter.inc();
        }
    }

    /// Counts an element that cannot be used.
    pub(super) fn unreadable(&self, source: UnreadableSource, cause: UnreadableCause) {
        let sources = UnreadableSource::VARIANTS.iter().zip(&self.unreadable);
        for (_, counters) in sources.filter(|(counted, _)| **counted == source) {
            let causes = UnreadableCause::VARIANTS.iter().zip(counters);
            for (_, counter) in causes.filter(|(counted, _)| **counted == cause) {
                counter.inc();
            }
        }
    }

    /// The number of repairs with this cause.
    #[cfg(test)]
    pub(super) fn repairs(&self, cause: RepairCause) -> u64 {
        let mut causes = RepairCause::VARIANTS.iter().zip(&self.repairs);
        causes.find(|(counted, _)| **counted == cause).unwrap().1.get()
    }

    /// Counts an alert.
    pub(super) fn alert(&self, alert: &Alert) {
        match *alert {
            Alert::Order { anomaly, .. } => match anomaly {
                Anomaly::LateAccept => self.late_accepts.inc(),
                Anomaly::SecondExternalId => self.second_external_ids.inc(),
                Anomaly::Contradiction => self.contradictions.inc(),
                Anomaly::LateFill => self.late_fills.inc(),
                Anomaly::OverFill => self.over_fills.inc(),
                Anomaly::FillOfFailed => self.fills_of_failed.inc(),
                Anomaly::UnknownAtExchange => self.unknown_at_exchange.inc(),
                Anomaly::DoubtfulExecution => self.doubtful_executions.inc(),
                Anomaly::Quarantined => self.quarantined.inc(),
                Anomaly::QuarantineFull => self.quarantine_full.inc(),
                Anomaly::MisfitConfirmed => self.misfits_confirmed.inc(),
                Anomaly::TakenBack => self.taken_back.inc(),
                Anomaly::BeyondAccount => self.beyond_account.inc(),
                Anomaly::Overdrawn => self.overdrawn.inc(),
            },
            Alert::ReportsExpired { count } => self.reports_given_up.inc_by(count as u64),
            Alert::ReportsOverflowed { count } => self.report_overflows.inc_by(count as u64),
            Alert::UnreadableOfUnknown => self.unreadable_reports.inc(),
            Alert::ExternalIdReused { .. } => self.second_external_ids.inc(),
        };
    }
}
