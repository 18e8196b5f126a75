//! One measured window of one contender, and the rows in Postgres after it.

use std::{collections::BTreeMap, process};

use serde_json::{Value, json};

use super::{
    Stage,
    contender::{Contender, Kind},
    counts::{Expected, Found},
    sql::Sql,
};
use crate::{
    clock::{Moment, seconds_between, wall_micros},
    cpu::{CpuUse, HostCpu, HostUse, ProcessCpu},
    error::{Error, Result},
    histogram::Growth,
    metrics::Scrape,
    order_client::{OrderOptions, OrderReport},
    order_window,
    process_tree::TreeCpu,
};

/// The symbol of all orders; their limit is so far below the market that they stay open.
pub(super) const SYMBOL: &str = "SPY";
const LIMIT_CENTS: u64 = 100;
/// How long Postgres may take to catch up, in seconds.
const CATCH_UP_SECONDS: f64 = 300.0;
/// The server's gauge of how many records Postgres lags. It need not reach zero: the log also grows
/// without orders.
pub(super) const BEHIND: &str = "longbow_projection_lag_records";
pub(super) const FEW_RECORDS: f64 = 16.0;
/// The server's histogram of the age of changes when Postgres commits them.
const LAG: &str = "longbow_projection_lag_seconds";

/// How orders are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Connections, each with one order at most.
    pub in_flight: usize,
    /// Orders per second, due at fixed times; `None` for a closed loop.
    pub rate: Option<f64>,
    /// Length of the window.
    pub seconds: f64,
}

/// What was measured.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub kind: Kind,
    /// The load.
    pub load: Load,
    /// What the client saw.
    pub seen: OrderReport,
    /// CPU use of the server by thread.
    server: CpuUse,
    exchange: CpuUse,
    /// CPU seconds per second of all processes of Postgres.
    postgres_cores: f64,
    host: HostUse,
    /// Age of changes when Postgres committed them, for everything sent since the window began.
    pub lag: Option<Growth>,
    /// Growth per second of the server's counters.
    counters: BTreeMap<String, f64>,
    /// Seconds from the last answer until Postgres had caught up, and its rows.
    in_postgres: Option<(f64, Found)>,
}

/// Readings at the beginning and at the end of a window.
struct Reading {
    scrape: Option<Scrape>,
    server: ProcessCpu,
    exchange: ProcessCpu,
    postgres: TreeCpu,
    host: HostCpu,
}

/// Starts a contender, measures it, and compares its rows in Postgres with its answers.
///
/// # Errors
/// Whatever stops it early, and [`Error::Answer`] if Postgres does not have exactly the answered
/// orders.
pub(super) fn measure(stage: &Stage<'_>, kind: Kind, load: Load) -> Result<Window> {
    let contender = Contender::start(kind, stage)?;
    let run_id = format!("{:x}-{:x}", wall_micros(), process::id());
    let read = || {
        Ok(Reading {
            scrape: contender.scrape()?,
            server: contender.cpu()?,
            exchange: contender.exchange_cpu()?,
            postgres: TreeCpu::read(stage.postgres.pid())?,
            host: HostCpu::read()?,
        })
    };
    let options = OrderOptions {
        rate: load.rate,
        ..order_options(stage, contender.address, &run_id, load.in_flight)
    };
    let lengths = (stage.warm_up, load.seconds);
    let (seen, before, after) = order_window::run(options, lengths, stage.interrupt, read)?;
    if seen.unanswered > 0 {
        return Err(Error::Answer {
            what: format!("{} orders of {kind} had no answer", seen.unanswered),
            answer: contender.log_end(),
        });
    }
    let in_postgres = await_all(stage, &contender, &seen, &run_id)?;
    // The backlog at the end of the window counts with its full age.
    let settled = contender.scrape()?;
    let scrapes = before.scrape.zip(after.scrape);
    let lag = scrapes.as_ref().zip(settled).filter(|_| kind.has_projection());
    let lag = lag
        .and_then(|((before, _), settled)| Growth::between(&before.metrics, &settled.metrics, LAG));
    let counters = scrapes.map(|(before, after)| {
        let seconds = seconds_between(before.at, after.at);
        let growth = after.metrics.growth_since(&before.metrics).into_iter();
        growth.map(|(name, value)| (name, value / seconds)).collect()
    });
    Ok(Window {
        kind,
        load,
        seen,
        server: after.server.since(&before.server),
        exchange: after.exchange.since(&before.exchange),
        postgres_cores: after.postgres.cores_since(&before.postgres),
        host: after.host.since(&before.host),
        lag,
        counters: counters.unwrap_or_default(),
        in_postgres,
    })
}

/// Options for orders that stay open, in a closed loop.
pub(super) fn order_options(
    stage: &Stage<'_>,
    address: std::net::SocketAddr,
    run_id: &str,
    in_flight: usize,
) -> OrderOptions {
    OrderOptions {
        address,
        authority: address.to_string(),
        in_flight,
        tokens: stage.tokens.clone(),
        rate: None,
        run_id: run_id.to_owned(),
        symbols: vec![SYMBOL.to_owned()],
        limit_prices_cents: vec![LIMIT_CENTS],
        most_orders: None,
        core: stage.client_core,
    }
}

/// Waits until Postgres has exactly the answered orders; `None` without Postgres.
fn await_all(
    stage: &Stage<'_>,
    contender: &Contender,
    seen: &OrderReport,
    run_id: &str,
) -> Result<Option<(f64, Found)>> {
    let Some(database) = &contender.database else { return Ok(None) };
    let expected = Expected::of_answers(&seen.all_answers)?;
    let session = Sql::connect(database)?;
    let began = Moment::now();
    let mut found = None;
    let mut looked_at = began;
    let all_there = stage.interrupt.wait_until(CATCH_UP_SECONDS, || {
        // Counting would slow Postgres down while it catches up.
        let behind = contender.scrape()?.and_then(|scrape| scrape.metrics.get(BEHIND));
        if behind.is_some_and(|records| records > FEW_RECORDS) {
            return Ok(false);
        }
        looked_at = Moment::now();
        let counted = Found::read(&session, run_id, contender.kind.has_projection())?;
        found = Some(counted);
        Ok(counted.is(expected))
    })?;
    if let Some(found) = found.filter(|_| all_there) {
        return Ok(Some((seconds_between(began, looked_at), found)));
    }
    Err(Error::Answer {
        what: format!("Postgres has not what {} answered: {expected:?}", contender.kind),
        answer: format!("{found:?}{}", contender.log_end()),
    })
}

impl Window {
    /// Orders per second that the exchange has accepted.
    pub(super) fn accepted_per_second(&self) -> f64 {
        self.seen.accepted as f64 / self.seen.seconds
    }

    /// A latency in milliseconds.
    pub(super) fn millis(&self, quantile: f64) -> f64 {
        self.seen.latencies.value_at_quantile(quantile) as f64 / 1_000.0
    }

    /// CPU seconds per second of server, Postgres, exchange and client.
    pub(super) fn cores(&self) -> [f64; 4] {
        [
            self.server.cores(|_| true),
            self.postgres_cores,
            self.exchange.cores(|_| true),
            self.seen.cpu_share,
        ]
    }

    /// Share of the time stolen by the hypervisor.
    pub(super) const fn steal(&self) -> f64 {
        self.host.steal
    }

    /// Seconds from the last answer until Postgres had caught up.
    pub(super) fn behind_seconds(&self) -> Option<f64> {
        self.in_postgres.map(|(seconds, _)| seconds)
    }

    /// The same as JSON.
    pub(super) fn to_json(&self, round: usize) -> Value {
        let [server, postgres, exchange, client] = self.cores();
        json!({
            "round": round,
            "contender": self.kind.to_string(),
            "inFlight": self.load.in_flight,
            "ratePerSecond": self.load.rate,
            "seconds": self.seen.seconds,
            "acceptedPerSecond": self.accepted_per_second(),
            "answeredPerSecond": self.seen.answered as f64 / self.seen.seconds,
            "latencyMillis": {
                "p50": self.millis(0.5), "p90": self.millis(0.9), "p99": self.millis(0.99),
                "p999": self.millis(0.999), "max": self.millis(1.0),
            },
            "answers": self.seen.all_answers.iter()
                .map(|(status, count)| (status.to_string(), json!(count)))
                .collect::<serde_json::Map<_, _>>(),
            "sent": self.seen.sent,
            "sentLate": self.seen.sent_late,
            "mostLateMillis": self.seen.most_late_nanos as f64 / 1e6,
            "cores": {
                "server": server, "postgres": postgres, "exchange": exchange, "client": client,
            },
            "serverCoresByThread": self.server.cores_by_name(),
            "hostSteal": self.host.steal,
            "busyByCore": self.host.busy_by_core,
            "lagMillis": self.lag.as_ref().map(lag_json),
            "countersPerSecond": self.counters,
            "behindSeconds": self.behind_seconds(),
            "inPostgres": self.in_postgres.map(|(_, found)| found.to_json()),
            "otherAnswers": self.seen.examples,
        })
    }
}

fn lag_json(lag: &Growth) -> Value {
    // Upper bounds of the buckets; none for the infinite one.
    let at = |share| Some(lag.quantile(share) * 1_000.0).filter(|millis| millis.is_finite());
    json!({
        "changes": lag.count(), "mean": lag.mean() * 1_000.0,
        "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0),
    })
}
