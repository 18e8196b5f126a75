//! What every client asked and saw, order by order, and whether that is possible.
//!
//! Orders are known by their user's own key, which names one order for good. Each request on an
//! order, each line of a list included, becomes an operation of that order's history; the
//! linearizability check says what of it cannot be. What concerns more than one order, or the
//! content of one answer, is checked as it comes.

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
    linear::{self, Operation, Outcome, Request, Rules},
};

/// Keys of a user that clients pick from: the newest.
const RECENT_KEYS: usize = 150;
/// Violations that are kept; after so many, nothing is learned from more.
const MAX_VIOLATIONS: usize = 20;

/// What was counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Requests sent.
    pub requests: u64,
    /// Requests without an answer.
    pub unanswered: u64,
    /// Creates, lists and so on that were refused with 503.
    pub refused: u64,
    /// Operations that went into histories: requests, and orders in lists.
    pub operations: u64,
}

/// Everything seen so far, shared by all clients.
#[derive(Debug)]
pub struct Histories {
    ticks: AtomicU64,
    rules: Rules,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: HashMap<Name, Record>,
    /// Ids sort by their time, as pages do.
    by_id: BTreeMap<(usize, String), String>,
    recent: HashMap<usize, VecDeque<String>>,
    /// Orders with operations that were not checked.
    unchecked: BTreeSet<Name>,
    violations: Vec<String>,
    counts: Counts,
}

/// When a request was sent, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub client: usize,
    pub user: usize,
    pub invoked: u64,
}

impl Histories {
    /// Without any operation yet.
    pub fn new(rules: Rules) -> Self {
        Self { ticks: AtomicU64::new(1), rules, inner: Mutex::default() }
    }

    /// A moment: later than all that were taken before.
    pub fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// Notes that a client is about to send a request.
    pub fn send(&self, client: usize, user: usize) -> Sent {
        self.lock().counts.requests += 1;
        Sent { client, user, invoked: self.tick() }
    }

    /// Notes that an order is about to be asked for, so that whoever sees it knows it.
    pub fn expect(&self, user: usize, terms: &Terms) {
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

    /// What came of `POST /order`. True when the server answered.
    pub fn created(&self, sent: Sent, terms: &Terms, answer: Option<&Answer>) -> bool {
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

    /// What came of `POST /order` with the key of an acknowledged order and another body.
    pub fn conflicted(&self, sent: Sent, key: &str, answer: Option<&Answer>) -> bool {
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

    /// What came of `GET /order/:id`.
    pub fn read(&self, sent: Sent, key: &str, answer: Option<&Answer>) -> bool {
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

    /// What came of `DELETE /order/:id`.
    pub fn cancelled(&self, sent: Sent, key: &str, answer: Option<&Answer>) -> bool {
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

    /// What came of `GET /orders` from `cursor` on. The page, where there is one.
    pub fn listed(
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

    /// One of a user's newest orders, and its id where that is known.
    pub fn pick(&self, user: usize, random: u64) -> Option<(Terms, Option<String>, bool)> {
        let inner = self.lock();
        let recent = inner.recent.get(&user)?;
        let place = random.checked_rem(recent.len() as u64)?;
        let key = recent.get(usize::try_from(place).ok()?)?;
        let record = inner.records.get(&(user, key.clone()))?;
        Some((record.terms.clone(), record.order_id.clone(), record.acknowledged))
    }

    /// Order and terms of an id.
    pub fn by_id(&self, user: usize, order_id: &str) -> Option<(Terms, Option<Order>)> {
        let inner = self.lock();
        let key = inner.by_id.get(&(user, order_id.to_owned()))?;
        let record = inner.records.get(&(user, key.clone()))?;
        Some((record.terms.clone(), record.newest.clone()))
    }

    /// The order of a key as its newest version was shown, and its id.
    pub fn order_id(&self, user: usize, key: &str) -> Option<String> {
        self.lock().records.get(&(user, key.to_owned()))?.order_id.clone()
    }

    /// Notes something that must not be, with the history of the order that it is about.
    pub fn violate(&self, name: Option<&Name>, what: &str) {
        let mut inner = self.lock();
        let history = name.and_then(|name| Some(inner.records.get(name)?.history(name)));
        inner.violate(format!("{what}\n{}", history.unwrap_or_default()));
    }

    /// Checks every history that has grown. With `quiet`, no request is on its way, and what each
    /// order was shown as last is where its next history begins.
    pub fn check(&self, quiet: bool) {
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

    /// What must not be, so far.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Orders that were asked for, and how many of them were acknowledged.
    pub fn orders(&self) -> (usize, usize) {
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

/// One answer on its way into a record.
struct Entry<'a> {
    responded: u64,
    inner: MutexGuard<'a, Inner>,
    sent: Sent,
    name: Name,
}

impl Entry<'_> {
    /// The record. An order whose key nobody expected gets one, and a violation.
    fn record(&mut self) -> &mut Record {
        let terms = || Terms {
            position: "",
            symbol: "",
            num_shares: 0,
            price_in_cents: None,
            time_in_force: "",
            client_order_id: self.name.1.clone(),
        };
        self.inner.records.entry(self.name.clone()).or_insert_with(|| Record::new(terms()))
    }

    /// The order of an answer, where it is the one that was asked for.
    fn order(&mut self, answer: &Answer) -> Option<Order> {
        match answer.order() {
            Ok(order) => self.is_as_asked(&order).then_some(order),
            Err(problem) => {
                self.violate(&problem);
                None
            }
        }
    }

    fn is_as_asked(&mut self, order: &Order) -> bool {
        let record = self.record();
        let is_as_asked = order.is_as(&record.terms);
        let is_same_order = record.order_id.as_ref().is_none_or(|id| *id == order.order_id);
        let told_before = record.newest.as_ref().and_then(|old| old.external_order_id.as_ref());
        let is_same_there =
            told_before.is_none_or(|id| order.external_order_id.as_ref() == Some(id));
        // An older version may not have had the exchange's id yet.
        let is_older = record.newest.as_ref().is_some_and(|old| old.version > order.version);
        if !is_as_asked || !is_same_order {
            let known = record.order_id.clone();
            self.violate(&format!("the key names {known:?} and was answered with {order:?}"));
        } else if !is_same_there && !is_older {
            self.violate(&format!("the exchange's id has changed: {order:?}"));
        }
        is_as_asked && is_same_order
    }

    fn check_create(&mut self, status: u16, order: &Order) {
        let fits = match status {
            201 => order.external_order_id.is_some(),
            202 => order.external_order_id.is_none(),
            422 => order.status == "failed",
            _ => true,
        };
        if !fits {
            self.violate(&format!("a create was answered {status} with {order:?}"));
        }
    }

    fn showed(&mut self, request: Request, order: &Order) {
        let Some(observed) = order.observed() else {
            self.violate(&format!("a status that there is not: {order:?}"));
            return;
        };
        let user = self.name.0;
        let key = self.name.1.clone();
        self.inner.by_id.entry((user, order.order_id.clone())).or_insert(key);
        let record = self.record();
        record.order_id.get_or_insert_with(|| order.order_id.clone());
        if record.newest.as_ref().is_none_or(|newest| newest.version <= order.version) {
            record.newest = Some(order.clone());
        }
        self.add(request, Outcome::Showed(observed));
    }

    fn lost(&mut self, request: Request) {
        self.inner.counts.unanswered += 1;
        self.add(request, Outcome::Unknown);
    }

    fn add(&mut self, request: Request, outcome: Outcome) {
        let Sent { client, invoked, .. } = self.sent;
        let responded = self.responded;
        let operation = Operation { request, outcome, invoked, responded, client };
        self.inner.counts.operations += 1;
        self.inner.unchecked.insert(self.name.clone());
        self.record().operations.push(operation);
    }

    fn unexpected(&mut self, what: &str, answer: &Answer) {
        self.violate(&format!("{what} was answered {}: {}", answer.status, answer.body));
    }

    fn violate(&mut self, what: &str) {
        let name = self.name.clone();
        let history = self.record().history(&name);
        self.inner.violate(format!("{what}\n{history}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms {
            position: "buy",
            symbol: "SPY",
            num_shares: 5,
            price_in_cents: Some(1),
            time_in_force: "day",
            client_order_id: "k".to_owned(),
        }
    }

    fn order(version: u64, status: &str) -> String {
        format!(
            r#"{{"orderId":"0a","clientOrderId":"k","externalOrderId":"o1-1","symbol":"SPY",
            "position":"buy","type":"limit","timeInForce":"day","priceInCents":1,"numShares":5,
            "filledShares":0,"filledValueInCents":0,"averagePriceInCents":null,
            "status":"{status}","reason":null,"createdAt":1,"updatedAt":1,"version":{version}}}"#
        )
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.to_owned() }
    }

    fn created() -> Histories {
        let histories = Histories::new(Rules::default());
        histories.expect(0, &terms());
        let sent = histories.send(1, 0);
        assert!(histories.created(sent, &terms(), Some(&answer(201, &order(2, "submitted")))));
        histories
    }

    fn only_violation(histories: &Histories) -> String {
        histories.check(true);
        let violations = histories.violations();
        assert_eq!(violations.len(), 1, "{violations:?}");
        violations.into_iter().next().unwrap()
    }

    #[test]
    fn a_life_in_order_has_no_violation() {
        let histories = created();
        assert_eq!(histories.order_id(0, "k").as_deref(), Some("0a"));
        histories.check(true);
        histories.read(histories.send(2, 0), "k", Some(&answer(200, &order(2, "submitted"))));
        histories.cancelled(histories.send(1, 0), "k", Some(&answer(200, r#"{"ok":true}"#)));
        histories.check(true);
        let page = format!(r#"{{"orders":[{}],"nextCursor":null}}"#, order(4, "cancelled"));
        assert!(histories.listed(histories.send(2, 0), None, Some(&answer(200, &page))).is_some());
        histories.check(true);
        assert_eq!(histories.violations(), Vec::<String>::new());
        assert_eq!(histories.orders(), (1, 1));
    }

    #[test]
    fn an_acknowledged_order_that_a_list_leaves_out_is_a_violation() {
        let histories = created();
        let empty = answer(200, r#"{"orders":[],"nextCursor":null}"#);
        histories.listed(histories.send(2, 0), None, Some(&empty));
        assert!(only_violation(&histories).contains("not linearizable"));
        let histories = created();
        histories.listed(histories.send(2, 0), Some("00"), Some(&empty));
        histories.check(true);
        assert!(histories.violations().is_empty(), "it is not in the page's range");
    }

    #[test]
    fn what_was_seen_before_a_restart_counts_after_it() {
        let histories = created();
        histories.read(histories.send(2, 0), "k", Some(&answer(200, &order(3, "filled"))));
        histories.check(true);
        histories.read(histories.send(2, 0), "k", Some(&answer(200, &order(2, "submitted"))));
        let violation = only_violation(&histories);
        assert!(violation.contains("version 3 Filled (terminal)"), "{violation}");
    }

    #[test]
    fn a_key_names_one_order_with_the_terms_that_were_asked_for() {
        let histories = created();
        let other = order(2, "submitted").replace("\"0a\"", "\"0b\"");
        histories.created(histories.send(2, 0), &terms(), Some(&answer(200, &other)));
        assert!(only_violation(&histories).contains("the key names"));
        let histories = created();
        let other = order(2, "submitted").replace("\"numShares\":5", "\"numShares\":6");
        histories.read(histories.send(2, 0), "k", Some(&answer(200, &other)));
        assert!(only_violation(&histories).contains("the key names"));
    }

    #[test]
    fn answers_that_do_not_fit_their_status_are_violations() {
        let histories = created();
        histories.cancelled(histories.send(2, 0), "k", Some(&answer(202, &order(3, "filled"))));
        assert!(only_violation(&histories).contains("answered 202"));
        let histories = created();
        histories.conflicted(histories.send(2, 0), "k", Some(&answer(201, &order(2, "submitted"))));
        assert!(only_violation(&histories).contains("another body"));
    }
}
