mod from_exchange;
mod partitions;
mod release;
mod requests;
mod timers;

use std::rc::Rc;
use std::time::Duration;

pub(super) use requests::{refuse_cancel, refuse_create};

use super::admission::Admission;
use super::alert_log::AlertLog;
use super::answers::SessionQueues;
use super::awaited_postgres::AwaitedPostgres;
use super::cash_ids::CashIds;
use super::commit_gate::{CommitGate, GatedEffect, Reached};
use super::error::OmsError;
use super::kill_switch::KillSwitch;
use super::limits::{MAX_UNCOMMITTED_EVENTS, MAX_WAITING_CREATES, MAX_WAITING_REPLIES};
use super::mass_cancel::MassCancels;
use super::metrics::OmsMetrics;
use super::operator::OperatorActs;
use super::options::OmsOptions;
use super::partitions::Partitions;
use super::postgres_side::PostgresSide;
use super::publisher::{Publisher, ReaderSide};
use super::reconciler::Reconciler;
use super::replies::Replies;
use super::unreadable::UnreadableLog;
use super::webhook::Webhooks;
use crate::engine::{AccountMode, Engines, Outbox};
use crate::order::{EventEncoder, RECORD_FORMAT_VERSION};
use crate::sync::Beyond;
use crate::types::Moment;
use crate::wal::{Lsn, NewRecord, WalAppender, WalError};

/// Lets the engines decide, the log remember, and effects happen once it does. Reads no clock:
/// whoever drives it says what the time is.
pub(crate) struct Driver {
    pub(crate) engines: Engines,
    /// What the engines decide, until it goes through the gate.
    outbox: Outbox,
    gate: CommitGate,
    wal: WalAppender,
    encoder: EventEncoder,
    /// Effects that the gate has released and that happen now; empty between slices.
    free: Vec<GatedEffect>,
    replies: Replies,
    publisher: Publisher,
    admission: Admission,
    reconciler: Reconciler,
    postgres: Option<PostgresSide>,
    awaited: Option<AwaitedPostgres>,
    /// Batches of lines that the exchange posted.
    pub(super) webhooks: Webhooks,
    pub(super) mass_cancels: MassCancels,
    operator_acts: OperatorActs,
    cash_ids: CashIds,
    /// The users whom this node serves.
    partitions: Partitions,
    queues: Rc<SessionQueues>,
    options: OmsOptions,
    metrics: OmsMetrics,
    unreadable_log: UnreadableLog,
    alert_log: AlertLog,
}

/// What a [`Driver`] is made of.
pub(crate) struct DriverParts {
    pub(crate) engines: Engines,
    pub(crate) wal: WalAppender,
    pub(crate) readers: ReaderSide,
    pub(crate) postgres: Option<PostgresSide>,
    pub(crate) kill_switch: KillSwitch,
    pub(crate) queues: Rc<SessionQueues>,
    pub(crate) options: OmsOptions,
    pub(crate) metrics: OmsMetrics,
}

/// What waits in a [`Driver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Backlog {
    /// Events that are not durable.
    pub(crate) uncommitted_events: u64,
    /// Effects that wait for the log.
    pub(crate) effects_awaiting_log: usize,
    /// Effects that wait for Postgres.
    pub(crate) effects_awaiting_postgres: usize,
    /// Requests without an answer.
    pub(crate) waiting_replies: usize,
}

impl Driver {
    /// A driver that has begun to reconcile what a restart left open.
    pub(crate) fn new(parts: DriverParts, now: Moment) -> Self {
        let DriverParts { engines, wal, readers, postgres, kill_switch, queues, .. } = parts;
        let DriverParts { options, metrics, .. } = parts;
        let recovered = wal.committed();
        queues.submits.set_reply_timeout(options.reply_timeout);
        let grace = Duration::from_micros(options.engine.grace_micros);
        queues.query_planner.borrow_mut().set_pauses(grace, options.limits.max_pause_doublings);
        let awaited = postgres.as_ref().filter(|side| side.is_awaited);
        let awaited = awaited.map(|side| {
            AwaitedPostgres::new(side.progress.clone(), recovered, &options, metrics.clone())
        });
        assert!(
            !options.is_member || awaited.is_some(),
            "what a member does waits for Postgres, from which others take over its users"
        );
        if awaited.as_ref().is_some_and(AwaitedPostgres::lacks_recovered) {
            readers.views.hide();
        } else {
            readers.views.reveal();
        }
        let submit_window = Duration::from_micros(options.engine.submit_window_micros);
        let (sweep, comparison) = (options.sweep_interval, options.cleanup_interval);
        let stored = (readers.stored)();
        let cash_ids = CashIds::recovered(&engines, stored, recovered);
        let mut driver = Self {
            engines,
            outbox: Outbox::new(),
            gate: CommitGate::new(recovered, options.is_member),
            wal,
            encoder: EventEncoder::new(),
            free: Vec::new(),
            replies: Replies::default(),
            // Nobody reads what Postgres does not have, so memory and store may show all of it.
            publisher: Publisher::new(readers, recovered, &options),
            admission: Admission::new(kill_switch, submit_window),
            reconciler: Reconciler::new(sweep, comparison, now.monotonic),
            postgres,
            awaited,
            webhooks: Webhooks::default(),
            mass_cancels: MassCancels::default(),
            operator_acts: OperatorActs::default(),
            cash_ids,
            partitions: if options.is_member { Partitions::none() } else { Partitions::all() },
            queues,
            options,
            metrics,
            unreadable_log: UnreadableLog::new(),
            alert_log: AlertLog::new(),
        };
        for order in driver.engines.orders() {
            driver.publisher.note_recovered(order, recovered, now);
        }
        for (user, _) in driver.engines.kept_cash_ids() {
            driver.publisher.note_recovered_cash(user, recovered);
        }
        driver.engines.start(now.wall, &mut driver.outbox);
        assert_eq!(driver.gate.last_event(), recovered, "nothing is decided before the start");
        driver.admit_decided();
        driver
    }

    pub(crate) fn wal(&self) -> &WalAppender {
        &self.wal
    }

    /// Moves what the engines decided into the gate.
    fn admit_decided(&mut self) {
        let submits = self.gate.admit(&mut self.outbox);
        if submits > 0 {
            self.queues.submits.expect(submits);
        }
        assert!(self.outbox.is_empty(), "what the engines decided is in the gate");
    }

    /// Appends what was decided, and brings it to the disk if that is free.
    ///
    /// # Errors
    /// The log has failed: nothing more will become durable.
    pub(crate) fn append(&mut self) -> Result<(), OmsError> {
        while let Some((Lsn(expected), event)) = self.gate.next_to_append() {
            let record = NewRecord {
                partition: event.partition_byte(),
                kind: event.kind(),
                format_version: RECORD_FORMAT_VERSION,
                payload: self.encoder.encode(event)?,
            };
            assert!(Lsn(expected) > self.wal.committed(), "an event is appended once");
            match self.wal.append(record) {
                Ok(Lsn(given)) if given == expected => {}
                Ok(Lsn(given)) => return Err(OmsError::OutOfStep { given, expected }),
                // Waits for room; no input is taken until then.
                Err(WalError::Busy | WalError::NoSpace) => break,
                Err(error) => return Err(error.into()),
            }
            self.metrics.events.inc();
            self.gate.appended();
        }
        if self.options.commits_alone && self.replies.len() == 1 {
            self.wal.commit_here()?;
        } else {
            self.wal.flush();
        }
        if self.wal.is_poisoned() { Err(WalError::Poisoned.into()) } else { Ok(()) }
    }

    /// Whether inputs may be taken: not while the log is behind.
    pub(crate) fn takes_inputs(&self) -> bool {
        let uncommitted = self.gate.uncommitted(self.wal.committed());
        self.gate.is_appended() && uncommitted < MAX_UNCOMMITTED_EVENTS
    }

    /// Whether cancels may be taken: not while too many requests wait for answers either.
    pub(crate) fn takes_cancels(&self) -> bool {
        self.takes_inputs() && self.has_room_for_cancel()
    }

    /// Whether creates may be taken: they leave cancels a share of what may wait.
    pub(crate) fn takes_creates(&self) -> bool {
        self.takes_inputs() && self.has_room_for_create()
    }

    /// Whether one more cancel may wait for its answer.
    pub(super) fn has_room_for_cancel(&self) -> bool {
        self.replies.len() < MAX_WAITING_REPLIES
    }

    /// Whether one more create may wait for its answer.
    pub(super) fn has_room_for_create(&self) -> bool {
        self.replies.len() < MAX_WAITING_CREATES
    }

    /// Whether lines of the exchange may be taken. It sends again what we have not confirmed.
    pub(crate) fn takes_reports(&self) -> bool {
        self.gate.awaiting_postgres() < self.options.limits.max_held_for_reports()
    }

    /// Whether new orders would wait for Postgres for too long, or it lacks what was recovered.
    pub(crate) fn postgres_refuses(&self, now: Moment) -> bool {
        let waiting = self.gate.awaiting_postgres();
        self.awaited.as_ref().is_some_and(|postgres| postgres.refuses_creates(now, waiting))
    }

    /// Everything up to here is in Postgres; 0 where nobody waits for it.
    pub(crate) fn postgres_has(&self) -> Lsn {
        self.awaited.as_ref().map_or(Lsn(0), AwaitedPostgres::committed)
    }

    /// Waits until Postgres has more than `seen`; `None` where nobody waits for it.
    pub(crate) fn postgres_beyond(&self, seen: Lsn) -> Option<Beyond<'_>> {
        self.awaited.as_ref().map(|postgres| postgres.beyond(seen))
    }

    /// Whether everything that was decided is durable and done, and nobody waits for an answer.
    pub(crate) fn is_at_rest(&self) -> bool {
        let Backlog { uncommitted_events, effects_awaiting_log, waiting_replies, .. } =
            self.backlog();
        let is_at_rest = uncommitted_events == 0
            && effects_awaiting_log == 0
            && waiting_replies == 0
            && self.webhooks.is_at_rest()
            && !self.mass_cancels.is_busy()
            && self.operator_acts.is_at_rest()
            && self.gate.is_appended();
        assert!(!is_at_rest || self.gate.queries() == 0, "a query that waits is no rest");
        assert!(!is_at_rest || self.free.is_empty(), "effects happen within their slice");
        is_at_rest
    }

    /// How far log and Postgres have come.
    fn reached(&self) -> Reached {
        let postgres = self.awaited.as_ref().map(AwaitedPostgres::committed);
        Reached { log: self.wal.committed(), postgres }
    }

    /// What waits, and for what.
    pub(crate) fn backlog(&self) -> Backlog {
        Backlog {
            uncommitted_events: self.gate.uncommitted(self.wal.committed()),
            effects_awaiting_log: self.gate.awaiting_log(),
            effects_awaiting_postgres: self.gate.awaiting_postgres(),
            waiting_replies: self.replies.len(),
        }
    }

    fn show_gauges(&self) {
        // What memory can hold fits.
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let backlog = self.backlog();
        self.metrics.open_orders.set(gauge(self.engines.open_orders()));
        let engines = &self.engines;
        self.publisher.views().note_open_orders(|partition| engines.has_open_orders(partition));
        self.metrics.ended_orders.set(gauge(self.publisher.ended_orders()));
        self.metrics.open_cases.set(gauge(self.engines.open_case_count()));
        let is_checked = self.options.engine.accounts.mode == AccountMode::Cash;
        let overdrawn = if is_checked { self.engines.overdrawn_accounts() } else { 0 };
        self.metrics.overdrawn_accounts.set(gauge(overdrawn));
        self.metrics.unmatched_reports.set(gauge(self.engines.unmatched_reports()));
        self.metrics.waiting_replies.set(gauge(backlog.waiting_replies));
        self.metrics.held_effects.set(gauge(backlog.effects_awaiting_postgres));
        self.metrics.halts.set(gauge(self.admission.halts()));
    }
}
