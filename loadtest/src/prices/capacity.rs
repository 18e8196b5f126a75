//! `loadtest prices capacity`: how much each server delivers before it is late or loses prices.
//!
//! The exchange prints ever faster until the server fails; then the search narrows the speed between
//! the last good and the first bad one. Every speed gets a window, and a second one if the first was
//! bad.

use serde_json::{Value, json};

use super::{
    LoadOptions,
    contender::{Kind, Mode},
    session::{Clients, Session},
    window::{Window, print_head, print_window},
};
use crate::{
    error::{Error, Result},
    phase::Interrupt,
    report::median,
};

/// Replay speeds that the exchange supports.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.01..=100_000.0;
/// Growth factor of the speed while the server keeps up.
const GROWTH: f64 = 1.6;
/// Most windows of one search: six powers of ten, and some to narrow.
const MOST_WINDOWS: usize = 60;
/// This many good windows in a row that deliver no more than the best one before, times the factor,
/// end a search: a server that conflates is never late, and the exchange's rate is limited.
const PLATEAU: (usize, f64) = (3, 1.03);
/// Start of further rounds, relative to the result of the first.
const NEXT_START: f64 = 0.75;

/// Flags of the search.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct CapacityArgs {
    #[command(flatten)]
    pub shape: Shape,
    /// The servers
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "longbow,axum-symbols,axum-batches,nchan"
    )]
    servers: Vec<Kind>,
    /// Mode of Longbow's streams; other servers always send every print
    #[arg(long, value_enum, default_value_t = Mode::Every)]
    mode: Mode,
    /// Speed of the exchange at the start of the search
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    first_speed: f64,
    /// Limit of the 99th percentile of the age of prices, in milliseconds
    #[arg(long, default_value_t = 200.0, value_name = "MS")]
    limit: f64,
    /// The search ends when the first bad speed is at most this factor above the last good one
    #[arg(long, default_value_t = 1.08, value_name = "FACTOR")]
    precision: f64,
}

/// Number of clients and symbols.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Shape {
    /// Number of clients
    #[arg(long, default_value_t = 1_000, value_name = "COUNT")]
    pub clients: usize,
    /// Symbols of the exchange, with their recorded activity
    #[arg(long, default_value_t = 1_000, value_name = "COUNT")]
    pub symbols: usize,
    /// Symbols of each client, drawn uniformly
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    pub symbols_per_client: usize,
}

impl Shape {
    /// The clients of this shape, in some mode.
    #[must_use]
    pub(super) const fn clients(&self, mode: Mode) -> Clients {
        Clients {
            count: self.clients,
            symbols: self.symbols_per_client,
            mode,
            only: None,
            only_even: false,
            receive_buffer_bytes: None,
        }
    }
}

/// What a search measures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject {
    /// The server.
    pub kind: Kind,
    /// Its clients.
    pub shape: Shape,
    /// The mode they request from Longbow.
    pub mode: Mode,
}

/// The goal of a search.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goal {
    /// The first speed.
    pub first_speed: f64,
    /// Limit of the p99 age in milliseconds.
    pub limit_millis: f64,
    /// See [`CapacityArgs`].
    pub precision: f64,
}

/// The result of a search.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The fastest good speed, and its window.
    pub best: Option<(f64, Window)>,
    /// The slowest bad speed.
    pub failed_at: Option<f64>,
    /// Whether the limit was the core of clients, exchange and feeds, or the exchange's rate.
    pub client_limited: bool,
    /// All windows, with their speeds.
    pub windows: Vec<(f64, Window)>,
}

/// Runs the searches and prints their report.
///
/// # Errors
/// Whatever stops a session early.
pub(super) fn run(
    arguments: &CapacityArgs,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Value> {
    let shape = arguments.shape;
    if arguments.precision <= 1.0 || arguments.first_speed <= 0.0 {
        return Err(Error::Flag {
            flag: "precision",
            value: arguments.precision.to_string(),
            allowed: "above 1, and a speed above 0".to_owned(),
        });
    }
    println!(
        "{} clients with {} of {} symbols each, mode={}, p99 below {} ms\n",
        shape.clients,
        shape.symbols_per_client,
        shape.symbols,
        arguments.mode.into_str(),
        arguments.limit
    );
    print_head("round, speed");
    let mut found: Vec<(Kind, Vec<Found>)> =
        arguments.servers.iter().map(|kind| (*kind, Vec::new())).collect();
    for round in 1..=options.rounds {
        for (kind, of_kind) in &mut found {
            let known = of_kind.first().and_then(|found: &Found| found.best.as_ref());
            let first_speed = known.map_or(arguments.first_speed, |(speed, _)| speed * NEXT_START);
            let goal =
                Goal { first_speed, limit_millis: arguments.limit, precision: arguments.precision };
            let subject = Subject { kind: *kind, shape, mode: arguments.mode };
            of_kind.push(search(subject, goal, options, round, interrupt)?);
        }
    }
    print_end(&found);
    Ok(json!({
        "scenario": "capacity",
        "clients": shape.clients,
        "symbols": shape.symbols,
        "symbolsPerClient": shape.symbols_per_client,
        "mode": arguments.mode.into_str(),
        "limitMillis": arguments.limit,
        "servers": found.iter().map(|(kind, found)| to_json(*kind, found)).collect::<Vec<_>>(),
    }))
}

/// Finds the fastest speed that a server keeps up with.
///
/// # Errors
/// Whatever stops the session early.
pub(super) fn search(
    subject: Subject,
    goal: Goal,
    options: &LoadOptions,
    round: usize,
    interrupt: &Interrupt,
) -> Result<Found> {
    let mut found =
        Found { best: None, failed_at: None, client_limited: false, windows: Vec::new() };
    let start = || -> Result<Session<'_>> {
        let mut session = Session::start(subject.kind, options, subject.shape.symbols, interrupt)?;
        session.connect(options, subject.shape.clients(subject.mode))?;
        Ok(session)
    };
    let mut session = None;
    let (mut speed, mut good, mut flat) = (goal.first_speed, None, 0);
    let mut is_second_try = false;
    for _ in 0..MOST_WINDOWS {
        // A failed server is restarted, so its backlog does not affect the next window.
        let mut current = session.take().map_or_else(start, Ok)?;
        current.set_speed(speed)?;
        interrupt.sleep(options.warm_up)?;
        let mut window = current.window(options.seconds)?;
        let mut verdict = verdict(&window, goal.limit_millis);
        if verdict.is_none() {
            let missing = current.missing()?.unwrap_or(0);
            if missing > 0 {
                window.lost += missing;
                verdict = Some("loss");
            }
            session = Some(current);
        }
        print_window(&format!("{round}, {speed:.2}"), &window, verdict.unwrap_or_default());
        found.windows.push((speed, window.clone()));
        // One bad window may be noise: the server has failed only after two in a row.
        is_second_try = verdict.is_some() && !is_second_try;
        if is_second_try {
            continue;
        }
        if verdict.is_none() {
            good = Some(speed);
            let rate = window.delivered_per_second();
            let best = found.best.as_ref().map_or(0.0, |(_, best)| best.delivered_per_second());
            flat = if rate < best * PLATEAU.1 { flat + 1 } else { 0 };
            if rate > best {
                found.best = Some((speed, window));
            }
        } else {
            found.failed_at = Some(speed);
            found.client_limited = window.is_client_limited();
        }
        if flat == PLATEAU.0 {
            found.client_limited |= flat == PLATEAU.0;
            break;
        }
        match next_speed(good, found.failed_at, goal) {
            Some(next) => speed = next,
            None => break,
        }
    }
    Ok(found)
}

/// Why a window is bad; `None` if it is good.
fn verdict(window: &Window, limit_millis: f64) -> Option<&'static str> {
    let is_limited = window.is_client_limited();
    if window.has_loss() {
        return Some(if is_limited { "loss, the clients' core is full" } else { "loss" });
    }
    if window.seen.prices == 0 {
        return Some("nothing came");
    }
    if window.age_millis(0.99) >= limit_millis {
        return Some(if is_limited { "late, the clients' core is full" } else { "late" });
    }
    None
}

/// The next speed to measure; `None` at the requested precision.
fn next_speed(good: Option<f64>, bad: Option<f64>, goal: Goal) -> Option<f64> {
    let next = match (good, bad) {
        (Some(good), Some(bad)) if bad > good => {
            (bad / good > goal.precision).then(|| (bad * good).sqrt())
        }
        (Some(good), _) => Some(good * GROWTH),
        (None, Some(bad)) if bad > goal.first_speed / 1e3 => Some(bad / GROWTH / GROWTH),
        (None, Some(_)) => None,
        (None, None) => Some(goal.first_speed),
    };
    next.filter(|speed| SPEEDS.contains(speed))
}

fn delivered(found: &[Found]) -> Option<f64> {
    let best = found.iter().filter_map(|found| found.best.as_ref());
    median(best.map(|(_, window)| window.delivered_per_second()).collect())
}

fn print_end(found: &[(Kind, Vec<Found>)]) {
    println!();
    let ours = found.iter().find(|(kind, _)| *kind == Kind::Longbow);
    let ours = ours.and_then(|(_, found)| delivered(found));
    for (kind, found) in found {
        let Some(rate) = delivered(found) else {
            println!("{:<13} kept up at no speed", kind.into_str());
            continue;
        };
        let best: Vec<&Window> =
            found.iter().filter_map(|found| Some(&found.best.as_ref()?.1)).collect();
        let of = |figure: &dyn Fn(&Window) -> f64| {
            median(best.iter().map(|window| figure(window)).collect()).unwrap_or(f64::NAN)
        };
        let each: Vec<String> =
            best.iter().map(|window| format!("{:.0}", window.delivered_per_second())).collect();
        println!(
            "{:<13} {rate:.0} prices/s, median of {} ({}), at {:.0} prints/s; p99 {:.1} ms, sending \
             thread {:.0} % of a core, process {:.0} %{}",
            kind.into_str(),
            best.len(),
            each.join(", "),
            of(&|window| window.prints_per_second),
            of(&|window| window.age_millis(0.99)),
            of(&|window| window.sender_cores * 100.0),
            of(&|window| window.process_cores * 100.0),
            ours.filter(|_| *kind != Kind::Longbow).map_or(String::new(), |ours| format!(
                "; Longbow {:.2} times as much",
                ours / rate
            )),
        );
        let limited = found.iter().filter(|found| found.client_limited).count();
        if limited > 0 {
            println!(
                "note: {} was limited by the core of clients, exchange and feed in {limited} of {} \
                 searches: its figure is a lower bound",
                kind.into_str(),
                found.len()
            );
        }
    }
}

fn to_json(kind: Kind, found: &[Found]) -> Value {
    let searches = found.iter().map(|found| {
        json!({
            "bestSpeed": found.best.as_ref().map(|(speed, _)| speed),
            "best": found.best.as_ref().map(|(_, window)| window.to_json()),
            "failedAtSpeed": found.failed_at,
            "clientLimited": found.client_limited,
            "windows": found.windows.iter().map(|(speed, window)| {
                json!({ "speed": speed, "window": window.to_json() })
            }).collect::<Vec<_>>(),
        })
    });
    json!({
        "server": kind.into_str(),
        "medianDeliveredPerSecond": delivered(found),
        "searches": searches.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_ends_close_to_what_the_server_keeps_up_with() {
        let goal = Goal { first_speed: 1.0, limit_millis: 200.0, precision: 1.08 };
        for limit in [0.05, 0.9, 1.0, 37.0, 5_000.0] {
            let (mut good, mut bad, mut speed) = (None, None, goal.first_speed);
            let mut windows = 0;
            loop {
                windows += 1;
                if speed <= limit {
                    good = Some(speed)
                } else {
                    bad = Some(speed)
                }
                let Some(next) = next_speed(good, bad, goal) else { break };
                speed = next;
            }
            let best: f64 = good.unwrap();
            assert!(best <= limit && best * 1.08 >= limit, "{best} of {limit}");
            assert!(windows <= MOST_WINDOWS, "{windows} windows");
        }
    }
}
