//! Users that place and cancel orders, each on its own connection, until told to stop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use serde_json::json;
use ureq::http::Method;

use super::postgres::Database;
use super::{Server, api};

/// Users that place and cancel orders in the background.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    placed: Arc<AtomicUsize>,
    traders: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Starts a number of trading users.
    pub(crate) fn start(server: &Server, data: &Path, users: usize) -> Self {
        Self::start_with(server, data, (users, 100))
    }

    /// Starts a number of trading users, with a number of shares per market order.
    pub(crate) fn start_with(server: &Server, data: &Path, (users, shares): (usize, u64)) -> Self {
        let (stop, placed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let start = |number| {
            let client = server.user(data, &format!("trader-{number}"));
            let (stop, placed) = (Arc::clone(&stop), Arc::clone(&placed));
            std::thread::spawn(move || trade(&client, shares, &stop, &placed))
        };
        let traders = (0..users).map(start).collect();
        Self { stop, placed, traders }
    }

    /// Number of orders placed so far.
    pub(crate) fn placed(&self) -> usize {
        self.placed.load(Ordering::Relaxed)
    }

    /// Waits until a number of further orders are placed.
    pub(crate) fn await_more(&self, orders: usize) {
        let wanted = self.placed() + orders;
        api::until(&format!("{wanted} orders"), || (self.placed() >= wanted).then_some(()));
    }

    /// Stops them; returns the ids of all recorded orders.
    pub(crate) fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let traders = self.traders.into_iter();
        traders.flat_map(|trader| trader.join().expect("nothing surprised it")).collect()
    }
}

/// Places, in turn, a resting limit order and a market order, and cancels the former.
fn trade(
    client: &api::Client,
    shares: u64,
    stop: &AtomicBool,
    placed: &AtomicUsize,
) -> Vec<String> {
    let mut ids = Vec::new();
    let mut resting = None;
    for turn in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if turn % 3 == 2 {
            if let Some(id) = resting.take() {
                let answer = client.delete(&format!("/order/{id}"));
                assert!(matches!(answer.status, 200 | 202 | 409), "{}", answer.text);
            }
            continue;
        }
        let order = if turn % 3 == 0 {
            json!({"position": "buy", "symbol": "IBM", "numShares": 10, "priceInCents": 1})
        } else {
            let symbol = ["SPY", "IBM", "BAC"][turn / 3 % 3];
            json!({"position": "buy", "symbol": symbol, "numShares": shares})
        };
        let answer = client.send(Method::POST, "/order", order.to_string().as_bytes());
        assert!(matches!(answer.status, 201 | 202 | 422), "{}", answer.text);
        let id = answer.order()["orderId"].as_str().expect("an id").to_owned();
        if turn % 3 == 0 {
            resting = Some(id.clone());
        }
        ids.push(id);
        placed.fetch_add(1, Ordering::Relaxed);
    }
    ids
}

/// Asserts that each of these orders is in one of the databases.
pub(crate) fn assert_kept(databases: &[&Database], ids: &[String]) {
    let query = format!(
        "SELECT count(*) FROM orders WHERE order_id = ANY ('{{{}}}'::uuid[])",
        ids.join(",")
    );
    let found: i64 = databases.iter().map(|database| database.number(&query)).sum();
    assert_eq!(
        usize::try_from(found).expect("a count"),
        ids.len(),
        "orders that were acknowledged"
    );
}
