//! `loadtest stream`: N price streams of one server and N sockets of a bare `send()` loop, in turns
//! within one run, both read by the same client thread.

use std::path::PathBuf;

use crate::{
    bare::BareOptions,
    bare_process::BareProcess,
    client::{Client, ClientOptions, ClientReport},
    cpu::{self, CpuUse, HostCpu, HostUse},
    error::{Error, Result},
    metrics::Scrape,
    phase::{Control, Interrupt, Phase, StopOnDrop},
    report::{self, Round, Setting},
    spawn::Directory,
    target::{Target, TargetArgs},
};

/// The symbol with the most prints on the tape.
pub(crate) const BUSIEST_SYMBOL: &str = "SPY";
/// Counter of the server's successful sends on streams.
const SENDS: &str = "longbow_stream_sends_total";
/// Name prefix of the sending threads.
const SENDER_THREADS: &str = "shard-";
/// Prints per second of the hot symbol if this test starts the exchange: the 12-17 % of them that
/// change the price are an order of magnitude more than 1,000 clients can be sent.
const DEFAULT_PRINT_RATE: f64 = 20_000.0;
/// Descriptors of this process that are not streams.
const SPARE_DESCRIPTORS: usize = 64;
/// Pause between rounds, so that the other side notices the closed connections.
const SETTLE_SECONDS: f64 = 0.7;
/// How long closing a window may take: much longer than one sweep over all sockets.
const COUNT_SECONDS: f64 = 5.0;
/// How long connecting may take: a fixed part, and a part per connection.
const CONNECT_SECONDS: (f64, f64) = (20.0, 0.005);

/// Flags of `loadtest stream`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StreamArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Number of streams
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    clients: usize,
    /// Symbols of every stream
    #[arg(long, default_value = "SPY", value_delimiter = ',', value_name = "SYMBOLS")]
    symbols: Vec<String>,
    /// Length of each measured window, in seconds
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    seconds: f64,
    /// Time between the last connect and the window, in seconds
    #[arg(long, default_value_t = 1.5, value_name = "SECONDS")]
    warm_up: f64,
    /// Pairs of a server window and a bare window
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    rounds: usize,
    /// Which sides to measure
    #[arg(long, value_enum, default_value_t = Sides::Both)]
    sides: Sides,
    /// Core of the client thread [default: the last one]
    #[arg(long, value_name = "CORE")]
    client_core: Option<usize>,
    /// Never let the client thread sleep, so that no send has to wake it; it uses its whole core
    #[arg(long)]
    client_spin: bool,
    /// Core of the bare loop [default: that of the server's shard, else 0]
    #[arg(long, value_name = "CORE")]
    server_core: Option<usize>,
    /// SO_SNDBUF of the bare loop's sockets, in KiB
    #[arg(long, default_value_t = 64, value_name = "KIB")]
    send_buffer_kib: usize,
    /// TCP_NOTSENT_LOWAT of the bare loop's sockets, in bytes
    #[arg(long, default_value_t = 4096, value_name = "BYTES")]
    notsent_lowat: u32,
    /// Also write all measurements to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Which sides of the comparison run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sides {
    /// Server and bare loop, in turn.
    Both,
    /// The server alone.
    Server,
    /// The bare loop alone; needs no server.
    Bare,
}

/// Runs the test and prints its report.
///
/// # Errors
/// Whatever stopped the run.
pub(crate) fn run(arguments: &StreamArgs, interrupt: &Interrupt) -> Result<()> {
    let (setting, rounds) = measure(arguments, interrupt)?;
    report::print_end(&setting, &rounds);
    match &arguments.json {
        Some(file) => report::write_json(file, &setting, &rounds),
        None => Ok(()),
    }
}

/// Measures and prints the rounds.
///
/// # Errors
/// Whatever stopped the run.
pub(crate) fn measure(
    arguments: &StreamArgs,
    interrupt: &Interrupt,
) -> Result<(Setting, Vec<Round>)> {
    arguments.check()?;
    let target = match arguments.sides {
        Sides::Bare => None,
        _ => Some(Target::open(&arguments.target, DEFAULT_PRINT_RATE, interrupt)?),
    };
    let pinned = match &target {
        Some(target) => target.cpu()?.and_then(|cpu| cpu.pinned_core(SENDER_THREADS)),
        None => None,
    };
    let server_core = arguments.server_core.or(pinned).unwrap_or(0);
    let client_core = arguments.client_core.unwrap_or(cpu::core_count().saturating_sub(1));
    // Server and bare loop alike have the sending core to themselves.
    if let Some(target) = target.as_ref().filter(|_| pinned.is_some_and(|core| core != client_core))
    {
        target.place_all_but(SENDER_THREADS, client_core)?;
    }
    let test = StreamTest {
        arguments,
        target,
        directory: Directory::temporary("bare")?,
        client_core,
        server_core,
        interrupt,
    };
    let setting = Setting {
        machine: cpu::machine(),
        clients: arguments.clients,
        symbols: arguments.symbols.clone(),
        seconds: arguments.seconds,
        client_core: test.client_core,
        client_spins: arguments.client_spin,
        server_core,
        server_pinned: pinned,
        speed: test.target.as_ref().and_then(|target| target.speed),
    };
    report::print_start(&setting);
    let mut rounds = Vec::new();
    for number in 1..=arguments.rounds {
        if let Some(target) = &test.target {
            let round = test.server_round(target, number)?;
            report::print_round(&round);
            rounds.push(round);
            interrupt.sleep(SETTLE_SECONDS)?;
        }
        if arguments.sides != Sides::Server {
            let round = test.bare_round(number)?;
            report::print_round(&round);
            rounds.push(round);
            interrupt.sleep(SETTLE_SECONDS)?;
        }
    }
    Ok((setting, rounds))
}

impl StreamArgs {
    /// Streams of one symbol on a server that the test starts.
    #[must_use]
    pub(crate) fn of_one_symbol(
        target: TargetArgs,
        clients: usize,
        seconds: f64,
        rounds: usize,
    ) -> Self {
        Self {
            target,
            clients,
            symbols: vec![BUSIEST_SYMBOL.to_owned()],
            seconds,
            warm_up: 1.5,
            rounds,
            sides: Sides::Both,
            client_core: None,
            client_spin: false,
            server_core: None,
            send_buffer_kib: 64,
            notsent_lowat: 4_096,
            json: None,
        }
    }

    fn check(&self) -> Result<()> {
        let refuse = |flag, value: String, allowed: &str| {
            Err(Error::Flag { flag, value, allowed: allowed.to_owned() })
        };
        if !(0.1..=3_600.0).contains(&self.seconds) {
            return refuse("seconds", self.seconds.to_string(), "0.1 to 3600");
        }
        if self.rounds == 0 {
            return refuse("rounds", "0".to_owned(), "at least 1");
        }
        // The other ends are in the separate processes of the server and the bare loop.
        let most = cpu::raise_descriptor_limit().saturating_sub(SPARE_DESCRIPTORS);
        if self.clients == 0 || self.clients > most {
            let allowed = format!("1 to {most} with this limit of open files");
            return refuse("clients", self.clients.to_string(), &allowed);
        }
        Ok(())
    }
}

struct StreamTest<'a> {
    arguments: &'a StreamArgs,
    target: Option<Target>,
    /// Where the bare loop's log goes.
    directory: Directory,
    client_core: usize,
    server_core: usize,
    interrupt: &'a Interrupt,
}

/// Readings around a window.
struct Beside {
    host: HostUse,
    server: Option<CpuUse>,
    scrapes: Option<(Scrape, Scrape)>,
}

impl StreamTest<'_> {
    fn server_round(&self, target: &Target, number: usize) -> Result<Round> {
        let (client, control, _stop) = self.start_client(target.address, requests(target, self))?;
        self.wait_for_clients(&client, &control)?;
        let beside = self.window(&control, None)?;
        let seen = client.join()?;

        let mut round = self.round("server", number, seen, beside.host);
        if let Some((before, after)) = &beside.scrapes {
            round.counters = after.metrics.growth_since(&before.metrics);
            let seconds = crate::clock::seconds_between(before.at, after.at);
            round.sends_per_second = round.counters.get(SENDS).map(|sends| sends / seconds);
        }
        round.sends_counted = round.sends_per_second.is_some();
        // Without the counter, assume one frame per send.
        round.sends_per_second.get_or_insert(round.prices_per_second);
        if let Some(used) = beside.server {
            round.sender_cores = Some(used.cores(|name| name.starts_with(SENDER_THREADS)));
            round.process_cores = Some(used.cores(|_| true));
            round.cores_by_thread = used.cores_by_name();
        }
        Ok(round)
    }

    fn bare_round(&self, number: usize) -> Result<Round> {
        let options = BareOptions {
            connections: self.arguments.clients,
            symbol: self.arguments.symbols.first().cloned().unwrap_or_default(),
            core: self.server_core,
            notsent_low_water_bytes: self.arguments.notsent_lowat,
            send_buffer_bytes: self.arguments.send_buffer_kib * 1024,
        };
        let mut bare = BareProcess::start(&options, &self.directory.path, self.interrupt)?;
        let request = b"POST /subscribe HTTP/1.1\r\nHost: bare\r\n\r\n".to_vec();
        let (client, control, _stop) = self.start_client(bare.address(), vec![request])?;
        self.wait_for_clients(&client, &control)?;
        let beside = self.window(&control, Some(&mut bare))?;
        let seen = client.join()?;
        let sent = bare.stop()?;

        let mut round = self.round("bare", number, seen, beside.host);
        round.sends_per_second = Some(sent.sends as f64 / sent.seconds);
        round.sends_counted = true;
        round.sender_cores = Some(sent.cpu_nanos as f64 / 1e9 / sent.seconds);
        let calls = sent.sends + sent.would_block;
        round.would_block = Some(sent.would_block as f64 / calls.max(1) as f64);
        round.frame_bytes = Some(sent.frame_bytes);
        round.seen.closed += sent.closed;
        round.idle_server_cores = beside.server.map(|used| used.cores(|_| true));
        Ok(round)
    }

    fn start_client(
        &self,
        address: std::net::SocketAddr,
        requests: Vec<Vec<u8>>,
    ) -> Result<(Client, std::sync::Arc<Control>, StopOnDrop)> {
        let control = Control::new();
        let options = ClientOptions {
            address,
            connections: self.arguments.clients,
            requests,
            core: self.client_core,
            ordered: self.arguments.symbols.len() == 1,
            only_even: false,
            receive_buffer_bytes: None,
            spin: self.arguments.client_spin,
        };
        let client = Client::start(options, control.clone())?;
        Ok((client, control.clone(), StopOnDrop(control)))
    }

    /// Waits until every stream has its first block, then for the warm-up.
    fn wait_for_clients(&self, client: &Client, control: &Control) -> Result<()> {
        let wanted = self.arguments.clients;
        let seconds = CONNECT_SECONDS.0 + CONNECT_SECONDS.1 * wanted as f64;
        self.interrupt
            .wait_until(seconds, || Ok(client.has_ended() || control.ready() >= wanted))?;
        if !client.has_ended() && control.ready() < wanted {
            return Err(Error::Timeout {
                what: format!("{wanted} streams"),
                seconds: 20,
                detail: format!(": {} are there", control.ready()),
            });
        }
        self.interrupt.sleep(self.arguments.warm_up)
    }

    /// Measures one window. The counters are read outside the CPU readings, and each rate uses the
    /// time of its own reading.
    fn window(&self, control: &Control, mut bare: Option<&mut BareProcess>) -> Result<Beside> {
        let is_bare = bare.is_some();
        let scrape = || match &self.target {
            Some(target) if !is_bare => Scrape::read(&target.admin).map(Some),
            _ => Ok(None),
        };
        let cpu = || self.target.as_ref().map_or(Ok(None), Target::cpu);
        let before = (scrape()?, cpu()?, HostCpu::read()?);
        if let Some(bare) = &mut bare {
            bare.start_window()?;
        }
        control.set(Phase::Measure);
        self.interrupt.sleep(self.arguments.seconds)?;
        let after_cpu = (cpu()?, HostCpu::read()?);
        let after_scrape = scrape()?;
        if let Some(bare) = &mut bare {
            bare.end_window()?;
        }
        control.set(Phase::Counted);
        // A dead thread never answers; its join returns the error.
        self.interrupt.wait_until(COUNT_SECONDS, || Ok(control.has_counted()))?;
        control.set(Phase::Stop);
        Ok(Beside {
            host: after_cpu.1.since(&before.2),
            server: after_cpu.0.zip(before.1).map(|(after, before)| after.since(&before)),
            scrapes: before.0.zip(after_scrape),
        })
    }

    fn round(&self, side: &'static str, number: usize, seen: ClientReport, host: HostUse) -> Round {
        Round {
            side,
            number,
            sends_per_second: None,
            sends_counted: false,
            prices_per_second: seen.prices as f64 / seen.seconds,
            sender_cores: None,
            process_cores: None,
            idle_server_cores: None,
            would_block: None,
            frame_bytes: None,
            cores_by_thread: Default::default(),
            counters: Default::default(),
            host,
            seen,
        }
    }
}

/// The request of each user's streams.
fn requests(target: &Target, test: &StreamTest<'_>) -> Vec<Vec<u8>> {
    let body = serde_json::json!({ "symbols": test.arguments.symbols }).to_string();
    let request = |token: &String| {
        format!(
            "POST /subscribe HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nAccept: text/event-stream\r\n\
             Content-Length: {}\r\n\r\n{body}",
            target.authority,
            body.len()
        )
        .into_bytes()
    };
    target.tokens.iter().map(request).collect()
}
