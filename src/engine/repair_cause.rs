/// Why an order here differed from the exchange's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum RepairCause {
    /// The answer to the submit was lost or could not be parsed.
    LostReply,
    /// The answer to the submit did not come in time.
    Timeout,
    /// This process ended before the answer came.
    Crash,
    /// An execution was never reported.
    MissedFill,
    /// The end of the order was never reported.
    MissedCancel,
    /// The exchange never accepted the order, and never will.
    NeverAccepted,
    /// The exchange's list of a day's executions had one that was not known.
    DayEnd,
}
