//! A machine: the process on it, its clocks, and what it cannot reach.

use super::clock::MachineClock;
use super::process::Process;
use crate::cluster::NodeId;

/// One machine. Times are of the true time, in microseconds.
pub(super) struct Machine {
    pub(super) node_id: NodeId,
    pub(super) clock: MachineClock,
    pub(super) process: Option<Process>,
    /// When a process is started, if none runs.
    pub(super) start_at: u64,
    pub(super) frozen_until: u64,
    pub(super) without_postgres_until: u64,
    pub(super) without_redis_until: u64,
    pub(super) without_exchange_until: u64,
    /// How often its connections to Postgres were cut.
    pub(super) cuts: u32,
    /// And those to Redis.
    pub(super) redis_cuts: u32,
}

impl Machine {
    pub(super) fn new(node_id: NodeId, clock: MachineClock, start_at: u64) -> Self {
        Self {
            node_id,
            clock,
            process: None,
            start_at,
            frozen_until: 0,
            without_postgres_until: 0,
            without_redis_until: 0,
            without_exchange_until: 0,
            cuts: 0,
            redis_cuts: 0,
        }
    }
}
