//! A missing row, or one with an impossible version: only the users of its partition wait, and the
//! advice in the message works.

use crate::offline::{assert_agree, id, succeed};
use crate::support::api::until;
use crate::support::postgres::{Postgres, await_caught_up};
use crate::support::{self, Server};

#[test]
fn a_missing_row_holds_up_its_partition_alone() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let settings = ["--postgres", url, "--migrate"];
    let server = Server::start(data.path(), &settings);
    let orders: Vec<_> =
        (0..4).map(|_| server.user(data.path(), "alice").place_resting("IBM")).collect();
    await_caught_up(&server, data.path(), url);
    assert!(server.program.stop().success());
    database.sql(
        "CREATE TABLE aside AS SELECT * FROM orders WHERE user_id = 'alice'; \
         DELETE FROM orders WHERE user_id = 'alice'",
    );
    let cancelled = |order: &str| {
        format!("SELECT count(*) FROM orders WHERE order_id = '{order}' AND status = 'cancelled'")
    };

    let server = Server::start(data.path(), &settings);
    let (alice, bob) = (server.user(data.path(), "alice"), server.user(data.path(), "bob"));
    assert_eq!(alice.delete(&format!("/order/{}", id(&orders[0]))).status, 200);
    let line = server.program.await_error("the users of one partition");
    for part in [id(&orders[0]), "does not have", "longbow backfill", "other partitions"] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
    for orders in 1..=3 {
        bob.place_resting("SPY");
        database.await_number("SELECT count(*) FROM orders WHERE user_id = 'bob'", orders);
    }
    assert_eq!(server.metric("projection_held_partitions"), 1);
    assert_eq!(server.metric("projection_stopped"), 0);
    // It resumes by itself once the row is back, and has skipped nothing.
    let columns = database.columns("orders");
    database.sql(&format!("INSERT INTO orders ({columns}) SELECT {columns} FROM aside"));
    database.await_number(&cancelled(id(&orders[0])), 1);
    until("nobody to wait", || (server.metric("projection_held_partitions") == 0).then_some(()));
    await_caught_up(&server, data.path(), url);
    assert!(server.program.stop().success());
    assert_agree(data.path(), url);

    // The advice works for a lost row and for a changed one.
    for (tamper, order, why) in [
        ("DELETE FROM orders", &orders[1], "does not have"),
        ("UPDATE orders SET version = 100", &orders[2], "version is 100"),
    ] {
        let order = id(order);
        database.sql(&format!("{tamper} WHERE order_id = '{order}'"));
        let server = Server::start(data.path(), &settings);
        let alice = server.user(data.path(), "alice");
        server.program.await_error("Postgres follows the log");
        assert_eq!(alice.delete(&format!("/order/{order}")).status, 200);
        let line = server.program.await_error("longbow backfill");
        assert!(line.contains(order) && line.contains(why), "{line}");
        assert!(server.program.stop().success());
        succeed("backfill", data.path(), url);
        assert_eq!(database.number(&cancelled(order)), 1);
    }
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    assert_eq!(alice.delete(&format!("/order/{}", id(&orders[3]))).status, 200);
    database.await_number(&cancelled(id(&orders[3])), 1);
    support::postgres::assert_records_agree(server, data.path(), url);
}

#[test]
fn a_row_of_a_version_to_come_holds_its_partition_until_it_is_put_right() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let settings = ["--postgres", url, "--migrate"];
    let server = Server::start(data.path(), &settings);
    let order = server.user(data.path(), "alice").place_resting("IBM");
    let order = id(&order);
    await_caught_up(&server, data.path(), url);
    assert!(server.program.stop().success());
    let set = |version: u64| {
        database.sql(&format!("UPDATE orders SET version = {version} WHERE order_id = '{order}'"));
    };
    set(100);

    let server = Server::start(data.path(), &settings);
    let (alice, bob) = (server.user(data.path(), "alice"), server.user(data.path(), "bob"));
    server.program.await_error("Postgres follows the log");
    assert_eq!(alice.delete(&format!("/order/{order}")).status, 200);
    let line = server.program.await_error("the users of one partition");
    assert!(line.contains("version is 100"), "{line}");
    let connects = || server.metric("projection_connects_total");
    bob.place_resting("SPY");
    database.await_number("SELECT count(*) FROM orders WHERE user_id = 'bob'", 1);
    let before = connects();
    // The row is read again and again. Reading the table's id was one more.
    let table = format!("SELECT tableoid::bigint FROM orders WHERE order_id = '{order}'");
    let scans = format!(
        "SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relid = {}",
        database.number(&table)
    );
    let looks = || database.number(&scans);
    let looked = looks();
    until("two more looks at the row", || (looks() >= looked + 3).then_some(()));
    assert_eq!(server.metric("projection_held_partitions"), 1);
    assert_eq!(connects(), before, "it is not tried before the row is put right");
    bob.place_resting("SPY");
    database.await_number("SELECT count(*) FROM orders WHERE user_id = 'bob'", 2);

    set(2);
    let cancelled =
        format!("SELECT count(*) FROM orders WHERE order_id = '{order}' AND status = 'cancelled'");
    database.await_number(&cancelled, 1);
    until("nobody to wait", || (server.metric("projection_held_partitions") == 0).then_some(()));
    support::postgres::assert_records_agree(server, data.path(), url);
}
