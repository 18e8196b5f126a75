//! User partitions on two Postgres servers: each user's orders are on one of them, and together they
//! have all orders.

use crate::support::load::{Load, assert_kept};
use crate::support::postgres::{Postgres, assert_records_agree, await_caught_up};
use crate::support::{self, Server};

#[test]
fn each_user_is_on_one_server_and_one_waits_for_nobody() {
    let data = tempfile::tempdir().unwrap();
    let first = Postgres::start();
    let mut second = Postgres::start();
    let databases = [first.database(), second.database()];
    let [low, high] = [&databases[0], &databases[1]];
    let ranges = format!("0-31={},32-63={}", low.url, high.url);
    let server = Server::start(data.path(), &["--postgres", &ranges, "--migrate"]);
    let load = Load::start(&server, data.path(), 8);
    load.await_more(60);

    // With one down, the other continues.
    second.kill();
    let before = low.number("SELECT count(*) FROM orders");
    load.await_more(60);
    support::api::until("the other to go on", || {
        (low.number("SELECT count(*) FROM orders") > before).then_some(())
    });
    second.start_again();
    let ids = load.end();
    await_caught_up(&server, data.path(), &ranges);
    assert_kept(&[low, high], &ids);
    for (database, range) in [(low, "0 AND 31"), (high, "32 AND 63")] {
        let strangers = |table| {
            database.number(&format!(
                "SELECT count(*) FROM {table} WHERE user_partition NOT BETWEEN {range}"
            ))
        };
        for table in ["orders", "executions", "order_events", "projection"] {
            assert_eq!(strangers(table), 0, "{table} of {range}");
        }
        assert!(database.number("SELECT count(*) FROM orders") > 0, "some users in {range}");
        assert_eq!(database.number("SELECT count(*) FROM projection WHERE is_current"), 32);
    }
    assert_records_agree(server, data.path(), &ranges);
}
