//! An independent exchange, written from the contract alone (`/v1/...`, HTTP/1.1 and JSON) and not from
//! the program's own exchange code, so that misunderstandings show. It runs inside the test, keeps a
//! real book, and is honest until a test says otherwise:
//!
//! ```ignore
//! let venue = Venue::start();
//! let server = Server::start(data.path(), &["--exchange", &venue.address()]);
//! // ... POST /order ...
//! let order = venue.await_orders(1).remove(0);
//! venue.fill(&order.client_id, 1, 10);                       // record and feed line
//! venue.set(|options| options.record_lag = Duration::from_secs(6));
//! venue.on(QUERY, |request| match request.number {
//!     1 => Reply::Cut,                                       // no answer
//!     2 => Reply::lost(request),                             // done, and its answer lost
//!     3 => Reply::edited(request, |answer| answer["results"][0]["filledShares"] = 0.into()),
//!     4 => Reply::Status(429, vec![("Retry-After", "1".into())], String::new()),
//!     _ => Reply::Default,
//! });
//! ```
//!
//! Every method names orders by the client's id (`client_id`, Longbow's `orderId`). Nothing is locked
//! while a hook runs, so it may use the venue.

mod book;
mod endpoints;
mod request;
mod wire;

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::PATIENCE;
use book::{FeedLine, Listener, State};

pub(crate) use book::{Execution, Order};
pub(crate) use request::{Reply, Request};

use wire::cut_all;

pub(crate) const SUBMIT: &str = "/v1/orders";
pub(crate) const CANCEL: &str = "/v1/cancels";
pub(crate) const QUERY: &str = "/v1/orders/query";
pub(crate) const SYMBOLS: &str = "/v1/symbols";
/// A hook on this path decides about the head and the session line; the lines follow.
pub(crate) const FEED: &str = "/v1/feed";
pub(crate) const EXECUTIONS: &str = "/v1/executions";
pub(crate) const WEBHOOKS: &str = "/v1/webhooks";

/// Most orders in a request.
const MAX_BATCH: usize = 256;

/// Options that a test may change at any time with [`Venue::set`].
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What `GET /v1/symbols` lists.
    pub symbols: Vec<Value>,
    /// The refusal of every new order, if set.
    pub rejects: Option<(String, String)>,
    /// Whether records state in `asOf` up to which feed line they are complete.
    pub as_of: bool,
    /// How far records, including `asOf`, lag.
    pub record_lag: Duration,
    /// How far this exchange's clock is ahead, in microseconds.
    pub clock_offset_micros: i64,
    pub heartbeat: Option<Duration>,
    /// Whether order lines are on the feed.
    pub orders_on_feed: bool,
    /// Whether order lines are posted to the registered webhook.
    pub webhook: bool,
    /// Whether `GET /v1/executions` exists.
    pub lists_executions: bool,
    /// Whether a request for another session, or for dropped lines, gets `410`; otherwise it gets `200`
    /// with the current session and all its kept lines.
    pub gone: bool,
    /// Only lines after this sequence are kept.
    pub kept_after: u64,
    /// Whether the feed is chunked; otherwise it ends with the connection.
    pub chunked: bool,
}

impl std::fmt::Debug for Venue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Venue")
    }
}

type Hook = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// The exchange; clones share it.
#[derive(Clone)]
pub(crate) struct Venue {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    hooks: Mutex<HashMap<&'static str, Hook>>,
}
/// Control of the exchange by a test.
impl Venue {
    /// Starts it on a free port of 127.0.0.1 with five symbols.
    pub(crate) fn start() -> Self {
        Self::start_at(&super::ports::free_address())
    }

    pub(crate) fn start_at(listen: &str) -> Self {
        let venue = Self { shared: Arc::default() };
        venue.listen(listen);
        let posting = venue.clone();
        std::thread::spawn(move || posting.post_for_ever());
        venue
    }

    /// `http://host:port` of the last listener, even if closed.
    pub(crate) fn address(&self) -> String {
        let state = self.lock();
        format!("http://{}", state.addresses.last().expect("a listener was opened"))
    }

    /// Opens another listener.
    pub(crate) fn listen(&self, listen: &str) -> String {
        let listener =
            TcpListener::bind(listen).unwrap_or_else(|error| panic!("{listen}: {error}"));
        let address = listener.local_addr().expect("an address");
        let venue = self.clone();
        let mut state = self.lock();
        let generation = state.generation;
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut state = venue.lock();
                if state.generation != generation {
                    return;
                }
                state.connections.push(stream.try_clone().expect("a second handle"));
                drop(state);
                let venue = venue.clone();
                std::thread::spawn(move || venue.serve_connection(stream));
            }
        });
        state.listeners.push(Listener { address, accepting });
        state.addresses.push(address);
        format!("http://{address}")
    }

    /// Closes all listeners and connections; the orders stay. [`Self::listen`] reopens it, there or
    /// elsewhere.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.generation += 1;
        state.feed_generation += 1;
        let listeners = std::mem::take(&mut state.listeners);
        cut_all(&mut state.connections);
        drop(state);
        self.shared.changed.notify_all();
        for listener in listeners {
            // Wakes it up; it may have ended by itself.
            let _woken = TcpStream::connect(listener.address);
            listener.accepting.join().expect("a listener closes");
        }
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.lock().options);
        self.shared.changed.notify_all();
    }

    /// Sets a hook for all requests to a path.
    pub(crate) fn on(
        &self,
        path: &'static str,
        hook: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) {
        let mut hooks = self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        hooks.insert(path, Arc::new(hook));
    }

    /// Removes the hook from a path.
    pub(crate) fn off(&self, path: &'static str) {
        self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    pub(crate) fn on_submit(&self, hook: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.on(SUBMIT, hook);
    }

    pub(crate) fn on_query(&self, hook: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.on(QUERY, hook);
    }

    pub(crate) fn on_cancel(&self, hook: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.on(CANCEL, hook);
    }

    pub(crate) fn on_symbols(&self, hook: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.on(SYMBOLS, hook);
    }

    pub(crate) fn on_feed_head(&self, hook: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.on(FEED, hook);
    }

    /// Every request to a path so far.
    pub(crate) fn requests(&self, path: &str) -> Vec<Request> {
        self.lock().requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    /// Waits for `count` requests to a path.
    pub(crate) fn await_requests(&self, path: &str, count: usize) -> Vec<Request> {
        self.wait_for(&format!("{count} requests to {path}"), |state| {
            let here: Vec<_> =
                state.requests.iter().filter(|request| request.path == path).collect();
            (here.len() >= count).then(|| here.into_iter().cloned().collect())
        })
    }

    /// Waits for `more` further requests to a path.
    pub(crate) fn await_more_requests(&self, path: &str, more: usize) -> Vec<Request> {
        self.await_requests(path, self.requests(path).len() + more)
    }

    /// Waits for `more` further queries of each of these orders.
    pub(crate) fn await_queries_of(&self, client_ids: &[&str], more: usize) {
        let count = |state: &State| {
            let mut counts = vec![0; client_ids.len()];
            for query in state.requests.iter().filter(|request| request.path == QUERY) {
                let asked = query.client_ids();
                for (count, id) in counts.iter_mut().zip(client_ids) {
                    *count += usize::from(asked.iter().any(|asked| asked == id));
                }
            }
            counts
        };
        let before = count(&self.lock());
        let what = format!("{more} more queries of {client_ids:?}, after {before:?}");
        self.wait_for(&what, |state| {
            let mut counts = count(state).into_iter().zip(&before);
            counts.all(|(now, before)| now >= before + more).then_some(())
        });
    }

    pub(crate) fn orders(&self) -> Vec<Order> {
        self.lock().orders.clone()
    }

    /// Waits for `count` orders; returns all.
    pub(crate) fn await_orders(&self, count: usize) -> Vec<Order> {
        self.wait_for(&format!("{count} orders"), |state| {
            (state.orders.len() >= count).then(|| state.orders.clone())
        })
    }

    pub(crate) fn order(&self, client_id: &str) -> Order {
        self.lock().order(client_id).clone()
    }

    /// Waits for an order by its client's id.
    pub(crate) fn await_order(&self, client_id: &str) -> Order {
        self.wait_for(&format!("order {client_id}"), |state| {
            state.orders.iter().find(|order| order.client_id == client_id).cloned()
        })
    }

    /// Sets the ids of the next orders, even if already used.
    pub(crate) fn give_external_ids(&self, ids: &[&str]) {
        self.lock().next_external_ids.extend(ids.iter().map(|&id| id.to_owned()));
    }

    /// Shows a false record of an order, until called with `None`.
    pub(crate) fn show(&self, client_id: &str, record: Option<Value>) {
        let mut state = self.lock();
        match record {
            Some(record) => state.shown.insert(client_id.to_owned(), record),
            None => state.shown.remove(client_id),
        };
    }

    /// The true record of an order, with `asOf` if enabled.
    pub(crate) fn record(&self, client_id: &str) -> Value {
        self.lock().record_at(client_id, Instant::now())
    }

    /// A print without an order of ours. Returns its sequence.
    pub(crate) fn trade(&self, symbol: &str, price_cents: u64, shares: u64) -> u64 {
        let mut state = self.lock();
        let id = state.make("T");
        self.line(
            state,
            json!({"type": "trade", "executionId": id, "symbol": symbol,
            "priceInCents": price_cents, "numShares": shares}),
        )
    }

    /// Fills an order, in its record and on the feed. Returns the execution's id.
    pub(crate) fn fill(&self, client_id: &str, price_cents: u64, shares: u64) -> String {
        let id = self.fill_quietly(client_id, price_cents, shares);
        self.fill_line(client_id, &id, price_cents, shares);
        id
    }

    /// Fills an order only in its record.
    pub(crate) fn fill_quietly(&self, client_id: &str, price_cents: u64, shares: u64) -> String {
        let mut state = self.lock();
        let id = state.make("E");
        let timestamp = state.now();
        let order = state.order_mut(client_id);
        order.executions.push(Execution { id: id.clone(), price_cents, shares, timestamp });
        if order.status == "open" && order.filled_shares() >= order.shares() {
            "filled".clone_into(&mut order.status);
        }
        state.remember(client_id);
        id
    }

    /// Only the feed line of a fill. Returns its sequence.
    pub(crate) fn fill_line(
        &self,
        client_id: &str,
        execution: &str,
        price_cents: u64,
        shares: u64,
    ) -> u64 {
        let state = self.lock();
        let order = state.order(client_id);
        let line = json!({"type": "trade", "executionId": execution, "symbol": order.symbol(),
            "priceInCents": price_cents, "numShares": shares, "orderId": order.external_id});
        self.line(state, line)
    }

    /// Busts an execution, in the record and on the feed.
    pub(crate) fn bust(&self, execution: &str) {
        let (client_id, gone) = self.bust_quietly(execution);
        let state = self.lock();
        let order = state.order(&client_id);
        let line = json!({"type": "bust", "executionId": gone.id, "symbol": order.symbol(),
            "priceInCents": gone.price_cents, "numShares": gone.shares,
            "orderId": order.external_id});
        self.line(state, line);
    }

    /// Busts an execution only in the record. Returns its order and the execution.
    pub(crate) fn bust_quietly(&self, execution: &str) -> (String, Execution) {
        let mut state = self.lock();
        let found = state.orders.iter_mut().find_map(|order| {
            let place = order.executions.iter().position(|one| one.id == execution)?;
            let gone = order.executions.remove(place);
            if order.status == "filled" && order.filled_shares() < order.shares() {
                "open".clone_into(&mut order.status);
            }
            Some((order.client_id.clone(), gone))
        });
        let found = found.unwrap_or_else(|| panic!("no execution {execution}"));
        state.remember(&found.0);
        found
    }

    /// Ends an order as `cancelled` or `expired`, in the record and on the feed.
    pub(crate) fn end_order(&self, client_id: &str, status: &str) {
        let mut state = self.lock();
        state.end(client_id, status);
        let line = state.end_line(client_id);
        self.line(state, line);
    }

    /// Adds any line; `sequence` and `timestamp` are added if missing. Returns the sequence.
    pub(crate) fn feed_line(&self, line: Value) -> u64 {
        self.line(self.lock(), line)
    }

    /// Adds a raw line; the next sequence replaces `$SEQUENCE` in it. Returns the sequence.
    pub(crate) fn raw_feed_line(&self, text: &str) -> u64 {
        let mut state = self.lock();
        let sequence = state.sequence + 1;
        let text = text.replace("$SEQUENCE", &sequence.to_string());
        state.push(FeedLine { sequence, text, symbol: None, order: false });
        drop(state);
        self.shared.changed.notify_all();
        sequence
    }

    /// The feed's current session and last sequence.
    pub(crate) fn position(&self) -> (String, u64) {
        let state = self.lock();
        (state.session.clone(), state.sequence)
    }

    /// Sets the last sequence.
    pub(crate) fn set_sequence(&self, sequence: u64) {
        self.lock().sequence = sequence;
    }

    /// Begins a session at sequence 0 without lines; feeds of the old one end. The name may be the
    /// old one.
    pub(crate) fn new_session(&self, name: &str) {
        let mut state = self.lock();
        name.clone_into(&mut state.session);
        state.sequence = 0;
        state.options.kept_after = 0;
        state.lines.clear();
        state.note_position();
        drop(state);
        self.cut_feed();
    }

    /// Disconnects every feed; the lines are kept.
    pub(crate) fn cut_feed(&self) {
        self.lock().feed_generation += 1;
        self.shared.changed.notify_all();
    }

    /// Every posted batch, with the status of its answer; 0 for none.
    pub(crate) fn posts(&self) -> Vec<(Value, u16)> {
        self.lock().posts.clone()
    }

    /// Waits until `look` finds a value in the state.
    fn wait_for<T>(&self, what: &str, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {PATIENCE:?} for {what}");
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Sleeps, or less if all connections are cut meanwhile.
    fn pause(&self, time: Duration) {
        let state = self.lock();
        let generation = state.generation;
        let is_open = |state: &mut State| state.generation == generation;
        drop(self.shared.changed.wait_timeout_while(state, time, is_open));
    }

    fn line(&self, mut state: MutexGuard<'_, State>, mut line: Value) -> u64 {
        let sequence = state.line(&mut line);
        drop(state);
        self.shared.changed.notify_all();
        sequence
    }
}
/// The hex signature of a body, as in `v1=`.
pub(crate) fn signature(secret: &str, seconds: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key will do");
    mac.update(format!("{seconds}.{body}").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// This machine's clock plus an offset, in microseconds.
fn micros(offset: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(now.as_micros()).expect("it is before the year 294247") + offset
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Answers each element separately.
fn each(elements: &Value, answer: impl FnMut(&Value) -> Value) -> (u16, Value) {
    match list(elements) {
        elements if (1..=MAX_BATCH).contains(&elements.len()) => {
            (200, json!({"results": elements.iter().map(answer).collect::<Vec<_>>()}))
        }
        elements => (400, json!({"error": format!("{} in a request", elements.len())})),
    }
}
