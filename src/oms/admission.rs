//! Whether a new order is taken, or refused unrecorded, and why.

use std::time::Duration;

use super::answers::SessionQueues;
use super::kill_switch::KillSwitch;
use super::limits::MAX_UNSTORED_EVENTS;
use super::metrics::OmsMetrics;
use super::order_commands::CreateCommand;
use super::publisher::Publisher;
use crate::engine::{CreateOrder, CreateReply, Engines, HaltScope};
use crate::types::Moment;
use crate::wal::Lsn;

/// The rules by which new orders are refused.
pub(super) struct Admission {
    kill_switch: KillSwitch,
    /// How far ahead of a create the exchange's deadline lies.
    submit_window: Duration,
}

/// What the rules look at beside the order.
pub(super) struct Load<'a> {
    pub(super) queues: &'a SessionQueues,
    pub(super) publisher: &'a Publisher,
    /// The last event decided.
    pub(super) last_event: Lsn,
    /// The log has no room.
    pub(super) is_out_of_space: bool,
    /// Postgres follows too far behind the log.
    pub(super) is_postgres_backlogged: bool,
    /// Postgres is awaited and would hold the answer up for too long.
    pub(super) is_postgres_late: bool,
    /// Which orders are there already.
    pub(super) engines: &'a Engines,
}

/// Why a new order is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CreateRefusal {
    Halted(HaltScope),
    ExchangeAway,
    ExchangeBusy,
    NoRoom,
    /// The order would only wait.
    BackedUp,
    /// Whether its key names an order already was checked too long ago.
    KeyUnsure,
    Postgres,
}

impl Admission {
    pub(super) fn new(kill_switch: KillSwitch, submit_window: Duration) -> Self {
        Self { kill_switch, submit_window }
    }

    /// Halts in force.
    pub(super) fn halts(&self) -> usize {
        self.kill_switch.halts().count()
    }

    /// Why a request for an order is refused; `None` where it is taken.
    pub(super) fn refusal(
        &self,
        now: Moment,
        command: &CreateCommand,
        load: &Load<'_>,
    ) -> Option<CreateRefusal> {
        let request = &command.request;
        if let Some(scope) = self.kill_switch.halted(&request.user, request.symbol) {
            return Some(CreateRefusal::Halted(scope));
        }
        if !load.queues.circuit.borrow_mut().admits(now.monotonic) {
            return Some(CreateRefusal::ExchangeAway);
        }
        if load.queues.submits.turns_away(now.monotonic, self.submit_window) {
            return Some(CreateRefusal::ExchangeBusy);
        }
        if load.is_out_of_space && !load.repeats(request) {
            return Some(CreateRefusal::NoRoom);
        }
        if load.is_backed_up() {
            return Some(CreateRefusal::BackedUp);
        }
        let key_is_unsure = request.client_order_id.is_some()
            && load.publisher.may_have_forgotten_key(command.key_checked_at);
        if key_is_unsure {
            return Some(CreateRefusal::KeyUnsure);
        }
        (load.is_postgres_late && !load.repeats(request)).then_some(CreateRefusal::Postgres)
    }
}

impl Load<'_> {
    /// Whether a request names an order that is there already: answering it records nothing.
    pub(super) fn repeats(&self, request: &CreateOrder) -> bool {
        let key = request.client_order_id.as_ref();
        key.is_some_and(|key| self.engines.knows_key(&request.user, key))
    }

    /// Whether an order would only wait.
    fn is_backed_up(&self) -> bool {
        let stored = self.publisher.stored();
        assert!(stored <= self.last_event, "the store has nothing that was not decided");
        let unstored = self.last_event.0 - stored.0;
        self.queues.submits.is_backed_up()
            || unstored >= MAX_UNSTORED_EVENTS
            || self.is_postgres_backlogged
    }
}

impl CreateRefusal {
    /// What the client is told.
    pub(super) fn reply(self) -> CreateReply {
        match self {
            Self::Halted(scope) => CreateReply::Halted(scope),
            Self::ExchangeAway => CreateReply::ExchangeAway,
            Self::ExchangeBusy => CreateReply::ExchangeBusy,
            Self::NoRoom => CreateReply::NoRoom,
            Self::KeyUnsure => CreateReply::KeyUnsure,
            Self::BackedUp | Self::Postgres => CreateReply::Unavailable,
        }
    }

    pub(super) fn count(self, metrics: &OmsMetrics) {
        match self {
            Self::Halted(_) => metrics.halted_creates.inc(),
            Self::ExchangeAway => metrics.away_creates.inc(),
            Self::ExchangeBusy => metrics.throttled_creates.inc(),
            Self::NoRoom | Self::BackedUp => metrics.refused_creates.inc(),
            Self::Postgres => metrics.postgres_refused.inc(),
            // It is checked again.
            Self::KeyUnsure => 0,
        };
    }
}
