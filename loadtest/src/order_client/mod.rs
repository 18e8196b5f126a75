//! The order client: one pinned thread, N kept-alive connections, one order in flight on each.
//! Closed loop: every answer is followed by the next order. Open loop: orders are due at fixed
//! times regardless of the server, and latency counts from the due time, so that a stall counts for
//! every order that it delays.

mod counts;
mod order_loop;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
};

use hdrhistogram::Histogram;

use crate::{
    error::{Context, Error, Result},
    phase::Control,
};
use order_loop::OrderLoop;

/// Options of the client thread.
#[derive(Debug, Clone)]
pub(crate) struct OrderOptions {
    /// Where to connect.
    pub address: SocketAddr,
    /// `host:port` for the `Host` header.
    pub authority: String,
    /// Number of connections, each with one order in flight.
    pub in_flight: usize,
    /// Bearer tokens; connection `i` uses number `i % len`.
    pub tokens: Vec<String>,
    /// Orders per second in the open loop; `None` for the closed loop.
    pub rate: Option<f64>,
    /// Beginning of each `clientOrderId`, unique to this run.
    pub run_id: String,
    /// Symbols of the orders, in turn.
    pub symbols: Vec<String>,
    /// Limits of the (buy) orders, in turn. Those far below the market stay open.
    pub limit_prices_cents: Vec<u64>,
    /// Most orders to send.
    pub most_orders: Option<u64>,
    /// The core that the thread is pinned to.
    pub core: usize,
}

/// What the client saw in the measured window.
#[derive(Debug, Clone)]
pub(crate) struct OrderReport {
    /// Length of the window in seconds.
    pub seconds: f64,
    /// Answers that came in the window.
    pub answered: u64,
    /// Answers saying that the exchange accepted the order (`201`).
    pub accepted: u64,
    /// Answers to the orders of the window by status code, including answers after the window.
    pub answers: BTreeMap<u16, u64>,
    /// All answers since the start, by status code.
    pub all_answers: BTreeMap<u16, u64>,
    /// Microseconds from when an order was due (open loop) or sent (closed loop) until its complete
    /// answer, for orders due in the window.
    pub latencies: Histogram<u64>,
    /// Share of the window that the client thread ran, 0 to 1.
    pub cpu_share: f64,
    /// Most orders that were due without a free connection.
    pub most_waiting: usize,
    /// Orders of the window sent a millisecond or more after they were due. Their latency still
    /// counts from the due time.
    pub sent_late: u64,
    /// The longest delay of those, in nanoseconds.
    pub most_late_nanos: u64,
    /// Orders sent since the start.
    pub sent: u64,
    /// Orders without an answer after the drain time, including those due but never sent.
    pub unanswered: u64,
    /// Some answers that were not `201`.
    pub examples: Vec<String>,
}

/// A running client thread.
#[derive(Debug)]
pub(crate) struct OrderClient(JoinHandle<Result<OrderReport>>);

impl OrderClient {
    /// Starts the thread, which connects and sends immediately. After [`Phase::Counted`], or at the
    /// maximum number of orders, it stops sending, and reports when the last answer has arrived.
    ///
    /// # Errors
    /// [`Error::Io`] when the thread cannot be created.
    pub(crate) fn start(options: OrderOptions, control: Arc<Control>) -> Result<Self> {
        let work = move || OrderLoop::new(options)?.run(&control);
        let thread = thread::Builder::new().name("order-client".to_owned()).spawn(work);
        Ok(Self(thread.context("starting the client thread")?))
    }

    /// Whether the thread has ended; before [`Phase::Stop`], that means it failed.
    #[must_use]
    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for the end of the thread.
    ///
    /// # Errors
    /// Whatever stopped the run.
    pub(crate) fn join(self) -> Result<OrderReport> {
        self.0.join().map_err(|_| Error::Thread("order client"))?
    }
}
