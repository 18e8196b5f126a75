//! Postgres as its clients reach it: statements arrive in any order, and answers may be lost.

use std::time::Duration;

use super::tables::{FeedLook, FeedTaking, Refusal, Tables, Transaction};
use crate::cluster::NodeId;
use crate::cluster::plan::ClusterView;
use crate::engine::EndedOrder;
use crate::order::TrackedOrder;
use crate::simulation::dice::Dice;
use crate::types::UserPartition;
use crate::wal::{LogId, Lsn};

/// What a thread of a node asks.
pub(super) enum Question {
    Renew { id: (NodeId, i64), lease: Duration },
    Look,
    Claim { claimant: (i64, LogId, Lsn), partitions: Vec<UserPartition> },
    Adopt(Vec<UserPartition>),
    Ended(Vec<UserPartition>),
    HandOver { epoch: i64, given: Vec<(UserPartition, i64)> },
    Drain { epoch: i64 },
    TakeFeed { id: (NodeId, i64), taking: FeedTaking },
    Owned { epoch: i64 },
    Write(Transaction),
}

/// What Postgres answers.
pub(super) enum Answer {
    Renewed(bool),
    Seen(Box<ClusterView>),
    Claimed(Vec<UserPartition>),
    Adopted(Vec<TrackedOrder>),
    Ended(Vec<EndedOrder>),
    Done,
    Feed(FeedLook),
    Owned(Vec<(UserPartition, Lsn)>),
    Written(Result<(), Refusal>),
}

/// What has become of a question.
pub(super) enum Reply {
    /// Nothing yet.
    Waits,
    /// The connection is gone: the statement was done, or not.
    Lost,
    Is(Answer),
}

/// Numbers the questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// A connection's end: changes whenever connections break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) server: u32,
    pub(super) cuts: u32,
}

pub(super) struct Postgres {
    pub(super) tables: Tables,
    /// Until when nobody can reach it, in microseconds of the true time.
    pub(super) away_until: u64,
    pub(super) server: u32,
    clock_ahead_micros: u64,
    asked: Vec<(Ticket, usize, Question)>,
    answered: Vec<(Ticket, usize, Answer)>,
    last: u64,
}

impl Postgres {
    pub(super) fn new() -> Self {
        Self {
            tables: Tables::new(),
            away_until: 0,
            server: 1,
            clock_ahead_micros: 500_000,
            asked: Vec::new(),
            answered: Vec::new(),
            last: 0,
        }
    }

    /// The clock of the server.
    pub(super) fn now(&self, micros: u64) -> u64 {
        micros + self.clock_ahead_micros
    }

    /// Sends a question of a machine, which cannot be reached if not `is_reachable`.
    pub(super) fn ask(&mut self, machine: usize, is_reachable: bool, question: Question) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        if is_reachable {
            self.asked.push((ticket, machine, question));
        }
        ticket
    }

    /// Takes the answer to a question.
    pub(super) fn reply(&mut self, ticket: Ticket) -> Reply {
        if let Some(place) = self.answered.iter().position(|(of, ..)| *of == ticket) {
            return Reply::Is(self.answered.swap_remove(place).2);
        }
        let is_asked = self.asked.iter().any(|(of, ..)| *of == ticket);
        if is_asked { Reply::Waits } else { Reply::Lost }
    }

    /// Takes a question that arrives now.
    pub(super) fn arrive(&mut self, dice: &mut Dice) -> Option<(Ticket, usize, Question)> {
        let place = dice.place(self.asked.len())?;
        Some(self.asked.swap_remove(place))
    }

    pub(super) fn answer(&mut self, (ticket, machine): (Ticket, usize), answer: Answer) {
        self.answered.push((ticket, machine, answer));
    }

    /// The connections of a machine break: answers are lost, and questions that have not left yet.
    pub(super) fn cut(&mut self, machine: usize, dice: &mut Dice) {
        self.answered.retain(|(_, of, _)| *of != machine);
        self.asked.retain(|(_, of, _)| *of != machine || dice.percent(50));
    }

    /// Everybody's connections break, and the clock is another machine's. Returns what was committed
    /// just before.
    pub(super) fn fail_over(&mut self, dice: &mut Dice) -> Vec<Question> {
        self.server += 1;
        self.answered.clear();
        // Well within the time by which a member stops sooner than its lease ends.
        self.clock_ahead_micros = 480_000 + dice.between(0, 40_000);
        let asked = std::mem::take(&mut self.asked);
        asked.into_iter().filter(|_| dice.percent(50)).map(|(.., question)| question).collect()
    }
}
