//! Users who trade while members come and go, and the check of what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::money::assert_money_is_of_executions;
use super::{Cluster, id_of};
use crate::support::{PATIENCE, api};

/// How long a trader waits after each order, unless its test ends.
const TRADING_PAUSE: Duration = Duration::from_millis(50);

/// Users who place orders one after the other while members come and go, and what was acknowledged.
pub(crate) struct Traders {
    stop: Arc<AtomicBool>,
    placing: Vec<std::thread::JoinHandle<()>>,
    placed: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    placed: Mutex<Placed>,
    /// There is more.
    acknowledged: Condvar,
}

/// What was acknowledged.
#[derive(Default)]
pub(crate) struct Placed {
    /// By user and key: the ids of the orders.
    pub orders: BTreeMap<(String, String), BTreeSet<String>>,
    /// By user: the longest time between two acknowledgements.
    pub longest_pauses: BTreeMap<String, Duration>,
}

impl Traders {
    /// Begins with as many users.
    pub(crate) fn begin(cluster: &Cluster, users: usize) -> Self {
        let (stop, placed) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let placing = (0..users).map(|number| {
            let user = format!("trader-{number}");
            let mut client = cluster.client(&user);
            let (stop, shared): (_, Arc<Shared>) = (Arc::clone(&stop), Arc::clone(&placed));
            std::thread::spawn(move || {
                let mut last = Instant::now();
                for count in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = count.to_string();
                    let answer = client.place(&key, Some(1));
                    let id = id_of(&answer);
                    let mut placed = shared.placed.lock().expect("nobody panicked");
                    placed.orders.entry((user.clone(), key)).or_default().insert(id);
                    let pause = placed.longest_pauses.entry(user.clone()).or_default();
                    *pause = last.elapsed().max(*pause);
                    drop(placed);
                    shared.acknowledged.notify_all();
                    std::thread::park_timeout(TRADING_PAUSE);
                    last = Instant::now();
                }
            })
        });
        let placing = placing.collect();
        Self { stop, placing, placed }
    }

    /// Waits until each user has had some more orders acknowledged.
    pub(crate) fn await_progress(&self) {
        let counts = |placed: &Placed| {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            for (user, _) in placed.orders.keys() {
                *counts.entry(user.clone()).or_default() += 1;
            }
            counts
        };
        let placed = self.placed.placed.lock().expect("nobody panicked");
        let before = counts(&placed);
        let lacks_any = |placed: &mut Placed| {
            let now = counts(placed);
            let has_more =
                |user: &String| now.get(user) >= before.get(user).map(|n| n + 3).as_ref();
            now.len() < self.placing.len() || !now.keys().all(has_more)
        };
        let waited = self.placed.acknowledged.wait_timeout_while(placed, PATIENCE, lacks_any);
        let is_over = waited.expect("nobody panicked").1.timed_out();
        assert!(!is_over, "waited {PATIENCE:?} for every user to trade");
    }

    /// Ends them. What was acknowledged to them.
    pub(crate) fn end(self) -> Placed {
        self.stop.store(true, Ordering::Relaxed);
        for placing in self.placing {
            placing.thread().unpark();
            placing.join().expect("a trader ends");
        }
        std::mem::take(&mut *self.placed.placed.lock().expect("nobody panicked"))
    }
}

impl Placed {
    /// Checks that every acknowledged order is there, once here and once at the exchange, and that the
    /// exchange has none that is unknown here; and that money is what was executed.
    pub(crate) fn check(&self, cluster: &Cluster) {
        let at_exchange = cluster.orders_at_exchange();
        let mut known = BTreeSet::new();
        let users: BTreeSet<&String> = self.orders.keys().map(|(user, _)| user).collect();
        for user in users {
            let mut client = cluster.client(user);
            let orders = api::until("the orders to be settled", || {
                let orders = client.all_orders();
                orders.iter().all(|order| order["status"] != "pending").then_some(orders)
            });
            let ids: BTreeMap<&str, &Value> = orders
                .iter()
                .map(|order| (order["orderId"].as_str().expect("an id"), order))
                .collect();
            assert_eq!(ids.len(), orders.len(), "an order is listed twice");
            known.extend(ids.keys().map(|id| (*id).to_owned()));
            for ((of, key), acknowledged) in &self.orders {
                if of != user {
                    continue;
                }
                assert_eq!(acknowledged.len(), 1, "key {key} of {user} names {acknowledged:?}");
                for id in acknowledged {
                    assert!(ids.contains_key(id.as_str()), "{id} of {user} is lost");
                }
            }
            for (id, order) in ids {
                let is_there = at_exchange.contains_key(id);
                assert!(is_there || order["status"] == "failed", "the exchange lacks {order}");
            }
        }
        for (id, count) in &at_exchange {
            assert_eq!(*count, 1, "the exchange has {id} several times");
            assert!(known.contains(id), "the exchange has {id}, which nobody knows here");
        }
        assert_money_is_of_executions(&cluster.database);
    }
}
