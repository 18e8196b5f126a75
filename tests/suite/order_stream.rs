//! `GET /orders/stream`: the open orders, then each change of each order, once and in order, despite
//! disconnects and restarts of the server.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::collections::HashMap;

use crate::support::events::{Event, EventStream};
use crate::support::{Server, api};
use serde_json::{Value, json};

const HOST: &str = "Host: test\r\n";

fn orders_of(address: &str, token: &str, last_id: Option<&str>) -> EventStream {
    let resume = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let request = format!(
        "GET /orders/stream HTTP/1.1\r\n{HOST}Authorization: Bearer {token}\r\n{resume}\r\n"
    );
    EventStream::send(address, &request)
}

/// Reads until an order has a status; tracks the last id, and checks that versions are consecutive.
#[derive(Default)]
struct Reader {
    versions: HashMap<String, u64>,
    last_id: Option<String>,
}

impl Reader {
    fn take(&mut self, event: &Event) {
        if event.id.is_some() {
            self.last_id.clone_from(&event.id);
        }
        if event.name != "order" {
            return;
        }
        let order = event.data["orderId"].as_str().unwrap_or_default().to_owned();
        let version = event.data["version"].as_u64().unwrap_or_default();
        if let Some(before) = self.versions.insert(order, version) {
            assert_eq!(version, before + 1, "each version once, in order: {event:?}");
        }
    }

    fn read_until(&mut self, stream: &mut EventStream, id: &str, status: &str) -> Value {
        let event = stream.await_event(status, |event| {
            self.take(event);
            event.data["orderId"] == id && event.data["status"] == status
        });
        event.data
    }
}

#[test]
fn every_change_is_told_once_through_cuts_and_kills() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path(), &[]);
    let mut alice = server.user(data.path(), "alice");
    api::until("the symbols", || (alice.get("/symbol/SPY").status == 200).then_some(()));
    let id = |order: &Value| order["orderId"].as_str().unwrap().to_owned();
    let first = id(&alice.place_resting("SPY"));

    let mut reader = Reader::default();
    let mut stream = orders_of(&server.address, &alice.token, None);
    let open = stream.next().unwrap();
    assert_eq!((open.name.as_str(), &open.data["heartbeatMs"]), ("open", &json!(15_000)));
    assert!(open.retry.is_some() && open.id.is_none(), "{open:?}");
    let opening = stream.next().unwrap();
    assert_eq!(opening.data, alice.get(&format!("/order/{first}")).body, "the order as it is");
    assert!(opening.id.is_some(), "the last of the open orders says how far they go: {opening:?}");
    reader.take(&opening);
    let second = id(&alice.place_resting("IBM"));
    reader.read_until(&mut stream, &second, "submitted");
    assert_eq!(reader.versions[&second], 2, "pending was told too");

    for round in 0..4 {
        // Disconnected: changes from now on are sent later.
        drop(stream);
        let order = id(&alice.place_resting("SPY"));
        if round % 2 == 1 {
            server.program.kill_in_place();
            server = Server::start(data.path(), &[]);
            alice = server.user(data.path(), "alice");
        }
        assert_eq!(alice.delete(&format!("/order/{order}")).status, 200);
        stream = orders_of(&server.address, &alice.token, reader.last_id.as_deref());
        reader.read_until(&mut stream, &order, "cancelled");
        assert_eq!(reader.versions[&order], 4, "all four, none of them merged");
    }
    assert_eq!(alice.delete(&format!("/order/{first}")).status, 200);
    reader.read_until(&mut stream, &first, "cancelled");
    // A user without open orders also gets an id to resume from.
    let carol = server.user(data.path(), "carol");
    let open = orders_of(&server.address, &carol.token, None).next().unwrap();
    let known = open.id.expect("an id without an order");
    let missed = id(&carol.place_resting("SPY"));
    assert_eq!(carol.delete(&format!("/order/{missed}")).status, 200);
    let mut resumed = orders_of(&server.address, &carol.token, Some(&known));
    let created = resumed.await_event("what was missed", |event| event.name == "order");
    assert_eq!(
        (&created.data["orderId"], &created.data["status"]),
        (&json!(missed), &json!("pending"))
    );

    // Nobody else's orders are in there.
    assert_eq!(reader.versions.len(), 6);
    let bob = server.user(data.path(), "bob");
    bob.place_resting("SPY");
    alice.place_resting("SPY");
    let next = stream.await_event("an order", |event| event.name == "order");
    assert_eq!(next.data["status"], "pending");
    assert!(!reader.versions.contains_key(next.data["orderId"].as_str().unwrap()));
    assert_eq!(alice.get(&format!("/order/{}", id(&next.data))).status, 200);

    for unknown in ["nonsense", "0000000000000001.5", "7-12"] {
        let mut stream = orders_of(&server.address, &alice.token, Some(unknown));
        let reset = stream.await_event("a reset", |event| event.name != "open");
        assert_eq!(reset.name, "reset", "{unknown}");
        let open = stream.await_event("an open order", |event| event.name == "order");
        assert_eq!(id(&open.data), second);
    }
}

#[test]
fn a_page_needs_one_stream_for_prices_and_orders() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--speed", "50"]);
    let alice = server.user(data.path(), "alice");
    api::until("a price", || alice.get("/symbol/SPY").body["priceInCents"].as_i64());
    let mut stream = EventStream::get(&server.address, &alice.token, "symbols=SPY&orders=1", "");
    stream.await_event("open", |event| event.name == "open");
    stream.await_price("SPY");
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 5, "priceInCents": 1});
    let placed = alice.post("/order", &order);
    assert_eq!(placed.status, 201, "{placed:?}");
    let told = stream.await_event("the order", |event| event.data["status"] == "submitted");
    assert_eq!(told.data["orderId"], placed.body["orderId"]);
    let both = stream.await_event("an id of both", |event| {
        event.name == "price" && event.id.as_ref().is_some_and(|id| !id.starts_with('/'))
    });
    let id = both.id.unwrap();
    assert!(id.contains('/') && id.contains('-'), "{id}");
    drop(stream);
    let cancel = format!("/order/{}", placed.body["orderId"].as_str().unwrap());
    assert_eq!(alice.delete(&cancel).status, 200);

    let header = format!("Last-Event-ID: {id}\r\n");
    let query = "symbols=SPY&orders=1";
    let mut resumed = EventStream::get(&server.address, &alice.token, query, &header);
    let mut seen = Vec::new();
    resumed.await_event("the cancel", |event| {
        assert_ne!(event.name, "reset");
        if event.name == "order" {
            seen.push(event.data["status"].as_str().unwrap().to_owned());
        }
        event.data["status"] == "cancelled"
    });
    assert_eq!(seen, ["pending_cancel", "cancelled"]);
    let refused = alice.get("/subscribe?symbols=SPY&orders=yes");
    assert_eq!((refused.status, refused.body["field"].as_str()), (400, Some("orders")));
}
