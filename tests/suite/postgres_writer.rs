//! The tables' owner and their writer are two roles: the writer can neither truncate a table, nor
//! disable its triggers, nor create one, and needs none of that.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test stops at the first surprise")]

use crate::support::postgres::{Database, Postgres, assert_records_agree, await_caught_up};
use crate::support::{Server, run};

fn refusal(database: &Database, sql: &str) -> String {
    let Err(error) = database.try_sql(sql) else { panic!("{sql} is allowed") };
    error.as_db_error().map(ToString::to_string).unwrap_or_default()
}

fn migrate(database: &Database) -> Vec<String> {
    let output = run(&["migrate", "--postgres", &database.url]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_writer_writes_and_can_do_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start_bare();
    let owner = postgres.database();
    assert_eq!(migrate(&owner).len(), 1, "everything was granted");
    owner.sql("CREATE ROLE writer LOGIN IN ROLE longbow_writer");
    let writer = Database { url: owner.url.replace("longbow@", "writer@") };
    let server = Server::start(data.path(), &["--postgres", &writer.url]);
    server.user(data.path(), "alice").place_resting("IBM");
    await_caught_up(&server, data.path(), &writer.url);

    let day = "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid \
        WHERE inhparent = 'order_events'::regclass ORDER BY relname LIMIT 1";
    let day = owner.sql(day)[0][0].clone().unwrap();
    for sql in [
        "TRUNCATE order_events".to_owned(),
        format!("TRUNCATE {day}"),
        format!("ALTER TABLE {day} DISABLE TRIGGER ALL"),
        format!("DROP TABLE {day}"),
        "ALTER TABLE order_events DISABLE TRIGGER ALL".to_owned(),
        "SET session_replication_role = replica".to_owned(),
        "UPDATE order_events SET reason = 'none'".to_owned(),
        "DELETE FROM order_events".to_owned(),
        "DELETE FROM orders".to_owned(),
        "TRUNCATE orders".to_owned(),
        "CREATE TABLE public.mine ()".to_owned(),
        "CREATE SCHEMA mine".to_owned(),
        "SELECT drop_order_events_before('2020-01-01')".to_owned(),
        "SELECT detach_order_events_before('2020-01-01')".to_owned(),
        "INSERT INTO order_events_kept (kept_from) VALUES (now())".to_owned(),
        "UPDATE refinery_schema_history SET version = 9".to_owned(),
    ] {
        let words = refusal(&writer, &sql);
        let is_denied = ["permission denied", "must be owner"].iter().any(|no| words.contains(no));
        assert!(is_denied, "{sql}: {words}");
    }
    // Nor can the owner by mistake: every day has triggers, also those that the writer created.
    writer.sql("SELECT make_order_events_partition(30000)");
    for table in [day.as_str(), "order_events_20520220"] {
        for verb in ["TRUNCATE", "DELETE FROM"] {
            let is_empty = table != day && verb != "TRUNCATE";
            let sql = format!("{verb} {table}");
            assert!(is_empty || refusal(&owner, &sql).contains("append-only"), "{sql}");
        }
    }
    assert_records_agree(server, data.path(), &writer.url);
}

#[test]
fn what_could_not_be_granted_is_said_and_made_good_later() {
    let postgres = Postgres::start_bare();
    let admin = postgres.database();
    admin.sql("CREATE ROLE plain LOGIN");
    admin.sql("CREATE DATABASE own OWNER plain");
    let own = postgres.named("own");
    let plain = Database { url: own.url.replace("longbow@", "plain@") };
    let said = migrate(&plain);
    for role in ["longbow_reader", "longbow_writer"] {
        let parts = [role, "permission denied", &format!("CREATE ROLE {role} NOLOGIN")];
        let is_it = |line: &&String| parts.iter().all(|part| line.contains(part));
        assert_eq!(said.iter().filter(is_it).count(), 1, "{said:?}");
    }
    admin.sql("CREATE ROLE longbow_reader NOLOGIN; CREATE ROLE longbow_writer NOLOGIN");
    assert_eq!(migrate(&plain).len(), 1, "now they are there");
    // A role that is not the owner cannot grant, and says what the owner must run.
    own.sql("REVOKE INSERT ON orders FROM longbow_writer; CREATE ROLE other LOGIN");
    own.sql(
        "GRANT SELECT ON refinery_schema_history TO other; GRANT USAGE ON SCHEMA public TO other",
    );
    let said = migrate(&Database { url: own.url.replace("longbow@", "other@") });
    assert!(
        said.iter().any(|line| line.contains("have the owner of the tables run `GRANT")),
        "{said:?}"
    );
}
