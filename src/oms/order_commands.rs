//! Commands from any thread to the orders thread.

use std::time::Instant;

use super::circuit::{ExchangeReachability, SharedState};
use super::kill_switch::KillSwitch;
use super::limits::{
    CANCEL_QUEUE_CAPACITY, CREATE_QUEUE_CAPACITY, MASS_CANCEL_QUEUE_CAPACITY,
    WEBHOOK_QUEUE_CAPACITY,
};
use super::mass_cancel::{MassCancelCommand, MassCancelled};
use super::operator::{CashCommand, Decide, OperatorCommand, Quarantine};
use super::partitions::{PARTITION_QUEUE_CAPACITY, PartitionCommand};
use super::stages::OrderStages;
use super::views::CommittedViews;
use super::webhook::{LinesDurable, WebhookCommand};
use crate::engine::{
    CancelReply, CancelScope, CashReply, CreateOrder, CreateReply, DayFinding, MoveCash,
    OperatorReply,
};
use crate::exchange::wire::FeedLine;
use crate::exchange::{ExchangeClock, Results};
use crate::order::{CaseOutcome, OperatorAct};
use crate::sync::{Receiver, Refused, Sender, mailbox};
use crate::types::{OrderId, SteadyClock, UserId};
use crate::wal::Lsn;
use compact_str::CompactString;

/// Too many requests are waiting, or the orders thread has ended. Nothing was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the order engine is overloaded")]
pub struct Overloaded;

/// Sends commands from any thread to the orders thread, and reads what it has committed.
#[derive(Debug, Clone)]
pub struct OrderCommands {
    creates: Sender<CreateCommand>,
    cancels: Sender<CancelCommand>,
    webhooks: Sender<WebhookCommand>,
    mass_cancels: Sender<MassCancelCommand>,
    operators: Sender<OperatorCommand>,
    partitions: Sender<PartitionCommand>,
    views: CommittedViews,
    kill_switch: KillSwitch,
    exchange_reachability: SharedState,
    stages: OrderStages,
    clock: SteadyClock,
    exchange_clock: ExchangeClock,
}

#[derive(Debug)]
pub(crate) struct CreateCommand {
    pub(super) request: CreateOrder,
    pub(super) key_checked_at: Lsn,
    /// When the request's handler started, and when it sent this command.
    pub(super) arrived: Instant,
    pub(super) asked: Instant,
    pub(super) reply: oneshot::Sender<CreateReply>,
}

#[derive(Debug)]
pub(crate) struct CancelCommand {
    pub(super) user: UserId,
    pub(super) order_id: OrderId,
    pub(super) reply: oneshot::Sender<CancelReply>,
}

/// The orders thread's end of the queues.
#[derive(Debug)]
pub struct CommandReceivers {
    pub(super) creates: Receiver<CreateCommand>,
    pub(super) cancels: Receiver<CancelCommand>,
    pub(super) webhooks: Receiver<WebhookCommand>,
    pub(super) mass_cancels: Receiver<MassCancelCommand>,
    pub(super) operators: Receiver<OperatorCommand>,
    pub(super) partitions: Receiver<PartitionCommand>,
    pub(super) kill_switch: KillSwitch,
    pub(crate) exchange_reachability: SharedState,
    pub(super) stages: OrderStages,
    pub(super) clock: SteadyClock,
    pub(crate) exchange_clock: ExchangeClock,
}

/// Creates the queues to an orders thread. Readers see `views`; `clock` gives the recorded times.
pub fn order_commands(
    views: CommittedViews,
    kill_switch: KillSwitch,
    clock: SteadyClock,
) -> (OrderCommands, CommandReceivers) {
    let (create_sender, creates) = mailbox(CREATE_QUEUE_CAPACITY);
    let (cancel_sender, cancels) = mailbox(CANCEL_QUEUE_CAPACITY);
    let (webhook_sender, webhooks) = mailbox(WEBHOOK_QUEUE_CAPACITY);
    let (mass_cancel_sender, mass_cancels) = mailbox(MASS_CANCEL_QUEUE_CAPACITY);
    let (operator_sender, operators) = mailbox(MASS_CANCEL_QUEUE_CAPACITY);
    let (partition_sender, partitions) = mailbox(PARTITION_QUEUE_CAPACITY);
    let exchange_reachability = SharedState::default();
    views.note_time(clock.now());
    let commands = OrderCommands {
        creates: create_sender,
        cancels: cancel_sender,
        webhooks: webhook_sender,
        mass_cancels: mass_cancel_sender,
        operators: operator_sender,
        partitions: partition_sender,
        views,
        kill_switch: kill_switch.clone(),
        exchange_reachability: exchange_reachability.clone(),
        stages: OrderStages::default(),
        clock: clock.clone(),
        exchange_clock: ExchangeClock::default(),
    };
    let receivers = CommandReceivers {
        creates,
        cancels,
        webhooks,
        mass_cancels,
        operators,
        partitions,
        kill_switch,
        exchange_reachability,
        stages: commands.stages.clone(),
        clock,
        exchange_clock: commands.exchange_clock.clone(),
    };
    (commands, receivers)
}

impl OrderCommands {
    /// Requests an order. `key_checked_at` is the log position at which the store did not have its
    /// key; it is ignored for an order without a key. A receiver whose sender is gone means that
    /// the process is ending and that the order may have been recorded.
    ///
    /// # Errors
    /// [`Overloaded`]: nothing was recorded.
    pub fn create(
        &self,
        request: CreateOrder,
        key_checked_at: Lsn,
    ) -> Result<oneshot::Receiver<CreateReply>, Overloaded> {
        self.create_since(Instant::now(), request, key_checked_at)
    }

    /// The same for a handler that started at `arrived`, from which the order's latency is
    /// measured.
    ///
    /// # Errors
    /// [`Overloaded`]: nothing was recorded.
    pub fn create_since(
        &self,
        arrived: Instant,
        request: CreateOrder,
        key_checked_at: Lsn,
    ) -> Result<oneshot::Receiver<CreateReply>, Overloaded> {
        let (reply, receiver) = oneshot::channel();
        let asked = Instant::now();
        let command = CreateCommand { request, key_checked_at, arrived, asked, reply };
        self.creates.try_send(command).map(|()| receiver).map_err(|_refused| Overloaded)
    }

    /// Requests the cancel of an order.
    ///
    /// # Errors
    /// [`Overloaded`]: nothing was recorded.
    pub fn cancel(
        &self,
        user: UserId,
        order_id: OrderId,
    ) -> Result<oneshot::Receiver<CancelReply>, Overloaded> {
        let (reply, receiver) = oneshot::channel();
        let command = CancelCommand { user, order_id, reply };
        self.cancels.try_send(command).map(|()| receiver).map_err(|_refused| Overloaded)
    }

    /// Hands over lines that the exchange posted, numbered by a feed session. Answered once all of
    /// them are durable; a receiver whose sender is gone means that they may not be.
    ///
    /// # Errors
    /// [`Overloaded`]: nothing was recorded; the exchange must post them again.
    pub fn webhook(
        &self,
        session: &CompactString,
        lines: Results<FeedLine>,
    ) -> Result<oneshot::Receiver<LinesDurable>, Overloaded> {
        let (reply, receiver) = oneshot::channel();
        let command = WebhookCommand { session: session.clone(), lines, reply };
        self.webhooks.try_send(command).map(|()| receiver).map_err(|_refused| Overloaded)
    }

    /// Hands over a command about a partition that moves.
    ///
    /// # Errors
    /// The command, while too many wait, or as the orders thread has ended.
    pub fn move_partition(
        &self,
        command: PartitionCommand,
    ) -> Result<(), Refused<PartitionCommand>> {
        self.partitions.try_send(command)
    }

    /// The cases that wait for an operator's decision.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub fn quarantine(&self) -> Result<oneshot::Receiver<Quarantine>, Overloaded> {
        let (reply, receiver) = oneshot::channel();
        self.operate(OperatorCommand::List(reply), receiver)
    }

    /// Decides whether the execution of a case counts. Answered when the decision is durable.
    ///
    /// # Errors
    /// [`Overloaded`]: nothing was recorded.
    pub fn decide_case(
        &self,
        (order_id, number): (OrderId, u64),
        outcome: CaseOutcome,
        act: OperatorAct,
    ) -> Result<oneshot::Receiver<OperatorReply>, Overloaded> {
        let (reply, receiver) = oneshot::channel();
        let decide = Decide { order_id, number, outcome, act, reply };
        self.operate(OperatorCommand::Decide(decide), receiver)
    }

    /// Closes an order by hand. Answered when that is durable.
    ///
    /// # Errors
    /// [`Overloaded`]: nothing was recorded.
    pub fn close_order(
        &self,
        order_id: OrderId,
        act: OperatorAct,
    ) -> Result<oneshot::Receiver<OperatorReply>, Overloaded> {
        let (reply, receiver) = oneshot::channel();
        self.operate(OperatorCommand::Close(order_id, act, reply), receiver)
    }

    /// Hands over what the comparison at a day's end found. Answered once it is taken, or not for now:
    /// `false`; the store shows what came of it.
    ///
    /// # Errors
    /// [`Overloaded`]: nothing was taken.
    pub fn take_findings(
        &self,
        findings: Vec<DayFinding>,
    ) -> Result<oneshot::Receiver<bool>, Overloaded> {
        let (reply, receiver) = oneshot::channel();
        self.operate(OperatorCommand::DayEnd(findings, reply), receiver)
    }

    /// Moves cash. Answered when that is durable. `checked_at` is the log position at which the store
    /// was asked about the id.
    ///
    /// # Errors
    /// [`Overloaded`]: nothing was recorded.
    pub fn move_cash(
        &self,
        request: MoveCash,
        checked_at: Lsn,
    ) -> Result<oneshot::Receiver<CashReply>, Overloaded> {
        let (reply, receiver) = oneshot::channel();
        let command = CashCommand { request, checked_at, reply };
        self.operate(OperatorCommand::Cash(command), receiver)
    }

    fn operate<T>(
        &self,
        command: OperatorCommand,
        receiver: oneshot::Receiver<T>,
    ) -> Result<oneshot::Receiver<T>, Overloaded> {
        self.operators.try_send(command).map(|()| receiver).map_err(|_refused| Overloaded)
    }

    /// Requests the cancel of many orders. Answered once every cancel is recorded; a receiver whose
    /// sender is gone means that the process is ending and that some may not be.
    ///
    /// # Errors
    /// [`Overloaded`]: nothing was recorded.
    pub fn mass_cancel(
        &self,
        scope: CancelScope,
    ) -> Result<oneshot::Receiver<MassCancelled>, Overloaded> {
        let (reply, receiver) = oneshot::channel();
        let command = MassCancelCommand { scope, reply };
        self.mass_cancels.try_send(command).map(|()| receiver).map_err(|_refused| Overloaded)
    }

    /// The kill switch.
    pub fn kill_switch(&self) -> &KillSwitch {
        &self.kill_switch
    }

    /// Whether the exchange answers.
    pub fn exchange_reachability(&self) -> ExchangeReachability {
        self.exchange_reachability.get()
    }

    /// The clock of recorded times, and of order ids.
    pub fn clock(&self) -> &SteadyClock {
        &self.clock
    }

    /// The exchange's clock.
    pub fn exchange_clock(&self) -> &ExchangeClock {
        &self.exchange_clock
    }

    /// Whether a request made now would be accepted.
    pub fn is_accepting(&self) -> bool {
        !self.creates.is_full()
    }

    /// Latency of orders by stage.
    pub fn stages(&self) -> &OrderStages {
        &self.stages
    }

    /// Committed orders in memory. After an answer, every read shows at least what the answer said.
    pub fn views(&self) -> &CommittedViews {
        &self.views
    }
}
