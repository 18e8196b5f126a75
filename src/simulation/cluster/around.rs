//! What a thread of a process has around it.

use std::time::Duration;

use super::postgres::{Link, Postgres, Question, Ticket};
use super::redis::{Redis, RedisLink};
use crate::simulation::exchange::Exchange;
use crate::types::Moment;

/// Pause of a thread after a failure of Postgres.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What a thread of a process has around it.
pub(super) struct Around<'a> {
    pub(super) machine: usize,
    pub(super) now: Moment,
    pub(super) postgres: &'a mut Postgres,
    pub(super) has_postgres: bool,
    pub(super) link: Link,
    pub(super) redis: &'a mut Redis,
    pub(super) has_redis: bool,
    pub(super) redis_link: RedisLink,
    /// The connection to Redis breaks after so many lines.
    pub(super) redis_fails_after: usize,
    pub(super) exchange: &'a Exchange,
    pub(super) has_exchange: bool,
    /// How many lines or records to take at most.
    pub(super) most: usize,
}

impl Around<'_> {
    pub(super) fn ask(&mut self, question: Question) -> Ticket {
        self.postgres.ask(self.machine, self.has_postgres, question)
    }

    pub(super) const fn retry_pause(&self) -> Duration {
        RETRY_PAUSE
    }
}
