//! What a take-over meets: orders with executions, commits that hang, a row that somebody has locked, an
//! order whose row cannot be read.

use crate::support::api;
use crate::support::cluster::{Cluster, ClusterClient, Traders, id_of};
use crate::support::money::assert_money_is_of_executions;
use serde_json::{Value, json};
use ureq::http::Method;

/// Longer than a lease.
const STALL: &str = "SELECT pg_sleep(4)";

#[test]
fn commits_that_hang_for_longer_than_a_lease_end_no_member_and_move_no_users() {
    let cluster = Cluster::start(&[]);
    let traders = Traders::begin(&cluster, 12);
    traders.await_progress();
    let taken = cluster.metric("node_partitions_taken_total");
    let database = cluster.postgres.database();
    // Commits wait for a replica that there is none of, while plain reads go on.
    database.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    database.sql("SELECT pg_reload_conf()");
    database.sql(STALL);
    database.sql("ALTER SYSTEM RESET synchronous_standby_names");
    database.sql("SELECT pg_reload_conf()");
    traders.await_progress();
    cluster.await_even_shares();
    assert_eq!(cluster.metric("node_partitions_taken_total"), taken, "every owner has come back");
    traders.end().check(&cluster);
}

#[test]
fn a_row_that_somebody_has_locked_holds_up_its_partition_alone() {
    let mut cluster = Cluster::start(&[]);
    cluster.await_even_shares();
    let database = cluster.postgres.database();
    let of_last = "SELECT user_partition FROM projection JOIN nodes USING (epoch) \
         WHERE is_current AND node_id = 2 ORDER BY user_partition LIMIT 1";
    let partition = database.number(of_last);
    // As a transaction of a host that was lost in its middle.
    let (hold, holder) = (
        format!(
            "BEGIN; SELECT FROM projection WHERE is_current AND user_partition = {partition} \
             FOR UPDATE; SELECT pg_sleep(60)"
        ),
        "FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
    );
    std::thread::scope(|scope| {
        let locked = scope.spawn(|| database.try_sql(&hold));
        database.await_number(&format!("SELECT count(*) {holder}"), 1);
        cluster.kill(2);
        api::until("all other users to be served", || {
            (cluster.metric("node_partitions") == 63).then_some(())
        });
        assert!(!locked.is_finished(), "it is locked still");
        database.sql(&format!("SELECT pg_terminate_backend(pid) {holder}"));
    });
    cluster.await_even_shares();
}

#[test]
fn an_order_whose_row_cannot_be_read_takes_no_other_with_it() {
    let mut cluster = Cluster::start(&[]);
    cluster.await_even_shares();
    let mut users: Vec<_> =
        (0..24).map(|number| cluster.client(&format!("user-{number}"))).collect();
    let mut orders = Vec::new();
    for user in &mut users {
        let [odd, plain] = ["odd", "plain"].map(|key| id_of(&user.place(key, Some(1))));
        orders.push((odd, plain));
    }
    let database = cluster.postgres.database();
    // Another program writes a word of a later version into the order of each user.
    for (odd, _) in &orders {
        database.sql(&format!(
            "UPDATE orders SET open_cases = '[\"of a version to come\"]' WHERE order_id = '{odd}'"
        ));
    }
    cluster.kill(1);
    cluster.await_even_shares();
    assert!(cluster.metric("node_unreadable_orders_total") > 0);
    for (user, (_, plain)) in users.iter_mut().zip(&orders) {
        let next = user.place("next", Some(1));
        assert!(matches!(next.status, 200..=202), "{}", next.text);
        let path = format!("/order/{plain}");
        let cancelled = user.send(&Method::DELETE, &path, &Value::Null);
        assert!(matches!(cancelled.status, 200 | 202), "{}", cancelled.text);
    }
}

#[test]
fn an_order_that_moves_while_it_trades_has_each_execution_once() {
    let mut cluster = Cluster::start(&[]);
    cluster.await_even_shares();
    let mut user = (0..)
        .map(|number| cluster.client(&format!("user-{number}")))
        .find_map(|mut user| {
            let answer = user.send(&Method::GET, "/orders", &Value::Null);
            (answer.headers["x-longbow-node"] == "0").then_some(user)
        })
        .expect("a user of the first member");
    // The prints of the tape have a few hundred shares each.
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 5_000_000});
    let id = id_of(&user.send(&Method::POST, "/order", &order));
    let path = format!("/order/{id}");
    let filled = |user: &mut ClusterClient| {
        let order = user.send(&Method::GET, &path, &Value::Null);
        order.body["filledShares"].as_u64().expect("a number")
    };
    let before =
        api::until("several executions", || Some(filled(&mut user)).filter(|n| *n > 2_000));
    cluster.kill(0);
    api::until("more of them", || (filled(&mut user) > before).then_some(()));
    let answer = user.send(&Method::DELETE, &path, &Value::Null);
    assert!(matches!(answer.status, 200 | 202), "{}", answer.text);
    api::until("the records to be the same", || {
        (filled(&mut user) == cluster.shares_at_exchange()[&id]).then_some(())
    });
    // Money has each execution once as well, and every member tells it.
    let database = cluster.postgres.database();
    assert_money_is_of_executions(&database);
    let order = user.send(&Method::GET, &path, &Value::Null).body;
    let told = "SELECT cash_cents, shares, cost_cents FROM accounts JOIN positions USING (user_id) \
        JOIN orders USING (user_id) WHERE order_id = '";
    let value = &order["filledValueInCents"];
    let expected = json!({
        "cash_cents": -value.as_i64().expect("a number"),
        "shares": order["filledShares"],
        "cost_cents": value,
    });
    assert_eq!(database.rows(&format!("{told}{id}'")), [expected]);
    let name = database.sql(&format!("SELECT user_id FROM orders WHERE order_id = '{id}'"));
    let name = name.concat().into_iter().flatten().next().expect("a user");
    for client in cluster.clients(&name) {
        let account = client.get("/account").body;
        assert_eq!(&account["costInCents"], value, "{account}");
        let position = client.get("/positions/SPY").body;
        assert_eq!(position["shares"], order["filledShares"], "{position}");
    }
}
