//! Requests to a member whose user another one has: passed on, and answered as if they had been made
//! there.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use http::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, Client, until};
use crate::support::cluster::Cluster;
use crate::support::events::{Event, EventStream};

/// The clients of a user whom this member has.
fn user_of(cluster: &Cluster, member: usize) -> Vec<Client> {
    let is_there = |clients: &Vec<Client>| {
        let answer = clients[0].get("/orders");
        assert_eq!(answer.status, 200, "{answer:?}");
        served_by(&answer) == member.to_string()
    };
    let mut users = (0..).map(|user| cluster.clients(&format!("user-{user}")));
    users.find(is_there).unwrap()
}

/// The number of the member that has given an answer.
fn served_by(answer: &Answer) -> String {
    answer.headers["x-longbow-node"].to_str().unwrap().to_owned()
}

fn order(client_order_id: &str) -> Value {
    json!({"position": "buy", "symbol": "SPY", "numShares": 10, "priceInCents": 1,
           "clientOrderId": client_order_id})
}

#[test]
fn every_member_takes_every_request_about_orders() {
    let cluster = Cluster::start(&[]);
    for member in 0..3 {
        let clients = user_of(&cluster, member);
        let mut ids = Vec::new();
        for (place, client) in clients.iter().enumerate() {
            let answer = client.post("/order", &order(&format!("mine-{place}")));
            assert_eq!(
                (answer.status, served_by(&answer)),
                (201, member.to_string()),
                "{answer:?}"
            );
            assert_eq!(answer.headers["content-type"], "application/json");
            ids.push(answer.body["orderId"].as_str().unwrap().to_owned());
        }
        let newest_first: Vec<Value> = ids.iter().rev().map(|id| json!(id)).collect();
        for client in &clients {
            let listed = client.all_orders();
            let listed: Vec<Value> = listed.iter().map(|order| order["orderId"].clone()).collect();
            assert_eq!(listed, newest_first);
            let again = client.post("/order", &order("mine-0"));
            assert_eq!((again.status, &again.body["orderId"]), (200, &json!(ids[0])));
            let other = json!({"position": "sell", "symbol": "SPY", "numShares": 1,
                               "clientOrderId": "mine-0"});
            let conflict = client.post("/order", &other);
            assert_eq!(conflict.status, 409);
            assert_eq!(conflict.headers["content-type"], "application/problem+json");
            assert_eq!(client.post("/order", &json!({"position": "buy"})).status, 400);
            assert_eq!(client.get("/orders?limit=x").body["field"], "limit");
            assert_eq!(client.get("/order/nonsense").status, 404);
            let head = client.send(Method::HEAD, "/orders", b"");
            let length = client.get("/orders").text.len().to_string();
            assert_eq!(head.headers["content-length"].to_str().unwrap(), length);
        }
        for (client, id) in clients.iter().zip(&ids) {
            assert_eq!(client.delete(&format!("/order/{id}")).status, 200);
        }
        assert!(clients.iter().all(|client| client.order(&ids[1])["status"] == "cancelled"));
    }
    for member in 0..3 {
        let member = cluster.member(member);
        assert!(member.metric("peer_passed_on_total") > 10);
        assert_eq!(member.metric("peer_refused_total") + member.metric("peer_unanswered_total"), 0);
    }
    let at_exchange = cluster.orders_at_exchange();
    assert_eq!(at_exchange.len(), 9);
    assert!(at_exchange.values().all(|count| *count == 1), "each order once: {at_exchange:?}");
}

#[test]
fn a_stream_is_changed_through_any_member() {
    let cluster = Cluster::start(&[]);
    let alice = cluster.clients("alice");
    let mut stream = EventStream::subscribe(&alice[1].address, &alice[1].token, &["SPY"]);
    let open = stream.await_event("open", |event| event.name == "open");
    let id = open.data["streamId"].as_str().unwrap();
    assert!(id.len() == 24 && id.starts_with("0001"), "{id}");
    let path = format!("/subscribe/{id}");
    let change = json!({"add": ["IBM"], "remove": ["SPY"]}).to_string();
    let answer = alice[2].send(Method::PATCH, &path, change.as_bytes());
    assert_eq!((answer.status, served_by(&answer)), (204, "1".to_owned()), "{answer:?}");
    stream.await_price("IBM");
    let answer = alice[0].send(Method::PATCH, &path, br#"{"add":["NOPE"]}"#);
    assert_eq!(answer.body["code"], "unknown_symbol");
    let bob = cluster.clients("bob");
    assert_eq!(bob[0].send(Method::PATCH, &path, change.as_bytes()).status, 404);
    for gone in [&path.replacen("0001", "0002", 1), &path.replacen("0001", "0007", 1)] {
        assert_eq!(alice[1].send(Method::PATCH, gone, change.as_bytes()).status, 404, "{gone}");
    }
}

fn open_stream(client: &Client, target: &str, more: &str) -> EventStream {
    let token = &client.token;
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
    );
    EventStream::send(&client.address, &request)
}

#[test]
fn order_streams_work_on_members_that_do_not_have_the_user() {
    let mut cluster = Cluster::start(&[]);
    let clients = user_of(&cluster, 0);
    let first = clients[0].place_resting("SPY");
    let mut stream = open_stream(&clients[1], "/orders/stream", "");
    assert!(stream.head.iter().any(|line| line == "X-Longbow-Node: 0"), "{:?}", stream.head);
    let is_of = |order: &Value| {
        let id = order["orderId"].clone();
        move |event: &Event| event.name == "order" && event.data["orderId"] == id
    };
    let event = stream.await_event("the open order", is_of(&first));
    let last_id = event.id.unwrap();
    let second = clients[1].place_resting("IBM");
    stream.await_event("the new order", is_of(&second));
    assert_eq!(cluster.member(1).metric("peer_relays"), 1);

    // A client that resumes on any member is sent what it lacks.
    let resume = format!("Last-Event-ID: {last_id}\r\n");
    for client in &clients {
        let mut resumed = open_stream(client, "/orders/stream", &resume);
        resumed.await_event("open", |event| event.name == "open");
        let next = resumed.next().unwrap();
        assert!(is_of(&second)(&next), "{next:?}");
    }
    // Prices and orders on one stream.
    let mut both = open_stream(&clients[2], "/subscribe?symbols=SPY&orders=1", "");
    both.await_event("the open order", is_of(&first));
    both.await_price("SPY");
    let head = clients[2].send(Method::HEAD, "/orders/stream", b"");
    assert_eq!((head.status, served_by(&head)), (200, "2".to_owned()));

    // It ends with a goodbye also where its member cannot say one any more.
    cluster.kill(0);
    let goodbye = stream.await_event("goodbye", |event| event.name == "goodbye");
    assert!(goodbye.retry.is_some());
    assert_eq!(stream.next(), None);
    until("another member to have the user", || {
        (clients[1].get("/orders").status == 200).then_some(())
    });
    let mut stream = open_stream(&clients[1], "/orders/stream", "");
    stream.await_event("the open order", is_of(&first));
}

#[test]
fn a_stream_ends_when_its_user_moves() {
    let mut cluster = Cluster::start(&[]);
    let clients = user_of(&cluster, 2);
    let first = clients[0].place_resting("SPY");
    let is_first =
        |event: &Event| event.name == "order" && event.data["orderId"] == first["orderId"];
    let mut here = open_stream(&clients[2], "/orders/stream", "");
    let mut relayed = open_stream(&clients[0], "/orders/stream", "");
    here.await_event("the order", is_first);
    relayed.await_event("the order", is_first);
    // It hands its users over before it stops.
    let stopping = cluster.take(2);
    stopping.program.ask_to_stop();
    for mut stream in [here, relayed] {
        stream.await_event("goodbye", |event| event.name == "goodbye");
        assert_eq!(stream.next(), None);
    }
    // As a client that reconnects: the first stream may still be relayed from the one that stops.
    until("the order", || {
        let mut again = open_stream(&clients[0], "/orders/stream", "");
        while let Some(event) = again.next() {
            if is_first(&event) {
                return Some(());
            }
        }
        None
    });
}

#[test]
fn the_limit_of_a_users_streams_holds_over_all_members() {
    let cluster = Cluster::start(&["--max-streams-per-user", "3"]);
    let alice = cluster.clients("alice");
    let subscribe = |member: usize| {
        EventStream::subscribe(&alice[member].address, &alice[member].token, &["SPY"])
    };
    let status = |stream: &EventStream| stream.head[0].split(' ').nth(1).unwrap().to_owned();
    // One of orders, which counts where alice is.
    let streams = [subscribe(0), subscribe(1), open_stream(&alice[2], "/orders/stream", "")];
    assert!(streams.iter().all(|stream| status(stream) == "200"));
    for (member, client) in alice.iter().enumerate() {
        assert_eq!(status(&subscribe(member)), "429");
        let mut refused = open_stream(client, "/orders/stream", "");
        refused.await_event("goodbye", |event| event.name == "goodbye");
    }
    let [first, ..] = streams;
    drop(first);
    until("room for another one", || (status(&subscribe(2)) == "200").then_some(()));
}
