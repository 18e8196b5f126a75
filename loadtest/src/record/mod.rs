//! Records what every client asked and saw, order by order, and checks it.
//!
//! Orders are identified by their idempotency key. Each request about an order, and each line of a
//! list, becomes an operation in that order's history, which the linearizability check verifies.
//! Rules about several orders, or about the content of an answer, are checked as answers arrive.

mod entry;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    api::{Answer, Order, Page, Terms},
    history::{Name, Record},
    linear::{self, Outcome, Request, Rules},
};
use entry::Entry;

/// Number of a user's newest keys that clients pick from.
const RECENT_KEYS: usize = 150;
/// Most violations kept.
const MAX_VIOLATIONS: usize = 20;

/// Counts of requests.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Requests sent.
    pub requests: u64,
    /// Requests without an answer.
    pub unanswered: u64,
    /// Creates, lists and so on that were refused with 503.
    pub refused: u64,
    /// Operations in histories: requests, and orders in lists.
    pub operations: u64,
}

/// Everything seen so far, shared by all clients.
#[derive(Debug)]
pub(crate) struct Histories {
    ticks: AtomicU64,
    rules: Rules,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: HashMap<Name, Record>,
    /// Ids sort by time, like pages.
    by_id: BTreeMap<(usize, String), String>,
    recent: HashMap<usize, VecDeque<String>>,
    /// Orders with unchecked operations.
    unchecked: BTreeSet<Name>,
    violations: Vec<String>,
    counts: Counts,
}

/// When a request was sent, and by whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub client: usize,
    pub user: usize,
    pub invoked: u64,
}

impl Histories {
    /// Without operations.
    pub(crate) fn new(rules: Rules) -> Self {
        Self { ticks: AtomicU64::new(1), rules, inner: Mutex::default() }
    }

    /// A new time, later than all earlier ones.
    pub(crate) fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// Records that a client is about to send a request.
    pub(crate) fn send(&self, client: usize, user: usize) -> Sent {
        self.lock().counts.requests += 1;
        Sent { client, user, invoked: self.tick() }
    }

    /// Records that an order is about to be created, so that it is known when it is seen.
    pub(crate) fn expect(&self, user: usize, terms: &Terms) {
        let mut inner = self.lock();
        let key = terms.client_order_id.clone();
        let inner = &mut *inner;
        inner.records.entry((user, key.clone())).or_insert_with(|| {
            let recent = inner.recent.entry(user).or_default();
            recent.push_back(key);
            if recent.len() > RECENT_KEYS {
                recent.pop_front();
            }
            Record::new(terms.clone())
        });
    }

    /// Records the outcome of `POST /order`. Returns `true` if the server answered.
    pub(crate) fn created(&self, sent: Sent, terms: &Terms, answer: Option<&Answer>) -> bool {
        let mut entry = self.entry(sent, &terms.client_order_id);
        let Some(answer) = answer else {
            entry.lost(Request::Create);
            return false;
        };
        match answer.status {
            200 | 201 | 202 | 422 => {
                let Some(order) = entry.order(answer) else { return true };
                entry.check_create(answer.status, &order);
                entry.record().acknowledged = true;
                entry.showed(Request::Create, &order);
            }
            503 => entry.inner.counts.refused += 1,
            _ => entry.unexpected("POST /order", answer),
        }
        true
    }

    /// Records the outcome of `POST /order` with the key of an acknowledged order and another body.
    pub(crate) fn conflicted(&self, sent: Sent, key: &str, answer: Option<&Answer>) -> bool {
        let mut entry = self.entry(sent, key);
        let Some(answer) = answer else {
            entry.inner.counts.unanswered += 1;
            return false;
        };
        match answer.status {
            409 => {
                if let Some(order) = entry.order(answer) {
                    entry.showed(Request::Read, &order);
                }
            }
            503 => entry.inner.counts.refused += 1,
            _ => entry.unexpected("POST /order with another body", answer),
        }
        true
    }

    /// Records the outcome of `GET /order/:id`.
    pub(crate) fn read(&self, sent: Sent, key: &str, answer: Option<&Answer>) -> bool {
        let mut entry = self.entry(sent, key);
        let Some(answer) = answer else {
            entry.inner.counts.unanswered += 1;
            return false;
        };
        match answer.status {
            200 => {
                if let Some(order) = entry.order(answer) {
                    entry.showed(Request::Read, &order);
                }
            }
            404 => entry.add(Request::Read, Outcome::Absent),
            _ => entry.unexpected("GET /order", answer),
        }
        true
    }

    /// Records the outcome of `DELETE /order/:id`.
    pub(crate) fn cancelled(&self, sent: Sent, key: &str, answer: Option<&Answer>) -> bool {
        let mut entry = self.entry(sent, key);
        let Some(answer) = answer else {
            entry.lost(Request::Cancel);
            return false;
        };
        match answer.status {
            200 => entry.add(Request::Cancel, Outcome::Cancelled),
            202 | 409 => {
                let Some(order) = entry.order(answer) else { return true };
                let waits = matches!(order.status.as_str(), "pending" | "pending_cancel");
                if waits != (answer.status == 202) {
                    let status = answer.status;
                    entry.violate(&format!("a cancel was answered {status} with {order:?}"));
                }
                entry.showed(Request::Cancel, &order);
            }
            404 => entry.add(Request::Cancel, Outcome::Absent),
            503 => {
                entry.inner.counts.refused += 1;
                entry.add(Request::Cancel, Outcome::Unknown);
            }
            _ => entry.unexpected("DELETE /order", answer),
        }
        true
    }

    /// Records the outcome of `GET /orders` from `cursor`; returns the page, if there is one.
    pub(crate) fn listed(
        &self,
        sent: Sent,
        cursor: Option<&str>,
        answer: Option<&Answer>,
    ) -> Option<Page> {
        let mut inner = self.lock();
        let Some(answer) = answer else {
            inner.counts.unanswered += 1;
            return None;
        };
        let page = match answer.read::<Page>() {
            Ok(page) if answer.status == 200 => page,
            Ok(_) | Err(_) => {
                inner.violate(format!("GET /orders was answered {answer:?}"));
                return None;
            }
        };
        drop(inner);
        let first = page.next_cursor.clone().unwrap_or_default();
        let mut missing = self.known_between(sent.user, &first, cursor);
        for order in &page.orders {
            let Some(key) = &order.client_order_id else {
                self.lock().violate(format!("an order that nobody asked for: {order:?}"));
                continue;
            };
            missing.remove(key);
            let mut entry = self.entry(sent, key);
            if entry.is_as_asked(order) {
                entry.showed(Request::Read, order);
            }
        }
        for key in missing {
            self.entry(sent, &key).add(Request::Read, Outcome::Absent);
        }
        Some(page)
    }

    /// Keys of orders that a page from `first` (inclusive) to `cursor` (exclusive) must show.
    fn known_between(&self, user: usize, first: &str, cursor: Option<&str>) -> BTreeSet<String> {
        let inner = self.lock();
        let from = (user, first.to_owned());
        let before = cursor.map_or((user + 1, String::new()), |end| (user, end.to_owned()));
        if from >= before {
            return BTreeSet::new();
        }
        inner.by_id.range(from..before).map(|(_, key)| key.clone()).collect()
    }

    /// One of a user's newest orders, and its id if known.
    pub(crate) fn pick(&self, user: usize, random: u64) -> Option<(Terms, Option<String>, bool)> {
        let inner = self.lock();
        let recent = inner.recent.get(&user)?;
        let place = random.checked_rem(recent.len() as u64)?;
        let key = recent.get(usize::try_from(place).ok()?)?;
        let record = inner.records.get(&(user, key.clone()))?;
        Some((record.terms.clone(), record.order_id.clone(), record.acknowledged))
    }

    /// Order and terms of an id.
    pub(crate) fn by_id(&self, user: usize, order_id: &str) -> Option<(Terms, Option<Order>)> {
        let inner = self.lock();
        let key = inner.by_id.get(&(user, order_id.to_owned()))?;
        let record = inner.records.get(&(user, key.clone()))?;
        Some((record.terms.clone(), record.newest.clone()))
    }

    /// The id of the order with this key, if known.
    pub(crate) fn order_id(&self, user: usize, key: &str) -> Option<String> {
        self.lock().records.get(&(user, key.to_owned()))?.order_id.clone()
    }

    /// Records a violation, with the history of its order.
    pub(crate) fn violate(&self, name: Option<&Name>, what: &str) {
        let mut inner = self.lock();
        let history = name.and_then(|name| Some(inner.records.get(name)?.history(name)));
        inner.violate(format!("{what}\n{}", history.unwrap_or_default()));
    }

    /// Checks every history that has grown. With `quiet`, no request is in flight, so the last state
    /// of each order begins its next history.
    pub(crate) fn check(&self, quiet: bool) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        for name in std::mem::take(&mut inner.unchecked) {
            let Some(record) = inner.records.get_mut(&name) else { continue };
            match linear::check(record.register, &record.operations, self.rules) {
                Ok(()) if quiet => record.put_past(),
                Ok(()) => {}
                Err(impossible) => {
                    let history = record.history(&name);
                    let violation = format!("not linearizable: {impossible}\n{history}");
                    if inner.violations.len() < MAX_VIOLATIONS {
                        inner.violations.push(violation);
                    }
                }
            }
        }
    }

    /// The violations so far.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Counts of requests.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Number of requested orders, and of acknowledged ones.
    pub(crate) fn orders(&self) -> (usize, usize) {
        let inner = self.lock();
        let acknowledged = inner.records.values().filter(|record| record.acknowledged).count();
        (inner.records.len(), acknowledged)
    }

    fn entry(&self, sent: Sent, key: &str) -> Entry<'_> {
        let name = (sent.user, key.to_owned());
        Entry { responded: self.tick(), inner: self.lock(), sent, name }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn violate(&mut self, what: String) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(what);
        }
    }
}
