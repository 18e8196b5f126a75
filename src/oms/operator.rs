//! Operators' decisions: cases in quarantine, and orders closed by hand. Answered when the decision
//! is durable.

use std::collections::VecDeque;

use crate::engine::{CashReply, DayFinding, Engines, MoveCash, OperatorReply, Outbox};
use crate::order::{CaseOutcome, OpenCase, OperatorAct};
use crate::types::{OrderId, TimestampMicros, UserId};
use crate::wal::Lsn;

/// Most open cases in one list; decided cases make room for the others.
pub const MAX_LISTED_CASES: usize = 1_000;

/// An open case with its order.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedCase {
    /// The order.
    pub order_id: OrderId,
    /// The owner of the order.
    pub user: UserId,
    /// The case.
    pub open: OpenCase,
    /// Whether its execution counts until it is decided.
    pub counts: bool,
}

/// The open cases.
#[derive(Debug, Clone, PartialEq)]
pub struct Quarantine {
    /// At most [`MAX_LISTED_CASES`].
    pub cases: Vec<ListedCase>,
    /// The number of open cases.
    pub total: usize,
}

/// A request of an operator.
#[derive(Debug)]
pub(super) enum OperatorCommand {
    List(oneshot::Sender<Quarantine>),
    Decide(Decide),
    Close(OrderId, OperatorAct, oneshot::Sender<OperatorReply>),
    DayEnd(Vec<DayFinding>, oneshot::Sender<bool>),
    Cash(CashCommand),
}

/// A request to move cash.
#[derive(Debug)]
pub(super) struct CashCommand {
    pub(super) request: MoveCash,
    /// Where in the log the store was, at least, when it was asked about the id.
    pub(super) checked_at: Lsn,
    pub(super) reply: oneshot::Sender<CashReply>,
}

/// An answer, which has to wait until what was decided is durable.
#[derive(Debug)]
pub(super) enum Answer {
    Decision(OperatorReply, oneshot::Sender<OperatorReply>),
    Cash(CashReply, oneshot::Sender<CashReply>),
}

impl Answer {
    fn send(self) {
        // The operator may be gone.
        match self {
            Self::Decision(answer, reply) => drop(reply.send(answer)),
            Self::Cash(answer, reply) => drop(reply.send(answer)),
        }
    }
}

/// A decision about a case.
#[derive(Debug)]
pub(super) struct Decide {
    pub(super) order_id: OrderId,
    pub(super) number: u64,
    pub(super) outcome: CaseOutcome,
    pub(super) act: OperatorAct,
    pub(super) reply: oneshot::Sender<OperatorReply>,
}

/// Decisions that wait for the log.
#[derive(Debug, Default)]
pub(super) struct OperatorActs {
    waiting: VecDeque<(Lsn, Answer)>,
    /// What was decided up to here has been answered.
    answered: Lsn,
}

impl OperatorActs {
    /// Carries out a request. Returns the answer to a decision, which has to wait until that is
    /// durable.
    pub(super) fn act(
        command: OperatorCommand,
        engines: &mut Engines,
        now: TimestampMicros,
        out: &mut Outbox,
    ) -> Option<Answer> {
        match command {
            OperatorCommand::List(reply) => {
                // The operator may be gone.
                let _gone = reply.send(list(engines));
                None
            }
            OperatorCommand::Decide(Decide { order_id, number, outcome, act, reply }) => {
                let done = engines.decide_case(now, (order_id, number), (outcome, act), out);
                Some(Answer::Decision(done, reply))
            }
            OperatorCommand::Close(order_id, act, reply) => {
                let done = engines.close_order(now, order_id, act, out);
                Some(Answer::Decision(done, reply))
            }
            OperatorCommand::Cash(CashCommand { request, reply, .. }) => {
                Some(Answer::Cash(engines.move_cash(now, request, out), reply))
            }
            OperatorCommand::DayEnd(findings, reply) => {
                let takes = !engines.has_many_findings();
                if takes {
                    for finding in findings {
                        engines.take_finding(now, finding, out);
                    }
                }
                // Whoever compares may be gone.
                let _gone = reply.send(takes);
                None
            }
        }
    }

    /// Makes an answer wait until everything up to `last_event` is durable.
    pub(super) fn gate(&mut self, last_event: Lsn, answer: Answer) {
        assert!(
            self.waiting.back().is_none_or(|(last, _)| *last <= last_event),
            "answers wait in the order of their decisions"
        );
        if last_event <= self.answered {
            // Nothing was recorded: nothing may come to wake the thread for it.
            answer.send();
        } else {
            self.waiting.push_back((last_event, answer));
        }
    }

    /// Sends the answers that waited for at most this position.
    pub(super) fn answer(&mut self, durable: Lsn) {
        self.answered = self.answered.max(durable);
        while let Some((_, answer)) = self.waiting.pop_front_if(|(gate, _)| *gate <= durable) {
            answer.send();
        }
    }

    /// Whether no answer waits.
    pub(super) fn is_at_rest(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn list(engines: &Engines) -> Quarantine {
    let cases = engines.open_cases().take(MAX_LISTED_CASES).map(|(tracked, open)| ListedCase {
        order_id: tracked.order().order_id,
        user: tracked.order().user.clone(),
        open: open.clone(),
        counts: tracked.counts(open),
    });
    let quarantine = Quarantine { cases: cases.collect(), total: engines.open_case_count() };
    assert!(quarantine.cases.len() <= quarantine.total, "every listed case is counted");
    assert!(quarantine.cases.len() <= MAX_LISTED_CASES, "a list of cases is bounded");
    quarantine
}
