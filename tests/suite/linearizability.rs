//! Many clients on the same two orders, an exchange whose answers are late or lost, and kills in
//! between: all answers must be linearizable.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

#[path = "../../loadtest/src/linear/mod.rs"]
mod linear;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::api::{Answer, Client};
use crate::support::{self, Exchange, Server};
use linear::{Observed, Operation, Outcome, Register, Request, Rules};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use ureq::http::Method;

const CLIENTS: usize = 8;
/// Most requests per client and life of the server. Each takes at least two ticks.
const REQUESTS: usize = 60;
/// Starts of the server. All but the last life end with a kill halfway through.
const LIVES: usize = 3;
/// An order that rests, and one that fills during the test.
const KEYS: [&str; 2] = ["resting", "filling"];
const FAULTS: &str = "submits.delay=1,submits.drop-reply=0.3,cancels.delay=1,cancels.drop-reply=0.3,\
    queries.delay=1,orders.fill-first=0.5,feed.repeat=0.2,feed.reorder=0.1,\
    manner.submit-delay-ms=1..250,manner.cancel-delay-ms=1..250,manner.query-delay-ms=1..50";

/// What all clients saw, by order key.
#[derive(Default)]
struct Histories {
    ticks: AtomicU64,
    operations: Mutex<BTreeMap<String, Vec<Operation>>>,
    ids: Mutex<HashMap<String, String>>,
}

impl Histories {
    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    fn id(&self, key: &str) -> Option<String> {
        self.ids.lock().unwrap().get(key).cloned()
    }

    fn add(&self, key: &str, (client, invoked): (usize, u64), request: Request, outcome: Outcome) {
        let responded = self.tick();
        let operation = Operation { request, outcome, invoked, responded, client };
        self.operations.lock().unwrap().entry(key.to_owned()).or_default().push(operation);
    }

    /// Records a shown order; every client knows its id from now on.
    fn showed(&self, order: &Value) -> Outcome {
        let key = order["clientOrderId"].as_str().unwrap().to_owned();
        let id = order["orderId"].as_str().unwrap().to_owned();
        let known = self.ids.lock().unwrap().entry(key).or_insert_with(|| id.clone()).clone();
        assert_eq!(known, id, "a key names one order");
        let mut hasher = DefaultHasher::new();
        order.to_string().hash(&mut hasher);
        Outcome::Showed(Observed {
            version: order["version"].as_u64().unwrap(),
            status: order["status"].as_str().unwrap().parse().unwrap(),
            filled_shares: order["filledShares"].as_u64().unwrap(),
            content: hasher.finish(),
        })
    }

    /// Checks every order's history.
    fn check(&self) {
        for (key, operations) in self.operations.lock().unwrap().iter() {
            let checked = linear::check(Register::default(), operations, Rules::default());
            if let Err(impossible) = checked {
                for (place, operation) in operations.iter().enumerate() {
                    eprintln!("[{place}] {operation:?}");
                }
                panic!("{key}: {impossible}");
            }
        }
    }
}

fn terms(key: &str) -> Value {
    let mut order = json!({
        "position": "buy", "symbol": "SPY", "numShares": 2_000, "priceInCents": 1,
        "clientOrderId": key,
    });
    if key == "filling" {
        order["priceInCents"] = 20_000.into();
    }
    order
}

/// One client's requests; ends early when the server does.
fn work(client: &Client, number: usize, seed: u64, histories: &Histories) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    for _ in 0..REQUESTS {
        let key = KEYS[random.random_range(0..KEYS.len())];
        let draw = random.random_range(0..100);
        let id = histories.id(key);
        let sent = (number, histories.tick());
        let answered = match (draw, id) {
            (0..45, Some(id)) => read(client, key, &id, sent, histories),
            (45..70, _) => list(client, sent, histories),
            // Rarely, so that the order stays open for a while.
            (70..74, Some(id)) => cancel(client, key, &id, sent, histories),
            _ => create(client, key, sent, histories),
        };
        if !answered {
            return;
        }
    }
}

fn send(client: &Client, method: Method, path: &str, body: &Value) -> Option<Answer> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client.try_send(method, path, body.as_bytes())
}

fn create(client: &Client, key: &str, sent: (usize, u64), histories: &Histories) -> bool {
    let Some(answer) = send(client, Method::POST, "/order", &terms(key)) else {
        histories.add(key, sent, Request::Create, Outcome::Unknown);
        return false;
    };
    assert!(matches!(answer.status, 200..=202), "{}", answer.text);
    let outcome = histories.showed(&answer.body);
    histories.add(key, sent, Request::Create, outcome);
    true
}

fn read(client: &Client, key: &str, id: &str, sent: (usize, u64), histories: &Histories) -> bool {
    let answer = send(client, Method::GET, &format!("/order/{id}"), &Value::Null);
    let Some(answer) = answer else { return false };
    assert_eq!(answer.status, 200, "{}", answer.text);
    let outcome = histories.showed(&answer.body);
    histories.add(key, sent, Request::Read, outcome);
    true
}

fn list(client: &Client, sent: (usize, u64), histories: &Histories) -> bool {
    let Some(answer) = send(client, Method::GET, "/orders", &Value::Null) else { return false };
    assert_eq!(answer.status, 200, "{}", answer.text);
    let orders = answer.body["orders"].as_array().unwrap();
    for key in KEYS {
        let outcome = match orders.iter().find(|order| order["clientOrderId"] == key) {
            Some(order) => histories.showed(order),
            None => Outcome::Absent,
        };
        histories.add(key, sent, Request::Read, outcome);
    }
    true
}

fn cancel(client: &Client, key: &str, id: &str, sent: (usize, u64), histories: &Histories) -> bool {
    let answer = send(client, Method::DELETE, &format!("/order/{id}"), &Value::Null);
    let Some(answer) = answer else {
        histories.add(key, sent, Request::Cancel, Outcome::Unknown);
        return false;
    };
    let outcome = match answer.status {
        200 => Outcome::Cancelled,
        202 | 409 => histories.showed(answer.order()),
        _ => panic!("{}", answer.text),
    };
    histories.add(key, sent, Request::Cancel, outcome);
    true
}

#[test]
fn what_concurrent_clients_see_fits_into_one_line_also_over_a_kill() {
    let (data, exchange_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let exchange = Exchange::start(exchange_data.path(), &["--speed", "20", "--fault", FAULTS]);
    let histories = Histories::default();
    let mut server = Server::start(data.path(), &["--exchange", &exchange.address]);
    let token = support::token(data.path(), "alice");
    for life in 0..LIVES {
        let half_way = histories.ticks.load(Ordering::SeqCst) + (CLIENTS * REQUESTS) as u64;
        std::thread::scope(|scope| {
            let working: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let client = Client::new(&server.address, &token);
                    let seed = (life * CLIENTS + number) as u64;
                    let histories = &histories;
                    scope.spawn(move || work(&client, number, seed, histories))
                })
                .collect();
            if life + 1 < LIVES {
                support::api::until("half of the requests", || {
                    (histories.ticks.load(Ordering::SeqCst) > half_way).then_some(())
                });
                server.program.kill_in_place();
            }
            for client in working {
                client.join().unwrap();
            }
        });
        histories.check();
        if life + 1 < LIVES {
            server = Server::start(data.path(), &["--exchange", &exchange.address]);
        }
    }
    let seen = histories.operations.lock().unwrap().values().map(Vec::len).sum::<usize>();
    assert!(seen > CLIENTS * REQUESTS, "{seen} operations: the clients hardly worked");
}
