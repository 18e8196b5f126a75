//! `loadtest prices unloaded`: the latency of a single print to its clients, beside a bare ping-pong
//! over loopback TCP between the same two cores.
//!
//! A print crosses two connections: exchange to server, server to client. So does a ping-pong.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{
    LoadOptions, Summary,
    contender::{Kind, Mode},
    session::{Clients, Session},
    window::{Window, print_head, print_window},
};
use crate::{
    clock::{Moment, seconds_between},
    cpu,
    error::{Context, Error, Result},
    peer::{Peer, serve_input},
    phase::Interrupt,
    spawn::Directory,
    stream::BUSIEST_SYMBOL,
};

/// Symbols of the tape only; the clients watch the busiest.
const TAPE_SYMBOLS: usize = 4;
/// Symbols that clients choose from with --symbols.
const MANY_SYMBOLS: usize = 1_000;
/// Bytes of a ping: about the size of a price frame.
const PING_BYTES: usize = 88;
/// Pause before each ping, so that both sides are asleep, as before a single print.
const PING_PAUSE: Duration = Duration::from_millis(5);
/// Largest time of a ping in the histogram, in nanoseconds.
const MAX_PING_NANOS: u64 = 10_000_000_000;

/// Flags of this scenario.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct UnloadedArgs {
    /// Number of clients
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    clients: usize,
    /// Symbols of each client, chosen from a thousand; 0 for only the busiest one, whose prints go to
    /// all clients
    #[arg(long, default_value_t = 0, value_name = "COUNT",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(0..=100))]
    symbols_per_client: usize,
    /// Speed of the exchange: at 1 the symbol has 19 prints per second
    #[arg(long, default_value_t = 2.0, value_name = "FACTOR")]
    speed: f64,
    /// The servers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "longbow")]
    servers: Vec<Kind>,
    /// Mode of Longbow's streams
    #[arg(long, value_enum, default_value_t = Mode::Latest)]
    mode: Mode,
}

/// Flags of the process that answers pings.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EchoArgs {
    #[arg(long)]
    core: usize,
}

/// Runs the scenario and prints its report.
///
/// # Errors
/// Whatever stops a session early.
pub(crate) fn run(
    arguments: &UnloadedArgs,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Value> {
    let (symbols, each) = match arguments.symbols_per_client {
        0 => (TAPE_SYMBOLS, 1),
        each => (MANY_SYMBOLS, each),
    };
    let only = (arguments.symbols_per_client == 0).then_some(BUSIEST_SYMBOL);
    let what = only.map_or_else(|| format!("{each} of {symbols} symbols each"), str::to_owned);
    println!("{} clients of {what} at speed {}\n", arguments.clients, arguments.speed);
    print_head("round");
    let (mut windows, mut pings) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        for kind in &arguments.servers {
            let mut session = Session::start(*kind, options, symbols, interrupt)?;
            let clients = Clients {
                count: arguments.clients,
                symbols: each,
                mode: arguments.mode,
                only,
                only_even: false,
                receive_buffer_bytes: None,
            };
            session.connect(options, clients)?;
            session.set_speed(arguments.speed)?;
            interrupt.sleep(options.warm_up)?;
            let window = session.window(options.seconds)?;
            print_window(&round.to_string(), &window, "");
            windows.push(window);
        }
        pings.push(ping_pong(options, interrupt)?);
    }
    let ping = |quantile: f64| Summary::of(pings.iter().map(|ping| micros(ping, quantile)));
    println!("\nping-pong: p50 {} us, p99 {} us", ping(0.5).text(1), ping(0.99).text(1));
    let servers = arguments.servers.iter().map(|kind| summary(*kind, &windows, &pings));
    let servers: Vec<Value> = servers.collect();
    Ok(json!({
        "scenario": "unloaded",
        "clients": arguments.clients,
        "symbolsPerClient": arguments.symbols_per_client,
        "speed": arguments.speed,
        "mode": arguments.mode.into_str(),
        "pingPongMicros": { "p50": ping(0.5).to_json(), "p99": ping(0.99).to_json() },
        "servers": servers,
    }))
}

fn micros(nanos: &Histogram<u64>, quantile: f64) -> f64 {
    nanos.value_at_quantile(quantile) as f64 / 1e3
}

fn summary(kind: Kind, windows: &[Window], pings: &[Histogram<u64>]) -> Value {
    let own: Vec<&Window> = windows.iter().filter(|window| window.kind == kind).collect();
    let age =
        |quantile: f64| Summary::of(own.iter().map(|window| window.age_millis(quantile) * 1e3));
    // Each round is compared with its own ping-pong.
    let ratio = |quantile: f64| {
        let pairs = own.iter().zip(pings);
        let each =
            pairs.map(|(window, ping)| window.age_millis(quantile) * 1e3 / micros(ping, quantile));
        Summary::of(each)
    };
    println!(
        "{}: print to client p50 {} us, p99 {} us; against the ping-pong {} and {} times",
        kind.into_str(),
        age(0.5).text(0),
        age(0.99).text(0),
        ratio(0.5).text(2),
        ratio(0.99).text(2),
    );
    json!({
        "server": kind.into_str(),
        "ageMicros": { "p50": age(0.5).to_json(), "p99": age(0.99).to_json() },
        "ratio": { "p50": ratio(0.5).to_json(), "p99": ratio(0.99).to_json() },
        "windows": own.iter().map(|window| window.to_json()).collect::<Vec<_>>(),
    })
}

/// Nanoseconds of each ping-pong between the clients' core and the server's.
fn ping_pong(options: &LoadOptions, interrupt: &Interrupt) -> Result<Histogram<u64>> {
    let directory = Directory::temporary("echo")?;
    let core = format!("--core={}", options.server_core);
    let echo = Peer::start("echo", &[core], &directory.path, interrupt)?;
    let (address, core, seconds) = (echo.address, options.client_core, options.seconds);
    let interrupt = interrupt.clone();
    let ping = thread::Builder::new().name("ping".to_owned()).spawn(move || {
        cpu::pin(core, "client-core")?;
        ping(address, seconds, &interrupt)
    });
    ping.context("starting the ping thread")?.join().map_err(|_| Error::Thread("ping"))?
}

fn ping(address: SocketAddr, seconds: f64, interrupt: &Interrupt) -> Result<Histogram<u64>> {
    let mut socket = TcpStream::connect(address).context("connecting for the ping-pong")?;
    socket.set_nodelay(true).context("a socket option")?;
    let mut nanos = Histogram::new_with_bounds(1, MAX_PING_NANOS, 3)
        .map_err(std::io::Error::other)
        .context("making a histogram")?;
    let mut data = [b'x'; PING_BYTES];
    let started = Moment::now();
    while seconds_between(started, Moment::now()) < seconds {
        interrupt.check()?;
        thread::sleep(PING_PAUSE);
        let sent = Moment::now();
        socket.write_all(&data).and_then(|()| socket.read_exact(&mut data)).context("a ping")?;
        nanos.saturating_record(Moment::now().nanos_since(sent));
    }
    Ok(nanos)
}

/// The process that answers pings.
///
/// # Errors
/// The system has no socket or thread.
pub(crate) fn run_echo(arguments: &EchoArgs) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
    let address = listener.local_addr().context("own address")?;
    let core = arguments.core;
    let answer = move || -> Result<()> {
        cpu::pin(core, "core")?;
        let (mut socket, _) = listener.accept().context("accepting")?;
        socket.set_nodelay(true).context("a socket option")?;
        let mut data = [0; PING_BYTES];
        while socket.read_exact(&mut data).is_ok() {
            socket.write_all(&data).context("a pong")?;
        }
        Ok(())
    };
    thread::Builder::new().name("echo".to_owned()).spawn(answer).context("the echo thread")?;
    serve_input(address, |_| Ok(json!({})))
}
