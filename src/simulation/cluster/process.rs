//! One run of a member: the real orders thread, stepped by hand, and the threads around it.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use super::around::Around;
use super::commands::Shared;
use super::end::End;
use super::feed::FeedThread;
use super::lease::Lease;
use super::mover::Mover;
use super::profile::Profile;
use super::projector::Projector;
use crate::cluster::{NodeId, PartitionMap};
use crate::engine::Engines;
use crate::exchange::{ExchangeAddress, SessionOptions};
use crate::oms::answers::{Answer, OrderLookup, SessionQueues};
use crate::oms::driver::{Driver, DriverParts};
use crate::oms::publisher::ReaderSide;
use crate::oms::slice::{Inputs, work};
use crate::oms::{
    CommittedViews, Halts, KillSwitch, OmsMetrics, OmsOptions, OrderStages, OrderWatchers,
    PostgresSide, order_commands,
};
use crate::order::TrackedOrder;
use crate::projection::{Ownership, Progress};
use crate::simulation::invariant::{Checked, Invariant, broken};
use crate::simulation::sessions::{SUBMIT_SESSIONS, Sessions, are_empty};
use crate::sync::mailbox;
use crate::testing::{FaultyDisk, ManualWriter};
use crate::types::{Moment, SteadyClock, TimestampMicros, UserPartition};
use crate::wal::recovery::recover_from;
use crate::wal::{self, Lsn, MIN_SEGMENT_BYTES, WalOptions};

/// Capacity of the queue from the thread `feed` to the orders thread.
const FEED_QUEUE: usize = 256;

/// A running process.
pub(super) struct Process {
    pub(super) shared: Shared,
    pub(super) driver: Driver,
    pub(super) sessions: Sessions,
    pub(super) progress: Progress,
    pub(super) mover: Mover,
    pub(super) feed: FeedThread,
    inputs: Inputs,
    queues: Rc<SessionQueues>,
    writer: ManualWriter<FaultyDisk>,
    lease: Lease,
    projector: Projector,
    /// An order that was looked up in Postgres.
    found: Option<(OrderLookup, Option<TrackedOrder>)>,
}

impl Process {
    /// Starts with an empty log.
    pub(super) fn start(
        (node_id, epoch): (NodeId, i64),
        profile: &Profile,
        now: Moment,
    ) -> Checked<Self> {
        let failed = |error| broken(Invariant::StartsAfterCrash, format!("{error:?}"));
        let disk = Arc::new(FaultyDisk::default());
        let recovery = recover_from(disk, Some(Lsn(0)), &mut |_| Ok(())).map_err(failed)?;
        let log_options = WalOptions {
            segment_bytes: MIN_SEGMENT_BYTES,
            keep_bytes: 0,
            reserve_bytes: 0,
            ..WalOptions::new("")
        };
        let (wal, writer) = wal::open(log_options, recovery).map_err(failed)?;
        let log = writer.handle();
        let views = CommittedViews::new();
        let kill_switch = KillSwitch::with(Halts::default(), PathBuf::new());
        // Unused: the world passes the time.
        let steady = SteadyClock::start(TimestampMicros::default());
        let (commands, receivers) = order_commands(views.clone(), kill_switch.clone(), steady);
        let (to_orders, lines) = mailbox(FEED_QUEUE);
        let queues = Rc::new(SessionQueues::new(
            receivers.exchange_reachability.clone(),
            OrderStages::default(),
            receivers.exchange_clock.clone(),
        ));
        let (metrics, progress) = (OmsMetrics::default(), Progress::new(1));
        let stored = progress.clone();
        let parts = DriverParts {
            engines: Engines::new(profile.engine),
            wal,
            readers: ReaderSide {
                views,
                watchers: OrderWatchers::default(),
                stored: Box::new(move || stored.slowest()),
                shown: Box::new(|_| ()),
                reused: Box::new(Vec::new),
            },
            postgres: Some(PostgresSide { progress: progress.clone(), is_awaited: true }),
            kill_switch,
            queues: Rc::clone(&queues),
            options: options(profile),
            metrics: metrics.clone(),
        };
        let ownership = Ownership::default();
        ownership.joined(epoch);
        let map = PartitionMap::unknown();
        Ok(Self {
            shared: Shared { epoch, map, ownership, log, commands },
            driver: Driver::new(parts, now),
            sessions: Sessions::new(Rc::clone(&queues), metrics),
            progress,
            mover: Mover::new(),
            feed: FeedThread::new((node_id, epoch), to_orders),
            inputs: Inputs::new(receivers, lines),
            queues,
            writer: ManualWriter::new(writer),
            lease: Lease::new((node_id, epoch)),
            projector: Projector::new(epoch),
            found: None,
        })
    }

    /// Whether it serves the users of a partition.
    pub(super) fn serves(&self, partition: UserPartition, now: Moment) -> bool {
        let route = self.shared.map.route_at(partition, || now.monotonic);
        route == crate::cluster::Route::Here
    }

    pub(super) fn keep_lease(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        self.lease.step(&self.shared.map, around)
    }

    pub(super) fn move_partitions(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        self.mover.step(&self.shared, around)
    }

    pub(super) fn project(&mut self, around: &mut Around<'_>) -> Result<(), End> {
        self.projector.step(&self.shared, &self.progress, around)
    }

    /// Runs a slice of the orders thread. True when it has more to do.
    pub(super) fn slice(&mut self, now: Moment) -> Checked<bool> {
        let worked = work(&mut self.driver, &mut self.inputs, &self.queues, now);
        worked.map_err(|error| broken(Invariant::LogInStep, format!("{error:?}")))
    }

    /// Steps the log's threads.
    pub(super) fn write_log(&mut self) -> Checked {
        if self.writer.can_prepare() {
            self.writer.prepare();
        }
        if self.writer.can_write() {
            let written = self.writer.write();
            written.map_err(|error| broken(Invariant::LogInStep, format!("{error:?}")))?;
        }
        Ok(())
    }

    /// Looks up an order in Postgres, or hands over the one that was looked up.
    pub(super) fn find(&mut self, around: &Around<'_>) {
        if let Some((lookup, order)) = self.found.take() {
            self.queues.answers.push(Answer::LookedUp(lookup, order));
        } else if around.has_postgres
            && let Some(lookup) = self.queues.lookups.pop()
        {
            let tables = &around.postgres.tables;
            let order = match &lookup {
                OrderLookup::ByExternalId(id) => tables.by_external_id(id),
                OrderLookup::ByOrderId(order_id) => tables.order(*order_id),
            };
            let ours = Some(self.shared.log.log_id());
            let is_own =
                |order: &&TrackedOrder| tables.log_of(order.order().order_id.partition()) == ours;
            let order = order.filter(is_own).cloned();
            self.found = Some((lookup, order));
        }
    }

    /// Answers a probe of the exchange.
    pub(super) fn answer_probe(&self) {
        self.queues.probes.take(usize::MAX);
        self.queues.circuit.borrow_mut().probe_answered();
    }

    /// Whether nothing is underway.
    pub(super) fn is_quiet(&self) -> bool {
        self.driver.is_at_rest()
            && self.driver.backlog().effects_awaiting_postgres == 0
            && !self.driver.engines.is_reconciling()
            && self.sessions.are_idle()
            && self.found.is_none()
            && are_empty(&self.queues)
    }
}

fn options(profile: &Profile) -> OmsOptions {
    // Never connected to.
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let session = SessionOptions::new(ExchangeAddress::from(address));
    OmsOptions {
        engine: profile.engine,
        is_member: true,
        commits_alone: profile.commits_alone,
        sweep_interval: profile.sweep_interval,
        keep_ended: profile.keep_ended,
        cleanup_interval: profile.cleanup_interval,
        submit_connections: SUBMIT_SESSIONS,
        ..OmsOptions::new(session)
    }
}
