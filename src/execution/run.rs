use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use glommio::timer::{Timer, sleep};

use super::answers::SessionQueues;
use super::driver::{Driver, DriverParts, refuse_cancel, refuse_create};
use super::error::ExecutionError;
use super::gateway::{CancelCommand, CommandReceivers, CreateCommand};
use super::limits::INPUTS_PER_SLICE;
use super::mass_cancel::MassCancelCommand;
use super::metrics::ExecutionMetrics;
use super::options::ExecutionOptions;
use super::sessions::{run_control, run_probes, run_submits};
use super::views::CommittedViews;
use super::webhook::{WebhookCommand, run_registration};
use crate::engine::Engines;
use crate::exchange::{ExchangeSession, OrderFeed};
use crate::shutdown::Shutdown;
use crate::sync::Receiver;
use crate::wal::{Lsn, WalAppender};

/// Ends a slice: the executor looks at everything else before this task goes on. A bare yield
/// would come straight back.
const SLICE_BREAK: Duration = Duration::from_micros(1);

/// What the orders thread is made of.
pub struct OrdersThread {
    /// With what the log says.
    pub engines: Engines,
    /// With the same.
    pub views: CommittedViews,
    /// The log.
    pub wal: WalAppender,
    /// Requests of the shards.
    pub commands: CommandReceivers,
    /// Messages of the feed thread.
    pub feed: Receiver<OrderFeed>,
    /// Settings.
    pub options: ExecutionOptions,
    /// Counters.
    pub metrics: ExecutionMetrics,
    /// When to stop: once the requests in progress are answered.
    pub shutdown: Shutdown,
}

/// One source of inputs. Never asked again once it is closed, and never while inputs are not taken.
struct Source<T> {
    receiver: Receiver<T>,
    /// Came in while the thread was parked.
    first: Option<T>,
    closed: bool,
}

impl<T> Source<T> {
    fn new(receiver: Receiver<T>) -> Self {
        Self { receiver, first: None, closed: false }
    }

    fn next(&mut self) -> Option<T> {
        self.first.take().or_else(|| self.receiver.try_recv())
    }

    fn has_more(&self) -> bool {
        self.first.is_some() || !self.receiver.is_empty()
    }

    fn poll_some(&mut self, context: &mut Context<'_>) -> bool {
        if self.first.is_some() {
            return true;
        }
        if self.closed {
            return false;
        }
        match self.receiver.poll_recv(context) {
            Poll::Ready(Some(value)) => self.first = Some(value),
            Poll::Ready(None) => self.closed = true,
            Poll::Pending => {}
        }
        self.first.is_some()
    }
}

struct Inputs {
    creates: Source<CreateCommand>,
    cancels: Source<CancelCommand>,
    feed: Source<OrderFeed>,
    webhooks: Source<WebhookCommand>,
    mass_cancels: Source<MassCancelCommand>,
}

/// Runs the orders thread on a glommio executor, until a stop is asked for.
///
/// # Errors
/// The log has failed. The process must end: what is durable is found out at the next start.
pub async fn run(thread: OrdersThread) -> Result<(), ExecutionError> {
    let OrdersThread { engines, views, wal, commands, feed, options, metrics, shutdown } = thread;
    let queues = Rc::new(SessionQueues::new(commands.exchange_state));
    let session = || ExchangeSession::new(options.session.clone());
    let mut sessions = Vec::new();
    for _ in 0..options.submit_connections.clamp(1, 2) {
        let sending = run_submits(session(), Rc::clone(&queues), metrics.clone());
        sessions.push(glommio::spawn_local(sending));
    }
    let control = run_control(session(), Rc::clone(&queues), metrics.clone());
    sessions.push(glommio::spawn_local(control));
    let probing = run_probes(session(), Rc::clone(&queues));
    sessions.push(glommio::spawn_local(probing));
    if let Some(webhook) = options.webhook.clone() {
        let registering = run_registration(session(), Rc::clone(&queues), webhook, metrics.clone());
        sessions.push(glommio::spawn_local(registering));
    }

    let mut inputs = Inputs {
        creates: Source::new(commands.creates),
        cancels: Source::new(commands.cancels),
        feed: Source::new(feed),
        webhooks: Source::new(commands.webhooks),
        mass_cancels: Source::new(commands.mass_cancels),
    };
    let drain = options.drain;
    let parts = DriverParts {
        engines,
        wal,
        views,
        kill_switch: commands.kill_switch,
        queues: Rc::clone(&queues),
        options,
        metrics,
    };
    let mut driver = Driver::new(parts);
    while !shutdown.is_requested() {
        turn(&mut driver, &mut inputs, &queues, Some(&shutdown)).await?;
    }
    finish(driver, inputs, &queues, drain).await
}

/// One slice of work, and then a break or a wait for more.
async fn turn(
    driver: &mut Driver,
    inputs: &mut Inputs,
    queues: &SessionQueues,
    shutdown: Option<&Shutdown>,
) -> Result<(), ExecutionError> {
    let committed = driver.wal().committed();
    let mut more = driver.release();
    more |= take_inputs(driver, inputs, queues);
    driver.append()?;
    if more {
        sleep(SLICE_BREAK).await;
    } else {
        park(driver, inputs, queues, (committed, shutdown)).await;
    }
    Ok(())
}

/// Takes inputs of every kind, a bounded number each. True when there are more.
fn take_inputs(driver: &mut Driver, inputs: &mut Inputs, queues: &SessionQueues) -> bool {
    let mut more = driver.keep_time(INPUTS_PER_SLICE);
    if !driver.takes_inputs() {
        if driver.wal().is_out_of_space() {
            refuse_requests(inputs);
        }
        return false;
    }
    for _ in 0..INPUTS_PER_SLICE {
        let Some(answer) = queues.answers.pop() else { break };
        driver.answer(answer);
    }
    for _ in 0..INPUTS_PER_SLICE {
        let Some(message) = inputs.feed.next() else { break };
        driver.feed(message);
    }
    if !driver.webhooks.is_busy()
        && let Some(command) = inputs.webhooks.next()
    {
        driver.webhooks.begin(command);
    }
    driver.webhook_lines(INPUTS_PER_SLICE);
    if !driver.mass_cancels.is_busy()
        && let Some(command) = inputs.mass_cancels.next()
    {
        driver.mass_cancels.begin(command);
    }
    driver.mass_cancel();
    more |= driver.mass_cancels.is_sweeping();
    more |= !queues.answers.is_empty() || inputs.feed.has_more();
    more |= driver.webhooks.is_busy() || inputs.webhooks.has_more();
    if !driver.takes_requests() {
        return more;
    }
    for _ in 0..INPUTS_PER_SLICE {
        let Some(command) = inputs.cancels.next() else { break };
        driver.cancel(command);
    }
    for _ in 0..INPUTS_PER_SLICE {
        let Some(command) = inputs.creates.next() else { break };
        driver.create(command);
    }
    more || inputs.cancels.has_more() || inputs.creates.has_more()
}

/// Gives a clear answer to everybody who would wait for a log that has no room.
fn refuse_requests(inputs: &mut Inputs) {
    while let Some(command) = inputs.creates.next() {
        refuse_create(command);
    }
    while let Some(command) = inputs.cancels.next() {
        refuse_cancel(command);
    }
}

/// Waits until there is something to do.
async fn park(
    driver: &Driver,
    inputs: &mut Inputs,
    queues: &SessionQueues,
    (seen, shutdown): (Lsn, Option<&Shutdown>),
) {
    let mut due = pin!(Timer::new(driver.until_due()));
    poll_fn(|context| {
        let mut ready = driver.wal().poll_progress(context, seen).is_ready();
        ready |= due.as_mut().poll(context).is_ready();
        ready |= shutdown.is_some_and(|shutdown| shutdown.poll_requested(context).is_ready());
        // Without room nothing is taken, but everybody gets an answer.
        let refuses = !driver.takes_inputs() && driver.wal().is_out_of_space();
        if driver.takes_inputs() {
            ready |= queues.answers.poll_some(context).is_ready();
            ready |= inputs.feed.poll_some(context);
            ready |= driver.webhooks.is_busy() || inputs.webhooks.poll_some(context);
            ready |= driver.mass_cancels.is_sweeping();
            ready |= !driver.mass_cancels.is_busy() && inputs.mass_cancels.poll_some(context);
        }
        if driver.takes_requests() || refuses {
            ready |= inputs.cancels.poll_some(context);
            ready |= inputs.creates.poll_some(context);
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Ends in order: requests in progress are answered, those that still wait to be taken are not,
/// and everything decided becomes durable.
async fn finish(
    mut driver: Driver,
    mut inputs: Inputs,
    queues: &SessionQueues,
    drain: Duration,
) -> Result<(), ExecutionError> {
    let deadline = Instant::now() + drain;
    driver.log_feed_position();
    while !driver.is_at_rest() && Instant::now() < deadline {
        refuse_requests(&mut inputs);
        turn(&mut driver, &mut inputs, queues, None).await?;
    }
    Ok(())
}
