//! The peer that a competent engineer would write: axum, tokio and its broadcast channels. Every
//! frame is encoded once and shared, every client gets every print of its symbols, and everything
//! ready for a client leaves as one chunk.
//!
//! There are two ways to distribute prints to clients, and which is better depends on how many
//! clients watch a symbol: a channel per symbol, from which a client merges its own, or one channel
//! of batches, from which each client picks its own. A third design is what axum's documentation
//! suggests: `Sse` over a `StreamMap` of channels, one event at a time.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{self, Poll},
    thread,
};

use axum::{
    Router,
    body::Body,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response, Sse, sse::Event},
    routing::get,
    serve::ListenerExt,
};
use bytes::{Bytes, BytesMut};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::broadcast;
use tokio_stream::{
    Stream, StreamExt, StreamMap,
    wrappers::{BroadcastStream, errors::BroadcastStreamRecvError},
};

use super::{
    exchange,
    feed::{Feed, RECONNECT_PAUSE, write_data},
};
use crate::{
    cpu,
    error::{Context, Result},
    peer::serve_input,
};

/// Name of the thread that serves clients.
pub(crate) const SENDER_THREAD: &str = "axum";
/// Prints that a symbol's channel keeps for its slowest client: two seconds of the busiest symbol's
/// 15-20 prints per second at a hundred times the recorded speed.
const SYMBOL_CHANNEL_PRINTS: usize = 4_096;
/// Batches that the common channel keeps; a batch is one read of the feed.
const BATCH_CHANNEL_BATCHES: usize = 4_096;
/// Most bytes of one chunk.
const MAX_CHUNK_BYTES: usize = 64 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;

/// How prints are distributed to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Design {
    /// One channel per symbol; a client merges those that it watches.
    Symbols,
    /// One channel with batches of all prints; each client picks those that it watches.
    Batches,
    /// One channel per symbol, merged and encoded by axum and tokio-stream.
    Sse,
}

/// Flags of the process.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AxumArgs {
    /// Address of the exchange
    #[arg(long)]
    exchange: SocketAddr,
    /// How prints are distributed to clients
    #[arg(long, value_enum)]
    design: Design,
    /// Core of the runtime's single worker
    #[arg(long)]
    server_core: usize,
    /// Core of everything else
    #[arg(long)]
    feed_core: usize,
}

type Batch = Arc<[(u16, Bytes)]>;

enum Channels {
    Symbols(Vec<broadcast::Sender<Bytes>>),
    Batches(broadcast::Sender<Batch>),
    Sse(Vec<broadcast::Sender<Arc<str>>>),
}

struct Site {
    places: HashMap<String, u16>,
    channels: Channels,
    lost: Arc<AtomicU64>,
    feed_up: AtomicBool,
}

/// Runs the peer until its input ends.
///
/// # Errors
/// The exchange does not list its symbols, or the system has no socket or thread.
pub(crate) fn run(arguments: &AxumArgs) -> Result<()> {
    let _ = cpu::raise_descriptor_limit();
    cpu::pin(arguments.feed_core, "feed-core")?;
    let symbols = exchange::symbols(arguments.exchange)?;
    let channels = match arguments.design {
        Design::Symbols => Channels::Symbols(
            symbols.iter().map(|_| broadcast::channel(SYMBOL_CHANNEL_PRINTS).0).collect(),
        ),
        Design::Batches => Channels::Batches(broadcast::channel(BATCH_CHANNEL_BATCHES).0),
        Design::Sse => Channels::Sse(
            symbols.iter().map(|_| broadcast::channel(SYMBOL_CHANNEL_PRINTS).0).collect(),
        ),
    };
    let site = Arc::new(Site {
        places: symbols.into_iter().zip(0..).collect(),
        channels,
        lost: Arc::default(),
        feed_up: AtomicBool::new(false),
    });

    let server_core = arguments.server_core;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(SENDER_THREAD)
        .on_thread_start(move || {
            // The caller has checked the core.
            let _ = cpu::pin(server_core, "server-core");
        })
        .enable_io()
        .build()
        .context("starting the runtime")?;
    let listener = listen().context("listening")?;
    let address = listener.local_addr().context("own address")?;
    let router = Router::new().route("/subscribe", get(subscribe)).with_state(Arc::clone(&site));
    runtime.spawn(async move {
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
        let listener = listener.tap_io(|socket| {
            let _ = socket.set_nodelay(true);
        });
        let _ = axum::serve(listener, router).await;
    });
    let (exchange, feed_site) = (arguments.exchange, Arc::clone(&site));
    thread::Builder::new()
        .name("feed".to_owned())
        .spawn(move || read_feed(exchange, &feed_site))
        .context("starting the feed thread")?;
    serve_input(address, |_| {
        Ok(json!({
            "lost": site.lost.load(Ordering::Relaxed),
            "feedUp": site.feed_up.load(Ordering::Relaxed),
        }))
    })
}

fn listen() -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Reads the feed as long as the process lives, reconnecting when it is lost.
fn read_feed(exchange: SocketAddr, site: &Site) {
    loop {
        if let Ok(mut feed) = Feed::open(exchange) {
            site.feed_up.store(true, Ordering::Relaxed);
            while spread(&mut feed, site) {}
            site.feed_up.store(false, Ordering::Relaxed);
        }
        thread::sleep(RECONNECT_PAUSE);
    }
}

/// Encodes and distributes new prints. Returns `false` at the end of the feed.
fn spread(feed: &mut Feed, site: &Site) -> bool {
    let mut batch = Vec::new();
    let mut data = Vec::new();
    let read = feed.read(|print| {
        let Some(&place) = site.places.get(print.symbol) else { return };
        let mut encode = || {
            data.clear();
            data.extend_from_slice(b"event: price\ndata: ");
            write_data(&mut data, print);
            data.extend_from_slice(b"\n\n");
            Bytes::copy_from_slice(&data)
        };
        match &site.channels {
            Channels::Symbols(senders) => {
                let sender = senders.get(usize::from(place));
                // Symbols that nobody watches are not encoded.
                if let Some(sender) = sender.filter(|sender| sender.receiver_count() > 0) {
                    let _ = sender.send(encode());
                }
            }
            Channels::Batches(_) => batch.push((place, encode())),
            Channels::Sse(senders) => {
                let sender = senders.get(usize::from(place));
                if let Some(sender) = sender.filter(|sender| sender.receiver_count() > 0) {
                    data.clear();
                    write_data(&mut data, print);
                    let _ = sender.send(String::from_utf8_lossy(&data).into());
                }
            }
        }
    });
    if let Channels::Batches(sender) = &site.channels
        && !batch.is_empty()
    {
        let _ = sender.send(batch.into());
    }
    matches!(read, Ok(true))
}

#[derive(serde::Deserialize)]
struct Wanted {
    symbols: String,
}

async fn subscribe(State(site): State<Arc<Site>>, Query(wanted): Query<Wanted>) -> Response {
    let places: Option<Vec<u16>> =
        wanted.symbols.split(',').map(|name| site.places.get(name).copied()).collect();
    let Some(places) = places else { return StatusCode::BAD_REQUEST.into_response() };
    let source = match &site.channels {
        Channels::Symbols(senders) => {
            let own = places.iter().filter_map(|place| senders.get(usize::from(*place)));
            Source::Symbols(own.map(|sender| BroadcastStream::new(sender.subscribe())).collect())
        }
        Channels::Batches(sender) => {
            let mut watched = vec![false; site.places.len()];
            for place in places {
                if let Some(slot) = watched.get_mut(usize::from(place)) {
                    *slot = true;
                }
            }
            Source::Batches { batches: BroadcastStream::new(sender.subscribe()), watched }
        }
        Channels::Sse(senders) => {
            let own = places.iter().filter_map(|place| senders.get(usize::from(*place)));
            let own = own.map(|sender| BroadcastStream::new(sender.subscribe()));
            let merged = own.enumerate().collect();
            return events(merged, Arc::clone(&site.lost)).into_response();
        }
    };
    let opening = Some(Bytes::from_static(b"retry: 3000\nevent: open\ndata: {}\n\n"));
    let body = Body::from_stream(Prices { opening, source, lost: Arc::clone(&site.lost) });
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

/// One event at a time, as in axum's documentation.
fn events(
    merged: StreamMap<usize, BroadcastStream<Arc<str>>>,
    lost: Arc<AtomicU64>,
) -> Sse<impl Stream<Item = std::result::Result<Event, Infallible>>> {
    let prices = merged.filter_map(move |(_, data)| match data {
        Ok(data) => Some(Ok(Event::default().event("price").data(data))),
        Err(BroadcastStreamRecvError::Lagged(count)) => {
            lost.fetch_add(count, Ordering::Relaxed);
            None
        }
    });
    let opening = tokio_stream::once(Ok(Event::default().event("open").data("{}")));
    Sse::new(opening.chain(prices))
}

/// The source of one client's prices.
enum Source {
    Symbols(Vec<BroadcastStream<Bytes>>),
    Batches { batches: BroadcastStream<Batch>, watched: Vec<bool> },
}

/// One client's stream: each poll packs everything that is ready.
struct Prices {
    opening: Option<Bytes>,
    source: Source,
    lost: Arc<AtomicU64>,
}

impl Prices {
    /// Appends what is ready to `out`. Returns `false` when the channels have closed.
    fn take_ready(&mut self, context: &mut task::Context<'_>, out: &mut BytesMut) -> bool {
        match &mut self.source {
            Source::Symbols(channels) => channels.iter_mut().all(|channel| {
                drain(channel, &self.lost, context, out, |frame, out| out.extend_from_slice(&frame))
            }),
            Source::Batches { batches, watched } => {
                drain(batches, &self.lost, context, out, |batch, out| {
                    for (place, frame) in batch.iter() {
                        if watched.get(usize::from(*place)).is_some_and(|is_watched| *is_watched) {
                            out.extend_from_slice(frame);
                        }
                    }
                })
            }
        }
    }
}

/// Drains one channel, up to a full chunk. Returns `false` when it has closed.
fn drain<T: 'static + Clone + Send>(
    channel: &mut BroadcastStream<T>,
    lost: &AtomicU64,
    context: &mut task::Context<'_>,
    out: &mut BytesMut,
    mut put: impl FnMut(T, &mut BytesMut),
) -> bool {
    while out.len() < MAX_CHUNK_BYTES {
        match Pin::new(&mut *channel).poll_next(context) {
            Poll::Pending => return true,
            Poll::Ready(None) => return false,
            Poll::Ready(Some(Ok(item))) => put(item, out),
            Poll::Ready(Some(Err(BroadcastStreamRecvError::Lagged(count)))) => {
                lost.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
    true
}

impl Stream for Prices {
    type Item = std::io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(Ok(opening)));
        }
        let mut out = BytesMut::new();
        let open = self.take_ready(context, &mut out);
        match (out.is_empty(), open) {
            (false, _) => Poll::Ready(Some(Ok(out.freeze()))),
            (true, true) => Poll::Pending,
            (true, false) => Poll::Ready(None),
        }
    }
}
