//! `loadtest prices latest`: Longbow's `latest` streams at a multiple of the rate at which axum becomes
//! late, with the same clients.

use serde_json::{Value, json};

use super::{
    LoadOptions, Summary,
    capacity::{Goal, Shape, Subject, search},
    contender::{Kind, Mode},
    session::Session,
    window::{Window, print_head, print_window},
};
use crate::{error::Result, phase::Interrupt};

/// Flags of this scenario.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct LatestArgs {
    #[command(flatten)]
    shape: Shape,
    /// The server whose limit is searched
    #[arg(long, value_enum, default_value_t = Kind::AxumSymbols)]
    against: Kind,
    /// Its limit as a speed of the exchange, if already known
    #[arg(long, value_name = "FACTOR")]
    known_limit: Option<f64>,
    /// Speed at the start of the search
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    first_speed: f64,
    /// Age of prices at which a server is late at the 99th percentile, in milliseconds
    #[arg(long, default_value_t = 200.0, value_name = "MS")]
    limit: f64,
    /// Longbow's speed, as a multiple of the speed at which the other server is late
    #[arg(long, default_value_t = 4.0, value_name = "FACTOR")]
    times: f64,
}

/// Runs the scenario and prints its report.
///
/// # Errors
/// Whatever stops a session early.
pub(super) fn run(
    arguments: &LatestArgs,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Value> {
    println!("{} clients of Longbow, mode=latest\n", arguments.shape.clients);
    print_head("round, speed");
    let goal =
        Goal { first_speed: arguments.first_speed, limit_millis: arguments.limit, precision: 1.15 };
    let subject = Subject { kind: arguments.against, shape: arguments.shape, mode: Mode::Every };
    let mut windows = Vec::new();
    for round in 1..=options.rounds {
        let limit = match arguments.known_limit {
            Some(limit) => limit,
            None => {
                let found = search(subject, goal, options, round, interrupt)?;
                let best = found.best.map(|(speed, _)| speed);
                found.failed_at.or(best).unwrap_or(arguments.first_speed)
            }
        };
        let speed = limit * arguments.times;
        let mut session =
            Session::start(Kind::Longbow, options, arguments.shape.symbols, interrupt)?;
        session.connect(options, arguments.shape.clients(Mode::Latest))?;
        session.set_speed(speed)?;
        interrupt.sleep(options.warm_up)?;
        let window = session.window(options.seconds)?;
        let is_limited = window.is_client_limited();
        let remark = if is_limited { "the clients' core is full" } else { "" };
        print_window(&format!("{round}, {speed:.2}"), &window, remark);
        windows.push((limit, window));
    }
    let of = |figure: fn(&Window) -> f64| Summary::of(windows.iter().map(|(_, w)| figure(w)));
    let limit = Summary::of(windows.iter().map(|(limit, _)| *limit));
    let p99 = of(|window| window.age_millis(0.99));
    let (sender, process) = (of(|window| window.sender_cores), of(|window| window.process_cores));
    println!(
        "\n{} is late at speed {}; Longbow at {} times that, {} prints/s: p99 {} ms, sending thread \
         {} of a core, process {}",
        arguments.against.into_str(),
        limit.text(2),
        arguments.times,
        of(|window| window.prints_per_second).text(0),
        p99.text(1),
        sender.text(2),
        process.text(2),
    );
    Ok(json!({
        "scenario": "latest",
        "against": arguments.against.into_str(),
        "limitSpeed": limit.to_json(),
        "times": arguments.times,
        "ageP99Millis": p99.to_json(),
        "senderCores": sender.to_json(),
        "processCores": process.to_json(),
        "windows": windows.iter().map(|(_, window)| window.to_json()).collect::<Vec<_>>(),
    }))
}
