//! `loadtest prices storm`: all clients disconnect and reconnect at once.

use serde_json::{Value, json};

use super::{
    LoadOptions, Summary,
    capacity::Shape,
    contender::{Kind, Mode},
    session::Session,
    window::Window,
};
use crate::{
    cpu::HostCpu,
    error::{Error, Result},
    phase::Interrupt,
};

/// How long all reconnects may take.
const BACK_SECONDS: f64 = 120.0;
/// Speed and seconds in which nearly every symbol gets a price before the clients connect: the test
/// waits until each client has a price.
const FILL: (f64, f64) = (200.0, 2.0);

/// Flags of this scenario.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct StormArgs {
    /// Number of clients
    #[arg(long, default_value_t = 19_000, value_name = "COUNT")]
    clients: usize,
    /// Symbols of the exchange
    #[arg(long, default_value_t = 1_000, value_name = "COUNT")]
    symbols: usize,
    /// Symbols of each client
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    symbols_per_client: usize,
    /// Speed of the exchange
    #[arg(long, default_value_t = 0.2, value_name = "FACTOR")]
    speed: f64,
}

struct Round {
    seconds: f64,
    sender_seconds: f64,
    process_seconds: f64,
    client_core_busy: f64,
    before: Window,
    after: Window,
}

/// Runs the scenario and prints its report.
///
/// # Errors
/// Whatever stops a session early; [`Error::Timeout`] when not all clients reconnect in time.
pub(super) fn run(
    arguments: &StormArgs,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Value> {
    println!(
        "{} clients with {} of {} symbols close at once and connect again, one after the other, as \
         fast as one thread can; the clock runs from the first close until the last of them has a \
         price\n",
        arguments.clients, arguments.symbols_per_client, arguments.symbols
    );
    println!(
        "{:>5} {:>8} {:>16} {:>17} {:>14} {:>14} {:>12} {:>13}",
        "round",
        "all back",
        "us/connect send.",
        "us/connect proc.",
        "p99 ms before",
        "p99 ms after",
        "oldest after",
        "client core %"
    );
    let shape = Shape {
        clients: arguments.clients,
        symbols: arguments.symbols,
        symbols_per_client: arguments.symbols_per_client,
    };
    let mut session = Session::start(Kind::Longbow, options, arguments.symbols, interrupt)?;
    session.set_speed(FILL.0)?;
    interrupt.sleep(FILL.1)?;
    session.set_speed(arguments.speed)?;
    session.connect(options, shape.clients(Mode::Latest))?;
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        interrupt.sleep(options.warm_up)?;
        let round = measure(&mut session, options, interrupt)?;
        println!(
            "{number:>5} {:>6.2} s {:>16.1} {:>17.1} {:>14.2} {:>14.2} {:>9.1} ms {:>13.0}",
            round.seconds,
            round.sender_seconds * 1e6 / arguments.clients as f64,
            round.process_seconds * 1e6 / arguments.clients as f64,
            round.before.age_millis(0.99),
            round.after.age_millis(0.99),
            round.after.age_millis(1.0),
            round.client_core_busy * 100.0,
        );
        rounds.push(round);
    }
    let of = |figure: &dyn Fn(&Round) -> f64| Summary::of(rounds.iter().map(figure));
    let micros = |seconds: f64| seconds * 1e6 / arguments.clients as f64;
    let seconds = of(&|round| round.seconds);
    let sender = of(&|round| micros(round.sender_seconds));
    let process = of(&|round| micros(round.process_seconds));
    let oldest = of(&|round| round.after.age_millis(1.0));
    println!(
        "\nall {} back with prices after {} s; server CPU for each {} us (sending thread), {} us \
         (process), the prints of that time included; oldest price in the {} s after it {} ms",
        arguments.clients,
        seconds.text(2),
        sender.text(1),
        process.text(1),
        options.seconds,
        oldest.text(1),
    );
    Ok(json!({
        "scenario": "storm",
        "clients": arguments.clients,
        "speed": arguments.speed,
        "secondsUntilAllHavePrices": seconds.to_json(),
        "senderMicrosPerConnect": sender.to_json(),
        "processMicrosPerConnect": process.to_json(),
        "oldestMillisAfter": oldest.to_json(),
        "rounds": rounds.iter().map(|round| json!({
            "seconds": round.seconds,
            "clientCoreBusy": round.client_core_busy,
            "before": round.before.to_json(),
            "after": round.after.to_json(),
        })).collect::<Vec<_>>(),
    }))
}

fn measure(
    session: &mut Session<'_>,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Round> {
    let before = session.window(options.seconds)?;
    let (cpu_before, host_before) = (session.contender.cpu()?, HostCpu::read()?);
    let generation = session.control.reconnect();
    let mut seconds = None;
    interrupt.wait_until(BACK_SECONDS, || {
        seconds = session.control.settled(generation);
        Ok(seconds.is_some())
    })?;
    let used = session.contender.cpu()?.since(&cpu_before);
    let host = HostCpu::read()?.since(&host_before);
    let Some(seconds) = seconds else {
        return Err(Error::Timeout {
            what: "the return of all clients".to_owned(),
            seconds: 120,
            detail: format!(": {} are there", session.control.ready()),
        });
    };
    let wall_seconds = used.wall_nanos as f64 / 1e9;
    let after = session.window(options.seconds)?;
    Ok(Round {
        seconds,
        sender_seconds: used.cores(|name| session.contender.is_sender(name)) * wall_seconds,
        process_seconds: used.cores(|_| true) * wall_seconds,
        client_core_busy: host.busy_by_core.get(options.client_core).copied().unwrap_or(0.0),
        before,
        after,
    })
}
