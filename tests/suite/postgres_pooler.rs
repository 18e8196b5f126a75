//! PgBouncer between Longbow and Postgres: session pooling works; transaction pooling is refused with a
//! sentence before anything is written.

use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, assert_records_agree};
use crate::support::{Server, run};

#[test]
fn a_pooler_by_transaction_is_refused() {
    let data = tempfile::tempdir().unwrap();
    // There are records to compare.
    assert!(Server::start(data.path(), &[]).program.stop().success());
    let data = data.path().to_str().unwrap();
    let postgres = Postgres::start_bare();
    let direct = postgres.database();
    for more in ["", "server_round_robin = 1\nmin_pool_size = 3"] {
        let pooler = PgBouncer::start(&postgres, "transaction", more);
        let url = pooler.database.url.as_str();
        for arguments in [
            &["migrate", "--postgres", url][..],
            &["verify", "--postgres", url, "--data-dir", data],
            &[
                "serve",
                "--postgres",
                url,
                "--data-dir",
                data,
                "--listen",
                "127.0.0.1:0",
                "--migrate",
            ],
        ] {
            let output = run(arguments);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
            assert!(error.contains("pool_mode=transaction"), "{arguments:?}: {error}");
            assert!(error.contains("use pool_mode=session"), "{arguments:?}: {error}");
        }
    }
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(direct.number(tables), 0, "nothing was made");
}

#[test]
fn a_pooler_by_session_works() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start_bare();
    let pooler = PgBouncer::start(&postgres, "session", "");
    let url = pooler.database.url.as_str();
    let server = Server::start(data.path(), &["--postgres", url, "--migrate"]);
    server.user(data.path(), "alice").place_resting("IBM");
    assert_records_agree(server, data.path(), url);
}
