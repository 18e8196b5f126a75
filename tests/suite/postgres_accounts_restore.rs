//! `longbow restore` brings accounts back with their orders, if each reserves what its orders do.

use crate::offline::{assert_agree, command, succeed};
use crate::support::Server;
use crate::support::money::{CASH, assert_books, fill};
use crate::support::postgres::{Postgres, await_caught_up};

#[test]
fn accounts_come_back_with_their_orders() {
    let (data, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let settings = [&CASH[..], &["--postgres", url, "--migrate", "--speed", "20"]].concat();
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    fill(&alice, "buy", 9);
    fill(&alice, "sell", 4);
    alice.place_resting("IBM");
    await_caught_up(&server, data.path(), url);
    let shown = alice.get("/account").body;
    server.program.kill();

    // What is reserved is what open orders hold.
    database.sql("UPDATE accounts SET reserved_cents = reserved_cents + 1 WHERE user_id = 'alice'");
    let target = fresh.path().join("data");
    let refused = command("restore", &target, Some(url));
    assert!(refused.code != 0 && refused.errors.contains("alice"), "{refused:?}");
    database.sql("UPDATE accounts SET reserved_cents = reserved_cents - 1 WHERE user_id = 'alice'");
    succeed("restore", &target, url);
    assert_agree(&target, url);
    let server = Server::start(&target, &settings);
    let alice = server.user(&target, "alice");
    let again = alice.get("/account").body;
    for field in ["cashInCents", "reservedCashInCents", "costInCents", "version"] {
        assert_eq!(again[field], shown[field], "{field}");
    }
    fill(&alice, "sell", 5);
    await_caught_up(&server, &target, url);
    assert_books(&server, &target, &database, &["alice"]);
    assert!(server.program.stop().success());
    assert_agree(&target, url);
}
