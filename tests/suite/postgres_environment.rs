//! Unusual databases: `migrate` refuses with a sentence what cannot work; everything else works.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use crate::support::postgres::{Database, Postgres, assert_records_agree};
use crate::support::{Server, run};

fn migrate(database: &Database, more: &[&str]) -> Result<String, String> {
    let arguments = [&["migrate", "--postgres", &database.url], more].concat();
    let output = run(&arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.lines().count() <= 1, "one sentence: {error}");
    if output.status.success() { Ok(String::from_utf8(output.stdout).unwrap()) } else { Err(error) }
}

#[test]
fn a_database_that_cannot_hold_every_character_is_refused() {
    let postgres = Postgres::start_bare();
    postgres
        .database()
        .sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    let latin = postgres.named("latin");
    let error = migrate(&latin, &[]).unwrap_err();
    assert!(error.contains("LATIN1") && error.contains("ENCODING 'UTF8'"), "{error}");
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(latin.number(tables), 0, "nothing was made");
}

#[test]
fn names_that_another_program_has_taken_are_left_to_it() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start_bare();
    let history = "CREATE TABLE refinery_schema_history \
        (version int4 PRIMARY KEY, name varchar, applied_on varchar, checksum varchar); \
        INSERT INTO refinery_schema_history VALUES (1, 'init', '2024-01-01T00:00:00Z', '7')";
    for (name, taken) in [
        ("shop", history),
        ("bigger", &history.replace("int4", "int8")),
        ("nameless", &history.replace("'init'", "NULL")),
        ("renamed", &history.replace("version int4", "number int4")),
        ("orders", "CREATE TABLE orders (id int)"),
        ("views", "CREATE SCHEMA analysis"),
    ] {
        let database = postgres.create(name);
        database.sql(taken);
        let error = migrate(&database, &[]).unwrap_err();
        assert!(
            error.contains("another program") && error.contains("--postgres-schema"),
            "{error}"
        );
        let own = ["--postgres-schema", "longbow"];
        let said = migrate(&database, &own).unwrap();
        assert!(said.contains("before 0") && said.contains("schema \"longbow\""), "{said}");
        assert!(!migrate(&database, &own).unwrap().contains("before 0"), "again");
    }
    // It serves there, also after a restart.
    let shop = postgres.named("shop");
    let settings = ["--postgres", &shop.url, "--postgres-schema", "longbow"];
    for orders in 1..=2 {
        let server = Server::start(data.path(), &settings);
        server.user(data.path(), "alice").place_resting("IBM");
        shop.await_number("SELECT count(*) FROM longbow.orders", orders);
        shop.await_number("SELECT count(*) FROM longbow_analysis.orders", orders);
        assert!(server.program.stop().success());
    }
    let data = data.path().to_str().unwrap();
    let verified = run(&[&["verify", "--data-dir", data], &settings[..]].concat());
    assert!(verified.status.success() && verified.stdout.is_empty(), "{verified:?}");
    assert_eq!(shop.number("SELECT count(*) FROM public.refinery_schema_history"), 1);
}

#[test]
fn a_schema_may_have_any_name_and_a_bad_one_is_refused() {
    let postgres = Postgres::start_bare();
    let database = postgres.database();
    let odd = ["--postgres-schema", "My \"own\" schema's"];
    assert!(migrate(&database, &odd).unwrap().contains("before 0"));
    assert!(!migrate(&database, &odd).unwrap().contains("before 0"), "again");
    let tables = "SELECT count(*) FROM pg_tables \
        WHERE schemaname = 'My \"own\" schema''s' AND tablename = 'orders'";
    assert_eq!(database.number(tables), 1);
    // Beside another one.
    assert!(migrate(&database, &[]).unwrap().contains("before 0"));
    let error = migrate(&database, &["--postgres-schema", "pg_own"]).unwrap_err();
    assert!(error.contains("--postgres-schema") && error.contains("\"pg_own\""), "{error}");
}

#[test]
fn what_is_set_for_the_user_or_the_database_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start_bare();
    let database = postgres.database();
    let settings = [
        ("search_path", "other"),
        ("timezone", "'Asia/Kolkata'"),
        ("default_transaction_isolation", "'serializable'"),
        ("default_transaction_read_only", "on"),
        ("datestyle", "'SQL, DMY'"),
        ("lock_timeout", "'1s'"),
    ];
    database.sql("CREATE SCHEMA other; CREATE TABLE other.refinery_schema_history (id int)");
    for (name, value) in settings {
        database
            .sql(&format!("BEGIN READ WRITE; ALTER DATABASE longbow SET {name} = {value}; COMMIT"));
    }
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    server.user(data.path(), "alice").place_resting("IBM");
    database.await_number("SELECT count(*) FROM public.orders", 1);
    database.sql("BEGIN READ WRITE; ALTER DATABASE longbow RESET ALL; COMMIT");
    assert_records_agree(server, data.path(), &database.url);
}
