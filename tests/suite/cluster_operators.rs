//! Operators of several nodes: what is halted or cancelled through one node is so on all of them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use ureq::http::Request;

use crate::support::Server;
use crate::support::api::{self, Answer, Client, until};
use crate::support::cluster::Cluster;
use crate::support::world;

fn operate(server: &Server, method: &str, path: &str, body: &Value) -> Answer {
    ask(&server.admin, method, path, body)
}

fn ask(admin: &str, method: &str, path: &str, body: &Value) -> Answer {
    let request = Request::builder().method(method).uri(format!("{admin}{path}"));
    let request = request.body(body.to_string().into_bytes()).unwrap();
    api::send(request).unwrap()
}

fn set(server: &Server, body: &Value) -> Answer {
    let answer = operate(server, "PUT", "/kill-switch", body);
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

fn shown(server: &Server) -> Value {
    let answer = operate(server, "GET", "/kill-switch", &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

/// Waits until every member that runs shows the same, of which this is so.
fn await_everywhere(cluster: &Cluster, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    until(what, || {
        let all: Vec<Value> = cluster.running().map(shown).collect();
        (all.windows(2).all(|two| two[0] == two[1]) && is_so(&all[0])).then(|| all[0].clone())
    })
}

/// Holds the row of the kill switch until two want to change it.
const HELD_UNTIL_TWO_WAIT: &str = "\
    BEGIN; SELECT version FROM kill_switch FOR UPDATE; \
    DO $$ BEGIN \
        WHILE (SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
            AND query LIKE '%INTO kill_switch%' AND pid <> pg_backend_pid()) < 2 \
        LOOP PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot(); END LOOP; \
    END $$; COMMIT";
const IS_HELD: &str = "\
    SELECT count(*) FROM pg_locks \
    WHERE relation = 'kill_switch'::regclass AND mode = 'RowShareLock' AND granted";

/// A user of each member, by its number.
fn user_of_each(cluster: &Cluster) -> BTreeMap<u64, String> {
    let mut users = BTreeMap::new();
    for user in (0..).map(|number| format!("user-{number}")) {
        let client = &cluster.clients(&user)[0];
        let answer = client.get("/orders?limit=1");
        let node = answer.headers["x-longbow-node"].to_str().unwrap().parse().unwrap();
        users.entry(node).or_insert(user);
        if users.len() == cluster.running().count() {
            break;
        }
    }
    users
}

fn order(symbol: &str) -> Value {
    json!({"position": "buy", "symbol": symbol, "numShares": 1, "priceInCents": 1})
}

/// Waits until an order is answered so through every member, by every one of these users.
fn await_orders(
    cluster: &Cluster,
    users: &BTreeMap<u64, String>,
    what: &str,
    is_so: fn(&Answer) -> bool,
) {
    for user in users.values() {
        for client in cluster.clients(user) {
            until(what, || is_so(&client.post("/order", &order("IBM"))).then_some(()));
        }
    }
}

fn is_halted(answer: &Answer) -> bool {
    answer.status == 403 && answer.body["code"] == "trading_halted"
}

#[test]
fn what_is_halted_through_one_node_is_halted_on_all() {
    let mut cluster = Cluster::start(&[]);
    let users = user_of_each(&cluster);
    let change = json!({"all": true, "by": "carol", "reason": "odd prices"});
    let halted = set(cluster.member(0), &change);
    assert_eq!(halted.body["durable"], true, "{}", halted.text);
    await_orders(&cluster, &users, "orders to be refused", is_halted);
    let same = await_everywhere(&cluster, "the halt to be shown", |shown| shown["all"] == true);
    assert_eq!(same, halted.body, "with who and why, and when");

    set(cluster.member(1), &json!({"all": false, "by": "dave"}));
    await_orders(&cluster, &users, "orders to be taken", |answer| answer.status < 300);

    // Each has read what there was before the other's change.
    let database = cluster.database.clone();
    let holding = std::thread::spawn(move || database.sql(HELD_UNTIL_TWO_WAIT));
    cluster.database.await_number(IS_HELD, 1);
    let changes = [
        (0, json!({"users": ["bob"], "by": "carol"})),
        (2, json!({"symbols": ["IBM"], "by": "erin"})),
    ];
    let at_once = changes.map(|(member, change)| {
        let admin = cluster.member(member).admin.clone();
        std::thread::spawn(move || ask(&admin, "PUT", "/kill-switch", &change))
    });
    for done in at_once.map(|thread| thread.join().unwrap()) {
        assert_eq!(done.status, 200, "{}", done.text);
    }
    holding.join().unwrap();
    let both =
        |shown: &Value| shown["users"] == json!(["bob"]) && shown["symbols"] == json!(["IBM"]);
    let halts = await_everywhere(&cluster, "both changes to hold", both);
    assert_eq!(halts["lastChanges"]["users"]["by"], "carol");
    assert_eq!(halts["lastChanges"]["symbols"]["by"], "erin");
    assert_eq!(halts["lastChanges"]["all"]["by"], "dave");

    cluster.kill(1);
    cluster.await_even_shares();
    await_orders(&cluster, &users, "orders to be refused by the others", is_halted);
    cluster.start_member(1);
    assert!(both(&shown(cluster.member(1))), "from its start on");
    cluster.await_even_shares();
    for user in users.values() {
        for client in cluster.clients(user) {
            let answer = client.post("/order", &order("IBM"));
            assert!(is_halted(&answer), "{}", answer.text);
        }
    }
    assert_eq!(cluster.database.number("SELECT count(*) FROM kill_switch"), 1);
}

#[test]
fn what_is_halted_while_postgres_is_away_is_in_force_here_and_later_on_all() {
    let mut cluster = Cluster::start(&[]);
    set(cluster.member(2), &json!({"symbols": ["SPY"]}));
    cluster.postgres.stop();
    let change = json!({"users": ["bob"], "by": "carol"});
    let told = set(cluster.member(0), &change);
    assert_eq!((&told.body["durable"], &told.body["users"]), (&json!(false), &json!(["bob"])));
    let warning = told.body["warning"].as_str().unwrap();
    assert!(warning.contains("other nodes have not heard"), "{warning}");
    assert_eq!(shown(cluster.member(0))["durable"], false);
    assert_eq!(shown(cluster.member(1))["users"], json!([]));
    cluster.postgres.start_again();
    let halts = await_everywhere(&cluster, "the others to hear of it", |shown| {
        shown["users"] == json!(["bob"]) && shown["durable"] == true
    });
    assert_eq!((&halts["symbols"], &halts["by"]), (&json!(["SPY"]), &json!("carol")));

    // As if it had been alone, and halted, before it became a member.
    let file = cluster.data(1).join("kill-switch.json");
    cluster.kill(1);
    let alone =
        r#"{"all":false,"users":["eve"],"symbols":[],"by":"dave","reason":null,"changedAt":7}"#;
    std::fs::write(&file, alone).unwrap();
    cluster.start_member(1);
    let halts = await_everywhere(&cluster, "what it had halted to be added", |shown| {
        shown["users"] == json!(["bob", "eve"])
    });
    assert_eq!((&halts["symbols"], &halts["by"]), (&json!(["SPY"]), &json!("carol")));
    until("the file to be gone", || (!file.exists()).then_some(()));
}

/// A resting order of each of these users.
fn place_resting(cluster: &Cluster, users: &BTreeMap<u64, String>) -> BTreeMap<u64, String> {
    let place = |(node, user): (&u64, &String)| {
        let order = cluster.clients(user)[0].place_resting("IBM");
        (*node, world::id(&order).to_owned())
    };
    users.iter().map(place).collect()
}

#[test]
fn a_mass_cancel_reaches_the_orders_of_all_nodes_and_names_a_node_that_does_not_answer() {
    let cluster = Cluster::start(&[]);
    let users = user_of_each(&cluster);
    let nodes: BTreeSet<u64> = users.keys().copied().collect();
    assert_eq!(nodes, [0, 1, 2].into());
    let client = |node: u64| -> Client { cluster.clients(&users[&node]).remove(0) };
    let mass = |body: Value| operate(cluster.member(0), "POST", "/mass-cancel", &body);

    let orders = place_resting(&cluster, &users);
    let of_one = mass(json!({"user": users[&1], "by": "carol"}));
    assert_eq!((of_one.status, &of_one.body), (202, &json!({"asked": 1})), "{}", of_one.text);
    client(1).await_status(&orders[&1], "cancelled");
    let of_all = mass(json!({"all": true, "by": "carol"}));
    assert_eq!((of_all.status, &of_all.body), (202, &json!({"asked": 2})), "{}", of_all.text);
    for (node, id) in &orders {
        client(*node).await_status(id, "cancelled");
    }

    let orders = place_resting(&cluster, &users);
    // It may still run, as far as Postgres knows, so nobody takes its users over.
    let lease = |until: &str| {
        let sql =
            format!("UPDATE nodes SET lease_until = now() + interval '{until}' WHERE node_id = 2");
        cluster.database.sql(&sql);
    };
    let frozen = &cluster.member(2).program;
    frozen.freeze();
    lease("1 hour");
    let partly = mass(json!({"symbol": "IBM"}));
    assert_eq!((partly.status, &partly.body["code"]), (503, &json!("partly_cancelled")));
    assert_eq!((&partly.body["asked"], &partly.body["nodes"]), (&json!(2), &json!([2])));
    let detail = partly.body["detail"].as_str().unwrap();
    assert!(detail.contains("node 2") && !detail.contains(" 0 s"), "{}", partly.text);
    for node in [0, 1] {
        client(node).await_status(&orders[&node], "cancelled");
    }
    lease("0");
    let rest = mass(json!({"symbol": "IBM"}));
    assert_eq!((rest.status, &rest.body), (202, &json!({"asked": 1})), "{}", rest.text);
    client(2).await_status(&orders[&2], "cancelled");
}

#[test]
fn an_operator_closes_an_order_of_another_node() {
    let cluster = Cluster::start(&[]);
    let users = user_of_each(&cluster);
    let orders = place_resting(&cluster, &users);
    let act = json!({"by": "carol", "reason": "stuck"});
    for (node, order) in &orders {
        let close =
            |node| operate(cluster.member(node), "POST", &format!("/orders/{order}/close"), &act);
        let away = (usize::try_from(*node).unwrap() + 1) % 3;
        let closed = close(away);
        assert_eq!((closed.status, &closed.body["status"]), (200, &json!("cancelled")));
        let again = close(away);
        assert_eq!((again.status, &again.body["code"]), (409, &json!("order_has_ended")));
        let listed = operate(cluster.member(away), "GET", "/quarantine", &Value::Null);
        assert_eq!(listed.body, json!({"cases": [], "total": 0}), "{}", listed.text);
    }
}
