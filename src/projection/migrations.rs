//! Creates, migrates and checks the tables.

use refinery::{Migration, Runner};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::connection::{Connection, in_time};
use super::schema::Schema;
use super::{PostgresServer, PostgresServers, ProjectionError, cell, preflight, roles};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Advisory lock of a migration: two nodes that start together take turns. Any number that no other
/// program uses in the same database.
const MIGRATION_LOCK: i64 = 0x6c6f_6e67_626f_7721;

/// A migration takes as long as it takes, whatever timeouts are configured.
const NO_TIMEOUTS: &str = "SET statement_timeout = 0; SET lock_timeout = 0";

/// The result of migrating a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    pub server: String,
    /// The schema version before; 0 without tables.
    pub before: u32,
    /// The schema version now.
    pub after: u32,
    /// Rights that could not be granted, each with what an administrator can do.
    pub not_granted: Vec<String>,
}

/// The migrations, adapted to a schema.
fn migrations(schema: &Schema) -> Result<Vec<Migration>, refinery::Error> {
    let runner = embedded::migrations::runner();
    let own = |migration: &Migration| {
        let name = format!("V{}__{}", migration.version(), migration.name());
        let Some(sql) = migration.sql() else {
            unreachable!("{name} is embedded, and embedded migrations have their SQL")
        };
        Migration::unapplied(&name, &schema.adapt(sql))
    };
    runner.get_migrations().iter().map(own).collect()
}

/// The schema version that this version of Longbow needs.
pub(super) fn needed() -> u32 {
    let versions = embedded::migrations::runner();
    versions.get_migrations().iter().map(|m| m.version()).max().unwrap_or(0).unsigned_abs()
}

/// Migrates the tables of all servers, and grants the roles their rights.
///
/// # Errors
/// A server cannot be reached, has a newer schema, is unfit for one, or refuses.
pub fn migrate(servers: &PostgresServers) -> Result<Vec<Migrated>, ProjectionError> {
    super::block_on(async {
        let mut migrated = Vec::new();
        for server in servers.iter() {
            let mut connection = Connection::open(server).await?;
            preflight::check_session(&connection.client, server).await?;
            migrated.push(migrate_one(&mut connection.client, server).await?);
        }
        Ok(migrated)
    })
}

async fn migrate_one(
    client: &mut Client,
    server: &PostgresServer,
) -> Result<Migrated, ProjectionError> {
    let set = client.batch_execute(NO_TIMEOUTS).await;
    set.map_err(ProjectionError::of(server, "set up the session"))?;
    let locked = client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await;
    locked.map_err(ProjectionError::of(server, "lock its tables for a migration"))?;
    let before = version(client, server).await?;
    let known = needed();
    if before > known {
        let server = server.to_string();
        return Err(ProjectionError::NewSchema { server, found: before, known });
    }
    if before < known {
        preflight::check(client, server, before).await?;
        make(client, server).await?;
    }
    let not_granted = roles::grant(client, server).await?;
    let unlocked = client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK]).await;
    unlocked.map_err(ProjectionError::of(server, "unlock its tables"))?;
    let after = version(client, server).await?;
    Ok(Migrated { server: server.to_string(), before, after, not_granted })
}

async fn make(client: &mut Client, server: &PostgresServer) -> Result<(), ProjectionError> {
    let failed = |source| ProjectionError::Migration { server: server.to_string(), source };
    let schema = server.schema();
    if *schema != Schema::default() {
        let make = format!("CREATE SCHEMA IF NOT EXISTS {}", schema.quoted());
        let made = client.batch_execute(&make).await;
        made.map_err(ProjectionError::of(server, "create the schema for its tables"))?;
    }
    let migrations = migrations(schema).map_err(failed)?;
    Runner::new(&migrations).set_grouped(false).run_async(client).await.map_err(failed)?;
    Ok(())
}

/// Checks that the schema version is the needed one. Migrates an older one, if `migrates`.
pub(super) async fn prepare(
    client: &mut Client,
    server: &PostgresServer,
    migrates: bool,
) -> Result<(), ProjectionError> {
    let checked = in_time(server, check(client, server)).await?;
    if !(migrates && matches!(checked, Err(ProjectionError::OldSchema { .. }))) {
        return checked;
    }
    let Migrated { before, after, not_granted, .. } = migrate_one(client, server).await?;
    tracing::info!(%server, before, after, "the tables are up to date");
    for lacking in not_granted {
        tracing::warn!(%server, lacking, "a privilege could not be granted");
    }
    Ok(())
}

/// Checks that the schema version is the needed one.
pub(crate) async fn check(client: &Client, server: &PostgresServer) -> Result<(), ProjectionError> {
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

/// The schema version; 0 without tables.
async fn version(client: &Client, server: &PostgresServer) -> Result<u32, ProjectionError> {
    let schema = server.schema();
    let history = format!(
        "SELECT version, name FROM {}.refinery_schema_history ORDER BY version",
        schema.quoted()
    );
    let rows = match client.query(&history, &[]).await {
        Ok(rows) => rows,
        Err(error)
            if [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME]
                .iter()
                .any(|state| error.code() == Some(state)) =>
        {
            return Ok(0);
        }
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
            return Err(other_program(
                server,
                "a refinery_schema_history without version and name".to_owned(),
            ));
        }
        Err(error) => {
            return Err(ProjectionError::of(server, "report its schema version")(error));
        }
    };
    let runner = embedded::migrations::runner();
    let mut newest = 0;
    for row in &rows {
        let (version, name): (i32, &str) =
            match cell::value(row, 0).and_then(|version| Ok((version, cell::value(row, 1)?))) {
                Ok(found) => found,
                Err(error) => {
                    return Err(other_program(
                        server,
                        format!("a refinery_schema_history with another {error}"),
                    ));
                }
            };
        let own = runner.get_migrations().iter().find(|own| own.version() == version);
        if own.is_some_and(|own| own.name() != name) {
            let found = format!("a refinery_schema_history whose version {version} is {name:?}");
            return Err(other_program(server, found));
        }
        newest = newest.max(version.unsigned_abs());
    }
    Ok(newest)
}

/// Another program has this in the schema.
fn other_program(server: &PostgresServer, found: String) -> ProjectionError {
    let schema = server.schema().name().to_owned();
    ProjectionError::OtherProgram { server: server.to_string(), schema, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_schema_leaves_migrations_unchanged() {
        let embedded = embedded::migrations::runner();
        let own = migrations(&Schema::default()).unwrap();
        let sums = |all: &[Migration]| all.iter().map(Migration::checksum).collect::<Vec<_>>();
        assert_eq!(sums(&own), sums(embedded.get_migrations()));
        let other = migrations(&Schema::new("own").unwrap()).unwrap();
        for migration in &other {
            let text = migration.sql().unwrap();
            assert!(!text.contains(" public.") && !text.contains("SCHEMA analysis"), "{text}");
        }
    }
}
