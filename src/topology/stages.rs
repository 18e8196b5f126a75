//! The threads of a server, in the order in which they end.

use crate::shutdown::{Shutdown, StopReason};

use super::threads::Threads;

/// The threads, in the order in which they end.
pub(super) struct Stages {
    pub(super) shards: Threads,
    /// Goes on until every shard has ended: their requests want answers.
    pub(super) orders: Threads,
    pub(super) stop_orders: Shutdown,
    pub(super) rest: Threads,
    pub(super) operators: Threads,
    pub(super) stop_operators: Shutdown,
    pub(super) readers: Threads,
}

impl Stages {
    pub(super) fn new() -> Self {
        Self {
            shards: Threads::new(),
            orders: Threads::new(),
            stop_orders: Shutdown::new(),
            rest: Threads::new(),
            operators: Threads::new(),
            stop_operators: Shutdown::new(),
            readers: Threads::new(),
        }
    }

    pub(super) fn join(self) {
        self.shards.join();
        self.stop_orders.request(StopReason::Requested);
        self.orders.join();
        self.rest.join();
        self.stop_operators.request(StopReason::Requested);
        self.operators.join();
        self.readers.join();
    }
}
