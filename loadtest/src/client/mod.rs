//! The stream client: one pinned thread that owns all connections, reads whatever is there and
//! looks at every frame. The tested server and the bare loop face exactly this code.

mod client_loop;
mod connection;
mod counts;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::{
    error::{Context, Error, Result},
    phase::Control,
};
use client_loop::ClientLoop;

/// What the client thread is to do.
#[derive(Debug, Clone)]
pub(crate) struct ClientOptions {
    /// Where to connect.
    pub address: SocketAddr,
    /// Number of connections.
    pub connections: usize,
    /// The whole HTTP request that opens a stream; connection `i` sends number `i % len`.
    pub requests: Vec<Vec<u8>>,
    /// The core that the thread is pinned to.
    pub core: usize,
    /// Whether timestamps of one connection may never go back (true for a single symbol).
    pub ordered: bool,
    /// Only what connections with an even number get is counted: the odd ones may be told to stop
    /// reading ([`Control::set_stalled`]).
    pub only_even: bool,
    /// `SO_RCVBUF` of each connection; the system's default without one.
    pub receive_buffer_bytes: Option<usize>,
    /// Never sleep: then no send has to wake the client, at the price of its whole core.
    pub spin: bool,
}

/// What the client saw in the measured window.
#[derive(Debug, Clone)]
pub(crate) struct ClientReport {
    /// Length of the window in seconds.
    pub seconds: f64,
    /// Price frames.
    pub prices: u64,
    /// Other blocks: open events, heartbeats, ids, anything else.
    pub other_blocks: u64,
    /// `event: gap` blocks: each tells of lost prices.
    pub gaps: u64,
    /// Price frames since the connections were made, the window and all before it.
    pub all_prices: u64,
    /// Reads that returned data.
    pub reads: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Share of the window that the client thread was on its core, 0 to 1.
    pub cpu_share: f64,
    /// Age of each price when it was read, in microseconds.
    pub ages: Histogram<u64>,
    /// Price frames of the connection that got fewest, and of the one that got most.
    pub prices_per_connection: (u64, u64),
    /// Prices older than one that the same connection had before.
    pub out_of_order: u64,
    /// Connections that were closed before the end, since the start.
    pub closed: u64,
}

/// A running client thread.
#[derive(Debug)]
pub(crate) struct Client {
    thread: JoinHandle<Result<ClientReport>>,
    windows: mpsc::Receiver<ClientReport>,
}

impl Client {
    /// Starts the thread, which connects at once. `control` reports the connections whose
    /// response head and first block have arrived.
    ///
    /// # Errors
    /// [`Error::Io`] when the thread cannot be made.
    pub(crate) fn start(options: ClientOptions, control: Arc<Control>) -> Result<Self> {
        let (reports, windows) = mpsc::channel();
        let work = move || ClientLoop::new(&options, reports)?.run(&options, &control);
        let thread = thread::Builder::new().name("client".to_owned()).spawn(work);
        Ok(Self { thread: thread.context("starting the client thread")?, windows })
    }

    /// What was counted in the window that [`Phase::Counted`] closed last. `None` when the thread
    /// has ended or takes longer than `seconds`: its join tells why.
    #[must_use]
    pub(crate) fn window(&self, seconds: f64) -> Option<ClientReport> {
        self.windows.recv_timeout(Duration::from_secs_f64(seconds)).ok()
    }

    /// Whether the thread has ended, which before [`Phase::Stop`] means that it failed.
    #[must_use]
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end of the thread.
    ///
    /// # Errors
    /// Whatever stopped it.
    pub(crate) fn join(self) -> Result<ClientReport> {
        self.thread.join().map_err(|_| Error::Thread("client"))?
    }
}
