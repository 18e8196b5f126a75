//! An exchange of independent make, written from the contract alone (`/v1/...`, HTTP/1.1 and JSON)
//! and not from the program's own exchange folder, so that a misunderstanding shows. It runs inside
//! the test, keeps a real book, and is honest until a test says otherwise:
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
//! Orders are named by the client's id (`client_id`, Longbow's `orderId`) in every method. Nothing
//! is locked while a hook runs, so it may use the venue.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use ureq::http::Request as HttpRequest;

use super::{PATIENCE, api};

pub const SUBMIT: &str = "/v1/orders";
pub const CANCEL: &str = "/v1/cancels";
pub const QUERY: &str = "/v1/orders/query";
pub const SYMBOLS: &str = "/v1/symbols";
/// A hook here decides about the head and the session line of an answer; the lines follow.
pub const FEED: &str = "/v1/feed";
pub const EXECUTIONS: &str = "/v1/executions";
pub const WEBHOOKS: &str = "/v1/webhooks";

/// Most orders in a request.
const MAX_BATCH: usize = 256;

/// What a test may change at any time with [`Venue::set`].
#[derive(Debug, Clone)]
pub struct Options {
    /// What `GET /v1/symbols` lists.
    pub symbols: Vec<Value>,
    /// Why every new order is refused, where it is.
    pub rejects: Option<(String, String)>,
    /// Records say by `asOf` up to which feed line they are complete.
    pub as_of: bool,
    /// Records are as they were so long ago, `asOf` as well.
    pub record_lag: Duration,
    /// How far this exchange's clock is ahead, in microseconds.
    pub clock_offset_micros: i64,
    pub heartbeat: Option<Duration>,
    /// Lines with an order come by the feed.
    pub orders_on_feed: bool,
    /// Lines with an order are posted to whoever registered.
    pub webhook: bool,
    /// `GET /v1/executions` is offered.
    pub lists_executions: bool,
    /// Another session than the present one, or too old a place, gets `410`; else a `200` with the
    /// present session and everything that is kept of it.
    pub gone: bool,
    /// Lines of the session that are still kept are those after this sequence.
    pub kept_after: u64,
    /// The feed is chunked; else its end is the connection's.
    pub chunked: bool,
}

/// An execution in the exchange's record.
#[derive(Debug, Clone)]
pub struct Execution {
    pub id: String,
    pub price_cents: u64,
    pub shares: u64,
    pub timestamp: i64,
}

/// An order in the book.
#[derive(Debug, Clone)]
pub struct Order {
    pub client_id: String,
    pub external_id: String,
    /// As it was submitted.
    pub terms: Value,
    /// `open`, `filled`, `cancelled`, `expired` or `rejected`.
    pub status: String,
    pub executions: Vec<Execution>,
    /// The first answer to its submit.
    answer: Value,
    /// Its record at each change.
    history: Vec<(Instant, Value)>,
}

impl Order {
    pub fn symbol(&self) -> &str {
        self.terms["symbol"].as_str().expect("it was looked at")
    }

    pub fn shares(&self) -> u64 {
        self.terms["numShares"].as_u64().expect("it was looked at")
    }

    pub fn filled_shares(&self) -> u64 {
        self.executions.iter().map(|execution| execution.shares).sum()
    }

    fn record(&self) -> Value {
        let executions: Vec<Value> = self.executions.iter().map(Execution::json).collect();
        let mut record = json!({"clientOrderId": self.client_id, "status": self.status,
            "filledShares": self.filled_shares(), "executions": executions});
        if self.status != "rejected" {
            record["externalOrderId"] = self.external_id.clone().into();
        }
        record
    }
}

impl Execution {
    pub fn json(&self) -> Value {
        json!({"executionId": self.id, "priceInCents": self.price_cents,
            "numShares": self.shares, "timestamp": self.timestamp})
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: HashMap<String, String>,
    /// Names in small letters.
    pub headers: HashMap<String, String>,
    pub body: Value,
    pub came: Instant,
    /// The first one to this path is 1.
    pub number: usize,
    venue: Venue,
    answer: Arc<OnceLock<(u16, Value)>>,
}

impl Request {
    /// Does what is asked, once, and returns the honest answer.
    pub fn answer(&self) -> Value {
        self.done().1.clone()
    }

    fn done(&self) -> &(u16, Value) {
        self.answer.get_or_init(|| self.venue.shared.serve(self))
    }

    /// The ids that a submit or a query names.
    pub fn client_ids(&self) -> Vec<String> {
        let orders = list(&self.body["orders"]).iter().map(|order| &order["clientOrderId"]);
        orders.chain(list(&self.body["clientOrderIds"])).filter_map(text).collect()
    }
}

impl std::fmt::Debug for Venue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Venue")
    }
}

/// What a hook makes of a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// The honest one.
    Default,
    /// `200` with this. On the feed: this session line, and the lines after it.
    Json(Value),
    Status(u16, Vec<(&'static str, String)>, String),
    /// These bytes, whatever they are; the connection stays.
    Raw(Vec<u8>),
    /// These bytes, then another reply.
    After(Vec<u8>, Box<Reply>),
    /// Another reply, so much later.
    Late(Duration, Box<Reply>),
    /// Another reply, a byte at a time with such a pause after each.
    Drip(Duration, Box<Reply>),
    /// So many bytes of another reply; then the connection ends.
    CutAfter(usize, Box<Reply>),
    /// The connection ends, and nothing was done.
    Cut,
    /// Nothing was done and nothing is said, on a connection that stays.
    Silence,
}

impl Reply {
    /// What is asked is done; its answer is lost with the connection.
    pub fn lost(request: &Request) -> Self {
        let _done = request.done();
        Self::Cut
    }

    /// What is asked is done; the answer is changed.
    pub fn edited(request: &Request, edit: impl FnOnce(&mut Value)) -> Self {
        let mut answer = request.answer();
        edit(&mut answer);
        Self::Json(answer)
    }

    pub fn late(by: Duration) -> Self {
        Self::Late(by, Box::new(Self::Default))
    }
}

type Hook = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// The exchange; copies are the same one.
#[derive(Clone)]
pub struct Venue {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    hooks: Mutex<HashMap<&'static str, Hook>>,
}

struct FeedLine {
    sequence: u64,
    text: String,
    symbol: Option<String>,
    order: bool,
}

/// Everything that changes.
struct State {
    options: Options,
    orders: Vec<Order>,
    /// Records that are shown instead of the true ones, by the client's id.
    shown: HashMap<String, Value>,
    /// Ids that a coming order gets instead of a fresh one.
    next_external_ids: Vec<String>,
    session: String,
    sequence: u64,
    /// Of the present session.
    lines: Vec<FeedLine>,
    /// Where the feed was, for records that lag.
    positions: Vec<(Instant, String, u64)>,
    /// Feeds of an earlier one end.
    feed_generation: u64,
    made: u64,
    requests: Vec<Request>,
    webhook: Option<(String, String)>,
    posts: Vec<(Value, u16)>,
    doors: Vec<Door>,
    /// Connections of an earlier one end.
    generation: u64,
    connections: Vec<TcpStream>,
    addresses: Vec<SocketAddr>,
}

struct Door {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Default for State {
    fn default() -> Self {
        let start = micros(0);
        let hour = 3_600_000_000;
        let symbol = |name: &&str| {
            json!({"symbol": name, "previousCloseInCents": 10_000, "openInCents": 10_000,
                "sessionOpen": start - hour, "sessionClose": start + 8 * hour, "source": "a test"})
        };
        let options = Options {
            symbols: ["AAPL", "IBM", "META", "SPY", "TSLA"].iter().map(symbol).collect(),
            rejects: None,
            as_of: true,
            record_lag: Duration::ZERO,
            clock_offset_micros: 0,
            heartbeat: Some(Duration::from_secs(1)),
            orders_on_feed: true,
            webhook: false,
            lists_executions: false,
            gone: true,
            kept_after: 0,
            chunked: true,
        };
        let session = "venue-1".to_owned();
        Self {
            options,
            positions: vec![(Instant::now(), session.clone(), 0)],
            session,
            orders: Vec::new(),
            shown: HashMap::new(),
            next_external_ids: Vec::new(),
            sequence: 0,
            lines: Vec::new(),
            feed_generation: 0,
            made: 0,
            requests: Vec::new(),
            webhook: None,
            posts: Vec::new(),
            doors: Vec::new(),
            generation: 0,
            connections: Vec::new(),
            addresses: Vec::new(),
        }
    }
}

/// The test's side.
impl Venue {
    /// Starts it on a free port of 127.0.0.1 with five symbols.
    pub fn start() -> Self {
        Self::start_at(&super::ports::free_address())
    }

    pub fn start_at(listen: &str) -> Self {
        let venue = Self { shared: Arc::default() };
        venue.listen(listen);
        let posting = venue.clone();
        std::thread::spawn(move || posting.post_for_ever());
        venue
    }

    /// `http://host:port` of the door that was opened last, also when it is closed now.
    pub fn address(&self) -> String {
        let state = self.lock();
        format!("http://{}", state.addresses.last().expect("a door was opened"))
    }

    /// Opens a door, beside those that are open.
    pub fn listen(&self, listen: &str) -> String {
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
        state.doors.push(Door { address, accepting });
        state.addresses.push(address);
        format!("http://{address}")
    }

    /// Closes all doors and cuts all connections; the book stays. [`Self::listen`] opens it again,
    /// there or elsewhere.
    pub fn close(&self) {
        let mut state = self.lock();
        state.generation += 1;
        state.feed_generation += 1;
        let doors = std::mem::take(&mut state.doors);
        cut_all(&mut state.connections);
        drop(state);
        self.shared.changed.notify_all();
        for door in doors {
            // Wakes it up; it may have ended on its own.
            let _woken = TcpStream::connect(door.address);
            door.accepting.join().expect("a door closes");
        }
    }

    pub fn set(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.lock().options);
        self.shared.changed.notify_all();
    }

    /// Decides from now on about the requests to a path.
    pub fn on(&self, path: &'static str, hook: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        let mut hooks = self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        hooks.insert(path, Arc::new(hook));
    }

    /// Is honest again.
    pub fn off(&self, path: &'static str) {
        self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    pub fn on_submit(&self, hook: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.on(SUBMIT, hook);
    }

    pub fn on_query(&self, hook: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.on(QUERY, hook);
    }

    pub fn on_cancel(&self, hook: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.on(CANCEL, hook);
    }

    pub fn on_symbols(&self, hook: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.on(SYMBOLS, hook);
    }

    pub fn on_feed_head(&self, hook: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.on(FEED, hook);
    }

    /// Every request to a path so far.
    pub fn requests(&self, path: &str) -> Vec<Request> {
        self.lock().requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    /// The same, once there are so many.
    pub fn await_requests(&self, path: &str, count: usize) -> Vec<Request> {
        self.wait_for(&format!("{count} requests to {path}"), |state| {
            let here: Vec<_> =
                state.requests.iter().filter(|request| request.path == path).collect();
            (here.len() >= count).then(|| here.into_iter().cloned().collect())
        })
    }

    /// Waits until so many more requests to a path than now have come.
    pub fn await_more_requests(&self, path: &str, more: usize) -> Vec<Request> {
        self.await_requests(path, self.requests(path).len() + more)
    }

    /// Waits for queries that name each of these orders, so many more than now.
    pub fn await_queries_of(&self, client_ids: &[&str], more: usize) {
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

    pub fn orders(&self) -> Vec<Order> {
        self.lock().orders.clone()
    }

    /// All orders, once there are so many.
    pub fn await_orders(&self, count: usize) -> Vec<Order> {
        self.wait_for(&format!("{count} orders"), |state| {
            (state.orders.len() >= count).then(|| state.orders.clone())
        })
    }

    pub fn order(&self, client_id: &str) -> Order {
        self.lock().order(client_id).clone()
    }

    /// An order by its client's id, once it is here.
    pub fn await_order(&self, client_id: &str) -> Order {
        self.wait_for(&format!("order {client_id}"), |state| {
            state.orders.iter().find(|order| order.client_id == client_id).cloned()
        })
    }

    /// The ids that the next orders get, whatever had them before.
    pub fn give_external_ids(&self, ids: &[&str]) {
        self.lock().next_external_ids.extend(ids.iter().map(|&id| id.to_owned()));
    }

    /// Shows another record of an order than the true one, until `None`.
    pub fn show(&self, client_id: &str, record: Option<Value>) {
        let mut state = self.lock();
        match record {
            Some(record) => state.shown.insert(client_id.to_owned(), record),
            None => state.shown.remove(client_id),
        };
    }

    /// The true record of an order, with its `asOf` where records have one.
    pub fn record(&self, client_id: &str) -> Value {
        self.lock().record_at(client_id, Instant::now())
    }

    /// A print that belongs to no order of ours. Returns its sequence.
    pub fn trade(&self, symbol: &str, price_cents: u64, shares: u64) -> u64 {
        let mut state = self.lock();
        let id = state.make("T");
        self.line(
            state,
            json!({"type": "trade", "executionId": id, "symbol": symbol,
            "priceInCents": price_cents, "numShares": shares}),
        )
    }

    /// Fills an order, in its record and on the feed. Returns the execution's id.
    pub fn fill(&self, client_id: &str, price_cents: u64, shares: u64) -> String {
        let id = self.fill_quietly(client_id, price_cents, shares);
        self.fill_line(client_id, &id, price_cents, shares);
        id
    }

    /// Fills an order in its record alone.
    pub fn fill_quietly(&self, client_id: &str, price_cents: u64, shares: u64) -> String {
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

    /// The feed line of a fill alone. Returns its sequence.
    pub fn fill_line(
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

    /// Takes an execution back, in the record and on the feed.
    pub fn bust(&self, execution: &str) {
        let (client_id, gone) = self.bust_quietly(execution);
        let state = self.lock();
        let order = state.order(&client_id);
        let line = json!({"type": "bust", "executionId": gone.id, "symbol": order.symbol(),
            "priceInCents": gone.price_cents, "numShares": gone.shares,
            "orderId": order.external_id});
        self.line(state, line);
    }

    /// Takes an execution back in the record alone. Returns whose it was.
    pub fn bust_quietly(&self, execution: &str) -> (String, Execution) {
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

    /// Ends an order unasked: `cancelled` or `expired`, in the record and on the feed.
    pub fn end_order(&self, client_id: &str, status: &str) {
        let mut state = self.lock();
        state.end(client_id, status);
        let line = state.end_line(client_id);
        self.line(state, line);
    }

    /// Any line; `sequence` and `timestamp` are added where it has none. Returns the sequence.
    pub fn feed_line(&self, line: Value) -> u64 {
        self.line(self.lock(), line)
    }

    /// A line as it is, at the next sequence, which replaces `$SEQUENCE` in it. Returns the
    /// sequence.
    pub fn raw_feed_line(&self, text: &str) -> u64 {
        let mut state = self.lock();
        let sequence = state.sequence + 1;
        let text = text.replace("$SEQUENCE", &sequence.to_string());
        state.push(FeedLine { sequence, text, symbol: None, order: false });
        drop(state);
        self.shared.changed.notify_all();
        sequence
    }

    /// The present session of the feed and its last sequence.
    pub fn position(&self) -> (String, u64) {
        let state = self.lock();
        (state.session.clone(), state.sequence)
    }

    /// Numbers go on after this one.
    pub fn set_sequence(&self, sequence: u64) {
        self.lock().sequence = sequence;
    }

    /// Another session, at the sequence 0 and without lines; feeds of the old one end. The name may
    /// be the old one.
    pub fn new_session(&self, name: &str) {
        let mut state = self.lock();
        name.clone_into(&mut state.session);
        state.sequence = 0;
        state.options.kept_after = 0;
        state.lines.clear();
        state.note_position();
        drop(state);
        self.cut_feed();
    }

    /// Ends every feed; the lines are kept.
    pub fn cut_feed(&self) {
        self.lock().feed_generation += 1;
        self.shared.changed.notify_all();
    }

    /// Every batch that was posted, with the answer's status; 0 for none.
    pub fn posts(&self) -> Vec<(Value, u16)> {
        self.lock().posts.clone()
    }

    /// Waits until the state of the book answers.
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

    fn line(&self, mut state: MutexGuard<'_, State>, mut line: Value) -> u64 {
        let sequence = state.line(&mut line);
        drop(state);
        self.shared.changed.notify_all();
        sequence
    }
}

impl State {
    fn make(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}{}", self.made)
    }

    /// The exchange's clock.
    fn now(&self) -> i64 {
        micros(self.options.clock_offset_micros)
    }

    fn order(&self, client_id: &str) -> &Order {
        let found = self.orders.iter().find(|order| order.client_id == client_id);
        found.unwrap_or_else(|| panic!("no order {client_id}"))
    }

    fn order_mut(&mut self, client_id: &str) -> &mut Order {
        let found = self.orders.iter_mut().find(|order| order.client_id == client_id);
        found.unwrap_or_else(|| panic!("no order {client_id}"))
    }

    /// Keeps the record of an order as it is now, for those who lag.
    fn remember(&mut self, client_id: &str) {
        let order = self.order_mut(client_id);
        let record = order.record();
        order.history.push((Instant::now(), record));
    }

    fn end(&mut self, client_id: &str, status: &str) {
        status.clone_into(&mut self.order_mut(client_id).status);
        self.remember(client_id);
    }

    fn end_line(&mut self, client_id: &str) -> Value {
        let order = self.order(client_id);
        json!({"type": order.status, "symbol": order.symbol(), "orderId": order.external_id})
    }

    fn line(&mut self, line: &mut Value) -> u64 {
        if line["sequence"].is_null() {
            line["sequence"] = (self.sequence + 1).into();
        }
        if line.get("timestamp").is_none() {
            line["timestamp"] = self.now().into();
        }
        let sequence = line["sequence"].as_u64().unwrap_or(self.sequence);
        let symbol = text(&line["symbol"]);
        self.push(FeedLine {
            sequence,
            text: line.to_string(),
            symbol,
            order: !line["orderId"].is_null(),
        });
        sequence
    }

    fn push(&mut self, line: FeedLine) {
        self.sequence = self.sequence.max(line.sequence);
        self.lines.push(line);
        self.note_position();
    }

    fn note_position(&mut self) {
        self.positions.push((Instant::now(), self.session.clone(), self.sequence));
    }

    /// What the record of an order was at a moment.
    fn record_at(&self, client_id: &str, moment: Instant) -> Value {
        if let Some(shown) = self.shown.get(client_id) {
            return shown.clone();
        }
        let order = self.orders.iter().find(|order| order.client_id == client_id);
        let past = order.and_then(|order| order.history.iter().rev().find(|(at, _)| *at <= moment));
        let mut record = past.map_or_else(
            || {
                json!({"clientOrderId": client_id, "status": "unknown", "filledShares": 0,
                "executions": []})
            },
            |(_, record)| record.clone(),
        );
        if self.options.as_of {
            let past = self.positions.iter().rev().find(|(at, ..)| *at <= moment);
            let (_, session, sequence) = past.unwrap_or(&self.positions[0]);
            record["asOf"] = json!({"session": session, "sequence": sequence});
        }
        record
    }

    fn submit(&mut self, terms: &Value) -> Value {
        let client_id = text(&terms["clientOrderId"]).unwrap_or_default();
        if let Some(known) = self.orders.iter().find(|order| order.client_id == client_id) {
            return known.answer.clone();
        }
        let refusal = self.refusal(terms);
        let external_id = match self.next_external_ids.is_empty() {
            true => self.make("X"),
            false => self.next_external_ids.remove(0),
        };
        let answer = match &refusal {
            Some((code, message)) => json!({"clientOrderId": client_id,
                "error": {"code": code, "message": message}}),
            None => json!({"clientOrderId": client_id, "externalOrderId": external_id}),
        };
        // What could not be an order is not kept as one.
        if client_id.is_empty() || refusal.as_ref().is_some_and(|(code, _)| code == "invalid_order")
        {
            return answer;
        }
        let status = if refusal.is_some() { "rejected" } else { "open" };
        self.orders.push(Order {
            client_id: client_id.clone(),
            external_id,
            terms: terms.clone(),
            status: status.to_owned(),
            executions: Vec::new(),
            answer: answer.clone(),
            history: Vec::new(),
        });
        self.remember(&client_id);
        answer
    }

    /// Why an order is not taken.
    fn refusal(&self, terms: &Value) -> Option<(String, String)> {
        let is_known = [
            "clientOrderId",
            "side",
            "symbol",
            "type",
            "timeInForce",
            "numShares",
            "submitBefore",
            "limitPriceInCents",
        ];
        let fits = text(&terms["clientOrderId"]).is_some_and(|id| !id.is_empty())
            && ["buy", "sell"].contains(&terms["side"].as_str().unwrap_or_default())
            && ["day", "gtc"].contains(&terms["timeInForce"].as_str().unwrap_or_default())
            && terms["numShares"].as_u64().is_some_and(|shares| shares > 0)
            && match terms["type"].as_str() {
                Some("limit") => terms["limitPriceInCents"].as_u64().is_some_and(|price| price > 0),
                Some("market") => terms.get("limitPriceInCents").is_none(),
                _ => false,
            }
            && terms
                .as_object()
                .is_some_and(|terms| terms.keys().all(|name| is_known.contains(&name.as_str())));
        if !fits {
            return Some(("invalid_order".to_owned(), format!("not an order: {terms}")));
        }
        if !self.options.symbols.iter().any(|listed| listed["symbol"] == terms["symbol"]) {
            return Some(("unknown_symbol".to_owned(), "it is not listed".to_owned()));
        }
        match terms["submitBefore"].as_i64() {
            Some(deadline) if deadline >= self.now() => self.options.rejects.clone(),
            _ => Some(("too_late".to_owned(), "submitBefore has passed".to_owned())),
        }
    }

    fn cancel(&mut self, external_id: &str) -> Value {
        let mut alike = self.orders.iter().filter(|order| order.external_id == external_id);
        // Where ids are used again, the order that lives is meant.
        let open = alike.clone().find(|order| order.status == "open");
        let refused = |code: &str| {
            json!({"externalOrderId": external_id,
            "error": {"code": code, "message": "it cannot be cancelled"}})
        };
        let Some(order) = open else {
            return refused(match alike.next_back().map(|order| order.status.as_str()) {
                None | Some("rejected") => "unknown",
                Some("cancelled") => "already_cancelled",
                Some(other) => other,
            });
        };
        let client_id = order.client_id.clone();
        self.end(&client_id, "cancelled");
        let mut line = self.end_line(&client_id);
        self.line(&mut line);
        json!({"externalOrderId": external_id, "status": "cancelled"})
    }

    /// The answer to `GET /v1/executions`, all on one page.
    fn executions(&self) -> Value {
        let one = |order: &Order, execution: &Execution| {
            let mut listed = execution.json();
            listed["orderId"] = order.external_id.clone().into();
            listed["symbol"] = order.terms["symbol"].clone();
            listed["side"] = order.terms["side"].clone();
            listed["clientOrderId"] = order.client_id.clone().into();
            listed
        };
        let all = self
            .orders
            .iter()
            .flat_map(|order| order.executions.iter().map(move |execution| one(order, execution)));
        json!({"executions": all.collect::<Vec<_>>()})
    }

    /// The session line of a feed that begins after `from`, or why there is none.
    fn begin_feed(&self, request: &Request) -> Result<(Value, usize), u16> {
        let line = |sequence: u64| json!({"type": "session", "session": self.session, "sequence": sequence});
        let kept = self.options.kept_after;
        let after = |sequence: u64| {
            self.lines.iter().position(|line| line.sequence > sequence).unwrap_or(self.lines.len())
        };
        let from = request.query.get("from").and_then(|from| from.parse::<u64>().ok());
        let is_other = request.query.get("session").is_some_and(|session| *session != self.session);
        match from {
            None => Ok((line(self.sequence), self.lines.len())),
            // The first line that is wanted.
            Some(from) if !is_other && (kept + 1..=self.sequence + 1).contains(&from) => {
                Ok((line(from - 1), after(from - 1)))
            }
            Some(_) if self.options.gone => Err(410),
            Some(_) => Ok((line(kept), after(kept))),
        }
    }
}

/// The exchange's side.
impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a request asks for.
    fn serve(&self, request: &Request) -> (u16, Value) {
        let mut state = self.lock();
        let answer = match (request.method.as_str(), request.path.as_str()) {
            ("GET", SYMBOLS) => (200, json!({"symbols": state.options.symbols})),
            ("POST", SUBMIT) => each(&request.body["orders"], |terms| state.submit(terms)),
            ("POST", CANCEL) => each(&request.body["externalOrderIds"], |id| {
                state.cancel(&text(id).unwrap_or_default())
            }),
            ("POST", QUERY) => {
                let moment = Instant::now().checked_sub(state.options.record_lag);
                let moment = moment.expect("the machine has been up for longer");
                each(&request.body["clientOrderIds"], |id| {
                    state.record_at(&text(id).unwrap_or_default(), moment)
                })
            }
            ("POST", WEBHOOKS) => match (text(&request.body["url"]), text(&request.body["secret"]))
            {
                (Some(url), Some(secret)) => {
                    state.webhook = Some((url, secret));
                    (200, json!({}))
                }
                _ => (400, json!({"error": "url and secret are needed"})),
            },
            ("GET", EXECUTIONS) if state.options.lists_executions => (200, state.executions()),
            _ => (404, json!({"error": "there is no such thing"})),
        };
        drop(state);
        self.changed.notify_all();
        answer
    }
}

impl Venue {
    fn serve_connection(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut wire = Wire { stream, pause: Duration::ZERO, left: usize::MAX };
        while let Some(request) = self.read_request(&mut reader) {
            let hooks = self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner);
            let hook = hooks.get(request.path.as_str()).cloned();
            drop(hooks);
            let reply = hook.map_or(Reply::Default, |hook| hook(&request));
            let stays = self.reply(&mut wire, &request, reply).is_ok();
            if !stays || request.headers.get("connection").is_some_and(|value| value == "close") {
                break;
            }
            wire = Wire { pause: Duration::ZERO, left: usize::MAX, ..wire };
        }
        // The other side may have gone first.
        let _gone = wire.stream.shutdown(Shutdown::Both);
    }

    fn read_request(&self, reader: &mut BufReader<TcpStream>) -> Option<Request> {
        let mut line = String::new();
        // Blank lines before a request mean nothing (RFC 9112, 2.2).
        while line.trim().is_empty() {
            line.clear();
            reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
        }
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = Vec::new();
        if let Some(length) = headers.get("content-length") {
            body.resize(length.parse().ok()?, 0);
            reader.read_exact(&mut body).ok()?;
        } else if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            body = read_chunks(reader)?;
        }
        let url = url::Url::parse("http://venue").ok()?.join(&target).ok()?;
        let path = url.path().to_owned();
        let mut state = self.lock();
        let request = Request {
            method,
            query: url.query_pairs().into_owned().collect(),
            headers,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            came: Instant::now(),
            number: state.requests.iter().filter(|request| request.path == path).count() + 1,
            path,
            venue: self.clone(),
            answer: Arc::default(),
        };
        state.requests.push(request.clone());
        drop(state);
        self.shared.changed.notify_all();
        Some(request)
    }

    /// Writes a reply. An error ends the connection.
    fn reply(&self, wire: &mut Wire, request: &Request, reply: Reply) -> std::io::Result<()> {
        match reply {
            Reply::Default if request.path == FEED => self.feed(wire, request, None),
            Reply::Json(session) if request.path == FEED => self.feed(wire, request, Some(session)),
            Reply::Default => {
                let (status, answer) = request.done();
                wire.send(&answer_bytes(*status, &[], &answer.to_string()))
            }
            Reply::Json(answer) => wire.send(&answer_bytes(200, &[], &answer.to_string())),
            Reply::Status(status, headers, body) => {
                wire.send(&answer_bytes(status, &headers, &body))
            }
            Reply::Raw(bytes) => wire.send(&bytes),
            Reply::After(bytes, then) => {
                wire.send(&bytes)?;
                self.reply(wire, request, *then)
            }
            Reply::Late(by, then) => {
                std::thread::sleep(by);
                self.reply(wire, request, *then)
            }
            Reply::Drip(pause, then) => {
                wire.pause = pause;
                self.reply(wire, request, *then)
            }
            Reply::CutAfter(bytes, then) => {
                wire.left = bytes;
                self.reply(wire, request, *then)?;
                Err(std::io::ErrorKind::ConnectionAborted.into())
            }
            Reply::Cut => Err(std::io::ErrorKind::ConnectionAborted.into()),
            Reply::Silence => {
                // Until the other side, or a cut, ends it.
                let _unread = std::io::copy(&mut wire.stream, &mut std::io::sink());
                Err(std::io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    /// The endless answer.
    fn feed(
        &self,
        wire: &mut Wire,
        request: &Request,
        session: Option<Value>,
    ) -> std::io::Result<()> {
        let state = self.lock();
        let begun = state.begin_feed(request);
        let generation = state.feed_generation;
        let is_chunked = state.options.chunked;
        drop(state);
        let (line, mut next) = match begun {
            Ok(begun) => begun,
            Err(status) => return wire.send(&answer_bytes(status, &[], "{}")),
        };
        let coding = if is_chunked { "Transfer-Encoding: chunked" } else { "Connection: close" };
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n{coding}\r\n\r\n");
        let first = session.unwrap_or(line);
        wire.send(head.as_bytes())?;
        wire.send_lines(&format!("{first}\n"), is_chunked)?;
        let symbols: Option<HashSet<&str>> = request
            .query
            .get("symbols")
            .filter(|list| !list.is_empty())
            .map(|list| list.split(',').collect());
        let mut beat = Instant::now();
        loop {
            let mut state = self.lock();
            let mut out = String::new();
            while state.feed_generation == generation && out.is_empty() {
                for line in &state.lines[next.min(state.lines.len())..] {
                    let is_wanted = line.order && state.options.orders_on_feed
                        || !line.order
                            && symbols.as_ref().is_none_or(|symbols| {
                                line.symbol.as_deref().is_none_or(|symbol| symbols.contains(symbol))
                            });
                    if is_wanted {
                        out.push_str(&line.text);
                        out.push('\n');
                    }
                }
                next = state.lines.len();
                let every = state.options.heartbeat;
                let due = every.map_or(PATIENCE, |every| every.saturating_sub(beat.elapsed()));
                if due.is_zero() {
                    beat = Instant::now();
                    let heartbeat = json!({"type": "heartbeat", "sequence": state.sequence,
                        "timestamp": state.now()});
                    out.push_str(&format!("{heartbeat}\n"));
                }
                if out.is_empty() {
                    let waited = self.shared.changed.wait_timeout(state, due);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
            if state.feed_generation != generation {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            drop(state);
            wire.send_lines(&out, is_chunked)?;
        }
    }

    /// Posts the lines of orders to whoever registered, in batches, until each is taken.
    fn post_for_ever(&self) {
        let mut posted: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            let mut state = self.lock();
            let (registered, body) = loop {
                let done = posted.entry(state.session.clone()).or_default();
                *done = (*done).min(state.lines.len());
                let new = state.lines[*done..].iter().filter(|line| line.order);
                let lines: Vec<Value> =
                    new.filter_map(|line| serde_json::from_str(&line.text).ok()).collect();
                let registered = state.webhook.clone().filter(|_| state.options.webhook);
                match registered {
                    Some(registered) if !lines.is_empty() => {
                        let body = json!({"session": state.session, "lines": lines});
                        posted.insert(state.session.clone(), state.lines.len());
                        break (registered, body);
                    }
                    _ => {
                        let waited = self.shared.changed.wait(state);
                        state = waited.unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(state);
            while !(200..300).contains(&self.post_to(&registered, &body)) {
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }

    fn post_to(&self, (url, secret): &(String, String), body: &Value) -> u16 {
        let text = body.to_string();
        let seconds = self.lock().now() / 1_000_000;
        let header = format!("t={seconds},v1={}", signature(secret, seconds, &text));
        let request = HttpRequest::post(url).header("X-Signature", header);
        let request = request.header("Content-Type", "application/json").body(text.into_bytes());
        let status = api::send(request.expect("a valid request")).map_or(0, |answer| answer.status);
        self.lock().posts.push((body.clone(), status));
        self.shared.changed.notify_all();
        status
    }
}

/// The way back, with its faults.
struct Wire {
    stream: TcpStream,
    pause: Duration,
    /// Bytes until it is cut.
    left: usize,
}

impl Wire {
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let bytes = &bytes[..bytes.len().min(self.left)];
        self.left -= bytes.len();
        if self.pause.is_zero() {
            self.stream.write_all(bytes)?;
        } else {
            for byte in bytes {
                self.stream.write_all(&[*byte])?;
                std::thread::sleep(self.pause);
            }
        }
        match self.left {
            0 => Err(std::io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }

    fn send_lines(&mut self, lines: &str, is_chunked: bool) -> std::io::Result<()> {
        match is_chunked {
            true => self.send(format!("{:x}\r\n{lines}\r\n", lines.len()).as_bytes()),
            false => self.send(lines.as_bytes()),
        }
    }
}

/// The hex signature of a body, as `v1=` has it.
pub fn signature(secret: &str, seconds: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key will do");
    mac.update(format!("{seconds}.{body}").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// This machine's clock and so much more, in microseconds.
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

/// Answers each element for itself.
fn each(elements: &Value, answer: impl FnMut(&Value) -> Value) -> (u16, Value) {
    match list(elements) {
        elements if (1..=MAX_BATCH).contains(&elements.len()) => {
            (200, json!({"results": elements.iter().map(answer).collect::<Vec<_>>()}))
        }
        elements => (400, json!({"error": format!("{} in a request", elements.len())})),
    }
}

fn answer_bytes(status: u16, headers: &[(&str, String)], body: &str) -> Vec<u8> {
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Test\r\nContent-Type: application/json\r\n{more}\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn read_chunks(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

fn cut_all(connections: &mut Vec<TcpStream>) {
    for connection in connections.drain(..) {
        // It may be closed already.
        let _gone = connection.shutdown(Shutdown::Both);
    }
}
