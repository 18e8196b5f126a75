/// A kind of step. Its details are drawn when it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// A user places an order, with or without a key.
    Create,
    /// A user repeats a key.
    Repeat,
    /// A user cancels an order.
    Cancel,
    /// A user lists all orders.
    List,
    /// An order stream begins, or resumes.
    ReadStream,
    /// An order stream is cut off.
    CutStream,
    /// Users and streams are polled, without the orders thread.
    PollClients,
    /// An operator cancels many orders.
    MassCancel,
    /// An operator halts new orders, or lifts halts.
    Halt,
    /// An operator deposits or withdraws cash.
    MoveCash,
    /// The exchange posts lines to us.
    Webhook,
    /// A user disconnects before the answer.
    HangUp,
    /// A slice of the orders thread.
    Slice,
    /// The log's writer thread is woken.
    WriteLog,
    /// The log's preparing thread is woken.
    PrepareLog,
    /// The store applies committed records.
    FollowLog,
    /// The store is made durable, and the log is cut up to there.
    PersistIndex,
    /// The store answers reads.
    AnswerReads,
    /// The store looks up an exchange id.
    Find,
    /// The exchange is probed.
    Probe,
    /// An order session sends what has gathered.
    SendSubmits,
    /// The cancel session or the query session sends.
    SendControl,
    /// A request arrives at the exchange, or is lost.
    Arrive,
    /// An answer of the exchange arrives here.
    Answer,
    /// A connection to the exchange breaks under a request.
    Cut,
    /// A trade at the exchange, which may fill orders.
    Print,
    /// The exchange voids an execution.
    Bust,
    /// The exchange executes an order that has ended.
    LateFill,
    /// The exchange cancels or expires an order unasked.
    Unasked,
    /// Day orders expire.
    DayEnd,
    /// The exchange restarts, with another feed session.
    ExchangeRestart,
    /// The exchange renames its feed session.
    RenameSession,
    /// The feed brings lines.
    FeedLines,
    /// The feed brings a heartbeat.
    FeedBeat,
    /// The feed connection breaks.
    FeedCut,
    /// The exchange forgets old feed lines.
    FeedForget,
    /// The feed repeats a line.
    FeedAgain,
    /// The feed loses lines.
    FeedGap,
    /// The feed swaps two lines.
    FeedSwap,
    /// The feed brings an unreadable line.
    FeedGarble,
    /// The feed brings junk.
    FeedJunk,
    /// Time passes.
    Wait,
    /// Our machine's clock is set.
    SetClock,
    /// The exchange's clock is set.
    StepExchangeClock,
    /// The disk will fail soon.
    DiskFault,
    /// The disk fills up.
    DiskFull,
    /// The disk has room again.
    DiskRoom,
    /// The process is killed.
    Kill,
    /// The machine loses power.
    PowerLoss,
    /// The process is asked to stop.
    Stop,
    /// The process starts.
    Start,
    /// Postgres takes all or some of the committed log.
    FollowPostgres,
    /// Postgres goes away.
    PostgresAway,
    /// Postgres comes back.
    PostgresBack,
}
