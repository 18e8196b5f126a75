//! Reports measurements as a table and as JSON.

use std::{collections::BTreeMap, fs, path::Path};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::{
    client::ClientReport,
    cpu::HostUse,
    error::{Context, Result},
};

/// Share of refused sends above which the client is the bottleneck, not the sender.
const CLIENT_LIMITED: f64 = 0.01;
/// Share of a core above which the client thread is saturated.
const CLIENT_BUSY: f64 = 0.95;
/// Share of its core that a busy loop gets when it has the core to itself.
const BARE_ALONE: f64 = 0.9;

/// The setting of a run.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// CPU model, cores, kernel.
    pub machine: String,
    /// Number of streams.
    pub clients: usize,
    /// Symbols of each stream.
    pub symbols: Vec<String>,
    /// Length of a window in seconds.
    pub seconds: f64,
    /// Core of the client thread.
    pub client_core: usize,
    /// Whether the client thread never sleeps.
    pub client_spins: bool,
    /// Core of the bare loop.
    pub server_core: usize,
    /// Core that the server's shard is pinned to, if any.
    pub server_pinned: Option<usize>,
    /// Replay speed of the tape, when known.
    pub speed: Option<f64>,
}

/// One window of one side.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    /// `server` or `bare`.
    pub side: &'static str,
    /// Number of the pair, from 1.
    pub number: usize,
    /// Successful sends per second.
    pub sends_per_second: Option<f64>,
    /// Whether the sender counted them; otherwise they are the frames that arrived.
    pub sends_counted: bool,
    /// Price frames that arrived per second.
    pub prices_per_second: f64,
    /// CPU seconds per second of the sending threads.
    pub sender_cores: Option<f64>,
    /// CPU seconds per second of the whole server process.
    pub process_cores: Option<f64>,
    /// CPU seconds per second of the server process while the bare loop ran.
    pub idle_server_cores: Option<f64>,
    /// Share of the bare loop's sends that would have blocked.
    pub would_block: Option<f64>,
    /// Bytes of a frame of the bare loop.
    pub frame_bytes: Option<usize>,
    /// CPU seconds per second of each server thread.
    pub cores_by_thread: BTreeMap<String, f64>,
    /// Growth of the server's counters.
    pub counters: BTreeMap<String, f64>,
    /// How the host's cores were used.
    pub host: HostUse,
    /// What the client saw.
    pub seen: ClientReport,
}

impl Round {
    /// CPU microseconds of the sending threads per send.
    fn sender_micros(&self) -> Option<f64> {
        Some(self.sender_cores? / self.sends_per_second? * 1e6)
    }

    /// CPU microseconds of the whole server process per send.
    fn process_micros(&self) -> Option<f64> {
        Some(self.process_cores? / self.sends_per_second? * 1e6)
    }

    fn is_client_limited(&self) -> bool {
        self.would_block.is_some_and(|share| share > CLIENT_LIMITED)
    }

    fn to_json(&self) -> Value {
        let seen = &self.seen;
        json!({
            "side": self.side,
            "round": self.number,
            "seconds": seen.seconds,
            "sendsPerSecond": self.sends_per_second,
            "sendsCountedBySender": self.sends_counted,
            "pricesPerSecond": self.prices_per_second,
            "senderCpuMicrosPerSend": self.sender_micros(),
            "processCpuMicrosPerSend": self.process_micros(),
            "senderCores": self.sender_cores,
            "processCores": self.process_cores,
            "idleServerCores": self.idle_server_cores,
            "wouldBlockShare": self.would_block,
            "bareFrameBytes": self.frame_bytes,
            "bytesPerPrice": seen.bytes as f64 / seen.prices.max(1) as f64,
            "clientLimited": self.is_client_limited(),
            "ageMillis": ages(&seen.ages),
            "client": {
                "cpuShare": seen.cpu_share,
                "reads": seen.reads,
                "prices": seen.prices,
                "otherBlocks": seen.other_blocks,
                "bytes": seen.bytes,
                "fewestPricesOfAConnection": seen.prices_per_connection.0,
                "mostPricesOfAConnection": seen.prices_per_connection.1,
                "outOfOrder": seen.out_of_order,
                "closedByServer": seen.closed,
            },
            "hostSteal": self.host.steal,
            "busyByCore": self.host.busy_by_core,
            "coresByThread": self.cores_by_thread,
            "counters": self.counters,
        })
    }
}

fn ages(histogram: &Histogram<u64>) -> Value {
    let at = |quantile: f64| millis(histogram.value_at_quantile(quantile));
    json!({
        "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999),
        "max": millis(histogram.max()),
    })
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

/// Prints the setting and the head of the table.
pub(crate) fn print_start(setting: &Setting) {
    println!("machine: {}", setting.machine);
    println!(
        "{} streams of {}, windows of {} s, client on core {}{}, bare loop on core {}{}{}",
        setting.clients,
        setting.symbols.join(","),
        setting.seconds,
        setting.client_core,
        if setting.client_spins { " (spinning)" } else { "" },
        setting.server_core,
        match setting.server_pinned {
            Some(core) => format!(", server shard on core {core}"),
            None => String::new(),
        },
        setting
            .speed
            .map_or(String::new(), |speed| format!(", tape at {speed:.0} times its speed")),
    );
    println!(
        "\n{:>5} {:<6} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7} {:>6} {:>6}",
        "round",
        "side",
        "sends/s",
        "prices/s",
        "us/send",
        "us/send",
        "age",
        "age",
        "age",
        "EAGAIN",
        "client",
        "prices",
        "steal"
    );
    println!(
        "{:>5} {:<6} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7} {:>6} {:>6}",
        "",
        "",
        "",
        "",
        "sender",
        "process",
        "p50 ms",
        "p99 ms",
        "max ms",
        "%",
        "cpu %",
        "/read",
        "%"
    );
}

/// Prints one line of the table.
pub(crate) fn print_round(round: &Round) {
    let seen = &round.seen;
    println!(
        "{:>5} {:<6} {:>9} {:>9.0} {:>8} {:>8} {:>7.2} {:>7.2} {:>7.2} {:>7} {:>7.1} {:>6.2} {:>6.2}",
        round.number,
        round.side,
        number(round.sends_per_second, 0),
        round.prices_per_second,
        number(round.sender_micros(), 3),
        number(round.process_micros(), 3),
        millis(seen.ages.value_at_quantile(0.5)),
        millis(seen.ages.value_at_quantile(0.99)),
        millis(seen.ages.max()),
        number(round.would_block.map(|share| share * 100.0), 2),
        seen.cpu_share * 100.0,
        seen.prices as f64 / seen.reads.max(1) as f64,
        round.host.steal * 100.0,
    );
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
}

/// Medians over the rounds of one side.
#[derive(Debug, Clone, Default)]
pub(crate) struct Medians {
    /// Successful sends per second.
    pub sends_per_second: Option<f64>,
    /// CPU microseconds of the sending threads per send.
    pub sender_micros: Option<f64>,
    /// CPU microseconds of the whole server process per send.
    pub process_micros: Option<f64>,
    /// Age of a price when it was read: the median.
    pub age_p50_millis: Option<f64>,
    /// The 99th percentile.
    pub age_p99_millis: Option<f64>,
    /// The maximum.
    pub age_max_millis: Option<f64>,
    /// Share of the time stolen by the hypervisor.
    pub steal: Option<f64>,
}

impl Medians {
    /// The medians of one side's rounds.
    #[must_use]
    pub(crate) fn of(rounds: &[Round], side: &str) -> Self {
        let own: Vec<&Round> = rounds.iter().filter(|round| round.side == side).collect();
        let of = |figure: &dyn Fn(&Round) -> Option<f64>| {
            median(own.iter().filter_map(|round| figure(round)).collect())
        };
        let age = |quantile: f64| {
            of(&|round: &Round| Some(millis(round.seen.ages.value_at_quantile(quantile))))
        };
        Self {
            sends_per_second: of(&|round| round.sends_per_second),
            sender_micros: of(&Round::sender_micros),
            process_micros: of(&Round::process_micros),
            age_p50_millis: age(0.5),
            age_p99_millis: age(0.99),
            age_max_millis: age(1.0),
            steal: of(&|round| Some(round.host.steal)),
        }
    }

    /// As JSON.
    #[must_use]
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "sendsPerSecond": self.sends_per_second,
            "senderCpuMicrosPerSend": self.sender_micros,
            "processCpuMicrosPerSend": self.process_micros,
            "ageP50Millis": self.age_p50_millis,
            "ageP99Millis": self.age_p99_millis,
            "ageMaxMillis": self.age_max_millis,
            "hostSteal": self.steal,
        })
    }
}

/// The server's cost relative to the bare loop's: the median of the ratios of all pairs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ratios {
    /// CPU time of the sending threads per send.
    pub sender: Option<f64>,
    /// CPU time of the whole process per send.
    pub process: Option<f64>,
    /// Sends per second.
    pub sends: Option<f64>,
}

impl Ratios {
    /// The ratios of both sides' rounds.
    #[must_use]
    pub(crate) fn of(rounds: &[Round]) -> Self {
        let of = |server_figure: fn(&Round) -> Option<f64>,
                  bare_figure: fn(&Round) -> Option<f64>| {
            let servers = rounds.iter().filter(|round| round.side == "server");
            let ratios = servers.filter_map(|server| {
                let mut pairs = rounds.iter().filter(|bare| bare.side == "bare");
                let bare = pairs.find(|bare| bare.number == server.number)?;
                Some(server_figure(server)? / bare_figure(bare)?)
            });
            median(ratios.collect())
        };
        Self {
            sender: of(Round::sender_micros, Round::sender_micros),
            process: of(Round::process_micros, Round::sender_micros),
            sends: of(|round| round.sends_per_second, |round| round.sends_per_second),
        }
    }
}

/// The middle value, or the mean of the two middle ones.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some((*values.get(middle.checked_sub(1)?)? + upper) / 2.0)
}

/// Prints medians, ratios and warnings.
pub(crate) fn print_end(setting: &Setting, rounds: &[Round]) {
    println!();
    for side in ["server", "bare"] {
        if !rounds.iter().any(|round| round.side == side) {
            continue;
        }
        let medians = Medians::of(rounds, side);
        println!(
            "median {side:<6} {} sends/s, {} us/send (sending thread), {} us/send (process), \
             age p50 {} / p99 {} / max {} ms, steal {} %",
            number(medians.sends_per_second, 0),
            number(medians.sender_micros, 3),
            number(medians.process_micros, 3),
            number(medians.age_p50_millis, 2),
            number(medians.age_p99_millis, 2),
            number(medians.age_max_millis, 2),
            number(medians.steal.map(|share| share * 100.0), 2),
        );
    }
    let ratios = Ratios::of(rounds);
    if ratios.sends.is_some() {
        println!(
            "server / bare, median of the pairs: CPU per send {} (sending thread), {} (whole \
             process); sends/s {}",
            number(ratios.sender, 3),
            number(ratios.process, 3),
            number(ratios.sends, 3),
        );
    }
    print_threads(rounds);
    print_warnings(setting, rounds);
}

fn print_threads(rounds: &[Round]) {
    let mut by_thread: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in rounds {
        for (name, cores) in &round.cores_by_thread {
            by_thread.entry(name).or_default().push(*cores);
        }
    }
    let threads = by_thread.into_iter().filter_map(|(name, cores)| Some((name, median(cores)?)));
    let shown: Vec<String> =
        threads.map(|(name, cores)| format!("{name} {:.1}", cores * 100.0)).collect();
    if !shown.is_empty() {
        println!("server threads, median % of a core: {}", shown.join(", "));
    }
}

fn print_warnings(setting: &Setting, rounds: &[Round]) {
    let count = |wanted: &dyn Fn(&Round) -> bool| rounds.iter().filter(|r| wanted(r)).count();
    let of = |wanted: &dyn Fn(&Round) -> bool, text: &str| {
        let count = count(wanted);
        if count > 0 {
            println!("note: {text} ({count} of {} windows)", rounds.len());
        }
    };
    of(
        &Round::is_client_limited,
        "the bare loop met full sockets: the client set the pace and its CPU per send holds \
         refused calls",
    );
    of(
        &|round| !setting.client_spins && round.seen.cpu_share > CLIENT_BUSY,
        "the client thread had no CPU time left: ages hold its own queue",
    );
    of(
        &|round| round.side == "bare" && round.sender_cores.is_some_and(|cores| cores < BARE_ALONE),
        "other work ran on the bare loop's core: sends/s are too low, ages and CPU per send too \
         high",
    );
    of(
        &|round| !round.sends_counted,
        "the server's counter of sends was not found: sends are the frames that arrived",
    );
    of(&|round| round.seen.closed > 0, "streams were closed before the end");
    of(&|round| round.seen.prices_per_connection.0 == 0, "a stream got no price at all");
    of(&|round| round.seen.out_of_order > 0, "a stream got an older price after a newer one");
}

/// Writes everything to a file as JSON.
///
/// # Errors
/// [`crate::error::Error::Io`] when it cannot be written.
pub(crate) fn write_json(file: &Path, setting: &Setting, rounds: &[Round]) -> Result<()> {
    let ratios = Ratios::of(rounds);
    let report = json!({
        "machine": setting.machine,
        "clients": setting.clients,
        "symbols": setting.symbols,
        "windowSeconds": setting.seconds,
        "clientCore": setting.client_core,
        "clientSpins": setting.client_spins,
        "bareCore": setting.server_core,
        "serverCore": setting.server_pinned,
        "tapeSpeed": setting.speed,
        "medians": {
            "server": Medians::of(rounds, "server").to_json(),
            "bare": Medians::of(rounds, "bare").to_json(),
        },
        "ratios": {
            "senderCpuPerSend": ratios.sender,
            "processCpuPerSend": ratios.process,
            "sendsPerSecond": ratios.sends,
        },
        "rounds": rounds.iter().map(Round::to_json).collect::<Vec<_>>(),
    });
    fs::write(file, format!("{report:#}\n")).context(&format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }
}
