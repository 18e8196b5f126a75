//! The stream client: one pinned thread that owns all connections and reads every frame. It is the
//! same for the server under test and for the bare loop.

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

/// Options of the client thread.
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
    /// Count only connections with an even number: the odd ones may be told to stop reading
    /// ([`Control::set_stalled`]).
    pub only_even: bool,
    /// `SO_RCVBUF` of each connection; `None` for the system's default.
    pub receive_buffer_bytes: Option<usize>,
    /// Never sleep, so that no send has to wake the client; uses the whole core.
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
    /// `event: gap` blocks, which report lost prices.
    pub gaps: u64,
    /// Price frames since the connections were opened.
    pub all_prices: u64,
    /// Reads that returned data.
    pub reads: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Share of the window that the client thread ran, 0 to 1.
    pub cpu_share: f64,
    /// Age of each price when it was read, in microseconds.
    pub ages: Histogram<u64>,
    /// Fewest and most price frames of a connection.
    pub prices_per_connection: (u64, u64),
    /// Prices older than an earlier one of the same connection.
    pub out_of_order: u64,
    /// Connections closed early, since the start.
    pub closed: u64,
}

/// A running client thread.
#[derive(Debug)]
pub(crate) struct Client {
    thread: JoinHandle<Result<ClientReport>>,
    windows: mpsc::Receiver<ClientReport>,
}

impl Client {
    /// Starts the thread, which connects immediately. `control` reports the connections that have
    /// received their response head and first block.
    ///
    /// # Errors
    /// [`Error::Io`] when the thread cannot be created.
    pub(crate) fn start(options: ClientOptions, control: Arc<Control>) -> Result<Self> {
        let (reports, windows) = mpsc::channel();
        let work = move || ClientLoop::new(&options, reports)?.run(&options, &control);
        let thread = thread::Builder::new().name("client".to_owned()).spawn(work);
        Ok(Self { thread: thread.context("starting the client thread")?, windows })
    }

    /// The counts of the window last closed by [`Phase::Counted`]. `None` if the thread has ended or
    /// takes longer than `seconds`: its join returns the error.
    #[must_use]
    pub(crate) fn window(&self, seconds: f64) -> Option<ClientReport> {
        self.windows.recv_timeout(Duration::from_secs_f64(seconds)).ok()
    }

    /// Whether the thread has ended; before [`Phase::Stop`], that means it failed.
    #[must_use]
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end of the thread.
    ///
    /// # Errors
    /// Whatever stopped the run.
    pub(crate) fn join(self) -> Result<ClientReport> {
        self.thread.join().map_err(|_| Error::Thread("client"))?
    }
}
