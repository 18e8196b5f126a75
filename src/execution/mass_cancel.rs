//! Mass cancels of operators: a slice at a time beside everything else, one after another.

use super::limits::MASS_CANCEL_LOOKS_PER_SLICE;
use crate::engine::{CancelScope, CancelSweep, Engines, Outbox};
use crate::types::TimestampMicros;
use crate::wal::Lsn;

/// An operator's wish.
#[derive(Debug)]
pub(super) struct MassCancelCommand {
    pub(super) scope: CancelScope,
    pub(super) reply: oneshot::Sender<MassCancelled>,
}

/// What a mass cancel came to: every order in its scope that was open when it began has a recorded
/// cancel now, and the exchange is being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MassCancelled {
    /// Orders that had none before.
    pub asked: u64,
}

/// The mass cancel under work.
#[derive(Debug, Default)]
pub(super) enum MassCancels {
    #[default]
    Idle,
    Sweeping(CancelSweep, oneshot::Sender<MassCancelled>),
    /// All is decided; answered when this event is durable.
    Gated(Lsn, MassCancelled, oneshot::Sender<MassCancelled>),
}

impl MassCancels {
    /// Whether another one has to wait.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self, Self::Idle)
    }

    /// Whether there is something to do now.
    pub(super) fn is_sweeping(&self) -> bool {
        matches!(self, Self::Sweeping(..))
    }

    /// Begins; only while none is under work.
    pub(super) fn begin(&mut self, command: MassCancelCommand) {
        debug_assert!(!self.is_busy(), "one at a time");
        *self = Self::Sweeping(CancelSweep::new(command.scope), command.reply);
    }

    /// Asks for the next cancels. True when the sweep ended with this, and
    /// [`gate`](Self::gate) is due.
    pub(super) fn sweep(
        &mut self,
        engines: &mut Engines,
        now: TimestampMicros,
        out: &mut Outbox,
    ) -> bool {
        match self {
            Self::Sweeping(sweep, _) => {
                !engines.cancel_some(now, sweep, MASS_CANCEL_LOOKS_PER_SLICE, out)
            }
            Self::Idle | Self::Gated(..) => false,
        }
    }

    /// Lets the answer wait until everything up to `last_event` is durable.
    pub(super) fn gate(&mut self, last_event: Lsn) -> u64 {
        match std::mem::take(self) {
            Self::Sweeping(sweep, reply) => {
                *self = Self::Gated(last_event, MassCancelled { asked: sweep.asked }, reply);
                sweep.asked
            }
            other => {
                *self = other;
                0
            }
        }
    }

    /// Answers if everything is durable.
    pub(super) fn answer(&mut self, released: Lsn) {
        match std::mem::take(self) {
            Self::Gated(last, outcome, reply) if last <= released => {
                // The operator may have gone.
                let _gone = reply.send(outcome);
            }
            other => *self = other,
        }
    }
}
