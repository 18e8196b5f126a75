//! `loadtest prices stalled`: half of the clients stop reading. Measures the effect on the others and
//! the memory of each stalled one.

use serde_json::{Value, json};

use super::{
    LoadOptions, Summary,
    capacity::Shape,
    contender::{Kind, Mode},
    memory_use::{KernelMemory, ProcessMemory, Queued},
    session::{Clients, Session},
    window::{Window, print_head, print_window},
};
use crate::{
    clock::{Moment, seconds_between},
    error::Result,
    phase::Interrupt,
};

/// Interval between memory readings, in seconds.
const LOOK_SECONDS: f64 = 1.0;

/// Flags of this scenario.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct StalledArgs {
    /// Number of clients; every other one stops reading
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    clients: usize,
    /// Symbols of the exchange
    #[arg(long, default_value_t = 1_000, value_name = "COUNT")]
    symbols: usize,
    /// Symbols of each client
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    symbols_per_client: usize,
    /// Speed of the exchange
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    speed: f64,
    /// The servers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "longbow")]
    servers: Vec<Kind>,
    /// Mode of Longbow's streams
    #[arg(long, value_enum, default_value_t = Mode::Latest)]
    mode: Mode,
    /// How long they do not read, in seconds; the window before it is equally long
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    stall: f64,
    /// Receive buffer of each client, in KiB: small, since it is not the server's memory
    #[arg(long, default_value_t = 16, value_name = "KIB")]
    receive_buffer_kib: usize,
}

/// Peak memory above the level before the stall.
#[derive(Debug, Clone, Copy, Default)]
struct Growth {
    user: u64,
    kernel_of_both: u64,
    queued_by_server: u64,
    queued_at_clients: u64,
}

struct Round {
    kind: Kind,
    before: Window,
    during: Window,
    growth: Growth,
}

/// Runs the scenario and prints its report.
///
/// # Errors
/// Whatever stops a session early.
pub(super) fn run(
    arguments: &StalledArgs,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Value> {
    println!(
        "every second one of {} clients stops reading for {} s; ages are those of the others\n",
        arguments.clients, arguments.stall
    );
    print_head("round");
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        for kind in &arguments.servers {
            rounds.push(measure(*kind, number, arguments, options, interrupt)?);
        }
    }
    println!();
    let servers =
        arguments.servers.iter().map(|kind| summary(*kind, &rounds, arguments.clients / 2));
    Ok(json!({
        "scenario": "stalled",
        "clients": arguments.clients,
        "stallSeconds": arguments.stall,
        "speed": arguments.speed,
        "mode": arguments.mode.into_str(),
        "receiveBufferKib": arguments.receive_buffer_kib,
        "servers": servers.collect::<Vec<_>>(),
    }))
}

fn measure(
    kind: Kind,
    number: usize,
    arguments: &StalledArgs,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Round> {
    let shape = Shape {
        clients: arguments.clients,
        symbols: arguments.symbols,
        symbols_per_client: arguments.symbols_per_client,
    };
    let mut session = Session::start(kind, options, arguments.symbols, interrupt)?;
    let clients = Clients {
        only_even: true,
        receive_buffer_bytes: Some(arguments.receive_buffer_kib * 1_024),
        ..shape.clients(arguments.mode)
    };
    session.connect(options, clients)?;
    session.set_speed(arguments.speed)?;
    interrupt.sleep(options.warm_up)?;
    let before = session.window(arguments.stall)?;
    print_window(&format!("{number}, all read"), &before, "");

    let pid = session.contender.pid();
    let port = session.contender.address.port();
    let read = || -> Result<_> {
        Ok((ProcessMemory::read(pid)?.total(), KernelMemory::read()?, Queued::read(port)?))
    };
    let start = read()?;
    let mut growth = Growth::default();
    session.control.set_stalled(true);
    let during = session.window_with(|started| {
        while seconds_between(started, Moment::now()) < arguments.stall {
            interrupt.sleep(LOOK_SECONDS.min(arguments.stall))?;
            let now = read()?;
            growth.user = growth.user.max(now.0.saturating_sub(start.0));
            let kernel =
                now.1.queues.saturating_sub(start.1.queues) + now.1.socket_slab_growth(&start.1);
            growth.kernel_of_both = growth.kernel_of_both.max(kernel);
            growth.queued_by_server = growth.queued_by_server.max(now.2.by_server);
            growth.queued_at_clients = growth.queued_at_clients.max(now.2.at_clients);
        }
        Ok(())
    })?;
    print_window(&format!("{number}, half stall"), &during, "");
    Ok(Round { kind, before, during, growth })
}

fn summary(kind: Kind, rounds: &[Round], stalled: usize) -> Value {
    let own: Vec<&Round> = rounds.iter().filter(|round| round.kind == kind).collect();
    let of = |figure: &dyn Fn(&Round) -> f64| Summary::of(own.iter().map(|round| figure(round)));
    let p99 = |window: &Window| window.age_millis(0.99);
    let before = of(&|round| p99(&round.before));
    let during = of(&|round| p99(&round.during));
    let ratio = of(&|round| p99(&round.during) / p99(&round.before));
    let each = |bytes: u64| bytes as f64 / stalled as f64 / 1_024.0;
    let user = of(&|round| each(round.growth.user));
    let kernel = of(&|round| each(round.growth.kernel_of_both));
    let by_server = of(&|round| each(round.growth.queued_by_server));
    let at_clients = of(&|round| each(round.growth.queued_at_clients));
    println!(
        "{}: p99 of the others {} ms before, {} ms during the stall, ratio {}; for each stalled \
         client {} KiB of user memory and {} KiB in the kernel for both ends; {} KiB of payload \
         wait in the server's socket and {} KiB in the client's",
        kind.into_str(),
        before.text(2),
        during.text(2),
        ratio.text(3),
        user.text(1),
        kernel.text(1),
        by_server.text(1),
        at_clients.text(1),
    );
    json!({
        "server": kind.into_str(),
        "stalled": stalled,
        "othersP99MillisBefore": before.to_json(),
        "othersP99MillisDuring": during.to_json(),
        "p99Ratio": ratio.to_json(),
        "userKibPerStalled": user.to_json(),
        "kernelKibPerStalledBothEnds": kernel.to_json(),
        "payloadKibInServerSocket": by_server.to_json(),
        "payloadKibInClientSocket": at_clients.to_json(),
        "rounds": own.iter().map(|round| json!({
            "before": round.before.to_json(),
            "during": round.during.to_json(),
        })).collect::<Vec<_>>(),
    })
}
