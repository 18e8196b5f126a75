//! What operators have halted, in Postgres: for all members, whoever is asked.
//!
//! A member looks at it as often as at the others, and before it serves anybody after its lease was over. It
//! writes a change by a statement of its own, over a connection of its own: a lock that somebody holds on the
//! row keeps no member from renewing its lease.

use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::host::HaltsHost;
use super::{MEMBER_LEASE, NodeError};
use crate::projection::{Connection, PostgresServer, ProjectionError, within};
use crate::shutdown::Shutdown;
use crate::sync::Receiver;

/// Pause before a change is written again that Postgres has not taken.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The version, and the text unless it is the known one.
const LOOK: &str = "\
    SELECT version, CASE WHEN version = $1 THEN NULL ELSE halts::text END FROM kill_switch";

/// Replaces the halts of a version, or makes the first row. The versions go on from one server to its
/// standby, even where that lacks the last ones: none is used for two texts.
const WRITE: &str = "\
    INSERT INTO kill_switch (version, halts, changed_at) \
    VALUES (greatest($1::bigint + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint), \
        $2::text::json, clock_timestamp()) \
    ON CONFLICT (is_only) DO UPDATE SET version = excluded.version, halts = excluded.halts, \
        changed_at = excluded.changed_at \
        WHERE kill_switch.version = $1 \
    RETURNING version";

/// Takes on what Postgres has. A text that is none changes nothing: an error of it is logged once.
pub(super) async fn look_at_halts<H: HaltsHost>(
    client: &Client,
    server: &PostgresServer,
    host: &H,
    logged: &mut String,
) -> Result<(), NodeError> {
    match look(client, server, host).await? {
        Ok(()) => logged.clear(),
        Err(problem) => {
            if problem != *logged {
                tracing::error!(problem, "{UNREADABLE}");
                *logged = problem;
            }
        }
    }
    Ok(())
}

const UNREADABLE: &str = "the kill switch in Postgres cannot be read, and stays as it was: correct the row of \
    the table kill_switch, or delete it to lift every halt";

async fn look<H: HaltsHost>(
    client: &Client,
    server: &PostgresServer,
    host: &H,
) -> Result<Result<(), String>, NodeError> {
    let (known, look) = host.begin_look();
    let row = within(MEMBER_LEASE, server, client.query_opt(LOOK, &[&known])).await?;
    let row = row.map_err(ProjectionError::of(server, "say what operators have halted"))?;
    let (version, text) = match &row {
        Some(row) => (row.get(0), row.get::<_, Option<&str>>(1)),
        // Nobody has ever halted anything.
        None => (0, None),
    };
    Ok(host.found(look, version, text))
}

/// Writes changes of this node until a stop. Failures of Postgres are retried.
pub(super) async fn write_halts<H: HaltsHost>(
    server: &PostgresServer,
    (host, changed): (&H, &mut Receiver<()>),
    shutdown: &Shutdown,
) {
    loop {
        let told = tokio::select! {
            told = changed.recv() => told,
            () = shutdown.requested() => None,
        };
        if told.is_none() {
            return;
        }
        while !shutdown.is_requested() {
            match write_all(server, host).await {
                Ok(()) => break,
                Err(reason) => host.not_written(reason),
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Writes what there is to be written.
async fn write_all<H: HaltsHost>(server: &PostgresServer, host: &H) -> Result<(), String> {
    let with_causes = |error: ProjectionError| match std::error::Error::source(&error) {
        Some(cause) => format!("{error} ({cause})"),
        None => error.to_string(),
    };
    let connection = Connection::open_within(MEMBER_LEASE, server).await.map_err(with_causes)?;
    let client = &connection.client;
    loop {
        match look(client, server, host).await {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => return Err(format!("{UNREADABLE} ({problem})")),
            Err(NodeError::Postgres(error)) => return Err(with_causes(error)),
            Err(error) => return Err(error.to_string()),
        }
        let Some((version, text, draft)) = host.draft() else { return Ok(()) };
        let parameters: [&(dyn ToSql + Sync); 2] = [&version, &text];
        let written = within(MEMBER_LEASE, server, client.query_opt(WRITE, &parameters)).await;
        let written = written.map_err(with_causes)?;
        let written = written.map_err(ProjectionError::of(server, "keep what is halted"));
        // Without a row another node was faster: its change comes first.
        if let Some(row) = written.map_err(with_causes)? {
            host.written(draft, row.get(0));
        }
    }
}
