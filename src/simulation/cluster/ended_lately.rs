//! Tells the orders thread which orders of partitions that came have ended lately, beside the moves.

use std::collections::BTreeSet;

use super::around::Around;
use super::commands::{Shared, in_parts, send};
use super::postgres::{Answer, Question, Reply, Ticket};
use crate::oms::PartitionCommand;
use crate::types::{MonotonicMicros, UserPartition};

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Reading(Ticket),
    /// Commands for the orders thread, the last of which comes first.
    Noting(Vec<PartitionCommand>),
}

/// What has to be told of the partitions that came.
#[derive(Default)]
pub(super) struct EndedLately {
    state: State,
    came: BTreeSet<UserPartition>,
    /// What ended in these is being told.
    untold: BTreeSet<UserPartition>,
    next: MonotonicMicros,
}

impl EndedLately {
    /// A partition is served from now on.
    pub(super) fn comes(&mut self, partition: UserPartition) {
        self.came.insert(partition);
    }

    /// Takes the next step.
    pub(super) fn step(&mut self, shared: &Shared, around: &mut Around<'_>) {
        let now = around.now.monotonic;
        self.state = match std::mem::take(&mut self.state) {
            State::Idle => {
                self.untold.append(&mut self.came);
                if self.untold.is_empty() || now < self.next {
                    return;
                }
                let untold = self.untold.iter().copied().collect();
                State::Reading(around.ask(Question::Ended(untold)))
            }
            State::Reading(ticket) => match around.postgres.reply(ticket) {
                Reply::Waits => State::Reading(ticket),
                Reply::Is(Answer::Ended(ended)) => {
                    self.untold.clear();
                    State::Noting(in_parts(ended, PartitionCommand::Ended))
                }
                Reply::Lost | Reply::Is(_) => {
                    self.next = now.saturating_add(around.retry_pause());
                    State::Idle
                }
            },
            State::Noting(mut commands) => {
                send(&mut commands, shared);
                if commands.is_empty() { State::Idle } else { State::Noting(commands) }
            }
        };
    }
}
