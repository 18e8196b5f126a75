//! Accounts of a deployment of before: a server alone makes them from its orders, and the migration makes
//! the same where nodes share the users. Nodes of before are fenced off.

use crate::support::Server;
use crate::support::money::{assert_balanced, assert_books, fill};
use crate::support::postgres::{Postgres, assert_records_agree, await_caught_up};

const POSITIONS: &str = "SELECT user_id, symbol, shares, cost_cents, profit_cents FROM positions \
    ORDER BY user_id, symbol";

#[test]
fn executions_of_before_become_positions_without_cash() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let settings = ["--postgres", &database.url, "--migrate", "--speed", "20"];
    let server = Server::start(data.path(), &settings);
    for user in ["alice", "bob"] {
        let user = server.user(data.path(), user);
        // One after the other, so that their ids have the order of the log; beyond zero, too.
        for (position, shares) in
            [("buy", 7), ("buy", 4), ("sell", 5), ("sell", 9), ("buy", 2), ("sell", 3), ("buy", 8)]
        {
            fill(&user, position, shares);
        }
    }
    await_caught_up(&server, data.path(), &database.url);
    assert_books(&server, data.path(), &database, &["alice", "bob"]);
    assert_records_agree(server, data.path(), &database.url);

    let before = database.rows(POSITIONS);
    assert_eq!(before.len(), 2);
    database.sql("UPDATE projection SET keeps_accounts = false WHERE is_current");
    database.sql("SELECT begin_accounts()");
    assert_eq!(database.rows(POSITIONS), before);
    let odd = "SELECT count(*) FROM accounts JOIN positions USING (user_id) \
        WHERE cash_cents <> 0 OR reserved_cents <> 0 \
            OR deposited_cents <> cost_cents - profit_cents OR accounts.version <> 7";
    assert_eq!(database.number(odd), 0);
    assert_balanced(&database);
    let kept = "SELECT count(*) FROM projection WHERE is_current AND keeps_accounts";
    assert_eq!(database.number(kept), 64);
    // Again it does nothing.
    database.sql("UPDATE positions SET shares = 99");
    database.sql("SELECT begin_accounts()");
    assert_eq!(database.number("SELECT min(shares) FROM positions"), 99);
}

#[test]
fn a_writer_of_before_is_fenced_off() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    await_caught_up(&server, data.path(), &database.url);
    let advance = "SELECT advance_projection(array_agg(user_partition), array_agg(lsn), max(epoch), \
        max(lsn) + 1{}) FROM projection WHERE is_current";
    assert!(database.try_sql(&advance.replace("{}", "")).is_err(), "it would write no money");
    assert!(server.program.stop().success());
    database.try_sql(&advance.replace("{}", ", false")).unwrap();
}
