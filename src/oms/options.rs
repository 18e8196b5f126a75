use std::net::IpAddr;
use std::time::Duration;

use super::limits::OmsLimits;
use crate::engine::EngineOptions;
use crate::exchange::SessionOptions;
use crate::exchange::wire::WebhookRequest;

/// How the orders thread works.
#[derive(Debug, Clone)]
pub struct OmsOptions {
    /// Times that the engines decide by.
    pub engine: EngineOptions,
    /// How long a client waits for an outcome before it is told that there is none yet.
    pub reply_timeout: Duration,
    /// How long Postgres may need for what waits for it, where it is awaited, before new orders are
    /// refused.
    pub postgres_stall: Duration,
    /// How long an answer may wait for Postgres beyond the reply timeout, where it is awaited. Then
    /// it says that the outcome is not known.
    pub postgres_patience: Duration,
    /// Whether the orders thread waits for the disk by itself while only one request is under way,
    /// which spares that request two hand-offs between threads.
    pub commits_alone: bool,
    /// How often orders that wait for the exchange's word are looked at, and the feed position
    /// is logged.
    pub sweep_interval: Duration,
    /// How long an order that has ended stays in memory. Readers find it in the store after that.
    pub keep_ended: Duration,
    /// Connections for submits, at least 1. One more carries cancels, and another one queries.
    pub submit_connections: usize,
    /// Local addresses that connections are made from, in turn; the system chooses without any.
    pub sources: Vec<IpAddr>,
    /// How often all open orders are compared with the exchange's record of them.
    pub cleanup_interval: Duration,
    /// How far the exchange's clock may be from ours before that is told.
    pub exchange_clock_warning: Duration,
    /// The exchange.
    pub session: SessionOptions,
    /// Where the exchange shall post lines of our orders to, if it shall.
    pub webhook: Option<WebhookRequest>,
    /// How long work in progress may take to finish once a stop was asked for.
    pub drain: Duration,
    /// What bounds memory.
    pub limits: OmsLimits,
}

impl OmsOptions {
    /// The exchange, from the next of the local addresses.
    pub(super) fn nth_session(&self, number: usize) -> SessionOptions {
        let source = self.sources.iter().cycle().nth(number).copied();
        SessionOptions { source: source.or(self.session.source), ..self.session.clone() }
    }

    /// The usual settings with this exchange.
    pub fn new(session: SessionOptions) -> Self {
        Self {
            engine: EngineOptions::default(),
            reply_timeout: Duration::from_millis(150),
            postgres_stall: Duration::from_millis(500),
            postgres_patience: Duration::from_secs(2),
            commits_alone: true,
            sweep_interval: Duration::from_secs(1),
            keep_ended: Duration::from_secs(60),
            submit_connections: 2,
            sources: Vec::new(),
            cleanup_interval: Duration::from_secs(30),
            exchange_clock_warning: Duration::from_millis(500),
            session,
            webhook: None,
            drain: Duration::from_secs(1),
            limits: OmsLimits::default(),
        }
    }
}
