//! The thread `postgres-read`: reads orders for threads that must not wait for Postgres.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::error::SqlState;

use super::order_queries::{Found, OrderQueries, Query};
use super::{PostgresServer, ProjectionError};
use crate::types::Backoff;

/// Longest wait for an answer, from the question on: less than what a client waits for.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// Queries sent and not answered. At 0.2 ms each, the last one waits 50 ms.
const MAX_IN_FLIGHT: usize = 256;
/// Pauses between attempts to connect: a failover takes a few seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// How soon a connection that ended by itself is replaced.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Connections: one for single orders, one for lists.
const LANES: usize = 2;

/// Why an order could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotRead {
    #[error("Postgres did not answer in time")]
    Late,
    #[error("Postgres refused the query")]
    Refused,
}

/// A question and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    query: Query,
    deadline: Instant,
    reply: oneshot::Sender<Result<Found, NotRead>>,
}

impl Request {
    pub(super) fn new(query: Query) -> (Self, oneshot::Receiver<Result<Found, NotRead>>) {
        let (reply, receiver) = oneshot::channel();
        (Self { query, deadline: Instant::now() + ANSWER_DEADLINE, reply }, receiver)
    }
}

/// The worker of [`PostgresReads`](super::PostgresReads). Run [`run`](Self::run) on a thread
/// `postgres-read`.
#[derive(Debug)]
pub struct PostgresReader {
    server: PostgresServer,
    requests: mpsc::Receiver<Request>,
}

impl PostgresReader {
    pub(super) fn new(server: PostgresServer, requests: mpsc::Receiver<Request>) -> Self {
        Self { server, requests }
    }

    /// Answers until nobody can ask any more.
    ///
    /// # Errors
    /// [`ProjectionError::Runtime`]. Failures of Postgres are answers.
    pub fn run(self) -> Result<(), ProjectionError> {
        super::block_on(async {
            self.serve().await;
            Ok(())
        })
    }

    async fn serve(mut self) {
        // One connection for single orders and one for lists, which take longer.
        let told = Arc::new(Mutex::default());
        let lane = |()| Arc::new(Lane::new(self.server.clone(), Arc::clone(&told)));
        let [single, lists] = [(); LANES].map(lane);
        for lane in [&single, &lists] {
            tokio::spawn(Arc::clone(lane).keep_connected());
        }
        let room = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        while let Some(request) = self.requests.recv().await {
            // Nobody closes it.
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            if request.reply.is_closed() {
                continue;
            }
            let lane = Arc::clone(if request.query.is_of_many() { &lists } else { &single });
            tokio::spawn(async move {
                let answer = lane.answer(&request.query, request.deadline).await;
                drop(permit);
                // Who asked may be gone.
                let _ = request.reply.send(answer);
            });
        }
    }
}

/// A connection that is replaced when it fails. Queries are sent over it without waiting for the
/// answers to earlier ones.
#[derive(Debug)]
struct Lane {
    server: PostgresServer,
    current: watch::Sender<Option<Arc<OrderQueries>>>,
    told: Arc<Mutex<Told>>,
}

/// What the log says of the connections, which fail and come back together.
#[derive(Debug, Default)]
struct Told {
    /// The last failure.
    failure: String,
    /// How many have come back since.
    back: usize,
}

impl Told {
    /// A connection failed. Whether that is news.
    fn fails(&mut self, failure: &str) -> bool {
        let is_news = self.failure != failure;
        *self = Self { failure: failure.to_owned(), back: 0 };
        is_news
    }

    /// A connection was made. Whether all have come back with it.
    fn connects(&mut self) -> bool {
        self.back += 1;
        let are_all_back = self.back >= LANES && !self.failure.is_empty();
        if are_all_back {
            *self = Self::default();
        }
        are_all_back
    }
}

impl Lane {
    fn new(server: PostgresServer, told: Arc<Mutex<Told>>) -> Self {
        Self { server, current: watch::Sender::new(None), told }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep_connected(self: Arc<Self>) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
        loop {
            match OrderQueries::open(&self.server).await {
                Ok(queries) => {
                    backoff.reset();
                    if self.told().connects() {
                        tracing::info!(server = %self.server, "orders can be read from Postgres again");
                    }
                    self.current.send_replace(Some(Arc::new(queries)));
                    self.until_lost().await;
                }
                Err(error) => {
                    if self.told().fails(&error.to_string()) {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(error, "orders cannot be read from Postgres");
                    }
                }
            }
            sleep(backoff.advance()).await;
        }
    }

    async fn until_lost(&self) {
        let mut watching = self.current.subscribe();
        let is_lost = |current: &Option<Arc<OrderQueries>>| {
            current.as_ref().is_none_or(|queries| queries.is_closed())
        };
        while timeout(LOOK_INTERVAL, watching.wait_for(is_lost)).await.is_err() {}
        self.current.send_replace(None);
    }

    /// Gives up a connection, unless it has been replaced already.
    fn give_up(&self, failed: &Arc<OrderQueries>) {
        self.current.send_if_modified(|current| {
            current.take_if(|current| Arc::ptr_eq(current, failed)).is_some()
        });
    }

    async fn connected(&self) -> Option<Arc<OrderQueries>> {
        let mut watching = self.current.subscribe();
        let connected = watching.wait_for(Option::is_some).await.ok()?;
        connected.as_ref().map(Arc::clone)
    }

    /// Runs a query until it is answered or the deadline has passed. Reads change nothing, so one
    /// whose connection fails is sent again.
    async fn answer(&self, query: &Query, deadline: Instant) -> Result<Found, NotRead> {
        let mut sent = None;
        let asking = async {
            loop {
                let queries = self.connected().await.ok_or(NotRead::Late)?;
                sent = Some((Arc::clone(&queries), std::time::Instant::now()));
                match queries.run(query).await {
                    Ok(found) => return Ok(found),
                    Err(error) if error.may_pass() && !is_too_slow(&error) => {
                        let error: &dyn std::error::Error = &error;
                        tracing::debug!(error, "a query for orders is sent again");
                        self.give_up(&queries);
                    }
                    Err(error) => {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(error, ?query, "orders cannot be read from Postgres");
                        return Err(NotRead::Refused);
                    }
                }
            }
        };
        let answer = timeout_at(deadline, asking).await;
        if let (Err(_), Some((queries, at))) = (&answer, sent)
            // Otherwise it is busy, not gone.
            && queries.answered_at() < at
        {
            self.give_up(&queries);
        }
        answer.unwrap_or(Err(NotRead::Late))
    }
}

/// Whether the server ended the query because it took too long.
fn is_too_slow(error: &ProjectionError) -> bool {
    matches!(error, ProjectionError::Refused { source, .. }
        if source.code() == Some(&SqlState::QUERY_CANCELED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_all_connections_is_told_once_and_so_is_its_end() {
        let mut told = Told::default();
        assert!(!told.connects() && !told.connects(), "nothing has failed");
        assert!(told.fails("away") && !told.fails("away"));
        assert!(!told.connects(), "one is missing");
        assert!(!told.fails("away"));
        assert!(!told.connects() && told.connects());
        assert!(told.fails("away"));
    }
}
