//! One slice of the orders thread's work. Waits for nothing and reads no clock.

use std::task::{Context, Poll};

use super::answers::SessionQueues;
use super::driver::{Driver, refuse_cancel, refuse_create};
use super::error::OmsError;
use super::limits::INPUTS_PER_SLICE;
use super::mass_cancel::MassCancelCommand;
use super::operator::OperatorCommand;
use super::order_commands::{CancelCommand, CommandReceivers, CreateCommand};
use super::partitions::PartitionCommand;
use super::webhook::WebhookCommand;
use crate::engine::{CancelReply, CreateReply};
use crate::exchange::OrderFeedMessage;
use crate::sync::Receiver;
use crate::types::Moment;

/// One source of inputs. Not polled once it is closed, nor while inputs are not taken.
pub(super) struct Source<T> {
    receiver: Receiver<T>,
    /// The input that woke the thread.
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

    pub(super) fn poll_some(&mut self, context: &mut Context<'_>) -> bool {
        if self.first.is_some() {
            return true;
        }
        // Closed by its senders: polled no more.
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

/// Everything that the orders thread is told.
pub(crate) struct Inputs {
    pub(super) creates: Source<CreateCommand>,
    pub(super) cancels: Source<CancelCommand>,
    pub(super) feed: Source<OrderFeedMessage>,
    pub(super) webhooks: Source<WebhookCommand>,
    pub(super) mass_cancels: Source<MassCancelCommand>,
    pub(super) operators: Source<OperatorCommand>,
    pub(super) partitions: Source<PartitionCommand>,
}

impl Inputs {
    pub(crate) fn new(receivers: CommandReceivers, feed: Receiver<OrderFeedMessage>) -> Self {
        Self {
            creates: Source::new(receivers.creates),
            cancels: Source::new(receivers.cancels),
            feed: Source::new(feed),
            webhooks: Source::new(receivers.webhooks),
            mass_cancels: Source::new(receivers.mass_cancels),
            operators: Source::new(receivers.operators),
            partitions: Source::new(receivers.partitions),
        }
    }
}

/// Releases what is durable, takes inputs, and appends what was decided. True when there is more to
/// do.
///
/// # Errors
/// The log has failed: the process must end.
pub(crate) fn work(
    driver: &mut Driver,
    inputs: &mut Inputs,
    queues: &SessionQueues,
    now: Moment,
) -> Result<bool, OmsError> {
    let mut more = driver.release(now);
    more |= take_inputs(driver, inputs, queues, now);
    driver.append()?;
    // A decision without an event (a query, the answer to a repeated request) waits for nothing, and
    // nothing else may come to wake the thread for it.
    Ok(more || driver.has_free_effects())
}

/// Takes inputs of every kind, a bounded number each. True when there are more.
fn take_inputs(
    driver: &mut Driver,
    inputs: &mut Inputs,
    queues: &SessionQueues,
    now: Moment,
) -> bool {
    let mut more = driver.keep_time(now, INPUTS_PER_SLICE);
    if !driver.takes_inputs() {
        if driver.wal().is_exhausted() {
            refuse_requests(inputs, &Refusal::NO_ROOM);
        }
        return false;
    }
    for _ in 0..INPUTS_PER_SLICE {
        let Some(answer) = queues.answers.pop() else { break };
        driver.answer(now, answer);
    }
    if driver.takes_reports() {
        more |= take_reports(driver, inputs, now);
    }
    if !driver.mass_cancels.is_busy()
        && let Some(command) = inputs.mass_cancels.next()
    {
        driver.mass_cancels.begin(command);
    }
    if let Some(command) = inputs.operators.next() {
        driver.operate(now, command);
        more |= inputs.operators.has_more();
    }
    if let Some(command) = inputs.partitions.next() {
        driver.move_partition(now, command);
        more |= inputs.partitions.has_more();
    }
    driver.mass_cancel(now);
    more |= driver.mass_cancels.is_sweeping();
    more |= !queues.answers.is_empty();
    // Cancels first, in a share of their own: however many creates there are, they get their turn.
    // Only room is looked at here: what is decided in this slice is appended at its end, together.
    for _ in 0..INPUTS_PER_SLICE {
        if !driver.has_room_for_cancel() {
            break;
        }
        let Some(command) = inputs.cancels.next() else { break };
        driver.cancel(now, command);
    }
    for _ in 0..INPUTS_PER_SLICE {
        if !driver.has_room_for_create() {
            break;
        }
        let Some(command) = inputs.creates.next() else { break };
        driver.create(now, command);
    }
    more |= driver.has_room_for_cancel() && inputs.cancels.has_more();
    more |= driver.has_room_for_create() && inputs.creates.has_more();
    more
}

/// Takes lines of the exchange, by its feed and as it posts them. True when there are more.
fn take_reports(driver: &mut Driver, inputs: &mut Inputs, now: Moment) -> bool {
    for _ in 0..INPUTS_PER_SLICE {
        let Some(message) = inputs.feed.next() else { break };
        driver.feed(now, message);
    }
    if !driver.webhooks.is_busy()
        && let Some(command) = inputs.webhooks.next()
    {
        driver.webhooks.begin(command);
    }
    driver.webhook_lines(now, INPUTS_PER_SLICE);
    inputs.feed.has_more() || driver.webhooks.is_busy() || inputs.webhooks.has_more()
}

/// The answers to requests that would wait in vain.
pub(crate) struct Refusal {
    create: CreateReply,
    cancel: CancelReply,
}

impl Refusal {
    /// The process ends.
    pub(crate) const STOPPING: Self =
        Self { create: CreateReply::Unavailable, cancel: CancelReply::Unavailable };
    /// The log has no room.
    pub(crate) const NO_ROOM: Self =
        Self { create: CreateReply::NoRoom, cancel: CancelReply::NoRoom };
}

/// Answers every request that waits to be taken.
pub(crate) fn refuse_requests(inputs: &mut Inputs, refusal: &Refusal) {
    while let Some(command) = inputs.creates.next() {
        refuse_create(command, refusal.create.clone());
    }
    while let Some(command) = inputs.cancels.next() {
        refuse_cancel(command, refusal.cancel.clone());
    }
}
