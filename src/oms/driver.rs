mod admission;
mod alerts;
mod awaited;
mod release;
mod unreadable;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

pub(super) use admission::{refuse_cancel, refuse_create};
use alerts::AlertSpells;
use awaited::{AwaitedPostgres, Late};
use release::GatedEffect;

use super::answers::{Answer, SessionQueues, Wanted};
use super::ended::EndedOrders;
use super::error::OmsError;
use super::kill_switch::KillSwitch;
use super::limits::{
    CHANGES_PER_SLICE, COMPARISON_PACE, COMPARISONS_AT_ONCE, LOOKS_PER_SLICE,
    MAX_WAITING_RECONCILIATIONS,
};
use super::mass_cancel::MassCancels;
use super::metrics::OmsMetrics;
use super::operator::{OperatorActs, OperatorCommand};
use super::options::OmsOptions;
use super::order_watch::OrderWatchers;
use super::postgres_side::PostgresSide;
use super::replies::Replies;
use super::stages::Stage;
use super::translate;
use super::views::CommittedViews;
use super::webhook::Webhooks;
use crate::engine::{CancelOutcome, CancelRefusal, Engines, Outbox};
use crate::exchange::OrderFeedMessage;
use crate::order::{Event, EventEncoder, RECORD_FORMAT_VERSION, case_text};
use crate::types::{ExternalOrderId, Moment, MonotonicMicros, Spell, UserId};
use crate::wal::{Lsn, NewRecord, WalAppender, WalError};

/// Lets the engines decide, the log remember, and effects happen once it does. It reads no clock:
/// whoever drives it says what the time is.
pub(crate) struct Driver {
    engines: Engines,
    outbox: Outbox,
    encoder: EventEncoder,
    wal: WalAppender,
    /// Events that the log had no room for yet, oldest first.
    unappended: VecDeque<Event>,
    /// Place in the log of the last event decided, appended or not.
    last_event: Lsn,
    /// Effects in their order. Their events only rise.
    gated: VecDeque<GatedEffect>,
    /// Those among them that are durable and wait for Postgres, in the same order. None where it is
    /// not awaited.
    awaiting_postgres: VecDeque<GatedEffect>,
    /// How many of them are queries.
    gated_queries: usize,
    replies: Replies,
    /// Requests past their reply timeout whose answers wait for Postgres, in the order of their requests.
    late: VecDeque<Late>,
    /// Batches of lines that the exchange posted.
    pub(super) webhooks: Webhooks,
    pub(super) mass_cancels: MassCancels,
    operator_acts: OperatorActs,
    kill_switch: KillSwitch,
    views: CommittedViews,
    watchers: OrderWatchers,
    ended: EndedOrders,
    /// Changes that memory has because the store may not, in the order of the log, and whose.
    recent: VecDeque<(Lsn, UserId)>,
    stored: StoredUpTo,
    shown: ShownUpTo,
    /// What was last said there. Never goes back.
    shown_to: Lsn,
    postgres: Option<PostgresSide>,
    awaited: Option<AwaitedPostgres>,
    queues: Rc<SessionQueues>,
    options: OmsOptions,
    metrics: OmsMetrics,
    unreadable_spell: Spell,
    alert_spells: AlertSpells,
    next_sweep: MonotonicMicros,
    sweeps_remain: bool,
    /// When all open orders are compared with the exchange's record again.
    next_cleanup: MonotonicMicros,
    /// When the next of them may be.
    next_comparison: MonotonicMicros,
}

/// Says up to where the store has followed the log durably. Never goes back, also when the store
/// fails and is opened again: what memory forgets can be read from then on.
pub type StoredUpTo = Box<dyn Fn() -> Lsn + Send>;

/// Is told up to where readers of memory see what the log says.
pub type ShownUpTo = Box<dyn Fn(Lsn) + Send>;

/// What a [`Driver`] is made of.
pub(crate) struct DriverParts {
    pub(crate) engines: Engines,
    pub(crate) wal: WalAppender,
    pub(crate) views: CommittedViews,
    pub(crate) watchers: OrderWatchers,
    pub(crate) stored: StoredUpTo,
    pub(crate) shown: ShownUpTo,
    pub(crate) postgres: Option<PostgresSide>,
    pub(crate) kill_switch: KillSwitch,
    pub(crate) queues: Rc<SessionQueues>,
    pub(crate) options: OmsOptions,
    pub(crate) metrics: OmsMetrics,
}

impl Driver {
    /// A driver that has begun to reconcile what a restart left open.
    pub(crate) fn new(parts: DriverParts, now: Moment) -> Self {
        let DriverParts { engines, wal, views, watchers, stored, shown, .. } = parts;
        let DriverParts { postgres, kill_switch, queues, options, metrics, .. } = parts;
        let recovered = wal.committed();
        queues.throttles.reply_timeout.set(options.reply_timeout);
        let grace = Duration::from_micros(options.engine.grace_micros);
        queues.questions.borrow_mut().set_grace(grace);
        let awaited = AwaitedPostgres::new(postgres.as_ref(), recovered);
        if awaited.as_ref().is_some_and(AwaitedPostgres::lacks_recovered) {
            views.hide();
        } else {
            views.reveal();
        }
        // Nobody reads what Postgres does not have, so memory and store may show all of it.
        views.show(recovered);
        shown(recovered);
        let mut driver = Self {
            engines,
            outbox: Outbox::new(),
            encoder: EventEncoder::new(),
            last_event: recovered,
            wal,
            unappended: VecDeque::new(),
            gated: VecDeque::new(),
            awaiting_postgres: VecDeque::new(),
            gated_queries: 0,
            replies: Replies::default(),
            late: VecDeque::new(),
            webhooks: Webhooks::default(),
            ended: EndedOrders::new(options.keep_ended, stored()),
            recent: VecDeque::new(),
            mass_cancels: MassCancels::default(),
            operator_acts: OperatorActs::default(),
            kill_switch,
            views,
            watchers,
            stored,
            shown,
            shown_to: recovered,
            postgres,
            awaited,
            queues,
            unreadable_spell: unreadable::log_spell(),
            alert_spells: AlertSpells::new(),
            next_sweep: now.monotonic.saturating_add(options.sweep_interval),
            sweeps_remain: false,
            next_cleanup: now.monotonic.saturating_add(options.cleanup_interval),
            next_comparison: now.monotonic,
            options,
            metrics,
        };
        for order in driver.engines.orders() {
            driver.ended.note(order, driver.last_event, now.monotonic);
        }
        driver.engines.start(now.wall, &mut driver.outbox);
        driver.gate();
        driver
    }

    pub(crate) fn wal(&self) -> &WalAppender {
        &self.wal
    }

    /// Takes what the exchange answered.
    pub(crate) fn answer(&mut self, at: Moment, answer: Answer) {
        let now = at.wall;
        match answer {
            Answer::Unreadable(unreadable) => self.unreadable(at, &unreadable),
            Answer::Submit(order_id, outcome) => {
                self.queues.clock.end(order_id, Stage::Exchange);
                self.engines.submit_answer(now, order_id, outcome, &mut self.outbox);
            }
            Answer::Cancel(order_id, outcome) => {
                if let CancelOutcome::Refused { why: CancelRefusal::Declined, reason } = &outcome {
                    self.views.note_refused_cancel(order_id, reason.clone());
                }
                self.engines.cancel_answer(now, order_id, outcome, &mut self.outbox);
            }
            Answer::Query(order_id, answer) => {
                self.engines.query_answer(now, order_id, answer, &mut self.outbox);
            }
            Answer::Found(Wanted::Theirs(id), order) => {
                self.engines.found(now, &id, order, &mut self.outbox);
            }
            Answer::Found(Wanted::Ours(order_id), order) => {
                self.engines.found_order(now, order_id, order, &mut self.outbox);
            }
        }
        self.gate();
    }

    /// Takes what the feed thread handed over.
    pub(crate) fn feed(&mut self, now: Moment, message: OrderFeedMessage) {
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
                self.gate();
                self.engines.feed_reached(line.sequence);
            }
            OrderFeedMessage::Line(line) => {
                let (sequence, order) = (line.sequence, line.order_id.clone());
                match translate::report(line, true) {
                    Some(report) => {
                        self.engines.report(now.wall, report, &mut self.outbox);
                        self.gate();
                    }
                    None => {
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
    pub(super) fn webhook_lines(&mut self, now: Moment, limit: usize) {
        for unreadable in self.webhooks.take_unreadable() {
            self.metrics.webhook_lines.inc();
            self.unreadable(now, &unreadable);
        }
        for _ in 0..limit {
            let Some(line) = self.webhooks.next_line() else { break };
            self.metrics.webhook_lines.inc();
            let order = line.order_id.clone();
            let Some(report) = translate::report(line, false) else {
                // Sent again it would be no better, and hold up all lines after it.
                self.incomplete_line(now, order);
                continue;
            };
            self.engines.report_durably(now.wall, report, &mut self.outbox);
        }
        self.gate();
        self.webhooks.end_if_taken(self.last_event);
    }

    /// Takes a line that lacks what its type needs: its order is asked about.
    fn incomplete_line(&mut self, now: Moment, order: Option<ExternalOrderId>) {
        self.metrics.unreadable_reports.inc();
        if let Some(id) = order {
            let text = "a line without what its type needs";
            self.engines.unreadable(now.wall, &id, text, &mut self.outbox);
            self.gate();
        }
    }

    /// Does what an operator has decided about an order, or shows what waits for a decision.
    pub(super) fn operate(&mut self, now: Moment, command: OperatorCommand) {
        let (engines, out) = (&mut self.engines, &mut self.outbox);
        let answer = OperatorActs::act(command, engines, now.wall, out);
        self.gate();
        if let Some(answer) = answer {
            self.operator_acts.gate(self.last_event, answer);
        }
    }

    /// Goes on with the mass cancel under work.
    pub(super) fn mass_cancel(&mut self, now: Moment) {
        let ended = self.mass_cancels.sweep(&mut self.engines, now.wall, &mut self.outbox);
        self.gate();
        if ended {
            let patience = self.options.reply_timeout + self.options.postgres_patience;
            let give_up = now.monotonic.saturating_add(patience);
            let give_up = self.awaited.is_some().then_some(give_up);
            let asked = self.mass_cancels.gate(self.last_event, give_up);
            self.metrics.mass_cancelled.inc_by(asked);
        }
    }

    /// Does what time asks for. True when more of it is due.
    pub(crate) fn keep_time(&mut self, now: Moment, limit: usize) -> bool {
        let mut overdue = 0;
        while overdue < limit
            && let Some((order_id, to)) = self.replies.next_overdue(now.monotonic)
        {
            overdue += 1;
            self.metrics.reply_timeouts.inc();
            self.engines.reply_timeout(now.wall, order_id, to, &mut self.outbox);
            self.note_late(now, order_id, to);
        }
        let more_late = self.answer_late(now, limit);
        if let Some(side) = self.postgres.as_ref().filter(|side| side.is_awaited) {
            side.progress.set_late(self.postgres_refuses(now));
        }
        self.mass_cancels.give_up(now.monotonic, self.wal.committed());
        if now.monotonic >= self.next_sweep {
            self.next_sweep = now.monotonic.saturating_add(self.options.sweep_interval);
            self.sweeps_remain = true;
            self.log_feed_position(now);
            self.show_gauges();
        }
        if self.sweeps_remain {
            self.sweeps_remain = self.engines.tick(now.wall, LOOKS_PER_SLICE, &mut self.outbox);
        }
        // As many as the exchange is asked about at a time: reconciling a million orders neither
        // fills memory nor holds up a query that somebody waits for.
        // Those that have left memory come from the store first.
        let waiting =
            self.gated_queries + self.queues.queries.len() + self.engines.orders_being_found();
        if self.engines.is_reconciling() && waiting == 0 {
            self.engines.reconcile_some(now.wall, MAX_WAITING_RECONCILIATIONS, &mut self.outbox);
        }
        self.clean_up(now);
        self.gate();
        let orders = (&mut self.engines, &self.views);
        let more_ended = self.ended.forget(orders, (self.stored)(), now.monotonic);
        let more_changes = self.forget_changes();
        overdue == limit || more_late || self.sweeps_remain || more_ended || more_changes
    }

    /// Compares open orders with the exchange's record: all of them once in a while, paced, and
    /// behind whatever else the exchange has to be asked.
    fn clean_up(&mut self, now: Moment) {
        if now.monotonic >= self.next_cleanup {
            self.next_cleanup = now.monotonic.saturating_add(self.options.cleanup_interval);
            self.engines.begin_comparison();
        }
        let has_room = self.gated_queries + self.queues.queries.len() == 0;
        let is_time = now.monotonic >= self.next_comparison && has_room;
        if is_time && self.engines.is_comparing() && !self.engines.is_reconciling() {
            self.next_comparison = now.monotonic.saturating_add(COMPARISON_PACE);
            self.engines.compare_some(now.wall, COMPARISONS_AT_ONCE, &mut self.outbox);
        }
    }

    /// When [`keep_time`](Self::keep_time) is due if nothing else happens.
    pub(crate) fn until_due(&self, now: Moment) -> Duration {
        let now = now.monotonic;
        // At least the pace ahead while a comparison has to wait for room.
        let comparison = if self.next_comparison > now {
            self.next_comparison
        } else {
            now.saturating_add(COMPARISON_PACE)
        };
        let cleanup = if self.engines.is_comparing() { comparison } else { self.next_cleanup };
        let due = self.next_sweep.min(cleanup).saturating_since(now);
        let waits = [
            self.replies.until_overdue(now),
            self.until_given_up(now),
            self.mass_cancels.until_given_up(now, self.wal.committed()),
        ];
        waits.into_iter().flatten().fold(due, Duration::min)
    }

    /// Logs how far the feed has been taken, before a stop.
    pub(crate) fn log_feed_position(&mut self, now: Moment) {
        self.engines.log_feed_position(now.wall, &mut self.outbox);
        self.gate();
    }

    /// Whether everything that was decided is durable and done, and nobody waits for an answer.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.replies.len() == 0
            && self.webhooks.is_at_rest()
            && !self.mass_cancels.is_busy()
            && self.operator_acts.is_at_rest()
            && self.unappended.is_empty()
            && self.gated.is_empty()
            && self.wal.committed() >= self.last_event
    }

    /// Appends what was decided, and brings it to the disk if that is free.
    ///
    /// # Errors
    /// The log has failed: nothing more will become durable.
    pub(crate) fn append(&mut self) -> Result<(), OmsError> {
        while let Some(event) = self.unappended.front() {
            let payload = self.encoder.encode(event)?;
            let record = NewRecord {
                partition: event.partition_byte(),
                kind: event.kind(),
                format_version: RECORD_FORMAT_VERSION,
                payload,
            };
            let expected = self.last_event.0 + 1 - self.unappended.len() as u64;
            match self.wal.append(record) {
                Ok(Lsn(given)) if given == expected => {}
                Ok(Lsn(given)) => return Err(OmsError::OutOfStep { given, expected }),
                // Waits for room; no input is taken until then.
                Err(WalError::Busy | WalError::NoSpace) => break,
                Err(error) => return Err(error.into()),
            }
            self.metrics.events.inc();
            self.unappended.pop_front();
        }
        if self.options.commits_alone && self.replies.len() == 1 {
            self.wal.commit_here()?;
        } else {
            self.wal.flush();
        }
        if self.wal.is_poisoned() { Err(WalError::Poisoned.into()) } else { Ok(()) }
    }

    /// Forgets changes that the store has, a bounded number. True when there may be more.
    fn forget_changes(&mut self) -> bool {
        let stored = (self.stored)();
        for _ in 0..CHANGES_PER_SLICE {
            match self.recent.front() {
                Some((lsn, user)) if *lsn <= stored => self.views.forget_changes(user, stored),
                Some(_) | None => return false,
            }
            self.recent.pop_front();
        }
        true
    }

    /// The engines, to compare with what the log says.
    #[cfg(feature = "simulation")]
    pub(crate) fn engines(&self) -> &Engines {
        &self.engines
    }

    /// Events that are not durable, effects that wait for them, effects that wait for Postgres, and
    /// requests without an answer.
    #[cfg(feature = "simulation")]
    pub(crate) fn backlog(&self) -> (u64, usize, usize, usize) {
        let uncommitted = self.last_event.0.saturating_sub(self.wal.committed().0);
        (uncommitted, self.gated.len(), self.awaiting_postgres.len(), self.replies.len())
    }

    fn show_gauges(&self) {
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.open_orders.set(gauge(self.engines.open_orders()));
        self.metrics.ended_orders.set(gauge(self.ended.len()));
        self.metrics.open_cases.set(gauge(self.engines.open_case_count()));
        self.metrics.unmatched_reports.set(gauge(self.engines.unmatched_reports()));
        self.metrics.waiting_replies.set(gauge(self.replies.len()));
        self.metrics.held_effects.set(gauge(self.awaiting_postgres.len()));
        self.metrics.halts.set(gauge(self.kill_switch.halts().count()));
    }
}
