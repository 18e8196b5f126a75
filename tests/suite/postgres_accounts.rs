//! Accounts in Postgres: they follow orders in cash mode through lost answers and kills, exactly once.

use crate::support::Server;
use crate::support::money::{CASH, assert_books, fill};
use crate::support::postgres::{Postgres, assert_records_agree, await_caught_up};
use crate::support::postgres_relay::{Cut, PostgresRelay};
use serde_json::json;

#[test]
fn money_is_there_once_whatever_is_killed() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let relay = PostgresRelay::start(&postgres.address());
    let url = database.url.replace(&postgres.address(), &relay.address);
    let settings = [&CASH[..], &["--postgres", &url, "--migrate", "--speed", "20"]].concat();
    let server = Server::start(data.path(), &settings);
    server.program.await_error("Postgres follows the log");
    let alice = server.user(data.path(), "alice");
    fill(&alice, "buy", 3);
    let resting = alice.place_resting("IBM");
    for cut in [Cut::BeforeAnswer, Cut::BeforeCommit] {
        let trader = server.user(data.path(), "bob");
        let trading = std::thread::spawn(move || fill(&trader, "buy", 5));
        relay.cut_next(cut);
        trading.join().unwrap();
        server.program.await_error("Postgres follows the log");
    }
    fill(&alice, "sell", 2);
    await_caught_up(&server, data.path(), &database.url);
    let users = ["alice", "bob"];
    assert_books(&server, data.path(), &database, &users);
    let entries = "SELECT kind, count(*) FROM ledger_entries WHERE user_id = 'alice' \
        AND kind <> 'execution' GROUP BY 1";
    assert_eq!(database.rows(entries), [json!({"kind": "opening", "count": 1})]);
    let executions = "SELECT count(*) FROM ledger_entries WHERE kind = 'execution'";
    assert_eq!(
        database.number(executions),
        database.number("SELECT count(*) FROM executions"),
        "one row an execution, none for what is reserved"
    );
    let held = "SELECT count(*) FROM orders WHERE is_open AND reserves = 'cash' \
        AND reserved_price_cents = limit_price_cents";
    assert!(database.number(held) >= 1);

    postgres.kill();
    fill(&alice, "buy", 7);
    server.program.kill();
    postgres.start_again();
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    fill(&alice, "sell", 8);
    let id = resting["orderId"].as_str().unwrap();
    assert_eq!(alice.delete(&format!("/order/{id}")).status, 200);
    await_caught_up(&server, data.path(), &database.url);
    assert_books(&server, data.path(), &database, &users);
    for change in ["UPDATE ledger_entries SET cash_cents = 0", "TRUNCATE ledger_entries"] {
        let refused = database.try_sql(change).unwrap_err();
        let refused = refused.as_db_error().unwrap().message().to_owned();
        assert!(refused.contains("append-only"), "{refused}");
    }
    assert_records_agree(server, data.path(), &database.url);
}
