//! `GET /orders` selects by status, symbol, key and time, in either sequence, and its cursors hold to that.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::Server;
use crate::support::api::{Client, until};
use crate::support::cluster::Cluster;
use serde_json::{Value, json};

/// The rest is in the store, not in memory.
const SETTINGS: [&str; 4] = ["--keep-ended-seconds", "0", "--wal-keep-mib", "0"];

fn id(order: &Value) -> &str {
    order["orderId"].as_str().unwrap()
}

/// All pages of a list.
fn listed(client: &Client, query: &str, limit: usize) -> Vec<Value> {
    let (mut orders, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/orders?{query}&limit={limit}&cursor={cursor}"));
        assert_eq!(page.status, 200, "{query}: {}", page.text);
        let found = page.body["orders"].as_array().unwrap();
        assert!(found.len() <= limit, "{query}");
        orders.extend(found.iter().cloned());
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return orders,
        }
    }
}

/// Orders in three symbols, two of three cancelled; oldest first.
fn place(client: &Client) -> Vec<Value> {
    let mut orders = Vec::new();
    for number in 0..12 {
        let symbol = ["IBM", "SPY", "AIG"][number % 3];
        let body = json!({"position": "buy", "symbol": symbol, "numShares": 1, "priceInCents": 1,
                          "clientOrderId": format!("key-{number}")});
        let placed = client.post("/order", &body);
        assert_eq!(placed.status, 201, "{}", placed.text);
        let id = id(&placed.body).to_owned();
        if number % 4 < 2 {
            assert_eq!(client.delete(&format!("/order/{id}")).status, 200);
        }
        orders.push(client.order(&id));
    }
    orders
}

/// Every list has exactly the orders that it names, in its sequence.
fn check(client: &Client, orders: &[Value]) {
    let is = |field: &'static str, of: &'static [&'static str]| {
        move |order: &Value| of.contains(&order[field].as_str().unwrap())
    };
    let middle = orders[6]["createdAt"].as_u64().unwrap();
    let from = move |order: &Value| order["createdAt"].as_u64().unwrap() >= middle;
    type Wanted<'a> = Box<dyn Fn(&Value) -> bool + 'a>;
    let open = is("status", &["submitted"]);
    let ended = is("status", &["cancelled"]);
    let cases: Vec<(String, Wanted<'_>)> = vec![
        (String::new(), Box::new(|_: &Value| true)),
        ("status=open".into(), Box::new(open)),
        ("status=submitted,pending".into(), Box::new(open)),
        ("status=cancelled".into(), Box::new(ended)),
        ("status=cancelled&status=open".into(), Box::new(|_: &Value| true)),
        ("status=filled,failed".into(), Box::new(|_: &Value| false)),
        ("symbol=ibm".into(), Box::new(is("symbol", &["IBM"]))),
        ("symbol=IBM,aig".into(), Box::new(is("symbol", &["IBM", "AIG"]))),
        ("symbol=IBM&symbol=SPY".into(), Box::new(is("symbol", &["IBM", "SPY"]))),
        (
            "symbol=IBM,SPY&status=cancelled".into(),
            Box::new(|order: &Value| is("symbol", &["IBM", "SPY"])(order) && ended(order)),
        ),
        (format!("from={middle}"), Box::new(from)),
        (format!("to={middle}"), Box::new(move |order: &Value| !from(order))),
        (
            format!("from={middle}&status=cancelled"),
            Box::new(move |order: &Value| from(order) && ended(order)),
        ),
        ("to=1970-01-01T00:00:00Z".into(), Box::new(|_: &Value| false)),
        (
            "from=1970-01-01T00:00:00Z&to=9999-01-01T00:00:00%2B02:00".into(),
            Box::new(|_: &Value| true),
        ),
    ];
    for (query, wanted) in &cases {
        let expected: Vec<Value> = orders.iter().filter(|order| wanted(order)).cloned().collect();
        let newest_first: Vec<Value> = expected.iter().rev().cloned().collect();
        for limit in [1, 5, 500] {
            assert_eq!(listed(client, query, limit), newest_first, "{query} by {limit}");
            let ascending = format!("{query}&order=asc");
            assert_eq!(listed(client, &ascending, limit), expected, "{ascending} by {limit}");
        }
    }
    for (number, order) in orders.iter().enumerate() {
        let found = listed(client, &format!("clientOrderId=key-{number}"), 50);
        assert_eq!(found, std::slice::from_ref(order));
        let query = format!("clientOrderId=key-{number}&status=open");
        assert_eq!(listed(client, &query, 50).len(), usize::from(open(order)));
    }
    assert!(listed(client, "clientOrderId=key", 50).is_empty());
}

#[test]
fn a_list_has_what_its_parameters_name() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &SETTINGS);
    let alice = server.user(data.path(), "alice");
    let orders = place(&alice);
    // In memory, and once ended orders have left it.
    check(&alice, &orders);
    until("ended orders to leave memory", || {
        (server.metric("orders_ended_in_memory") == 0).then_some(())
    });
    check(&alice, &orders);
    assert!(listed(&server.user(data.path(), "bob"), "clientOrderId=key-1", 50).is_empty());

    // A key is found as soon as its order is answered.
    for number in 0..80 {
        let key = format!("burst-{number}");
        let body = json!({"position": "buy", "symbol": "IBM", "numShares": 1, "priceInCents": 1,
                          "clientOrderId": key});
        let placed = alice.post("/order", &body);
        assert!(matches!(placed.status, 201 | 202), "{}", placed.text);
        let found = listed(&alice, &format!("clientOrderId={key}"), 50);
        assert_eq!(found[0]["orderId"], placed.body["orderId"]);
    }
}

#[test]
fn a_cursor_belongs_to_its_list_and_new_orders_do_not_shift_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    let mut orders = place(&alice);
    let page = |query: &str| {
        let page = alice.get(&format!("/orders?{query}"));
        assert_eq!(page.status, 200, "{query}: {}", page.text);
        page.body
    };
    let first = page("symbol=IBM,SPY&limit=2");
    let cursor = first["nextCursor"].as_str().unwrap();
    let upwards = page("order=asc&limit=11");
    orders.push(alice.place_resting("IBM"));
    // The same list, written another way, by another limit.
    let rest = page(&format!("limit=500&symbol=spy&symbol=IBM&cursor={cursor}"));
    let older: Vec<Value> = orders[..12]
        .iter()
        .rev()
        .filter(|order| order["symbol"] != "AIG")
        .skip(2)
        .cloned()
        .collect();
    assert_eq!(rest["orders"], json!(older));
    let next = upwards["nextCursor"].as_str().unwrap();
    let newer = page(&format!("order=asc&cursor={next}"));
    assert_eq!(newer["orders"], json!(orders[11..]), "new orders come at the end");

    let plain = page("limit=1")["nextCursor"].as_str().unwrap().to_owned();
    for query in [
        format!("cursor={cursor}"),
        format!("symbol=IBM&cursor={cursor}"),
        format!("symbol=IBM,SPY&status=open&cursor={cursor}"),
        format!("symbol=IBM,SPY&order=asc&cursor={cursor}"),
        format!("cursor={next}"),
        format!("status=open&cursor={plain}"),
        "cursor=1".to_owned(),
    ] {
        let refused = alice.get(&format!("/orders?{query}"));
        assert_eq!((refused.status, &refused.body["field"]), (400, &json!("cursor")), "{query}");
    }
}

#[test]
fn bad_values_are_named_with_what_is_allowed() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    let many: Vec<String> = (0..51).map(|number| format!("S{number}")).collect();
    for (query, field, said) in [
        ("status=done", "status", "\"done\" is not open (all that are not final), pending"),
        ("status=open,", "status", "\"\" is not open"),
        ("status=open&status=7", "status", "\"7\""),
        ("symbol=IBM,s%20py", "symbol", "\"s py\""),
        (&*format!("symbol={}", many.join(",")), "symbol", "More than 50"),
        ("order=up", "order", "\"up\" is not \"desc\" (newest first) or \"asc\""),
        ("order=asc&order=desc", "order", "more than once"),
        ("clientOrderId=a%20b", "clientOrderId", "\"a b\" is not an id of 1 to 64"),
        ("from=yesterday", "from", "\"yesterday\" is not a time as in RFC 3339"),
        ("from=1732400000", "from", "microseconds since 1970 (16 digits)"),
        ("to=2024-01-01T00:00:00+02:00", "to", "written as %2B"),
        ("from=2024-01-01T00:00:00Z&to=2024-01-01T00:00:00Z", "to", "later than `from`"),
        ("form=1", "form", "status, symbol, clientOrderId, from, to, order, limit, cursor"),
    ] {
        let refused = alice.get(&format!("/orders?{query}"));
        assert_eq!((refused.status, &refused.body["field"]), (400, &json!(field)), "{query}");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains(said), "{query}: {detail}");
    }
}

#[test]
fn every_node_of_a_cluster_answers_the_same() {
    let cluster = Cluster::start(&[]);
    let clients = cluster.clients("alice");
    let orders = place(&clients[0]);
    for client in &clients {
        check(client, &orders);
    }
}
