//! What the exchange says: answers to our requests, lines of its feed, lines that it posts.

use compact_str::CompactString;

use super::Driver;
use crate::engine::{CancelOutcome, CancelRefusal};
use crate::exchange::wire::FeedLine;
use crate::exchange::{NamedOrder, OrderFeedMessage, UnreadableElement, UnreadableSource};
use crate::oms::answers::{Answer, OrderLookup};
use crate::oms::stages::Stage;
use crate::oms::translate;
use crate::order::{TrackedOrder, case_text};
use crate::types::{ExternalOrderId, Moment};

impl Driver {
    /// Takes what the exchange answered, or the store.
    pub(crate) fn answer(&mut self, at: Moment, answer: Answer) {
        let now = at.wall;
        assert!(self.outbox.is_empty(), "what was decided before is in the gate");
        match answer {
            Answer::Unreadable(unreadable) => self.unreadable(at, &unreadable),
            Answer::Submit(order_id, outcome) => {
                self.queues.clock.end(order_id, Stage::Exchange);
                self.queues.submits.end(order_id);
                self.engines.submit_answer(now, order_id, outcome, &mut self.outbox);
            }
            Answer::Cancel(order_id, outcome) => {
                if let CancelOutcome::Refused { why: CancelRefusal::Declined, reason } = &outcome {
                    self.publisher.views().note_refused_cancel(order_id, reason.clone());
                }
                self.engines.cancel_answer(now, order_id, outcome, &mut self.outbox);
            }
            Answer::Query(order_id, answer) => {
                self.engines.query_answer(now, order_id, answer, &mut self.outbox);
            }
            Answer::LookedUp(OrderLookup::ByExternalId(id), order) => {
                let order = self.if_here(order);
                self.engines.found(now, &id, order, &mut self.outbox);
            }
            Answer::LookedUp(OrderLookup::ByOrderId(order_id), order) => {
                let order = self.if_here(order);
                self.engines.found_order(now, order_id, order, &mut self.outbox);
            }
        }
        self.admit_decided();
    }

    /// An order that was looked up, unless another node has it.
    fn if_here(&self, order: Option<TrackedOrder>) -> Option<TrackedOrder> {
        order.filter(|order| self.partitions.has(order.order().order_id.partition()))
    }

    /// Takes what the feed thread handed over.
    pub(crate) fn feed(&mut self, now: Moment, message: OrderFeedMessage) {
        assert!(self.takes_reports(), "a line is taken while there is room for what it decides");
        assert!(self.outbox.is_empty(), "what was decided before is in the gate");
        match message {
            OrderFeedMessage::Session { session, sequence } => {
                self.engines.feed_session(&session, sequence);
                self.register_webhook();
            }
            OrderFeedMessage::Renumbered { session, sequence } => {
                self.engines.feed_renumbered(&session, sequence);
                self.register_webhook();
            }
            OrderFeedMessage::Position { sequence } => self.engines.feed_reached(sequence),
            OrderFeedMessage::Unreadable(line) => {
                self.metrics.unreadable_reports.inc();
                let raw = String::from_utf8_lossy(&line.raw);
                let text = case_text(&format!("{:?}: {raw}", line.cause));
                // Only a record that covers this line makes up for it.
                self.engines.feed_reached(line.after);
                self.engines.unreadable(now.wall, &line.order_id, &text, &mut self.outbox);
                self.admit_decided();
                self.engines.feed_reached(line.sequence);
            }
            OrderFeedMessage::Line(line) => {
                let (sequence, order) = (line.sequence, line.order_id.clone());
                match translate::report(line, None) {
                    Some(report) => {
                        self.engines.report(now.wall, report, &mut self.outbox);
                        self.admit_decided();
                    }
                    None => {
                        // An exchange that numbers from 0 has no line before that.
                        self.engines.feed_reached(sequence.saturating_sub(1));
                        self.incomplete_line(now, order);
                    }
                }
                self.engines.feed_reached(sequence);
            }
        }
    }

    /// An exchange that began anew may have forgotten whom to call.
    fn register_webhook(&self) {
        if self.options.webhook.is_some() {
            self.queues.registrations.push(());
        }
    }

    /// Takes the next lines of the webhook batch under work, at most `limit`.
    pub(in crate::oms) fn webhook_lines(&mut self, now: Moment, limit: usize) {
        assert!(self.outbox.is_empty(), "what was decided before is in the gate");
        for unreadable in self.webhooks.take_unreadable() {
            self.metrics.webhook_lines.inc();
            self.unreadable(now, &unreadable);
        }
        for _ in 0..limit {
            // All of them are taken, or there is no batch.
            let Some((session, line)) = self.webhooks.next_line() else { break };
            self.metrics.webhook_lines.inc();
            self.webhook_line(now, session, line);
        }
        self.admit_decided();
        self.webhooks.end_if_taken(self.gate.last_event());
    }

    fn webhook_line(&mut self, now: Moment, session: CompactString, line: FeedLine) {
        let order = line.order_id.clone();
        match translate::report(line, Some(session)) {
            Some(report) => self.engines.report_durably(now.wall, report, &mut self.outbox),
            // Sent again it would be no better, and hold up all lines after it.
            None => self.incomplete_line(now, order),
        }
    }

    /// Takes a line that lacks what its type needs: its order is asked about.
    fn incomplete_line(&mut self, now: Moment, order: Option<ExternalOrderId>) {
        self.metrics.unreadable_reports.inc();
        if let Some(id) = order {
            let text = "a line without what its type needs";
            self.engines.unreadable(now.wall, &id, text, &mut self.outbox);
            self.admit_decided();
        }
    }

    /// Takes an unusable element: counts it, logs it (throttled), and queries the order
    /// that it names. It holds up nothing.
    fn unreadable(&mut self, now: Moment, unreadable: &UnreadableElement) {
        self.metrics.unreadable(unreadable.source, unreadable.cause);
        self.unreadable_log.log(unreadable, now.monotonic);
        // An unreadable record, or part of one, comes as the answer to its query.
        if unreadable.source == UnreadableSource::Query {
            return;
        }
        let text = translate::case_text_of(unreadable);
        match &unreadable.order {
            Some(NamedOrder::Ours(id)) => {
                self.engines.unreadable_of(now.wall, *id, &text, &mut self.outbox);
            }
            Some(NamedOrder::Theirs(id)) => {
                self.engines.unreadable(now.wall, id, &text, &mut self.outbox);
            }
            // It names no order to ask about.
            None => {}
        }
    }
}
