//! The tables: made, brought up to date, and checked.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::connection::{Connection, in_time};
use super::{PostgresServer, PostgresServers, ProjectionError};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Held by whoever migrates: two nodes that start together take turns. Any number that no other
/// program uses in the same database.
const MIGRATION_LOCK: i64 = 0x6c6f_6e67_626f_7721;

/// The version that this program needs.
pub(super) fn needed() -> u32 {
    let versions = embedded::migrations::runner();
    versions.get_migrations().iter().map(|m| m.version()).max().unwrap_or(0).unsigned_abs()
}

/// Brings the tables of all servers up to date. Returns each server's name and its version before
/// and after.
///
/// # Errors
/// A server cannot be reached, has newer tables, or refuses.
pub fn migrate(servers: &PostgresServers) -> Result<Vec<(String, u32, u32)>, ProjectionError> {
    super::block_on(async {
        let mut migrated = Vec::new();
        for server in servers.iter() {
            let mut connection = Connection::open(server).await?;
            let (before, after) = migrate_one(&mut connection.client, server).await?;
            migrated.push((server.to_string(), before, after));
        }
        Ok(migrated)
    })
}

async fn migrate_one(
    client: &mut Client,
    server: &PostgresServer,
) -> Result<(u32, u32), ProjectionError> {
    let locked = client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await;
    locked.map_err(ProjectionError::of(server, "lock its tables for a migration"))?;
    let before = version(client, server).await?;
    let known = needed();
    if before > known {
        return Err(ProjectionError::NewSchema {
            server: server.to_string(),
            found: before,
            known,
        });
    }
    let migrated = embedded::migrations::runner().set_grouped(false).run_async(client).await;
    migrated.map_err(|source| ProjectionError::Migration { server: server.to_string(), source })?;
    let unlocked = client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK]).await;
    unlocked.map_err(ProjectionError::of(server, "unlock its tables"))?;
    Ok((before, version(client, server).await?))
}

/// Checks that the tables are those of this program; makes them so where they are older and that is
/// wanted.
pub(super) async fn prepare(
    client: &mut Client,
    server: &PostgresServer,
    migrates: bool,
) -> Result<(), ProjectionError> {
    let checked = in_time(server, check(client, server)).await?;
    if !(migrates && matches!(checked, Err(ProjectionError::OldSchema { .. }))) {
        return checked;
    }
    let (before, after) = migrate_one(client, server).await?;
    tracing::info!(%server, before, after, "the tables are up to date");
    Ok(())
}

/// Checks that the tables are those of this program.
pub(super) async fn check(client: &Client, server: &PostgresServer) -> Result<(), ProjectionError> {
    let (found, needed) = (version(client, server).await?, needed());
    let server = || server.to_string();
    if found < needed {
        return Err(ProjectionError::OldSchema { server: server(), found, needed });
    }
    if found > needed {
        return Err(ProjectionError::NewSchema { server: server(), found, known: needed });
    }
    Ok(())
}

/// The version of the tables; 0 where there are none.
async fn version(client: &Client, server: &PostgresServer) -> Result<u32, ProjectionError> {
    let found = client.query_one("SELECT max(version) FROM refinery_schema_history", &[]).await;
    match found {
        Ok(row) => Ok(row.get::<_, Option<i32>>(0).unwrap_or(0).unsigned_abs()),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(0),
        Err(error) => Err(ProjectionError::of(server, "tell the version of its tables")(error)),
    }
}
