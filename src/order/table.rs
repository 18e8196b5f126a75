//! The one transition table. It says for every status and everything that can happen whether that
//! is recorded; [`super::reported_status`] says what status the recorded facts amount to.

use super::status::Status;

/// Everything that can be learned about an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::VariantArray)]
pub enum Step {
    /// The exchange took it, and its id is news.
    Accepted,
    /// The exchange names a second id for it.
    OtherAccepted,
    /// The exchange refused it.
    Rejected,
    /// The exchange does not know it, asked after `submit_before`.
    NotAccepted,
    /// Its user asked to cancel it.
    CancelRequested,
    /// The exchange cancelled or expired it, asked or unasked.
    Cancelled,
    /// The exchange refused to cancel it.
    CancelRejected,
    /// Shares were traded for it.
    Filled,
    /// An execution is void.
    Busted,
    /// The exchange's record proves that an execution does not count.
    TakenBack,
    /// Something in doubt is kept for a decision.
    CaseOpened,
    /// That has been decided, and the executions are as they were.
    CaseClosed,
    /// An operator ended it by hand.
    Closed,
    /// Something that is recorded already, word for word.
    Repeated,
}

/// Something that should not happen. Never dropped in silence: counted and logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Anomaly {
    /// Accepted after it was called failed: it is cancelled at the exchange.
    LateAccept,
    /// Two exchange ids for one order.
    SecondExternalId,
    /// The exchange contradicts what it said before.
    Contradiction,
    /// A fill after the order was cancelled.
    LateFill,
    /// More filled than ordered.
    OverFill,
    /// A fill of an order that was called failed.
    FillOfFailed,
    /// The exchange does not know an order that it had accepted.
    UnknownAtExchange,
    /// The exchange's record lacks an execution that counts here, and does not prove that it is void.
    DoubtfulExecution,
    /// Something was heard of it that does not fit it, and is quarantined.
    Quarantined,
    /// There is no room for another case of it: what was heard is counted and dropped.
    QuarantineFull,
    /// The exchange's record confirms what does not fit the order, so that it counts.
    MisfitConfirmed,
    /// The exchange's record proves that an execution does not count.
    TakenBack,
}

/// What the table says about a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Recorded; the facts change and the status follows from them.
    Record,
    /// Recorded as well, and somebody has to look at it.
    RecordAndAlert(Anomaly),
    /// Changes nothing.
    Nothing,
    /// Changes nothing, and somebody has to look at it.
    Alert(Anomaly),
}

/// The table. Every pair is written out, so that a new status or step does not compile until its
/// pairs have been thought about.
pub const fn ruling(status: Status, step: Step) -> Ruling {
    use Anomaly::{
        Contradiction, FillOfFailed, LateAccept, LateFill, OverFill, SecondExternalId,
        UnknownAtExchange,
    };
    use Ruling::{Alert, Nothing, Record, RecordAndAlert};
    use Status::{Cancelled, Failed, Filled, PartiallyFilled, Pending, PendingCancel, Submitted};

    match (status, step) {
        (Pending, Step::Accepted) => Record,
        // Submitted means that the exchange's id is known.
        (Submitted, Step::Accepted) => Alert(Contradiction),
        // A fill came first; the accept brings the exchange's id and changes no status.
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

        // Before the accept it is only recorded: there is nothing to cancel at the exchange yet.
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
        // A late accept has been taken back.
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

        // A bust before its trade is remembered, so that the trade will not count.
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

        // What has ended cannot be ended by hand.
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
