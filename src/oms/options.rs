//! Options of the orders thread.

use std::net::IpAddr;
use std::time::Duration;

use super::limits::OmsLimits;
use crate::engine::EngineOptions;
use crate::exchange::SessionOptions;
use crate::exchange::wire::WebhookRequest;

/// Options of the orders thread.
#[derive(Debug, Clone)]
pub struct OmsOptions {
    /// Timings of the engines.
    pub engine: EngineOptions,
    /// How long a client waits for an outcome before it is answered without one.
    pub reply_timeout: Duration,
    /// With `--commit postgres`: how long Postgres may take for what waits for it before new orders
    /// are refused.
    pub postgres_stall: Duration,
    /// With `--commit postgres`: how long an answer may wait for Postgres beyond the reply timeout.
    /// Then the answer is that the outcome is unknown.
    pub postgres_patience: Duration,
    /// Whether the orders thread itself writes and syncs a lone request, which saves that request
    /// two hand-offs between threads.
    pub commits_alone: bool,
    /// How often overdue orders are checked and the feed position is logged.
    pub sweep_interval: Duration,
    /// How long an ended order stays in memory. Later reads find it in the store.
    pub keep_ended: Duration,
    /// Connections for submits, at least 1. One more carries cancels, and another one queries.
    pub submit_connections: usize,
    /// Local addresses to connect from, in turn; if empty, the system chooses.
    pub sources: Vec<IpAddr>,
    /// How often all open orders are reconciled with the exchange.
    pub cleanup_interval: Duration,
    /// Difference between the exchange's clock and ours that causes a warning.
    pub exchange_clock_warning: Duration,
    /// Options of the order sessions.
    pub session: SessionOptions,
    /// The webhook to register at the exchange, if any.
    pub webhook: Option<WebhookRequest>,
    /// Whether other nodes may take over this one's users: then its log begins anew with each
    /// process, it serves only partitions that it is given, and the exchange hears of nothing that
    /// Postgres lacks.
    pub is_member: bool,
    /// How long work in progress may take to finish after a stop was requested.
    pub drain: Duration,
    /// Limits on what waits in memory.
    pub limits: OmsLimits,
}

impl OmsOptions {
    /// Options of the session with this number: source addresses are used in turn.
    pub(super) fn nth_session(&self, number: usize) -> SessionOptions {
        let source = self.sources.iter().cycle().nth(number).copied();
        SessionOptions { source: source.or(self.session.source), ..self.session.clone() }
    }

    /// The defaults, with this exchange.
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
            is_member: false,
            drain: Duration::from_secs(1),
            limits: OmsLimits::default(),
        }
    }
}
