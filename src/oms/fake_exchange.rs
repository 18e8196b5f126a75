//! A scripted exchange over real TCP for the unit tests: keeps records of orders, and misbehaves on
//! demand.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::exchange::wire::{
    CancelRequest, ExchangeStatus, QueryExecution, QueryRequest, QueryResult, Refusal,
    SubmitRequest, WebhookRequest,
};
use crate::types::ExternalOrderId;

/// What the exchange does wrong with the next submit request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Takes the orders and cuts the connection without an answer.
    TakeAndCut,
    /// Takes the orders and answers with something that is not JSON.
    TakeAndBabble,
    /// Takes nothing and cuts the connection.
    Cut,
    /// Refuses every order.
    Refuse,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) orders: BTreeMap<String, QueryResult>,
    pub(super) faults: VecDeque<Fault>,
    /// Requests taken, by path.
    pub(super) requests: BTreeMap<String, usize>,
    /// While set, queries are cut.
    pub(super) mute_queries: bool,
    /// While set, queries get something that is not JSON.
    pub(super) babble_queries: bool,
    /// While set, cancels take effect and their connections are cut.
    pub(super) mute_cancels: bool,
    /// The address of each connection's peer.
    pub(super) peers: Vec<IpAddr>,
    /// While set, submits wait.
    pub(super) hold_submits: bool,
    /// While set, every request is cut.
    pub(super) mute_all: bool,
    /// The ids of each cancel request.
    pub(super) cancel_batches: Vec<Vec<ExternalOrderId>>,
    /// The webhook URLs registered, one per registration.
    pub(super) webhooks: Vec<String>,
}

pub(super) struct FakeExchange {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    book: Mutex<Book>,
    changed: Condvar,
    closed: AtomicBool,
}

impl FakeExchange {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if serving.closed.load(Ordering::Acquire) {
                    return;
                }
                let shared = Arc::clone(&serving);
                let peer = connection.as_ref().unwrap().peer_addr().unwrap().ip();
                shared.book.lock().unwrap().peers.push(peer);
                std::thread::spawn(move || serve(connection.unwrap(), &shared));
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Reads or changes the records.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Book) -> R) -> R {
        let result = work(&mut self.shared.book.lock().unwrap());
        self.shared.changed.notify_all();
        result
    }

    /// Waits until the records are as wanted.
    pub(super) fn wait_until(&self, mut wanted: impl FnMut(&Book) -> bool) {
        let mut book = self.shared.book.lock().unwrap();
        while !wanted(&book) {
            book = self.shared.changed.wait(book).unwrap();
        }
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.with(|book| book.faults.push_back(fault));
    }

    pub(super) fn requests(&self, path: &str) -> usize {
        self.with(|book| book.requests.get(path).copied().unwrap_or(0))
    }
}

impl Drop for FakeExchange {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        let _woken = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap();
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some((path, body)) = read_request(&mut reader) {
        let answer = {
            let mut book = shared.book.lock().unwrap();
            while book.hold_submits && path == "/v1/orders" {
                book = shared.changed.wait(book).unwrap();
            }
            *book.requests.entry(path.clone()).or_default() += 1;
            answer(&mut book, &path, &body)
        };
        shared.changed.notify_all();
        let Some(answer) = answer else { return };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        if writer.write_all(format!("{head}{answer}").as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, body))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body).unwrap()
}

fn results<T: Serialize>(results: Vec<T>) -> Option<String> {
    Some(json!({ "results": results }).to_string())
}

/// `None` cuts the connection.
fn answer(book: &mut Book, path: &str, body: &[u8]) -> Option<String> {
    if book.mute_all {
        return None;
    }
    match path {
        "/v1/orders" => submit(book, parse(body)),
        "/v1/cancels" => cancel(book, &parse(body)),
        "/v1/orders/query" => query(book, parse(body)),
        "/v1/webhooks" => {
            book.webhooks.push(parse::<WebhookRequest>(body).url);
            Some(String::new())
        }
        _ => panic!("no such path: {path}"),
    }
}

fn submit(book: &mut Book, request: SubmitRequest) -> Option<String> {
    let fault = book.faults.pop_front();
    if fault == Some(Fault::Cut) {
        return None;
    }
    let mut answers = Vec::new();
    for order in request.orders {
        let id = order.client_order_id;
        if fault == Some(Fault::Refuse) {
            let error = json!({"code": "halted", "message": "not now"});
            answers.push(json!({"clientOrderId": id, "error": error}));
            continue;
        }
        let external_order_id = format!("X-{}", book.orders.len());
        let record = QueryResult {
            client_order_id: id.clone(),
            external_order_id: ExternalOrderId::new(&external_order_id).ok(),
            status: ExchangeStatus::Open,
            filled_shares: 0,
            executions: Vec::new(),
            error: None,
            as_of: None,
        };
        let before = book.orders.insert(id.to_string(), record);
        assert!(before.is_none(), "an order is never submitted twice");
        answers.push(json!({"clientOrderId": id, "externalOrderId": external_order_id}));
    }
    match fault {
        Some(Fault::TakeAndCut) => None,
        Some(Fault::TakeAndBabble) => Some("<html>".to_owned()),
        Some(Fault::Refuse | Fault::Cut) | None => results(answers),
    }
}

fn cancel(book: &mut Book, request: &CancelRequest) -> Option<String> {
    book.cancel_batches.push(request.external_order_ids.clone());
    let mut answers = Vec::new();
    for id in &request.external_order_ids {
        let order = book.orders.values_mut().find(|o| o.external_order_id.as_ref() == Some(id));
        let refusal = |code: &str| Some(Refusal { code: code.into(), message: "no".into() });
        let (status, error) = match order {
            None => (None, refusal("unknown")),
            Some(order) => match order.status {
                ExchangeStatus::Open => {
                    order.status = ExchangeStatus::Cancelled;
                    (Some(ExchangeStatus::Cancelled), None)
                }
                ExchangeStatus::Filled => (None, refusal("filled")),
                _ => (None, refusal("already_cancelled")),
            },
        };
        answers.push(json!({"externalOrderId": id, "status": status, "error": error}));
    }
    if book.mute_cancels { None } else { results(answers) }
}

fn query(book: &Book, request: QueryRequest) -> Option<String> {
    if book.mute_queries {
        return None;
    }
    if book.babble_queries {
        return Some("<html>".to_owned());
    }
    let unknown = |id| QueryResult {
        client_order_id: id,
        external_order_id: None,
        status: ExchangeStatus::Unknown,
        filled_shares: 0,
        executions: Vec::new(),
        error: None,
        as_of: None,
    };
    let ids = request.client_order_ids.into_iter();
    let record = |id: compact_str::CompactString| {
        book.orders.get(id.as_str()).cloned().unwrap_or_else(|| unknown(id))
    };
    results(ids.map(record).collect())
}

/// Fills an order in the exchange's records, without reporting it.
pub(super) fn fill(order: &mut QueryResult, execution: QueryExecution, is_all: bool) {
    order.filled_shares += execution.num_shares;
    order.executions.push(execution);
    if is_all {
        order.status = ExchangeStatus::Filled;
    }
}
