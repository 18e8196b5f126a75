//! The kinds of faults.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Kill,
    Freeze,
    Drain,
    CutPostgres,
    CutRedis,
    CutExchange,
    PostgresAway,
    FailOver,
    RedisRestart,
    /// The stream of lines keeps its newest entries only.
    RedisTrims,
    /// Nobody does anything for a while.
    Stall,
}

impl Fault {
    pub(super) const ALL: [Self; 11] = [
        Self::Kill,
        Self::Freeze,
        Self::Drain,
        Self::CutPostgres,
        Self::CutRedis,
        Self::CutExchange,
        Self::PostgresAway,
        Self::FailOver,
        Self::RedisRestart,
        Self::RedisTrims,
        Self::Stall,
    ];
}
