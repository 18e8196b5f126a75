//! The transition table: for each pair of status and step, whether the step is recorded.
//! [`super::reported_status`] derives the status from the recorded facts.

use super::status::Status;

/// What a change means for an order; see [`TrackedOrder::step`](super::TrackedOrder::step).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::VariantArray)]
pub enum Step {
    /// The exchange accepted it under an id that is new here.
    Accepted,
    /// The exchange accepted it under a second id.
    OtherAccepted,
    /// The exchange rejected it.
    Rejected,
    /// The exchange does not know it, queried after `submit_before`.
    NotAccepted,
    /// A cancel was requested.
    CancelRequested,
    /// The exchange cancelled or expired it, requested or not.
    Cancelled,
    /// The exchange rejected the cancel.
    CancelRejected,
    /// A new execution.
    Filled,
    /// An execution was declared void.
    Busted,
    /// The exchange's record proves an execution void.
    TakenBack,
    /// A case was quarantined.
    CaseOpened,
    /// A case was decided without counting an execution.
    CaseClosed,
    /// An operator closed it.
    Closed,
    /// A repetition of something recorded.
    Repeated,
}

/// Something that should not happen. Always counted and logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Anomaly {
    /// The exchange accepted an order that had failed here. Longbow cancels it at the exchange.
    LateAccept,
    /// Two exchange ids for one order.
    SecondExternalId,
    /// The exchange contradicts an earlier report.
    Contradiction,
    /// A fill after the order was cancelled.
    LateFill,
    /// More filled than ordered.
    OverFill,
    /// A fill of a failed order.
    FillOfFailed,
    /// The exchange does not know an order that it accepted.
    UnknownAtExchange,
    /// The exchange's record lacks an execution that counts here, without proving it void.
    DoubtfulExecution,
    /// A report does not fit the order and is quarantined.
    Quarantined,
    /// The quarantine is full: the report is counted and dropped.
    QuarantineFull,
    /// The exchange's record confirms an execution that does not fit the order; it counts.
    MisfitConfirmed,
    /// The exchange's record proves an execution void.
    TakenBack,
    /// An execution has amounts that no account holds: it is not in the account of its user.
    BeyondAccount,
    /// Available cash or shares of the order's user have become negative.
    Overdrawn,
}

/// The table's entry for a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Record it.
    Record,
    /// Record it and alert operators.
    RecordAndAlert(Anomaly),
    /// Ignore it.
    Nothing,
    /// Do not record it; alert operators.
    Alert(Anomaly),
}

/// The table. It spells out every pair, so a new status or step does not compile until each of its
/// pairs is decided.
pub const fn ruling(status: Status, step: Step) -> Ruling {
    use Anomaly::{
        Contradiction, FillOfFailed, LateAccept, LateFill, OverFill, SecondExternalId,
        UnknownAtExchange,
    };
    use Ruling::{Alert, Nothing, Record, RecordAndAlert};
    use Status::{Cancelled, Failed, Filled, PartiallyFilled, Pending, PendingCancel, Submitted};

    match (status, step) {
        (Pending, Step::Accepted) => Record,
        // A submitted order has the exchange's id already.
        (Submitted, Step::Accepted) => Alert(Contradiction),
        // A fill came first. The accept adds the exchange's id and leaves the status.
        (PartiallyFilled, Step::Accepted) => Record,
        (Filled, Step::Accepted) => Record,
        (PendingCancel, Step::Accepted) => Record,
        (Cancelled, Step::Accepted) => Record,
        (Failed, Step::Accepted) => RecordAndAlert(LateAccept),

        (Pending, Step::OtherAccepted) => Alert(SecondExternalId),
        (Submitted, Step::OtherAccepted) => Alert(SecondExternalId),
        (PartiallyFilled, Step::OtherAccepted) => Alert(SecondExternalId),
        (Filled, Step::OtherAccepted) => Alert(SecondExternalId),
        (PendingCancel, Step::OtherAccepted) => Alert(SecondExternalId),
        (Cancelled, Step::OtherAccepted) => Alert(SecondExternalId),
        (Failed, Step::OtherAccepted) => Alert(SecondExternalId),

        (Pending, Step::Rejected) => Record,
        (Submitted, Step::Rejected) => Alert(Contradiction),
        (PartiallyFilled, Step::Rejected) => Alert(Contradiction),
        (Filled, Step::Rejected) => Alert(Contradiction),
        (PendingCancel, Step::Rejected) => Alert(Contradiction),
        (Cancelled, Step::Rejected) => Alert(Contradiction),
        (Failed, Step::Rejected) => Nothing,

        (Pending, Step::NotAccepted) => Record,
        (Submitted, Step::NotAccepted) => Alert(UnknownAtExchange),
        (PartiallyFilled, Step::NotAccepted) => Alert(UnknownAtExchange),
        (Filled, Step::NotAccepted) => Alert(UnknownAtExchange),
        (PendingCancel, Step::NotAccepted) => Alert(UnknownAtExchange),
        (Cancelled, Step::NotAccepted) => Alert(UnknownAtExchange),
        (Failed, Step::NotAccepted) => Nothing,

        // Before the accept the cancel is only recorded: there is no id to cancel under yet.
        (Pending, Step::CancelRequested) => Record,
        (Submitted, Step::CancelRequested) => Record,
        (PartiallyFilled, Step::CancelRequested) => Record,
        (Filled, Step::CancelRequested) => Nothing,
        (PendingCancel, Step::CancelRequested) => Nothing,
        (Cancelled, Step::CancelRequested) => Nothing,
        (Failed, Step::CancelRequested) => Nothing,

        (Pending, Step::Cancelled) => Record,
        (Submitted, Step::Cancelled) => Record,
        (PartiallyFilled, Step::Cancelled) => Record,
        (Filled, Step::Cancelled) => Alert(Contradiction),
        (PendingCancel, Step::Cancelled) => Record,
        (Cancelled, Step::Cancelled) => Nothing,
        // A stray order is cancelled at the exchange.
        (Failed, Step::Cancelled) => Record,

        (Pending, Step::CancelRejected) => Nothing,
        (Submitted, Step::CancelRejected) => Nothing,
        (PartiallyFilled, Step::CancelRejected) => Nothing,
        (Filled, Step::CancelRejected) => Nothing,
        (PendingCancel, Step::CancelRejected) => Record,
        (Cancelled, Step::CancelRejected) => Nothing,
        (Failed, Step::CancelRejected) => Nothing,

        (Pending, Step::Filled) => Record,
        (Submitted, Step::Filled) => Record,
        (PartiallyFilled, Step::Filled) => Record,
        (Filled, Step::Filled) => RecordAndAlert(OverFill),
        (PendingCancel, Step::Filled) => Record,
        (Cancelled, Step::Filled) => RecordAndAlert(LateFill),
        (Failed, Step::Filled) => RecordAndAlert(FillOfFailed),

        // A bust before its trade is recorded, so that the trade does not count.
        (Pending, Step::Busted) => Record,
        (Submitted, Step::Busted) => Record,
        (PartiallyFilled, Step::Busted) => Record,
        (Filled, Step::Busted) => Record,
        (PendingCancel, Step::Busted) => Record,
        (Cancelled, Step::Busted) => Record,
        (Failed, Step::Busted) => Record,

        (Pending, Step::TakenBack) => Record,
        (Submitted, Step::TakenBack) => Record,
        (PartiallyFilled, Step::TakenBack) => Record,
        (Filled, Step::TakenBack) => Record,
        (PendingCancel, Step::TakenBack) => Record,
        (Cancelled, Step::TakenBack) => Record,
        (Failed, Step::TakenBack) => Record,

        (Pending, Step::CaseOpened) => Record,
        (Submitted, Step::CaseOpened) => Record,
        (PartiallyFilled, Step::CaseOpened) => Record,
        (Filled, Step::CaseOpened) => Record,
        (PendingCancel, Step::CaseOpened) => Record,
        (Cancelled, Step::CaseOpened) => Record,
        (Failed, Step::CaseOpened) => Record,

        (Pending, Step::CaseClosed) => Record,
        (Submitted, Step::CaseClosed) => Record,
        (PartiallyFilled, Step::CaseClosed) => Record,
        (Filled, Step::CaseClosed) => Record,
        (PendingCancel, Step::CaseClosed) => Record,
        (Cancelled, Step::CaseClosed) => Record,
        (Failed, Step::CaseClosed) => Record,

        // An order in a terminal state cannot be closed.
        (Pending, Step::Closed) => Record,
        (Submitted, Step::Closed) => Record,
        (PartiallyFilled, Step::Closed) => Record,
        (Filled, Step::Closed) => Nothing,
        (PendingCancel, Step::Closed) => Record,
        (Cancelled, Step::Closed) => Nothing,
        (Failed, Step::Closed) => Nothing,

        (Pending, Step::Repeated) => Nothing,
        (Submitted, Step::Repeated) => Nothing,
        (PartiallyFilled, Step::Repeated) => Nothing,
        (Filled, Step::Repeated) => Nothing,
        (PendingCancel, Step::Repeated) => Nothing,
        (Cancelled, Step::Repeated) => Nothing,
        (Failed, Step::Repeated) => Nothing,
    }
}
