//! The simulated exchange of a test. A restart at the same address changes its speed: the servers
//! reconnect, and their clients stay.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use rand::{SeedableRng, rngs::StdRng, seq::index::sample};
use serde_json::Value;

use super::feed::Feed;
use crate::{
    clock::{Moment, seconds_between},
    cpu,
    error::{Error, Result},
    metrics,
    phase::Interrupt,
    spawn::Program,
};

/// Symbols of the recorded tape, which are always present.
const TAPE_SYMBOLS: usize = 4;
/// Speed while clients connect: hardly a print.
pub(crate) const QUIET_SPEED: f64 = 0.01;
/// Time between restarts: a session is named after the second of its start, which must be unique.
const SESSION_SECONDS: f64 = 1.1;

/// Options of the exchange.
#[derive(Debug, Clone)]
pub(crate) struct ExchangeOptions {
    /// The `longbow` binary.
    pub program: PathBuf,
    /// Number of symbols, including those of the tape.
    pub symbols: usize,
    /// Its core.
    pub core: usize,
    /// Extra arguments for `longbow exchange`.
    pub arguments: Vec<String>,
}

/// A running exchange. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Exchange {
    options: ExchangeOptions,
    program: Option<Program>,
    started: Moment,
    /// Its address, the same after every restart.
    pub address: SocketAddr,
    /// The symbols that it trades.
    pub symbols: Vec<String>,
}

impl Exchange {
    /// Starts it with hardly any prints.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub(crate) fn start(
        options: ExchangeOptions,
        directory: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let (program, address) = start(&options, "127.0.0.1:0", QUIET_SPEED, directory, interrupt)?;
        let symbols = symbols(address)?;
        let started = Moment::now();
        Ok(Self { options, program: Some(program), started, address, symbols })
    }

    /// Begins a new session at another speed.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub(crate) fn restart(
        &mut self,
        speed: f64,
        directory: &Path,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let listen = self.address.to_string();
        self.program = None;
        let since = seconds_between(self.started, Moment::now());
        interrupt.sleep((SESSION_SECONDS - since).max(0.0))?;
        let (program, _) = start(&self.options, &listen, speed, directory, interrupt)?;
        self.started = Moment::now();
        self.program = Some(program);
        Ok(())
    }

    /// Its process id.
    #[must_use]
    pub(crate) fn pid(&self) -> i32 {
        self.program.as_ref().map_or(0, Program::pid)
    }

    /// Number of prints in this session so far, and the time of the reading.
    ///
    /// # Errors
    /// As [`Feed::open`].
    pub(crate) fn prints(&self) -> Result<(u64, Moment)> {
        let feed = Feed::open(self.address)?;
        Ok((feed.sequence, Moment::now()))
    }

    /// Draws `count` distinct symbols for each of `clients` clients, uniformly from a seed.
    #[must_use]
    pub(crate) fn choose(&self, clients: usize, count: usize, seed: u64) -> Vec<Vec<usize>> {
        let mut random = StdRng::seed_from_u64(seed);
        let of = self.symbols.len();
        (0..clients).map(|_| sample(&mut random, of, count.min(of)).into_vec()).collect()
    }

    /// The index of a symbol.
    #[must_use]
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.symbols.iter().position(|symbol| symbol == name)
    }

    /// The names of symbols by index.
    #[must_use]
    pub(crate) fn names(&self, places: &[usize]) -> Vec<&str> {
        places.iter().filter_map(|place| self.symbols.get(*place)).map(String::as_str).collect()
    }
}

fn start(
    options: &ExchangeOptions,
    listen: &str,
    speed: f64,
    directory: &Path,
    interrupt: &Interrupt,
) -> Result<(Program, SocketAddr)> {
    let mut command = Command::new(&options.program);
    let universe = options.symbols.saturating_sub(TAPE_SYMBOLS);
    command
        .args(["exchange", "--listen", listen, "--universe", &universe.to_string(), "--speed"])
        .arg(speed.to_string())
        .args(&options.arguments);
    let wanted = ["exchange listening on "];
    let (program, addresses) = cpu::on_core(options.core, "client-core", || {
        Program::start(command, "exchange", directory, &wanted, interrupt)
    })?;
    let url = addresses.into_iter().next().unwrap_or_default();
    let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
    let unusable =
        || Error::Answer { what: "the exchange's address".to_owned(), answer: url.clone() };
    Ok((program, address.ok_or_else(unusable)?))
}

/// The symbols of an exchange, in its own order.
///
/// # Errors
/// [`Error::Call`] or [`Error::Answer`] if it does not list them.
pub(crate) fn symbols(exchange: SocketAddr) -> Result<Vec<String>> {
    let text = metrics::get(&format!("http://{exchange}/v1/symbols"))?;
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    let symbols = answer.get("symbols").and_then(Value::as_array);
    let names = symbols.into_iter().flatten().filter_map(|info| info.get("symbol")?.as_str());
    let names: Vec<String> = names.map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Error::Answer { what: "the exchange's symbols".to_owned(), answer: text });
    }
    Ok(names)
}
