//! One measured window of one server, as a table row and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::contender::Kind;
use crate::{client::ClientReport, cpu::HostUse};

/// Share of the client core above which the clients, not the server, are the bottleneck.
const CORE_FULL: f64 = 0.9;
const SERVER_WAITS: f64 = 0.9;
/// Share of a core used by other programs above which it is reported.
const OTHERS_SEEN: f64 = 0.1;

/// One window.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// A kind of server.
    pub kind: Kind,
    /// Number of clients.
    pub clients: usize,
    /// Prints of the exchange.
    pub prints_per_second: f64,
    /// Successful sends, if the server counts them.
    pub sends_per_second: Option<f64>,
    /// CPU seconds per second of the threads that send.
    pub sender_cores: f64,
    /// CPU seconds per second of the whole process.
    pub process_cores: f64,
    /// CPU seconds per second on the other core: clients, exchange, feed readers, and the rest of the
    /// server.
    pub client_core: f64,
    /// CPU seconds per second of unrelated programs.
    pub others: f64,
    /// CPU seconds per second of each thread.
    pub cores_by_thread: BTreeMap<String, f64>,
    /// Growth of the server's counters.
    pub counters: BTreeMap<String, f64>,
    /// How the machine's cores were used.
    pub host: HostUse,
    /// Prices that the server reports as lost.
    pub lost: u64,
    /// What the clients saw.
    pub seen: ClientReport,
}

impl Window {
    /// Prices that arrived per second.
    #[must_use]
    pub(super) fn delivered_per_second(&self) -> f64 {
        self.seen.prices as f64 / self.seen.seconds
    }

    /// Age of a price at its arrival, in milliseconds.
    #[must_use]
    pub(super) fn age_millis(&self, quantile: f64) -> f64 {
        self.seen.ages.value_at_quantile(quantile) as f64 / 1_000.0
    }

    /// CPU microseconds of the sending threads per send, or per price if sends are not counted.
    #[must_use]
    pub(super) fn sender_micros(&self) -> f64 {
        let sends = self.sends_per_second.unwrap_or_else(|| self.delivered_per_second());
        self.sender_cores / sends * 1e6
    }

    /// CPU microseconds of the sending threads per price that arrived.
    #[must_use]
    pub(super) fn sender_micros_per_price(&self) -> f64 {
        self.sender_cores / self.delivered_per_second() * 1e6
    }

    /// Whether the core of clients, exchange and feed was saturated while the server's was not.
    #[must_use]
    pub(super) fn is_client_limited(&self) -> bool {
        self.client_core > CORE_FULL && self.sender_cores < SERVER_WAITS
    }

    /// Whether prices were lost, as reported by the server or to a client.
    #[must_use]
    pub(super) const fn has_loss(&self) -> bool {
        self.lost > 0 || self.seen.gaps > 0 || self.seen.closed > 0
    }

    /// The window as JSON.
    #[must_use]
    pub(super) fn to_json(&self) -> Value {
        let seen = &self.seen;
        json!({
            "server": self.kind.into_str(),
            "clients": self.clients,
            "seconds": seen.seconds,
            "printsPerSecond": self.prints_per_second,
            "deliveredPerSecond": self.delivered_per_second(),
            "sendsPerSecond": self.sends_per_second,
            "ageMillis": {
                "p50": self.age_millis(0.5), "p90": self.age_millis(0.9),
                "p99": self.age_millis(0.99), "p999": self.age_millis(0.999),
                "max": self.age_millis(1.0),
            },
            "senderCores": self.sender_cores,
            "processCores": self.process_cores,
            "senderCpuMicrosPerSend": self.sender_micros(),
            "senderCpuMicrosPerPrice": self.sender_micros_per_price(),
            "coresByThread": self.cores_by_thread,
            "counters": self.counters,
            "lost": self.lost,
            "gaps": seen.gaps,
            "closed": seen.closed,
            "clientCore": self.client_core,
            "otherProgramsCores": self.others,
            "clientLimited": self.is_client_limited(),
            "clientCpuShare": seen.cpu_share,
            "clientReads": seen.reads,
            "bytes": seen.bytes,
            "busyByCore": self.host.busy_by_core,
            "hostSteal": self.host.steal,
        })
    }
}

/// Prints the head of a table of windows; the first column is the caller's. `client%` is the client
/// thread, `core%` everything on its core.
pub(super) fn print_head(first: &str) {
    println!(
        "{first:<14} {:<13} {:>9} {:>10} {:>9} {:>8} {:>8} {:>8} {:>6} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6}  ",
        "server",
        "prints/s",
        "prices/s",
        "sends/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "lost",
        "sender%",
        "proc. %",
        "us/send",
        "client%",
        "core%",
        "steal%",
    );
}

/// Prints one window.
pub(super) fn print_window(first: &str, window: &Window, remark: &str) {
    let others = if window.others > OTHERS_SEEN {
        format!(" (other programs took {:.0} % of a core)", window.others * 100.0)
    } else {
        String::new()
    };
    println!(
        "{first:<14} {:<13} {:>9.0} {:>10.0} {:>9} {:>8.2} {:>8.2} {:>8.1} {:>6} {:>7.1} {:>7.1} \
         {:>7.2} {:>7.1} {:>6.1} {:>6.2}  {remark}{others}",
        window.kind.into_str(),
        window.prints_per_second,
        window.delivered_per_second(),
        window.sends_per_second.map_or("-".to_owned(), |sends| format!("{sends:.0}")),
        window.age_millis(0.5),
        window.age_millis(0.99),
        window.age_millis(1.0),
        window.lost + window.seen.gaps,
        window.sender_cores * 100.0,
        window.process_cores * 100.0,
        window.sender_micros(),
        window.seen.cpu_share * 100.0,
        window.client_core * 100.0,
        window.host.steal * 100.0,
    );
}
