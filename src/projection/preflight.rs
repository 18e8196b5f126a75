//! Checks whether Longbow can work with a server at all, before it creates anything there.

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::connection::{ANSWER_TIMEOUT, in_time};
use super::{PostgresServer, ProjectionError};

/// The oldest release with the needed feature: triggers on partitioned tables that run before a row
/// is written.
const OLDEST: i32 = 13;
const TABLES: [&str; 6] =
    ["orders", "executions", "external_orders", "order_events", "projection", "feed_position"];

/// Checks what Longbow cannot change: release, encoding, standby, and names that another program
/// uses.
pub(super) async fn check(
    client: &Client,
    server: &PostgresServer,
    version: u32,
) -> Result<(), ProjectionError> {
    let refused = |error| ProjectionError::of(server, "be looked at")(error);
    let unfit = |why| Err(ProjectionError::Unfit { server: server.to_string(), why });
    let facts = client
        .query_one(
            "SELECT current_setting('server_version_num')::integer / 10000, \
                current_setting('server_encoding'), pg_is_in_recovery()",
            &[],
        )
        .await
        .map_err(refused)?;
    let (release, encoding, is_standby): (i32, &str, bool) =
        (facts.get(0), facts.get(1), facts.get(2));
    if release < OLDEST {
        return unfit(format!("it is Postgres {release}, and {OLDEST} is the oldest that works"));
    }
    // SQL_ASCII stores any bytes unchanged.
    if !["UTF8", "SQL_ASCII"].contains(&encoding) {
        return unfit(format!(
            "the database has encoding {encoding}, but reasons and user names may hold any character: \
             make one with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
        ));
    }
    if is_standby {
        return unfit("it is a standby: use the primary".to_owned());
    }
    if version == 0 { check_names(client, server).await } else { Ok(()) }
}

async fn check_names(client: &Client, server: &PostgresServer) -> Result<(), ProjectionError> {
    let schema = server.schema();
    let taken = client
        .query(
            "SELECT 'a table ' || relname FROM pg_class \
                JOIN pg_namespace ON pg_namespace.oid = relnamespace \
             WHERE nspname = $1 AND relname = ANY ($2) \
             UNION ALL SELECT 'next to it a schema ' || nspname FROM pg_namespace WHERE nspname = $3",
            &[&schema.name(), &TABLES.as_slice(), &schema.analysis()],
        )
        .await;
    let taken = taken.map_err(ProjectionError::of(server, "be looked at"))?;
    let Some(first) = taken.first() else { return Ok(()) };
    Err(ProjectionError::OtherProgram {
        server: server.to_string(),
        schema: schema.name().to_owned(),
        found: first.get(0),
    })
}

/// Checks that a session keeps its server process from one transaction to the next. A pooler that
/// lends processes by the transaction gives the process of an idle session to another one, and with
/// it what the session has set or prepared.
pub(super) async fn check_session(
    client: &Client,
    server: &PostgresServer,
) -> Result<(), ProjectionError> {
    let ours = in_time(server, process(client)).await?;
    let ours = ours.map_err(ProjectionError::of(server, "name its process"))?;
    // Without room for a second session nothing can be said.
    if in_time(server, is_lent(client, server, ours)).await?.unwrap_or(false) {
        return Err(ProjectionError::Pooled { server: server.to_string() });
    }
    Ok(())
}

async fn is_lent(
    client: &Client,
    server: &PostgresServer,
    ours: Option<String>,
) -> Result<bool, tokio_postgres::Error> {
    let mut config = server.hosts().first().clone();
    config.application_name("longbow").connect_timeout(ANSWER_TIMEOUT);
    let (other, connection) = config.connect(NoTls).await?;
    let driver = tokio::spawn(connection);
    let check = async {
        // A pooler lends its processes in turn, or the most recently used one first: this finds
        // both.
        let mut is_lent = process(client).await? != ours || process(&other).await? == ours;
        other.batch_execute("BEGIN").await?;
        is_lent |= process(&other).await? == ours;
        is_lent |= process(client).await? != ours;
        other.batch_execute("ROLLBACK").await?;
        Ok::<_, tokio_postgres::Error>(is_lent)
    };
    let checked = check.await;
    drop(other);
    driver.abort();
    checked
}

/// The server process that answers. Asked without a prepared statement, which may be what does not
/// work.
async fn process(client: &Client) -> Result<Option<String>, tokio_postgres::Error> {
    let answer = client.simple_query("SELECT pg_backend_pid()").await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
