//! Operators' mass cancels: one at a time, a slice at a time between other work.

use std::time::Duration;

use super::limits::MASS_CANCEL_LOOKS_PER_SLICE;
use crate::engine::{CancelScope, CancelSweep, Engines, Outbox};
use crate::types::{MonotonicMicros, TimestampMicros};
use crate::wal::Lsn;

/// A request for a mass cancel.
#[derive(Debug)]
pub(super) struct MassCancelCommand {
    pub(super) scope: CancelScope,
    pub(super) reply: oneshot::Sender<MassCancelled>,
}

/// The outcome of a mass cancel: every order in scope that was open when it began has a recorded
/// cancel, which is being sent to the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MassCancelled {
    /// Orders that had no cancel before.
    pub asked: u64,
    /// Whether readers see it. `false` if Postgres is awaited and was not in time: readers see it
    /// once Postgres has it.
    pub is_shown: bool,
}

/// The mass cancel in progress.
#[derive(Debug, Default)]
pub(super) enum MassCancels {
    #[default]
    Idle,
    Sweeping(CancelSweep, oneshot::Sender<MassCancelled>),
    /// Every cancel is decided; the answer waits until readers see them.
    DecidedMassCancel(DecidedMassCancel),
}

/// A mass cancel whose cancels are decided.
#[derive(Debug)]
pub(super) struct DecidedMassCancel {
    last_event: Lsn,
    /// When to answer all the same, if Postgres is awaited.
    give_up: Option<MonotonicMicros>,
    asked: u64,
    reply: oneshot::Sender<MassCancelled>,
}

impl DecidedMassCancel {
    fn answer(self, is_shown: bool) {
        // The operator may be gone.
        let _gone = self.reply.send(MassCancelled { asked: self.asked, is_shown });
    }
}

impl MassCancels {
    /// Whether another mass cancel has to wait.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self, Self::Idle)
    }

    /// Whether there is work to do now.
    pub(super) fn is_sweeping(&self) -> bool {
        matches!(self, Self::Sweeping(..))
    }

    /// Begins a mass cancel; only while none is in progress.
    pub(super) fn begin(&mut self, command: MassCancelCommand) {
        assert!(!self.is_busy(), "mass cancels run one at a time");
        *self = Self::Sweeping(CancelSweep::new(command.scope), command.reply);
    }

    /// Cancels the next orders. Returns `true` when the sweep ended with this; [`gate`](Self::gate)
    /// must follow.
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
            Self::Idle | Self::DecidedMassCancel(_) => false,
        }
    }

    /// Makes the answer wait until everything up to `last_event` is shown, or until `give_up`.
    pub(super) fn gate(&mut self, last_event: Lsn, give_up: Option<MonotonicMicros>) -> u64 {
        match std::mem::take(self) {
            Self::Sweeping(sweep, reply) => {
                let asked = sweep.asked;
                *self = Self::DecidedMassCancel(DecidedMassCancel {
                    last_event,
                    give_up,
                    asked,
                    reply,
                });
                asked
            }
            Self::Idle | Self::DecidedMassCancel(_) => {
                unreachable!("an answer waits at the end of a sweep")
            }
        }
    }

    /// Answers if everything is shown.
    pub(super) fn answer(&mut self, shown: Lsn) {
        self.answer_if(|gated| gated.last_event <= shown, true);
    }

    /// Answers if the time limit has passed and everything is recorded, so that the next mass
    /// cancel does not wait for Postgres.
    pub(super) fn give_up(&mut self, now: MonotonicMicros, committed: Lsn) {
        let is_over = |gated: &DecidedMassCancel| gated.give_up.is_some_and(|at| at <= now);
        self.answer_if(|gated| gated.last_event <= committed && is_over(gated), false);
    }

    /// Time left until [`give_up`](Self::give_up) is due.
    pub(super) fn until_given_up(&self, now: MonotonicMicros, committed: Lsn) -> Option<Duration> {
        match self {
            Self::DecidedMassCancel(gated) if gated.last_event <= committed => {
                gated.give_up.map(|at| at.saturating_since(now))
            }
            Self::Idle | Self::Sweeping(..) | Self::DecidedMassCancel(_) => None,
        }
    }

    fn answer_if(&mut self, is_time: impl Fn(&DecidedMassCancel) -> bool, is_shown: bool) {
        match std::mem::take(self) {
            Self::DecidedMassCancel(gated) if is_time(&gated) => gated.answer(is_shown),
            other => *self = other,
        }
    }
}
