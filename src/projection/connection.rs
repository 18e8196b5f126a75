//! A connection to one server.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls};

use super::{PostgresServer, ProjectionError};

/// Longest wait for a connection, and for an answer that costs Postgres no work.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle time before a connection is probed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// Longest time that sent bytes may stay unacknowledged.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(15);

/// Settings that every session needs, whatever its user or database has. Without a durable commit a
/// server that crashes would go back before records that the log no longer has. A transaction whose
/// client is gone ends by itself. A plan that looks into all tables of orders seems so costly that
/// Postgres would compile it, for seconds each time, to read a few rows.
const SESSION: &str = "\
    SELECT set_config('synchronous_commit', 'on', false) \
        WHERE current_setting('synchronous_commit') = 'off'; \
    SET timezone = 'UTC'; \
    SET default_transaction_isolation = 'read committed'; \
    SET default_transaction_read_only = off; \
    SET lock_timeout = '30s'; \
    SET idle_in_transaction_session_timeout = '60s'; \
    SET jit = off";

/// Lets the server process keep its memory from one transaction to the next: glibc returns free memory at
/// the end of the heap to the system each time, until a block as large as this was allocated and freed
/// (mallopt(3), `M_MMAP_THRESHOLD` and `M_TRIM_THRESHOLD`). Faulting those pages in again was an eighth of
/// the work of a small transaction. It costs some 25 ms once: for sessions with many of them.
const KEEP_MEMORY: &str = "\
    BEGIN; SET LOCAL statement_timeout = 0; \
    SELECT octet_length(repeat(repeat(repeat('x', 256), 256), 256)); COMMIT";

/// What the sessions of a member need: a transaction that its process, or its host, no longer goes on
/// with keeps no other member from the users for longer than a lease.
pub(crate) const MEMBER_SESSION: &str = "SET idle_in_transaction_session_timeout = '2s'";

/// A session with a server. Closed on drop.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects to the host that is the primary now. Call it inside a runtime.
    pub(crate) async fn open(server: &PostgresServer) -> Result<Self, ProjectionError> {
        Self::open_within(ANSWER_TIMEOUT, server).await
    }

    /// Prepares the session for many small transactions.
    pub(crate) async fn keep_memory(&self, server: &PostgresServer) -> Result<(), ProjectionError> {
        let kept = in_time(server, self.client.batch_execute(KEEP_MEMORY)).await?;
        kept.map_err(ProjectionError::of(server, "set up the session"))
    }

    /// Connects to the host that is the primary now, in this time. Each host has its share of it.
    pub(crate) async fn open_within(
        limit: Duration,
        server: &PostgresServer,
    ) -> Result<Self, ProjectionError> {
        let hosts = server.hosts();
        let share = limit / u32::try_from(hosts.count()).unwrap_or(u32::MAX);
        let mut first_error = None;
        for (number, config) in hosts.in_turn() {
            match Self::open_host((number, config), share, server).await {
                Ok(connection) => return Ok(connection),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        let Some(error) = first_error else { unreachable!("a server has a host") };
        Err(error)
    }

    async fn open_host(
        (number, config): (usize, &Config),
        limit: Duration,
        server: &PostgresServer,
    ) -> Result<Self, ProjectionError> {
        let mut config = config.clone();
        config
            .application_name("longbow")
            .connect_timeout(limit)
            .keepalives_idle(KEEPALIVE_IDLE)
            .tcp_user_timeout(UNACKNOWLEDGED_TIMEOUT);
        let connected = within(limit, server, config.connect(NoTls)).await?;
        let (client, connection) = connected.map_err(ProjectionError::of(server, "connect"))?;
        server.hosts().prefer(number);
        // A server that is frozen would hold up what waits for its answers.
        let left = server.hosts().left(number);
        let driver = tokio::spawn(async move {
            let ended = tokio::select! {
                ended = connection => ended,
                () = left => Ok(()),
            };
            if let Err(error) = ended {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "a connection to Postgres ended");
            }
        });
        let connection = Self { client, driver };
        // A configured statement timeout is meant for the work, not for these.
        let session = format!("SET search_path = {}; {SESSION}", server.schema().quoted());
        for step in ["SET statement_timeout = 0", &session, "RESET statement_timeout"] {
            let set = in_time(server, connection.client.batch_execute(step)).await?;
            set.map_err(ProjectionError::of(server, "set up the session"))?;
        }
        Ok(connection)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Waits for an answer that costs Postgres no work.
pub(crate) async fn in_time<T>(
    server: &PostgresServer,
    answer: impl Future<Output = T>,
) -> Result<T, ProjectionError> {
    within(ANSWER_TIMEOUT, server, answer).await
}

/// Waits for an answer until a time limit.
pub(crate) async fn within<T>(
    limit: Duration,
    server: &PostgresServer,
    answer: impl Future<Output = T>,
) -> Result<T, ProjectionError> {
    timeout(limit, answer).await.map_err(|_| ProjectionError::Silent {
        server: server.to_string(),
        seconds: limit.as_secs(),
    })
}
