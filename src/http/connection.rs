//! Serves one connection through hyper, with deadlines for idleness and request heads, until it
//! ends or its socket leaves hyper as a stream.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use http::{Request, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use crate::metrics::Gauge;
use crate::runtime::{FirstRead, HyperIo, TcpStream, sleep, spawn_local};
use crate::stream::{Hub, StreamRequest};

use super::limits::HttpLimits;
use super::metrics::HttpMetrics;
use super::problem::Problem;
use super::relay::Relay;
use super::reply::Reply;

/// Most bytes of a request head or a response that hyper buffers.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;

/// Most bytes discarded after a response to a request whose body was not read.
const MAX_LINGER_BYTES: usize = 32 * 1024 * 1024;
/// How long such a connection stays open for that.
const LINGER: Duration = Duration::from_secs(3);
/// Longest interval between checks of the deadlines.
const DEADLINE_POLL: Duration = Duration::from_secs(10);

/// How the connection ended.
enum End {
    /// hyper finished.
    Finished(hyper::Result<()>),
    /// The socket leaves hyper.
    Leave(Departure),
    /// A deadline passed: the connection was idle, or a request head took too long.
    Idle,
    /// The client shut down its side before its request became a stream.
    HalfClosed,
}

enum Departure {
    Stream(StreamRequest),
    Relay(Box<Relay>),
    Bytes(Vec<u8>),
}

/// When the connection last became idle; `None` while a request is in progress.
type IdleSince = Rc<Cell<Option<Instant>>>;

/// Serves one connection until it ends or becomes a stream of the hub.
pub(super) async fn serve_connection<F>(
    stream: TcpStream,
    limits: HttpLimits,
    metrics: HttpMetrics,
    hub: Option<Rc<RefCell<Hub>>>,
    handle: impl Fn(Request<Incoming>) -> F,
) where
    F: Future<Output = Reply>,
{
    let departure: Rc<RefCell<Option<Departure>>> = Rc::default();
    let idle_since: IdleSince = Rc::new(Cell::new(Some(Instant::now())));
    let io = HyperIo::new(stream);
    let first_read = io.first_read();
    let had_body = Rc::new(Cell::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        metrics.requests.inc();
        idle_since.set(None);
        had_body.set(!request.body().is_end_stream());
        let handling = handle(request);
        let in_progress = InProgress::new(&metrics);
        let (departure, idle_since) = (Rc::clone(&departure), Rc::clone(&idle_since));
        let first_read = first_read.clone();
        async move {
            let reply = handling.await;
            drop(in_progress);
            let leaving = match reply {
                Reply::Response(response) => {
                    first_read.forget();
                    idle_since.set(Some(Instant::now()));
                    return Ok::<_, Infallible>(response);
                }
                Reply::Stream(request) => Departure::Stream(request),
                Reply::Relay(relay) => Departure::Relay(relay),
                Reply::Bytes(bytes) => Departure::Bytes(bytes),
            };
            *departure.borrow_mut() = Some(leaving);
            // Never resolves: the connection leaves hyper meanwhile.
            pending().await
        }
    });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_BUFFER_BYTES).max_headers(MAX_HEADERS);
    let mut connection = builder.serve_connection(io, service);
    let driving = poll_fn(|context| match Pin::new(&mut connection).poll(context) {
        // It ends before the socket has left only if the client sends nothing more.
        Poll::Ready(outcome) => Poll::Ready(match departure.borrow_mut().take() {
            Some(_) => End::HalfClosed,
            None => End::Finished(outcome),
        }),
        Poll::Pending => match departure.borrow_mut().take() {
            Some(leaving) => Poll::Ready(End::Leave(leaving)),
            None => Poll::Pending,
        },
    });
    match or(driving, watch_idle(&idle_since, &first_read, limits)).await {
        End::Finished(Ok(())) if had_body.get() => linger(connection.into_parts().io).await,
        End::Finished(Ok(())) => {}
        End::Finished(Err(error)) => {
            metrics.broken_connections.inc();
            tracing::debug!(%error, "a connection failed");
            // To any other broken head hyper answers itself.
            if error.is_parse_version_h2() {
                refuse(connection.into_parts().io, BARE_400).await;
            }
        }
        End::HalfClosed => {
            metrics.broken_connections.inc();
            refuse_half_closed(connection.into_parts().io).await;
        }
        End::Idle => {
            metrics.idle_closed.inc();
        }
        End::Leave(departure) => {
            let parts = connection.into_parts();
            // A pending response would be lost with hyper's buffer.
            if parts.io.write_blocked() {
                metrics.broken_connections.inc();
                return;
            }
            // A stream cannot serve a second request. Line ends after a body are allowed (RFC 9112,
            // section 2.2).
            if parts.read_buf.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
                metrics.broken_connections.inc();
                let detail = "A stream must be the last request of its connection.";
                refuse(parts.io, &stream_refusal("pipelined_request", detail)).await;
                return;
            }
            match departure {
                Departure::Stream(_) | Departure::Relay(_) if parts.io.has_ended() => {
                    metrics.broken_connections.inc();
                    refuse_half_closed(parts.io).await;
                }
                Departure::Stream(request) => {
                    metrics.graduated.inc();
                    graduate(&parts.io, hub, request);
                }
                Departure::Relay(relay) => {
                    metrics.graduated.inc();
                    // A task of its own: a stream counts as no connection.
                    spawn_local(relay.run(parts.io)).detach();
                }
                Departure::Bytes(bytes) => {
                    let mut io = parts.io;
                    send_and_end(&mut io, &bytes).await;
                }
            }
        }
    }
}

/// Counts a request until it is answered, or its client hangs up.
struct InProgress(Gauge);

impl InProgress {
    fn new(metrics: &HttpMetrics) -> Self {
        metrics.in_progress.inc();
        Self(metrics.in_progress.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Enforces the idle and head timeouts. hyper's own header timeout needs a `Send` timer, which
/// glommio's is not.
async fn watch_idle(
    idle_since: &Cell<Option<Instant>>,
    first_read: &FirstRead,
    limits: HttpLimits,
) -> End {
    loop {
        let left = match (idle_since.get(), first_read.get()) {
            (None, _) => limits.idle,
            (Some(since), None) => limits.idle.saturating_sub(since.elapsed()),
            (Some(_), Some(began)) => limits.head.saturating_sub(began.elapsed()),
        };
        if left.is_zero() {
            return End::Idle;
        }
        sleep(left.min(DEADLINE_POLL)).await;
    }
}

/// Lets a client that is still sending read its response: closing a socket with unread data resets
/// the connection and destroys the response (RFC 9112, section 9.6). hyper has shut down the write
/// side already.
async fn linger(mut io: HyperIo) {
    let reading = async {
        // An error means that the client is gone, which ends the wait too.
        let _broken = io.discard(MAX_LINGER_BYTES).await;
    };
    let waiting = async {
        sleep(LINGER).await;
    };
    or(reading, waiting).await;
}

/// Moves the socket to the hub. The executor's stream is dropped with `io`; the duplicated
/// descriptor stays open.
fn graduate(io: &HyperIo, hub: Option<Rc<RefCell<Hub>>>, request: StreamRequest) {
    let adopted = match (io.duplicate(), hub) {
        (Ok(descriptor), Some(hub)) => {
            hub.borrow_mut().adopt(descriptor, request).map_err(|error| format!("{error:?}"))
        }
        (Err(error), _) => Err(error.to_string()),
        (_, None) => Err("this listener serves no streams".to_owned()),
    };
    if let Err(error) = adopted {
        tracing::warn!(%error, "a socket cannot become a stream");
    }
}

/// The answer to what is not HTTP/1.1.
const BARE_400: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The answer to a request whose connection cannot become a stream. hyper is gone by then.
fn stream_refusal(code: &'static str, detail: &str) -> Vec<u8> {
    let body = Problem::new(StatusCode::BAD_REQUEST, code, detail).into_document().to_string();
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n\
         cache-control: no-store\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn refuse_half_closed(io: HyperIo) {
    let detail = "A stream ends when its client shuts down its side of the connection.";
    refuse(io, &stream_refusal("half_closed", detail)).await;
}

/// Answers and closes, so that the client can read the answer.
async fn refuse(mut io: HyperIo, answer: &[u8]) {
    send_and_end(&mut io, answer).await;
    linger(io).await;
}

async fn send_and_end(io: &mut HyperIo, bytes: &[u8]) {
    if io.send_all(bytes).await.is_ok() {
        io.end().await;
    }
}
