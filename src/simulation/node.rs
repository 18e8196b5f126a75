//! One run of the process: the orders thread, the log's threads, the index and the feed thread, all
//! real, but stepped by hand.

use std::rc::Rc;
use std::sync::Arc;

use super::clock::SimulatedClock;
use super::feed::FeedLink;
use super::invariant::{Checked, Invariant, broken, ensure};
use super::postgres::Postgres;
use super::profile::Profile;
use super::sessions::{Sessions, are_empty};
use crate::exchange::{ExchangeAddress, SessionOptions};
use crate::index::{Index, IndexAges, IndexFollower, IndexMetrics, IndexReader, IndexReaders};
use crate::market::MarketWriter;
use crate::oms::answers::{Answer, OrderLookup, SessionQueues};
use crate::oms::driver::{Driver, DriverParts};
use crate::oms::limits::{
    INPUTS_PER_SLICE, MAX_UNCOMMITTED_EVENTS, MAX_WAITING_RECONCILIATIONS, MAX_WAITING_REPLIES,
    MAX_WAITING_SUBMITS,
};
use crate::oms::order_lookups::look_up_in;
use crate::oms::publisher::ReaderSide;
use crate::oms::recover::{load, replay};
use crate::oms::slice::{Inputs, Refusal, refuse_requests, work};
use crate::oms::{
    CommittedViews, ExchangeReachability, KillSwitch, OmsError, OmsLimits, OmsMetrics, OmsOptions,
    OrderCommands, OrderService, OrderStages, OrderWatch, OrderWatchers, PostgresSide,
    order_commands,
};
use crate::order::TrackedOrder;
use crate::projection::Progress;
use crate::sync::mailbox;
use crate::testing::{FaultyDisk, ManualWriter, MemoryStore};
use crate::types::{Moment, SteadyClock, TimestampMicros};
use crate::wal::recovery::recover_from;
use crate::wal::{self, MIN_SEGMENT_BYTES, WalError, WalOptions};

/// What survives a process: its disk, its store, Postgres, the operators' switch.
pub(super) struct Machine {
    pub(super) disk: FaultyDisk,
    pub(super) store: MemoryStore,
    pub(super) kill_switch: KillSwitch,
    pub(super) postgres: Postgres,
}

/// The running process.
pub(super) struct Node {
    pub(super) driver: Driver,
    inputs: Inputs,
    queues: Rc<SessionQueues>,
    /// `None` once it has failed.
    writer: Option<ManualWriter<FaultyDisk>>,
    follower: IndexFollower<FaultyDisk>,
    reads: IndexReader,
    /// An exchange id that was looked up in the store, and the order found.
    found: Option<(OrderLookup, Option<TrackedOrder>)>,
    is_stopping: bool,
    kill_switch: KillSwitch,
    /// The position of Postgres, as the process knows it.
    pub(super) progress: Progress,
    pub(super) sessions: Sessions,
    pub(super) index: Index,
    pub(super) order_watch: OrderWatch,
    pub(super) service: OrderService,
    pub(super) feed: FeedLink,
    pub(super) metrics: OmsMetrics,
}

/// How a slice of the orders thread ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SliceEnd {
    /// There is more to do at once.
    More,
    /// Nothing to do for now.
    Done,
    /// Everything is done after a stop was requested.
    Stopped,
    /// The log has failed: the process ends.
    Dead,
}

/// Why a process did not start.
pub(super) struct NotStarted {
    pub(super) error: OmsError,
    /// For the next process.
    pub(super) market: MarketWriter,
}

impl Node {
    /// Starts from log and store.
    #[expect(clippy::result_large_err, reason = "starts are few, and most succeed")]
    pub(super) fn start(
        machine: &Machine,
        profile: &Profile,
        market: MarketWriter,
        clock: &mut SimulatedClock,
    ) -> Result<Self, NotStarted> {
        let storage = Arc::new(machine.disk.clone());
        let recovered = open_index(machine, profile).and_then(|index| {
            let engines = load(&index, profile.engine, 1)?;
            let after = Some(index.position());
            let recovered =
                replay(engines, 1, &index, |visit| recover_from(storage, after, visit))?;
            let log = WalOptions {
                segment_bytes: MIN_SEGMENT_BYTES,
                keep_bytes: 0,
                reserve_bytes: profile.reserve_segments * MIN_SEGMENT_BYTES,
                ..WalOptions::new("")
            };
            let (appender, writer) = wal::open(log, recovered.wal)?;
            let follower =
                IndexFollower::new(index.clone(), writer.handle(), IndexMetrics::default())?;
            Ok((
                index,
                follower,
                appender,
                writer,
                (recovered.engines, recovered.views, recovered.feed_position),
                recovered.last_time,
            ))
        });
        let (index, follower, wal, writer, (engines, views, feed_position), last_time) =
            match recovered {
                Ok(recovered) => recovered,
                Err(error) => return Err(NotStarted { error, market }),
            };
        clock.start_process(last_time, profile.engine.clock_tolerance_micros);
        let now = clock.ours();
        let kill_switch = machine.kill_switch.clone();
        // Unused: the world passes the time.
        let steady = SteadyClock::start(TimestampMicros::default());
        let (commands, receivers) = order_commands(views.clone(), kill_switch.clone(), steady);
        let (to_orders, lines) = mailbox(profile.feed_queue);
        let exchange_clock = receivers.exchange_clock.clone();
        let queues = Rc::new(SessionQueues::new(
            receivers.exchange_reachability.clone(),
            OrderStages::default(),
            exchange_clock.clone(),
        ));
        let metrics = OmsMetrics::default();
        let (readers, [reads, _]) = IndexReaders::new(&index);
        let (stored, shown, reused) = (index.clone(), index.clone(), index.clone());
        let (watchers, mut watches) = OrderWatchers::new(&[Arc::default()]);
        let order_watch = watches.pop().expect("one end for one shard");
        let progress = Progress::new(1);
        let postgres = PostgresSide { progress: progress.clone(), is_awaited: true };
        let parts = DriverParts {
            engines,
            wal,
            readers: ReaderSide {
                views,
                watchers,
                stored: Box::new(move || stored.durable_position()),
                shown: Box::new(move |position| shown.memory_shows(position)),
                reused: Box::new(move || reused.take_reused_ids()),
            },
            postgres: profile.awaits_postgres.then_some(postgres),
            kill_switch: kill_switch.clone(),
            queues: Rc::clone(&queues),
            options: options(profile),
            metrics: metrics.clone(),
        };
        let resume = feed_position.map(|(session, sequence)| (session, sequence + 1));
        Ok(Self {
            driver: Driver::new(parts, now),
            inputs: Inputs::new(receivers, lines),
            sessions: Sessions::new(Rc::clone(&queues), metrics.clone()),
            queues,
            writer: Some(ManualWriter::new(writer)),
            follower,
            reads,
            found: None,
            is_stopping: false,
            kill_switch,
            progress,
            index,
            order_watch,
            service: OrderService::new(commands, readers),
            feed: FeedLink::new(market, to_orders, resume, exchange_clock),
            metrics,
        })
    }

    pub(super) fn driver(&self) -> &Driver {
        &self.driver
    }

    pub(super) fn commands(&self) -> &OrderCommands {
        self.service.commands()
    }

    pub(super) fn views(&self) -> &CommittedViews {
        self.commands().views()
    }

    /// Runs one slice of the orders thread.
    pub(super) fn slice(&mut self, now: Moment) -> Checked<SliceEnd> {
        if self.is_stopping {
            refuse_requests(&mut self.inputs, &Refusal::STOPPING);
        }
        let is_full = self.driver.wal().is_out_of_space();
        let is_halted = self.kill_switch.halts().all;
        let taken_before = self.metrics.creates.get();
        let end = match work(&mut self.driver, &mut self.inputs, &self.queues, now) {
            Ok(_) if self.is_stopping && self.driver.is_at_rest() => SliceEnd::Stopped,
            Ok(true) => SliceEnd::More,
            Ok(false) => SliceEnd::Done,
            Err(OmsError::Log(WalError::Poisoned | WalError::Io { .. })) => SliceEnd::Dead,
            Err(error) => return Err(broken(Invariant::LogInStep, format!("{error:?}"))),
        };
        let taken = self.metrics.creates.get() - taken_before;
        let what = || format!("{taken} new orders were taken");
        ensure(!is_full || taken == 0, Invariant::RefusedForRoom, what)?;
        ensure(!is_halted || taken == 0, Invariant::HaltedIsRefused, what)?;
        self.check_queues()?;
        Ok(end)
    }

    /// Requests a clean stop.
    pub(super) fn begin_stop(&mut self, now: Moment) {
        self.is_stopping = true;
        self.driver.log_feed_position(now);
    }

    pub(super) const fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Whether the exchange's clock has been heard.
    pub(super) fn hears_exchange(&self, now: Moment) -> bool {
        self.queues.exchange_clock.offset_micros(now).is_some()
    }

    /// Whether there is a reason to refuse requests, other than a full disk.
    pub(super) fn may_refuse(&self, now: Moment) -> bool {
        self.is_stopping || self.driver.postgres_refuses(now)
    }

    /// Whether anything in the log is not shown yet because Postgres lags.
    pub(super) fn waits_for_postgres(&self) -> bool {
        self.driver.backlog().effects_awaiting_postgres > 0 || !self.service.is_readable()
    }

    fn check_queues(&self) -> Checked {
        let backlog = self.driver.backlog();
        // One slice may take every kind of input, and one input may become several events and
        // effects.
        let slack = 64 * INPUTS_PER_SLICE;
        let queues = [
            (
                "uncommitted events",
                backlog.uncommitted_events,
                MAX_UNCOMMITTED_EVENTS + slack as u64,
            ),
            ("gated effects", backlog.effects_awaiting_log as u64, 4 * MAX_UNCOMMITTED_EVENTS),
            (
                "effects held for Postgres",
                backlog.effects_awaiting_postgres as u64,
                (LIMITS.max_held_for_cancels() + slack) as u64,
            ),
            ("waiting replies", backlog.waiting_replies as u64, MAX_WAITING_REPLIES as u64),
            ("submits", self.queues.submits.len() as u64, MAX_WAITING_SUBMITS as u64),
            ("queries", self.queues.queries.len() as u64, 2 * MAX_WAITING_RECONCILIATIONS as u64),
        ];
        for (name, length, limit) in queues {
            ensure(length <= limit, Invariant::QueuesBounded, || {
                format!("{length} {name}, the limit is {limit}")
            })?;
        }
        Ok(())
    }

    /// Steps the log's writer. False if it had nothing to do.
    pub(super) fn write_log(&mut self) -> bool {
        let Some(writer) = self.writer.as_mut().filter(|writer| writer.can_write()) else {
            return false;
        };
        if writer.write().is_err() {
            // The thread ends, which drops the writer and poisons the log.
            self.writer = None;
        }
        true
    }

    /// Steps the log's preparing thread. False if it had nothing to do.
    pub(super) fn prepare_log(&mut self) -> bool {
        let Some(writer) = self.writer.as_mut().filter(|writer| writer.can_prepare()) else {
            return false;
        };
        writer.prepare();
        true
    }

    /// Steps the index. False if it has all of the log.
    pub(super) fn follow_log(&mut self) -> Checked<bool> {
        let before = self.index.position();
        let followed = self.follower.apply_batch(self.index.may_follow_to());
        followed.map_err(|error| broken(Invariant::StoreFollows, format!("{error:?}")))?;
        Ok(self.index.position() > before)
    }

    /// Makes the index durable, and cuts the log up to there.
    pub(super) fn persist_index(&mut self) -> Checked<bool> {
        let is_news = self.index.durable_position() < self.index.position();
        let persisted = self.follower.persist();
        persisted.map_err(|error| broken(Invariant::StoreFollows, format!("{error:?}")))?;
        Ok(is_news)
    }

    /// Runs the queued reads of the index. False if there were none.
    pub(super) fn answer_reads(&self) -> bool {
        self.reads.run_pending()
    }

    /// Looks up an order in the store, or returns the result of the last lookup. False if
    /// there is nothing to do.
    pub(super) fn find(&mut self) -> Checked<bool> {
        if let Some((lookup, order)) = self.found.take() {
            self.queues.answers.push(Answer::LookedUp(lookup, order));
            return Ok(true);
        }
        let Some(lookup) = self.queues.lookups.pop() else { return Ok(false) };
        let found = look_up_in(&self.index, &lookup);
        let found = found.map_err(|error| broken(Invariant::StoreFollows, format!("{error:?}")))?;
        self.found = Some((lookup, found));
        Ok(true)
    }

    /// Answers a probe: the exchange is back. False if it did not count as away.
    pub(super) fn answer_probe(&self) -> bool {
        self.queues.probes.take(usize::MAX);
        let mut circuit = self.queues.circuit.borrow_mut();
        let is_away = circuit.state() == ExchangeReachability::Away;
        circuit.probe_answered();
        is_away
    }

    /// Whether nothing is in flight or queued.
    pub(super) fn has_nothing_to_send(&self) -> bool {
        self.sessions.are_idle() && self.found.is_none() && are_empty(&self.queues)
    }
}

/// Opens the index.
fn open_index(machine: &Machine, profile: &Profile) -> Result<Index, OmsError> {
    let ages = IndexAges {
        unmatched_report_micros: profile.engine.unmatched_report_age_micros,
        ended_window_micros: profile.engine.ended_window_micros,
        changes_micros: profile.changes_age_micros,
    };
    Ok(Index::in_memory(&machine.store, ages)?)
}

/// Low enough that seeds get there. A simulation lasts no longer than a few pauses.
const LIMITS: OmsLimits =
    OmsLimits { max_held_for_creates: 96, max_recent_changes: 3, max_pause_doublings: 2 };

fn options(profile: &Profile) -> OmsOptions {
    // Never connected to.
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let session = SessionOptions::new(ExchangeAddress::from(address));
    OmsOptions {
        engine: profile.engine,
        reply_timeout: profile.reply_timeout,
        postgres_stall: profile.postgres_stall,
        postgres_patience: profile.postgres_patience,
        commits_alone: profile.commits_alone,
        sweep_interval: profile.sweep_interval,
        keep_ended: profile.keep_ended,
        cleanup_interval: profile.cleanup_interval,
        submit_connections: super::sessions::SUBMIT_SESSIONS,
        limits: LIMITS,
        ..OmsOptions::new(session)
    }
}
