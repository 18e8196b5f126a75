//! One server with its exchange and clients, measured in windows.

use std::{collections::HashMap, sync::Arc};

use super::{
    LoadOptions,
    contender::{self, Contender, Kind, Mode},
    exchange::{Exchange, ExchangeOptions},
    window::Window,
};
use crate::{
    client::{Client, ClientOptions, ClientReport},
    clock::{Moment, seconds_between},
    cpu::{CpuUse, HostCpu, ProcessCpu},
    error::{Error, Result},
    phase::{Control, Interrupt, Phase},
    spawn::Directory,
};

/// How long connecting may take: a fixed part, and a part per connection.
const CONNECT_SECONDS: (f64, f64) = (20.0, 0.005);
/// How long a server may take to reconnect to the exchange: its longest pause and some connects.
const FIND_SECONDS: f64 = 15.0;
/// How long closing a window may take.
const COUNT_SECONDS: f64 = 10.0;
/// How long data in flight may take to arrive, and how long silence means that all has arrived.
const DRAIN_SECONDS: f64 = 10.0;
const QUIET_SECONDS: f64 = 0.5;

/// Options of a session's clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clients {
    /// Number of clients.
    pub count: usize,
    /// Symbols per client.
    pub symbols: usize,
    /// The mode they request from Longbow.
    pub mode: Mode,
    /// A single symbol for all of them, instead of random ones.
    pub only: Option<&'static str>,
    /// See [`ClientOptions::only_even`].
    pub only_even: bool,
    /// See [`ClientOptions::receive_buffer_bytes`].
    pub receive_buffer_bytes: Option<usize>,
}

/// A running session. Dropping it stops everything.
#[derive(Debug)]
pub(super) struct Session<'a> {
    // Stopped in this order: see `Drop`.
    client: Option<Client>,
    /// Controls the clients.
    pub control: Arc<Control>,
    /// The server.
    pub contender: Contender,
    /// The exchange.
    pub exchange: Exchange,
    /// Number of clients.
    pub clients: usize,
    directory: Directory,
    interrupt: &'a Interrupt,
}

/// Readings at each end of a window.
struct Edge {
    at: Moment,
    host: HostCpu,
    server: ProcessCpu,
    own: ProcessCpu,
    exchange: ProcessCpu,
    prints: (u64, Moment),
    counters: Option<crate::metrics::Metrics>,
}

impl<'a> Session<'a> {
    /// Starts the exchange and the server, without clients.
    ///
    /// # Errors
    /// One of them cannot be started.
    pub(super) fn start(
        kind: Kind,
        options: &LoadOptions,
        symbols: usize,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let directory = Directory::temporary(kind.into_str())?;
        let exchange_options = ExchangeOptions {
            program: options.program.clone(),
            symbols,
            core: options.client_core,
            arguments: options.exchange_arguments.clone(),
        };
        let exchange = Exchange::start(exchange_options, &directory.path, interrupt)?;
        let contender = Contender::start(kind, options, &exchange, &directory.path, interrupt)?;
        let control = Control::new();
        Ok(Self { client: None, control, contender, exchange, clients: 0, directory, interrupt })
    }

    /// Connects the clients and waits until each has its first block.
    ///
    /// # Errors
    /// [`Error::Timeout`], or what the clients fail with.
    pub(super) fn connect(&mut self, options: &LoadOptions, clients: Clients) -> Result<()> {
        let only = clients.only.and_then(|only| self.exchange.place(only));
        let chosen = match only {
            Some(place) => vec![vec![place]; clients.count],
            None => self.exchange.choose(clients.count, clients.symbols, options.seed),
        };
        let requests = chosen.iter().enumerate().map(|(number, places)| {
            self.contender.request(&self.exchange.names(places), number, clients.mode)
        });
        let client_options = ClientOptions {
            address: self.contender.address,
            connections: clients.count,
            requests: requests.collect(),
            core: options.client_core,
            ordered: false,
            only_even: clients.only_even,
            receive_buffer_bytes: clients.receive_buffer_bytes,
            spin: false,
        };
        self.clients = clients.count;
        self.client = Some(Client::start(client_options, Arc::clone(&self.control))?);
        self.wait_for_clients()?;
        let mut watchers: HashMap<String, u64> = HashMap::new();
        for name in chosen.iter().flat_map(|places| self.exchange.names(places)) {
            *watchers.entry(name.to_owned()).or_default() += 1;
        }
        self.contender.clients_are_there(watchers)
    }

    /// Waits until every client has its first block.
    ///
    /// # Errors
    /// [`Error::Timeout`], or what the clients fail with.
    pub(super) fn wait_for_clients(&mut self) -> Result<()> {
        let seconds = CONNECT_SECONDS.0 + CONNECT_SECONDS.1 * self.clients as f64;
        let wanted = self.clients;
        let has_ended = || self.client.as_ref().is_none_or(Client::has_ended);
        self.interrupt.wait_until(seconds, || Ok(has_ended() || self.control.ready() >= wanted))?;
        if has_ended() {
            return Err(self.client_error());
        }
        let ready = self.control.ready();
        if ready < wanted {
            return Err(Error::Timeout {
                what: format!("{wanted} streams"),
                seconds: 20,
                detail: format!(": {ready} are there"),
            });
        }
        Ok(())
    }

    /// Why the client thread ended.
    fn client_error(&mut self) -> Error {
        self.control.set(Phase::Stop);
        let outcome = self.client.take().map(Client::join);
        outcome.and_then(Result::err).unwrap_or(Error::Thread("client"))
    }

    /// Sets the exchange's speed and waits until the server has reconnected.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it does not.
    pub(super) fn set_speed(&mut self, speed: f64) -> Result<()> {
        self.exchange.restart(speed, &self.directory.path, self.interrupt)?;
        let contender = &mut self.contender;
        if self.interrupt.wait_until(FIND_SECONDS, || contender.is_feed_up())? {
            return Ok(());
        }
        Err(Error::Timeout {
            what: format!("{}'s way back to the exchange", self.contender.kind.into_str()),
            seconds: 15,
            detail: String::new(),
        })
    }

    fn edge(&self) -> Result<Edge> {
        Ok(Edge {
            counters: self.contender.counters()?,
            prints: self.exchange.prints()?,
            server: self.contender.cpu()?,
            own: ProcessCpu::read(i32::try_from(std::process::id()).unwrap_or(0))?,
            exchange: ProcessCpu::read(self.exchange.pid())?,
            host: HostCpu::read()?,
            at: Moment::now(),
        })
    }

    /// Measures one window.
    ///
    /// # Errors
    /// The server, the exchange or the clients have ended.
    pub(super) fn window(&mut self, seconds: f64) -> Result<Window> {
        let interrupt = self.interrupt;
        self.window_with(|_| interrupt.sleep(seconds))
    }

    /// Measures a window for as long as `meanwhile` runs, which gets the window's start.
    ///
    /// # Errors
    /// The server, the exchange or the clients have ended, or what `meanwhile` returns.
    pub(super) fn window_with(
        &mut self,
        meanwhile: impl FnOnce(Moment) -> Result<()>,
    ) -> Result<Window> {
        let lost_before = self.contender.lost()?;
        let before = self.edge()?;
        self.control.set(Phase::Measure);
        meanwhile(before.at)?;
        let after = self.edge()?;
        self.control.set(Phase::Counted);
        let report = self.client.as_ref().and_then(|client| client.window(COUNT_SECONDS));
        let Some(seen) = report else { return Err(self.client_error()) };
        let lost = self.contender.lost()?.saturating_sub(lost_before);
        Ok(self.make_window(&before, &after, seen, lost))
    }

    fn make_window(&self, before: &Edge, after: &Edge, seen: ClientReport, lost: u64) -> Window {
        let used: CpuUse = after.server.since(&before.server);
        let seconds = seconds_between(before.at, after.at);
        let sends = before.counters.as_ref().zip(after.counters.as_ref());
        let sends = sends.and_then(|(before, after)| contender::sends_between(before, after));
        let growth = before.counters.as_ref().zip(after.counters.as_ref());
        let prints = after.prints.0.saturating_sub(before.prints.0);
        let sender_cores = used.cores(|name| self.contender.is_sender(name));
        let process_cores = used.cores(|_| true);
        let load_cores = after.own.since(&before.own).cores(|_| true)
            + after.exchange.since(&before.exchange).cores(|_| true);
        let host = after.host.since(&before.host);
        let busy: f64 = host.busy_by_core.iter().sum();
        Window {
            kind: self.contender.kind,
            clients: self.clients,
            prints_per_second: prints as f64 / seconds_between(before.prints.1, after.prints.1),
            sends_per_second: sends.map(|sends| sends / seconds),
            sender_cores,
            process_cores,
            client_core: load_cores + process_cores - sender_cores,
            others: (busy - load_cores - process_cores).max(0.0),
            cores_by_thread: used.cores_by_name(),
            counters: growth.map(|(before, after)| after.growth_since(before)).unwrap_or_default(),
            host,
            lost,
            seen,
        }
    }

    /// Ends the prints, waits until all have arrived, and returns how many events the clients lack, if
    /// known.
    ///
    /// # Errors
    /// The server or the clients have ended.
    pub(super) fn missing(&mut self) -> Result<Option<u64>> {
        if self.contender.owed().is_none() {
            return Ok(None);
        }
        self.set_speed(super::exchange::QUIET_SPEED)?;
        let started = Moment::now();
        loop {
            let window = self.window(QUIET_SECONDS)?;
            let owed = self.contender.owed().unwrap_or(0);
            let missing = owed.saturating_sub(window.seen.all_prices);
            let is_late = seconds_between(started, Moment::now()) > DRAIN_SECONDS;
            if missing == 0 || is_late {
                return Ok(Some(missing));
            }
        }
    }
}

impl Drop for Session<'_> {
    /// Stops the clients first, so that their descriptors are free for the next session.
    fn drop(&mut self) {
        self.control.set(Phase::Stop);
        if let Some(client) = self.client.take() {
            let _ = client.join();
        }
    }
}
