//! What a member of a cluster reads from Postgres is what its clients were told of the same orders.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::Server;
use crate::support::api::{Client, until};
use crate::support::postgres::{Database, Postgres};
use futures_lite::future::block_on;
use longbow::order::{Order, PageRequest};
use longbow::projection::{PostgresReadError, PostgresReads, PostgresServers};
use longbow::types::{ClientOrderId, ExternalOrderId, OrderId, TimestampMicros, UserId};
use serde_json::{Value, json};

/// Some open, most ended.
const ORDERS: usize = 9;

/// Readers of a database, and the thread that serves them; it ends with the last reader.
fn reads(database: &Database) -> (PostgresReads, std::thread::JoinHandle<()>) {
    let servers: PostgresServers = database.url.parse().unwrap();
    let (reads, reader) = PostgresReads::new(servers.of_nodes());
    (reads, std::thread::spawn(move || reader.run().unwrap()))
}

fn json_of(order: &Order) -> Value {
    serde_json::to_value(order).unwrap()
}

fn id_of(order: &Value) -> OrderId {
    order["orderId"].as_str().unwrap().parse().unwrap()
}

/// Orders of which every third rests, the others are cancelled or filled. Newest first.
fn place(client: &Client) -> Vec<Value> {
    for number in 0..ORDERS {
        let (price, cancels) =
            if number % 3 == 2 { (Value::Null, false) } else { (json!(1), number % 3 == 0) };
        let mut order = json!({"position": "buy", "symbol": "IBM", "numShares": 7,
            "clientOrderId": format!("key-{number}")});
        if !price.is_null() {
            order["priceInCents"] = price;
        }
        let placed = client.post("/order", &order);
        assert!(matches!(placed.status, 200..=202), "{}", placed.text);
        let id = placed.body["orderId"].as_str().unwrap();
        if cancels {
            client.delete(&format!("/order/{id}"));
            client.await_status(id, "cancelled");
        } else if number % 3 == 2 {
            client.await_status(id, "filled");
        }
    }
    client.all_orders()
}

#[test]
fn postgres_has_the_orders_that_clients_are_shown() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let settings = ["--postgres", &database.url, "--migrate", "--commit", "postgres"];
    let server = Server::start(data.path(), &settings);
    let client = server.user(data.path(), "alice");
    until("the symbols", || (client.get("/symbol/IBM").status == 200).then_some(()));
    let begin = TimestampMicros::new(0);
    let orders = place(&client);
    let (reads, reader) = reads(&database);
    let (alice, bob) = (UserId::new("alice").unwrap(), UserId::new("bob").unwrap());

    for order in &orders {
        let id = id_of(order);
        let read = block_on(reads.order(&alice, id)).unwrap();
        let tracked = read.found.unwrap();
        assert_eq!(&json_of(tracked.order()), order);
        let is_filled = order["filledShares"].as_u64().unwrap() > 0;
        assert_eq!(tracked.executions().iter().count() > 0, is_filled, "{order}");
        let place = read.position.unwrap();
        assert!(place.lsn.0 > 0);
        assert_eq!(block_on(reads.order(&bob, id)).unwrap().found.map(|_| ()), None);

        let by_id = block_on(reads.by_order_id(id)).unwrap().found.unwrap();
        assert_eq!(&json_of(by_id.order()), order);
        assert_eq!(by_id.executions().iter().count(), tracked.executions().iter().count());
        let external = ExternalOrderId::new(order["externalOrderId"].as_str().unwrap()).unwrap();
        let by_external = block_on(reads.by_external_id(&external)).unwrap();
        assert_eq!(by_external.position.unwrap().log_id, place.log_id);
        assert_eq!(&json_of(by_external.found.unwrap().order()), order);
        let key = ClientOrderId::new(order["clientOrderId"].as_str().unwrap()).unwrap();
        assert_eq!(&json_of(&block_on(reads.by_key(&alice, &key)).unwrap().found.unwrap()), order);
        let other = block_on(reads.by_key(&bob, &key)).unwrap();
        assert!(other.found.is_none() && other.position.is_some(), "the key is alice's");
    }

    let is_open = |order: &&Value| order["status"] == "submitted";
    let ended: Vec<&Value> = orders.iter().filter(|order| !is_open(order)).collect();
    assert_eq!(ended.len(), ORDERS - ORDERS / 3);
    for most in [1, 2, 4, 100] {
        let (mut pages, mut before) = (Vec::new(), None);
        loop {
            let request = PageRequest { after: before, limit: most, ..PageRequest::default() };
            let page = block_on(reads.ended(&alice, &request)).unwrap().found;
            assert!(page.orders.len() <= most);
            pages.extend(page.orders.iter().map(|order| json_of(order)));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(pages.iter().collect::<Vec<_>>(), ended, "pages of {most}");
    }

    let changed = |since: TimestampMicros, most: usize| {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = block_on(reads.changed_since(&alice, since, after, most)).unwrap().found;
            all.extend(page.orders.iter().map(|order| json_of(order)));
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    };
    let oldest_first: Vec<Value> = orders.iter().rev().cloned().collect();
    for most in [1, 4, 100] {
        assert_eq!(changed(begin, most), oldest_first);
    }
    let updated_at = |order: &Value| order["updatedAt"].as_u64().unwrap();
    let since = updated_at(&oldest_first[ORDERS / 2]);
    let expected: Vec<Value> =
        oldest_first.into_iter().filter(|order| updated_at(order) >= since).collect();
    assert_eq!(changed(TimestampMicros::new(since), 2), expected, "at that time and later");

    // A row that another program broke is an error of its order alone.
    let broken = orders.iter().find(|order| order["status"] == "cancelled").unwrap();
    let broken = id_of(broken);
    database.sql(&format!(
        "ALTER TABLE orders DROP CONSTRAINT terms_are_valid; \
         UPDATE orders SET symbol = '' WHERE order_id = '{broken}'"
    ));
    let unreadable = Err(PostgresReadError::Unreadable(broken));
    assert_eq!(block_on(reads.order(&alice, broken)).map(|_| ()), unreadable);
    let readable =
        block_on(reads.ended(&alice, &PageRequest { limit: 100, ..PageRequest::default() }));
    let readable = readable.unwrap().found;
    assert_eq!((readable.orders.len(), readable.next), (ended.len() - 1, None));

    // Without Postgres every question is answered, and afterwards it is read again.
    postgres.kill();
    let answer = block_on(reads.order(&alice, id_of(&orders[0])));
    assert_eq!(answer.map(|_| ()), Err(PostgresReadError::Unavailable));
    postgres.start_again();
    until("Postgres to be read again", || block_on(reads.order(&alice, id_of(&orders[0]))).ok());
    drop(reads);
    reader.join().unwrap();
}
