//! A scripted exchange: each print is caused by a call, and nothing else happens. It takes no orders.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Interval of the feed's heartbeats, as in the contract.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The exchange; it ends when dropped.
pub(crate) struct Market {
    /// `http://host:port`.
    pub address: String,
    listen: SocketAddr,
    book: Arc<Book>,
    /// Dropping it closes every connection; `None` while the exchange is down.
    runtime: Option<Runtime>,
}

struct Book {
    symbols: Vec<String>,
    session: Mutex<Session>,
    /// Changes with each line.
    grown: watch::Sender<u64>,
}

struct Session {
    number: u64,
    /// The lines of the session; the first is number 1.
    lines: Vec<String>,
}

impl Market {
    /// Starts an exchange with these symbols on a free port.
    pub(crate) fn start(symbols: &[&str]) -> Self {
        let book = Book {
            symbols: symbols.iter().map(|&name| name.to_owned()).collect(),
            session: Mutex::new(Session { number: 1, lines: Vec::new() }),
            grown: watch::Sender::new(0),
        };
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut market =
            Self { address: String::new(), listen, book: Arc::new(book), runtime: None };
        market.come_back();
        market.address = format!("http://{}", market.listen);
        market
    }

    /// Prints a trade on the feed; returns its sequence.
    pub(crate) fn print(&self, symbol: &str, price_cents: i64) -> u64 {
        let mut session = self.book.lock();
        let sequence = session.lines.len() as u64 + 1;
        let line = json!({
            "sequence": sequence, "type": "trade", "executionId": format!("e{sequence}"),
            "symbol": symbol, "priceInCents": price_cents, "numShares": 100,
            "timestamp": now_micros(),
        });
        session.lines.push(format!("{line}\n"));
        drop(session);
        self.book.grown.send_modify(|lines| *lines += 1);
        sequence
    }

    /// The name of the feed session.
    pub(crate) fn session(&self) -> String {
        self.book.lock().number.to_string()
    }

    /// Drops all lines and begins a new session; readers of the old one are disconnected.
    pub(crate) fn begin_session(&mut self) {
        self.go_away();
        let mut session = self.book.lock();
        *session = Session { number: session.number + 1, lines: Vec::new() };
        drop(session);
        self.come_back();
    }

    /// Closes every connection and stops listening.
    pub(crate) fn go_away(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(HEARTBEAT);
        }
    }

    /// Listens again at the same address.
    pub(crate) fn come_back(&mut self) {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind(self.listen));
        let listener = listener.expect("the port is free");
        self.listen = listener.local_addr().expect("an address");
        let routes = Router::new()
            .route("/v1/symbols", get(symbols))
            .route("/v1/feed", get(feed))
            .with_state(Arc::clone(&self.book));
        runtime.spawn(async { axum::serve(listener, routes).await });
        self.runtime = Some(runtime);
    }
}

impl Drop for Market {
    fn drop(&mut self) {
        self.go_away();
    }
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn symbols(State(book): State<Arc<Book>>) -> axum::Json<Value> {
    let info = |symbol: &String| {
        json!({
            "symbol": symbol, "previousCloseInCents": 100, "source": "the test",
            "sessionOpen": 0, "sessionClose": u32::MAX,
        })
    };
    axum::Json(json!({ "symbols": book.symbols.iter().map(info).collect::<Vec<_>>() }))
}

#[derive(Deserialize)]
struct FeedQuery {
    session: Option<String>,
    from: Option<u64>,
}

async fn feed(State(book): State<Arc<Book>>, Query(query): Query<FeedQuery>) -> Response {
    let (number, last) = {
        let session = book.lock();
        (session.number, session.lines.len() as u64)
    };
    let from = query.from.unwrap_or(last + 1);
    if query.session.is_some_and(|name| name != number.to_string()) || from > last + 1 {
        return StatusCode::GONE.into_response();
    }
    let first = json!({"type": "session", "session": number.to_string(), "sequence": from - 1});
    let grown = book.grown.subscribe();
    let reader = FeedReader { book, grown, first: Some(format!("{first}\n")), next: from };
    let lines = futures_lite::stream::unfold(reader, |mut reader| async {
        let bytes = reader.read().await;
        Some((Ok::<_, Infallible>(bytes), reader))
    });
    Body::from_stream(lines).into_response()
}

struct FeedReader {
    book: Arc<Book>,
    grown: watch::Receiver<u64>,
    /// The session line, until it is sent.
    first: Option<String>,
    /// Sequence of the next line.
    next: u64,
}

impl FeedReader {
    async fn read(&mut self) -> Bytes {
        if let Some(first) = self.first.take() {
            return first.into();
        }
        loop {
            self.grown.borrow_and_update();
            let passed = usize::try_from(self.next - 1).expect("a place in memory");
            let news: String = self.book.lock().lines.iter().skip(passed).map(|s| &**s).collect();
            if !news.is_empty() {
                self.next += news.lines().count() as u64;
                return news.into();
            }
            if tokio::time::timeout(HEARTBEAT, self.grown.changed()).await.is_err() {
                let last = self.next - 1;
                let beat =
                    json!({"sequence": last, "type": "heartbeat", "timestamp": now_micros()});
                return format!("{beat}\n").into();
            }
        }
    }
}

fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(since.as_micros()).expect("it is before the end of time")
}
