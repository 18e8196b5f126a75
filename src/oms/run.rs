//! The orders thread: spawns the sessions with the exchange and runs the driver in slices.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::answers::SessionQueues;
use super::clock_watch::watch_clocks;
use super::driver::{Driver, DriverParts};
use super::error::OmsError;
use super::metrics::OmsMetrics;
use super::options::OmsOptions;
use super::order_commands::CommandReceivers;
use super::order_lookups::run_order_lookups;
use super::order_store::OrderStore;
use super::order_watch::OrderWatchers;
use super::postgres_side::PostgresSide;
use super::publisher::ReaderSide;
use super::sessions::{run_cancels, run_lookups, run_probes, run_queries, run_submits};
use super::slice::{self, Inputs, Refusal};
use super::views::CommittedViews;
use super::webhook::run_registration;
use crate::engine::Engines;
use crate::exchange::{ExchangeSession, OrderFeedMessage};
use crate::runtime::{Timer, sleep, spawn_local};
use crate::shutdown::Shutdown;
use crate::sync::Receiver;
use crate::types::SteadyClock;
use crate::wal::{Lsn, WalAppender};

/// Ends a slice: the executor runs every other task before this one continues. A bare yield would
/// return at once.
const SLICE_BREAK: Duration = Duration::from_micros(1);

/// The parts of the orders thread.
pub struct OrdersThread {
    /// With the recovered orders.
    pub engines: Engines,
    /// With the same orders.
    pub views: CommittedViews,
    /// Is told which users' orders have changed.
    pub watchers: OrderWatchers,
    /// The store, which has the ended orders that are not in memory.
    pub store: OrderStore,
    /// Postgres, if it follows the log.
    pub postgres: Option<PostgresSide>,
    /// The log.
    pub wal: WalAppender,
    /// Requests of the shards.
    pub receivers: CommandReceivers,
    /// Messages of the feed thread.
    pub feed: Receiver<OrderFeedMessage>,
    /// Settings.
    pub options: OmsOptions,
    /// Counters.
    pub metrics: OmsMetrics,
    /// Requests the stop; requests in progress are answered first.
    pub shutdown: Shutdown,
}

/// Runs the orders thread on a glommio executor until a stop is requested.
///
/// # Errors
/// The log has failed. The process must end; the next start finds out what is durable.
pub async fn run(thread: OrdersThread) -> Result<(), OmsError> {
    let OrdersThread { engines, views, watchers, store, postgres, wal, .. } = thread;
    let OrdersThread { receivers, feed, options, metrics, shutdown, .. } = thread;
    let clock = receivers.clock.clone();
    let queues = Rc::new(SessionQueues::new(
        receivers.exchange_reachability.clone(),
        receivers.stages.clone(),
        receivers.exchange_clock.clone(),
    ));
    let mut number = 0;
    let mut session = || {
        number += 1;
        ExchangeSession::new(options.nth_session(number - 1))
    };
    let mut sessions = Vec::new();
    for _ in 0..options.submit_connections.max(1) {
        let sending = run_submits(session(), Rc::clone(&queues), metrics.clone(), clock.clone());
        sessions.push(spawn_local(sending));
    }
    let cancelling = run_cancels(session(), Rc::clone(&queues), metrics.clone(), clock.clone());
    sessions.push(spawn_local(cancelling));
    let asking = run_queries(session(), Rc::clone(&queues), metrics.clone(), clock.clone());
    sessions.push(spawn_local(asking));
    sessions.push(spawn_local(run_lookups(options.session.dialer.clone())));
    // The exchange counts as away until it has answered something.
    queues.probes.push(());
    let probing = run_probes(session(), Rc::clone(&queues));
    sessions.push(spawn_local(probing));
    if let Some(webhook) = options.webhook.clone() {
        let registering = run_registration(session(), Rc::clone(&queues), webhook, metrics.clone());
        sessions.push(spawn_local(registering));
    }

    let exchange_clock = receivers.exchange_clock.clone();
    let (warning, metrics_of_clocks) = (options.exchange_clock_warning, metrics.clone());
    let watching = watch_clocks(clock.clone(), exchange_clock, warning, metrics_of_clocks);
    sessions.push(spawn_local(watching));

    let (stored, shown, reused) = (store.stored_up_to(), store.shown_up_to(), store.reused_ids());
    sessions.push(spawn_local(run_order_lookups(store, Rc::clone(&queues))));

    let kill_switch = receivers.kill_switch.clone();
    let mut inputs = Inputs::new(receivers, feed);
    let drain = options.drain;
    let parts = DriverParts {
        engines,
        wal,
        readers: ReaderSide { views, watchers, stored, shown, reused },
        postgres,
        kill_switch,
        queues: Rc::clone(&queues),
        options,
        metrics,
    };
    let mut driver = Driver::new(parts, clock.moment());
    while !shutdown.is_requested() {
        turn(&mut driver, &mut inputs, (&queues, &clock), Some(&shutdown), Duration::MAX).await?;
    }
    finish(driver, inputs, (&queues, &clock), drain).await
}

/// Does one slice of work. Then takes a break, or waits for more work for at most `patience`.
async fn turn(
    driver: &mut Driver,
    inputs: &mut Inputs,
    (queues, clock): (&SessionQueues, &SteadyClock),
    shutdown: Option<&Shutdown>,
    patience: Duration,
) -> Result<(), OmsError> {
    let seen = Seen { log: driver.wal().committed(), postgres: driver.postgres_has() };
    if slice::work(driver, inputs, queues, clock.moment())? {
        sleep(SLICE_BREAK).await;
    } else {
        let patience = driver.until_due(clock.moment()).min(patience);
        park(driver, inputs, (queues, shutdown), seen, patience).await;
    }
    Ok(())
}

/// How far log and Postgres were when the slice began.
struct Seen {
    log: Lsn,
    postgres: Lsn,
}

/// Waits until there is work, for at most `patience`.
async fn park(
    driver: &Driver,
    inputs: &mut Inputs,
    (queues, shutdown): (&SessionQueues, Option<&Shutdown>),
    seen: Seen,
    patience: Duration,
) {
    let mut due = pin!(Timer::new(patience));
    let mut postgres = driver.postgres_beyond(seen.postgres);
    let mut stop = shutdown.map(Shutdown::requested);
    poll_fn(|context| {
        let mut ready = driver.wal().poll_progress(context, seen.log).is_ready();
        let moved = postgres.as_mut().map(|moves| Pin::new(moves).poll(context));
        ready |= moved.is_some_and(|moved| moved.is_ready());
        ready |= due.as_mut().poll(context).is_ready();
        let stopped = stop.as_mut().map(|stop| Pin::new(stop).poll(context));
        ready |= stopped.is_some_and(|stopped| stopped.is_ready());
        // On an exhausted log no input is taken, but every request gets an answer.
        let refuses = !driver.takes_inputs() && driver.wal().is_exhausted();
        if driver.takes_inputs() {
            ready |= queues.answers.poll_some(context).is_ready();
            if driver.takes_reports() {
                ready |= inputs.feed.poll_some(context);
                ready |= driver.webhooks.is_busy() || inputs.webhooks.poll_some(context);
            }
            ready |= driver.mass_cancels.is_sweeping();
            ready |= inputs.operators.poll_some(context);
            ready |= inputs.partitions.poll_some(context);
            ready |= !driver.mass_cancels.is_busy() && inputs.mass_cancels.poll_some(context);
        }
        if driver.takes_cancels() || refuses {
            ready |= inputs.cancels.poll_some(context);
        }
        if driver.takes_creates() || refuses {
            ready |= inputs.creates.poll_some(context);
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Shuts down in order: requests in progress are answered, requests not yet taken are refused, and
/// every decision becomes durable.
async fn finish(
    mut driver: Driver,
    mut inputs: Inputs,
    (queues, clock): (&SessionQueues, &SteadyClock),
    drain: Duration,
) -> Result<(), OmsError> {
    let deadline = Instant::now() + drain;
    driver.log_feed_position(clock.moment());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if driver.is_at_rest() || left.is_zero() {
            return Ok(());
        }
        slice::refuse_requests(&mut inputs, &Refusal::STOPPING);
        turn(&mut driver, &mut inputs, (queues, clock), None, left).await?;
    }
}
