//! A connection to one server.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use super::{PostgresServer, ProjectionError};

/// Longest wait for a connection, and for any other answer that takes Postgres no work.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// After how long a silent connection is probed, and how long bytes may stay unacknowledged.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(15);

/// What every session wants, whatever is set for its user or its database. Without a durable commit a server that crashes would go back behind
/// records that the log no longer has. A transaction that its client has left ends by itself.
///
/// The last line lets the server's process keep the memory of a transaction for the next one: glibc
/// gives what is free at the end of the heap back to the system, each time, until a block as large as
/// this has come and gone (mallopt(3), `M_MMAP_THRESHOLD` and `M_TRIM_THRESHOLD`). The pages that came
/// anew were an eighth of the work of a small transaction.
const SESSION: &str = "\
    SELECT set_config('synchronous_commit', 'on', false) \
        WHERE current_setting('synchronous_commit') = 'off'; \
    SET timezone = 'UTC'; \
    SET default_transaction_isolation = 'read committed'; \
    SET default_transaction_read_only = off; \
    SET lock_timeout = '30s'; \
    SET idle_in_transaction_session_timeout = '60s'; \
    SELECT length(repeat('x', 16 * 1024 * 1024))";

/// A session with a server. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects, inside a runtime.
    pub(super) async fn open(server: &PostgresServer) -> Result<Self, ProjectionError> {
        let mut config = server.config().clone();
        config
            .application_name("longbow")
            .connect_timeout(ANSWER_TIMEOUT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .tcp_user_timeout(UNACKNOWLEDGED_TIMEOUT);
        let connected = in_time(server, config.connect(NoTls)).await?;
        let (client, connection) = connected.map_err(ProjectionError::of(server, "connect"))?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "a connection to Postgres ended");
            }
        });
        let connection = Self { client, driver };
        // Whatever is set for statements is meant for the work, and not for this.
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

/// Waits for an answer that takes no work.
pub(super) async fn in_time<T>(
    server: &PostgresServer,
    answer: impl Future<Output = T>,
) -> Result<T, ProjectionError> {
    within(ANSWER_TIMEOUT, server, answer).await
}

/// Waits for an answer for so long.
pub(super) async fn within<T>(
    limit: Duration,
    server: &PostgresServer,
    answer: impl Future<Output = T>,
) -> Result<T, ProjectionError> {
    timeout(limit, answer).await.map_err(|_| ProjectionError::Silent {
        server: server.to_string(),
        seconds: limit.as_secs(),
    })
}
