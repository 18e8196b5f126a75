//! The invariants, and how a check reports a violation.

use std::fmt;

/// What must hold at every step of every seed. A failing seed is reported with
/// [`message`](Self::message).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Acknowledged orders stay.
    NeverLost,
    /// Each order is sent once.
    PlacedOnce,
    /// Record first, then ask.
    RecordFirst,
    /// An order holds no more than its size.
    FilledWithinSize,
    /// Fills add up.
    FilledIsSum,
    /// A line counts once.
    CountedOnce,
    /// Only what the exchange did counts.
    CountedIsReal,
    /// Only what is void is taken back.
    RealStays,
    /// Versions rise.
    VersionNeverBack,
    /// Reads are as new as answers.
    AnswerIsReadable,
    /// Reads are durable.
    SeenIsDurable,
    /// Reads are in Postgres.
    SeenIsInPostgres,
    /// Postgres delays no order.
    ExchangeNotDelayed,
    /// Reads survive.
    SeenSurvives,
    /// Ends are ends.
    TerminalStays,
    /// Keys name one order.
    OneKeyOneOrder,
    /// Users share nothing.
    UsersIndependent,
    /// Everybody is answered.
    OneAnswer,
    /// Nobody waits for the exchange too long.
    AnsweredInTime,
    /// Answers are true.
    AnswerIsTrue,
    /// Lists have everything once.
    ListIsWhole,
    /// Streams have every change once.
    StreamIsWhole,
    /// Streams learn of new changes.
    StreamIsTold,
    /// Refusals record nothing.
    RefusedIsUnrecorded,
    /// Refusals have a cause.
    RefusedForRoom,
    /// Halts hold.
    HaltedIsRefused,
    /// Mass cancels reach all.
    MassCancelIsWhole,
    /// Confirmed lines are durable.
    ConfirmedIsDurable,
    /// The store follows the log.
    StoreFollows,
    /// Failed orders are not at the exchange.
    FailedForGood,
    /// Orders that were never taken fail in time.
    FailedInTime,
    /// Times never go back.
    TimeGoesOn,
    /// Positions stand after their lines.
    PositionAfterLines,
    /// Queues have ends.
    QueuesBounded,
    /// Crashes are survived.
    StartsAfterCrash,
    /// Rot is seen.
    RotIsSeen,
    /// The log and the thread count alike.
    LogInStep,
    /// Agreement in the end.
    BothSidesAgree,
    /// Rest in the end.
    NobodyWaits,
    /// Memory is what the log says.
    MemoryIsTheLog,
    /// In cash mode.
    CreatedIsPaid,
    /// Money follows from orders.
    MoneyIsTheOrders,
    /// Ids move cash once.
    CashMovesOnce,
    /// Withdrawals are paid.
    WithdrawnIsThere,
    /// Overdrawn accounts are known.
    OverdrawnIsCounted,
    /// Users have one node.
    OneNodeServes,
    /// All users have a node.
    EverybodyIsServed,
}

impl Invariant {
    /// The invariant as a sentence.
    pub const fn message(self) -> &'static str {
        match self {
            Self::NeverLost => "an acknowledged order is never lost",
            Self::PlacedOnce => "an order is never placed twice at the exchange",
            Self::RecordFirst => "nothing is asked of the exchange before it is durable here",
            Self::FilledWithinSize => "filled shares exceed an order's size only by an over-fill",
            Self::FilledIsSum => "filled shares are the sum of the distinct executions",
            Self::CountedOnce => "an execution counts exactly once",
            Self::CountedIsReal => "what counts is what the exchange executed for that order",
            Self::RealStays => "no record takes back what the exchange has not declared void",
            Self::VersionNeverBack => "a version never goes back for any reader",
            Self::AnswerIsReadable => "after an answer every read shows at least what it said",
            Self::SeenIsDurable => "a reader sees only what is durable",
            Self::SeenIsInPostgres => {
                "what anybody sees or is told of is in Postgres, if it is awaited"
            }
            Self::ExchangeNotDelayed => "an order goes to the exchange although Postgres is away",
            Self::SeenSurvives => "what a reader saw survives a crash",
            Self::TerminalStays => {
                "a terminal order stays terminal, except after a late fill or a bust"
            }
            Self::OneKeyOneOrder => "a user's key names one order for good",
            Self::UsersIndependent => "a user is told of nobody else's orders",
            Self::OneAnswer => "a client gets exactly one answer",
            Self::AnsweredInTime => "a client is answered in time, whatever the exchange does",
            Self::AnswerIsTrue => "an answer says what happened",
            Self::ListIsWhole => "a list shows each order once, and none is missing",
            Self::StreamIsWhole => {
                "a stream has every change of its user's orders once and in order"
            }
            Self::StreamIsTold => "a stream is told when there is more",
            Self::HaltedIsRefused => "no order is taken while everybody is halted",
            Self::MassCancelIsWhole => "a mass cancel records the cancel of every open order",
            Self::ConfirmedIsDurable => "what was confirmed to the exchange is durable",
            Self::StoreFollows => "the store follows the log and says the same",
            Self::RefusedIsUnrecorded => "what was refused was not recorded",
            Self::RefusedForRoom => {
                "new orders are refused when the disk is full or Postgres is behind, and only then"
            }
            Self::FailedForGood => "a failed order is not at the exchange and never will be",
            Self::FailedInTime => {
                "an order that the exchange never accepted fails in time, whatever clocks do"
            }
            Self::TimeGoesOn => "later records never have earlier times",
            Self::PositionAfterLines => "the feed position is durable only after its lines",
            Self::QueuesBounded => "every queue stays within its limit",
            Self::StartsAfterCrash => "no crash leads to a refusal to start",
            Self::RotIsSeen => "rot refuses to start or cuts the last batch, and is never served",
            Self::LogInStep => "the log accepts what it is given",
            Self::BothSidesAgree => "once the faults stop, both sides agree about every order",
            Self::NobodyWaits => "once the faults stop, nobody waits and nothing is left to do",
            Self::MemoryIsTheLog => "memory equals a recovery of the log",
            Self::CreatedIsPaid => {
                "in cash mode an order is created only if its account pays for it"
            }
            Self::MoneyIsTheOrders => {
                "accounts are what the executions that count and the open orders make of them"
            }
            Self::CashMovesOnce => "an id moves the cash of its user once, and as it was answered",
            Self::WithdrawnIsThere => "only cash that is available is withdrawn",
            Self::OverdrawnIsCounted => "overdrawn accounts are counted",
            Self::OneNodeServes => "at most one node serves a user at any moment",
            Self::EverybodyIsServed => {
                "once the faults stop, the nodes serve even shares of all users"
            }
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}

/// A broken invariant.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The invariant.
    pub invariant: Invariant,
    /// What was observed.
    pub detail: String,
}

/// The result of a check.
pub(super) type Checked<T = ()> = Result<T, Violation>;

/// Fails with the detail unless the condition holds.
pub(super) fn ensure(
    holds: bool,
    invariant: Invariant,
    detail: impl FnOnce() -> String,
) -> Checked {
    if holds { Ok(()) } else { Err(broken(invariant, detail())) }
}

pub(super) fn broken(invariant: Invariant, detail: impl Into<String>) -> Violation {
    Violation { invariant, detail: detail.into() }
}
