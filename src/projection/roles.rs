//! Roles and rights: the owner creates the tables, a writer follows the log, a reader queries the
//! views.

use tokio_postgres::Client;

use super::{PostgresServer, ProjectionError};

/// Reads the analysts' views.
const READER: &str = "longbow_reader";
/// Writes what `serve` writes, and reads it; cannot truncate or alter a table.
const WRITER: &str = "longbow_writer";

/// A right, and a query whether a role has it.
struct Right {
    grant: String,
    is_there: String,
}

/// Creates the roles and grants their rights. Returns what could not be granted.
pub(super) async fn grant(
    client: &Client,
    server: &PostgresServer,
) -> Result<Vec<String>, ProjectionError> {
    let refused = |error| ProjectionError::of(server, "report its roles and rights")(error);
    let mut lacking = Vec::new();
    for role in [READER, WRITER] {
        let there = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)";
        let is_there: bool = client.query_one(there, &[&role]).await.map_err(refused)?.get(0);
        let make = format!("CREATE ROLE {role} NOLOGIN");
        if !is_there && let Err(error) = client.batch_execute(&make).await {
            let why = error.as_db_error().map_or_else(|| error.to_string(), |e| e.message().into());
            lacking.push(format!(
                "the role {role} is missing: {why}; have an administrator run `{make}`, then run \
                 `longbow migrate` again"
            ));
            continue;
        }
        for Right { grant, is_there } in rights(server, role) {
            // A failed grant is an error or only a warning: the query below tells.
            let _checked_below = client.batch_execute(&grant).await;
            let row = client.query_one(&is_there, &[]).await.map_err(refused)?;
            if !row.get::<_, Option<bool>>(0).unwrap_or(false) {
                lacking.push(format!(
                    "{role} lacks a privilege: have the owner of the tables run `{grant}`"
                ));
            }
        }
    }
    let schema = server.schema();
    // The default in the schema `public` before Postgres 15.
    let open = "SELECT EXISTS (SELECT FROM pg_namespace, aclexplode(nspacl) AS entry \
        WHERE nspname = $1 AND entry.grantee = 0 AND entry.privilege_type = 'CREATE')";
    let row = client.query_one(open, &[&schema.name()]).await.map_err(refused)?;
    if row.get(0) {
        lacking.push(format!(
            "everybody may create tables in Longbow's schema: have an administrator run \
             `REVOKE CREATE ON SCHEMA {} FROM PUBLIC`",
            schema.quoted()
        ));
    }
    Ok(lacking)
}

fn rights(server: &PostgresServer, role: &str) -> Vec<Right> {
    let schema = server.schema();
    let (own, analysis) = (schema.quoted(), schema.quoted_analysis());
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let usage = |schema: &str, name: &str| Right {
        grant: format!("GRANT USAGE ON SCHEMA {schema} TO {role}"),
        is_there: format!("SELECT has_schema_privilege('{role}', {}, 'USAGE')", literal(name)),
    };
    // By its number: to find its name takes a right to the schema.
    let execute = |schema: (&str, &str), name: &str, parameters: &str| Right {
        grant: format!("GRANT EXECUTE ON FUNCTION {}.{name}({parameters}) TO {role}", schema.0),
        is_there: format!(
            "SELECT bool_and(has_function_privilege('{role}', pg_proc.oid, 'EXECUTE')) FROM pg_proc \
             JOIN pg_namespace ON pg_namespace.oid = pronamespace \
             WHERE nspname = {} AND proname = '{name}'",
            literal(schema.1)
        ),
    };
    if role == READER {
        let all = format!(
            "SELECT bool_and(has_table_privilege('{role}', pg_class.oid, 'SELECT')) FROM pg_class \
             JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = {}",
            literal(&schema.analysis())
        );
        let grant = format!("GRANT SELECT ON ALL TABLES IN SCHEMA {analysis} TO {role}");
        return vec![
            usage(&analysis, &schema.analysis()),
            Right { grant, is_there: all },
            execute((&analysis, &schema.analysis()), "open_orders_at", "timestamptz"),
        ];
    }
    let table = |names: &[&str], rights: &[&str]| {
        let list = names.iter().map(|name| format!("{own}.{name}")).collect::<Vec<_>>();
        let each = list.iter().flat_map(|table| {
            let has = |right: &&str| {
                format!("has_table_privilege('{role}', {}, '{right}')", literal(table))
            };
            rights.iter().map(has).collect::<Vec<_>>()
        });
        Right {
            is_there: format!("SELECT {}", each.collect::<Vec<_>>().join(" AND ")),
            grant: format!("GRANT {} ON {} TO {role}", rights.join(", "), list.join(", ")),
        }
    };
    let replaced = [
        "orders",
        "executions",
        "external_orders",
        "projection",
        "feed_position",
        "nodes",
        "leases",
        "kill_switch",
        "shared_external_orders",
        "accounts",
        "positions",
    ];
    let epochs = format!("{own}.node_epochs");
    let functions = [
        ("make_order_events_partition", "integer"),
        ("make_ledger_entries_partition", "integer"),
        ("bring_ledger_forward", "timestamptz"),
        ("begin_accounts", ""),
    ];
    let mut rights = vec![
        usage(&own, schema.name()),
        usage(&analysis, &schema.analysis()),
        Right {
            grant: format!("GRANT SELECT ON {analysis}.trial_balance TO {role}"),
            // By its number: to find its name takes a right to the schema.
            is_there: format!(
                "SELECT has_table_privilege('{role}', pg_class.oid, 'SELECT') FROM pg_class \
                 JOIN pg_namespace ON pg_namespace.oid = relnamespace \
                 WHERE nspname = {} AND relname = 'trial_balance'",
                literal(&schema.analysis())
            ),
        },
        table(&replaced, &["SELECT", "INSERT", "UPDATE"]),
        table(&["order_events", "ledger_entries", "cash_movements"], &["SELECT", "INSERT"]),
        table(&["order_events_kept", "refinery_schema_history"], &["SELECT"]),
        Right {
            is_there: format!(
                "SELECT has_sequence_privilege('{role}', {}, 'USAGE, UPDATE')",
                literal(&epochs)
            ),
            grant: format!("GRANT USAGE, UPDATE ON SEQUENCE {epochs} TO {role}"),
        },
    ];
    let own = (own.as_str(), schema.name());
    rights.extend(functions.map(|(name, parameters)| execute(own, name, parameters)));
    rights
}
