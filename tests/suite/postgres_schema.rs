//! Tables of another version: reported at the start in one sentence with a remedy, and awaited if they
//! appear later.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use crate::support::postgres::{Database, Postgres, assert_records_agree};
use crate::support::{Server, longbow, run};

/// The error of a failed start.
fn start_error(data: &Path, postgres: &str) -> String {
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let mut command = longbow();
    command.args(arguments).arg("--data-dir").arg(data).args(["--postgres", postgres]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: ") && error.lines().count() == 1, "one sentence: {error}");
    error
}

fn migrate(database: &Database) -> String {
    let output = run(&["migrate", "--postgres", &database.url]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The schema version of this program: one file per migration.
fn newest() -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    std::fs::read_dir(folder).unwrap().count()
}

/// Makes the tables look like those of a newer program.
const MAKE_NEWER: &str = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
    SELECT max(version) + 1, 'later', max(applied_on), '1' FROM refinery_schema_history";
const TAKE_BACK: &str = "DELETE FROM refinery_schema_history WHERE name = 'later'";

#[test]
fn another_version_is_said_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start_bare();
    let database = postgres.database();
    let error = start_error(data.path(), &database.url);
    let needs = format!("needs {}", newest());
    for expected in ["has schema version 0", &needs, "longbow migrate", "--migrate"] {
        assert!(error.contains(expected), "{expected} is missing: {error}");
    }
    assert!(migrate(&database).contains(&format!("schema version {}, before 0", newest())));
    assert!(migrate(&database).contains(&format!("before {}", newest())), "it may run again");
    database.sql(MAKE_NEWER);
    let error = start_error(data.path(), &database.url);
    assert!(
        error.contains(&format!("version {}", newest() + 1))
            && error.contains("use the newer program"),
        "{error}"
    );
    let refused = run(&["migrate", "--postgres", &database.url]);
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && words.contains("use the newer program"), "{words}");
    database.sql(TAKE_BACK);
    let server = Server::start(data.path(), &["--postgres", &database.url]);
    assert_records_agree(server, data.path(), &database.url);
}

#[test]
fn what_is_wrong_with_the_address_is_said_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start_bare();
    let nowhere = postgres.named("nowhere").url;
    let error = start_error(data.path(), &nowhere);
    assert!(error.contains("\"nowhere\" does not exist"), "{error}");
    let nobody = postgres.database().url.replace("longbow@", "nobody-here@");
    let error = start_error(data.path(), &nobody);
    assert!(error.contains("\"nobody-here\" does not exist"), "{error}");
}

#[test]
fn another_version_that_comes_up_later_is_waited_for() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start_bare();
    let database = postgres.database();
    migrate(&database);
    database.sql(MAKE_NEWER);
    postgres.stop();

    let server = Server::start(data.path(), &["--postgres", &database.url]);
    let alice = server.user(data.path(), "alice");
    alice.place_resting("IBM");
    postgres.start_again();
    let line = server.program.await_error("until an operator fixes this");
    assert!(line.contains("use the newer program"), "{line}");
    assert_eq!(server.metric("projection_stopped"), 1);
    alice.place_resting("SPY");
    assert_eq!(database.number("SELECT count(*) FROM orders"), 0, "it touches nothing");

    // Then they are gone altogether, as with an empty server in place of the old one.
    database.sql("DROP SCHEMA public, analysis CASCADE; CREATE SCHEMA public");
    let line = server.program.await_error("until an operator fixes this");
    assert!(line.contains("schema version 0") && line.contains("longbow migrate"), "{line}");
    migrate(&database);
    server.program.await_error("Postgres follows the log");
    assert_eq!(server.metric("projection_stopped"), 0);
    alice.place_resting("IBM");
    assert_records_agree(server, data.path(), &database.url);
    assert_eq!(database.number("SELECT count(*) FROM orders WHERE user_id = 'alice'"), 3);
}

#[test]
fn two_that_migrate_at_once_take_turns() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start_bare();
    let database = postgres.database();
    let migrations: Vec<_> = (0..3)
        .map(|_| {
            let database = database.clone();
            std::thread::spawn(move || migrate(&database))
        })
        .collect();
    let told: Vec<String> = migrations.into_iter().map(|one| one.join().unwrap()).collect();
    let made = told.iter().filter(|words| words.contains("before 0")).count();
    assert_eq!(made, 1, "{told:?}");
    let server = Server::start(data.path(), &["--postgres", &database.url]);
    assert_records_agree(server, data.path(), &database.url);
}

/// Creates the tables of schema version 1.
fn make_version_1(postgres: &Postgres, database: &Database) {
    let newest = postgres.create("newest");
    migrate(&newest);
    let rows = newest.sql(
        "SELECT quote_literal(name), quote_literal(applied_on), quote_literal(checksum) \
         FROM refinery_schema_history WHERE version = 1",
    );
    let row: Vec<&str> = rows.iter().flatten().map(|column| column.as_deref().unwrap()).collect();
    database.sql(include_str!("../../migrations/V1__orders.sql"));
    database.sql(&format!(
        "CREATE TABLE refinery_schema_history \
             (version integer PRIMARY KEY, name text, applied_on text, checksum text); \
         INSERT INTO refinery_schema_history VALUES (1, {})",
        row.join(", ")
    ));
}

#[test]
fn tables_of_the_first_version_are_brought_up_to_date() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start_bare();
    let database = postgres.database();
    make_version_1(&postgres, &database);
    let error = start_error(data.path(), &database.url);
    let expected = format!("has schema version 1, and this version of Longbow needs {}", newest());
    assert!(error.contains(&expected), "{error}");
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    server.user(data.path(), "alice").place_resting("IBM");
    assert_records_agree(server, data.path(), &database.url);
}
