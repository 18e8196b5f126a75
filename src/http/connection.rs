use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use http::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use crate::metrics::Gauge;
use crate::runtime::{FirstRead, HyperIo, TcpStream, sleep};
use crate::stream::{Hub, StreamRequest};

use super::limits::HttpLimits;
use super::metrics::HttpMetrics;
use super::reply::Reply;

/// Most bytes that hyper buffers of a request head or an answer.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;

/// Most bytes that are read behind an answer only to forget them: of a body that was refused unread.
const MAX_LINGER_BYTES: usize = 32 * 1024 * 1024;
/// How long such a connection lives on.
const LINGER: Duration = Duration::from_secs(3);
/// Longest time between two looks at how long the head of a request takes.
const HEAD_LOOK: Duration = Duration::from_secs(10);

/// How one connection ended.
enum End {
    /// hyper is done with it.
    Finished(hyper::Result<()>),
    /// A request asks to leave hyper with the socket.
    Leave(Departure),
    /// Nothing happened for too long.
    Idle,
}

enum Departure {
    Stream(StreamRequest),
    Bytes(Vec<u8>),
}

/// When the connection last did something; `None` while a request is in progress.
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
                Reply::Bytes(bytes) => Departure::Bytes(bytes),
            };
            *departure.borrow_mut() = Some(leaving);
            // Never answered: the connection leaves hyper while this waits.
            pending().await
        }
    });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_BUFFER_BYTES).max_headers(MAX_HEADERS);
    let mut connection = builder.serve_connection(io, service);
    let driving = poll_fn(|context| match Pin::new(&mut connection).poll(context) {
        Poll::Ready(outcome) => Poll::Ready(End::Finished(outcome)),
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
            tracing::debug!(%error, "a connection broke off");
        }
        End::Idle => {
            metrics.idle_closed.inc();
        }
        End::Leave(departure) => {
            let parts = connection.into_parts();
            // Answers that are not out yet would be lost with hyper's buffer, and a stream has no
            // use for a second request: such a client has broken the contract. Line ends behind a
            // body are none (RFC 9112, section 2.2).
            let asks_more = parts.read_buf.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
            if parts.io.write_blocked() || asks_more {
                metrics.broken_connections.inc();
                return;
            }
            match departure {
                Departure::Stream(request) => {
                    metrics.graduated.inc();
                    graduate(&parts.io, hub, request);
                }
                Departure::Bytes(bytes) => send_and_end(parts.io, &bytes).await,
            }
        }
    }
}

/// Counts a request for as long as it has no answer, also when its client hangs up on it.
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

/// hyper's own header timeout needs a timer that is `Send`, which glommio's is not.
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
        sleep(left.min(HEAD_LOOK)).await;
    }
}

/// Lets a client read its answer that still sends: closing with something unread resets the
/// connection, and takes the answer away (RFC 9112, section 9.6). hyper has ended the way to the
/// client already.
async fn linger(mut io: HyperIo) {
    let reading = async {
        // It is gone, which is what this waits for.
        let _broken = io.discard(MAX_LINGER_BYTES).await;
    };
    let waiting = async {
        sleep(LINGER).await;
    };
    or(reading, waiting).await;
}

/// Hands the socket to the hub. The executor's stream is dropped with `io`; the duplicate lives on.
fn graduate(io: &HyperIo, hub: Option<Rc<RefCell<Hub>>>, request: StreamRequest) {
    let adopted = match (io.duplicate(), hub) {
        (Ok(descriptor), Some(hub)) => {
            hub.borrow_mut().adopt(descriptor, request).map_err(|error| format!("{error:?}"))
        }
        (Err(error), _) => Err(error.to_string()),
        (_, None) => Err("this listener has no streams".to_owned()),
    };
    if let Err(error) = adopted {
        tracing::warn!(%error, "a stream was not taken over");
    }
}

async fn send_and_end(mut io: HyperIo, bytes: &[u8]) {
    use hyper::rt::Write;
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match poll_fn(|context| Pin::new(&mut io).poll_write(context, rest)).await {
            Ok(written) if written > 0 => sent += written,
            _ => return,
        }
    }
    // The client has closed already if this fails.
    let _closed = poll_fn(|context| Pin::new(&mut io).poll_shutdown(context)).await;
}
