//! The server under test: a running one, or one that the test starts.

use std::{fs, net::SocketAddr, net::ToSocketAddrs, path::PathBuf};

use crate::{
    cpu::{ProcessCpu, place_threads},
    error::{Context, Error, Result},
    phase::Interrupt,
    spawn::{SpawnOptions, Spawned},
};

/// Prints per second of the tape's busiest symbol at speed 1: about 440,000 SPY prints in a session
/// of 23,400 s.
const PRINTS_PER_SECOND_AT_SPEED_ONE: f64 = 440_000.0 / 23_400.0;

/// Flags that select the server under test.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TargetArgs {
    /// Start this longbow binary (exchange and server) for the test and stop it afterwards
    #[arg(long, value_name = "PATH")]
    spawn: Option<PathBuf>,
    /// Client listener of a running server
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: String,
    /// Admin listener of a running server
    #[arg(long, default_value = "http://127.0.0.1:9090", value_name = "URL")]
    admin: String,
    /// Process id of a running server on this machine; without it no CPU time is measured
    #[arg(long, value_name = "PID")]
    server_pid: Option<i32>,
    /// Bearer token
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// File with one bearer token per line; connections use them in turn
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// With --spawn: number of users to create tokens for; connections use them in turn
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    users: usize,
    /// With --spawn: shards of the server
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    shards: usize,
    /// With --spawn: replay speed of the tape; default: what --print-rate needs
    #[arg(long, value_name = "FACTOR")]
    speed: Option<f64>,
    /// With --spawn: about this many prints per second of the busiest symbol (SPY) [default: 20000
    /// for streams, 19 for orders]. Only 12-17 % of them change the price
    #[arg(long, value_name = "PER_SECOND")]
    print_rate: Option<f64>,
    /// With --spawn: directory for data and logs, kept afterwards [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// With --spawn: a further argument of longbow serve (repeatable)
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    serve_arg: Vec<String>,
    /// With --spawn: a further argument of longbow exchange (repeatable)
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    exchange_arg: Vec<String>,
}

impl TargetArgs {
    /// Starts a server and an exchange with about this many prints per second of the busiest symbol.
    #[must_use]
    pub(crate) fn to_spawn(
        program: PathBuf,
        users: usize,
        print_rate: f64,
        serve_arguments: Vec<String>,
        exchange_arguments: Vec<String>,
    ) -> Self {
        Self {
            spawn: Some(program),
            url: String::new(),
            admin: String::new(),
            server_pid: None,
            token: None,
            token_file: None,
            users,
            shards: 1,
            speed: None,
            print_rate: Some(print_rate),
            data_dir: None,
            serve_arg: serve_arguments,
            exchange_arg: exchange_arguments,
        }
    }
}

/// The server under test. Dropping it stops what was started.
#[derive(Debug)]
pub(crate) struct Target {
    /// Address of the client listener.
    pub address: SocketAddr,
    /// `host:port` for the `Host` header.
    pub authority: String,
    /// Address of the admin listener, `http://host:port`.
    pub admin: String,
    /// Process id of the server, when it is known.
    pub pid: Option<i32>,
    /// Bearer tokens, at least one.
    pub tokens: Vec<String>,
    /// Replay speed of the tape, when the exchange was started here.
    pub speed: Option<f64>,
    spawned: Option<Spawned>,
}

impl Target {
    /// Finds or starts the server.
    ///
    /// # Errors
    /// What [`Spawned::start`] returns, or [`Error::Flag`] for an address or token that is unusable.
    pub(crate) fn open(
        arguments: &TargetArgs,
        default_print_rate: f64,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let Some(program) = &arguments.spawn else { return Self::running(arguments) };
        let print_rate = arguments.print_rate.unwrap_or(default_print_rate);
        let speed = arguments.speed.unwrap_or(print_rate / PRINTS_PER_SECOND_AT_SPEED_ONE);
        let spawned = Spawned::start(
            &SpawnOptions {
                program: program.clone(),
                directory: arguments.data_dir.clone(),
                speed,
                shards: arguments.shards,
                users: arguments.users.max(1),
                exchange_arguments: arguments.exchange_arg.clone(),
                serve_arguments: arguments.serve_arg.clone(),
            },
            interrupt,
        )?;
        let (authority, address) = resolve(&spawned.url, "spawn")?;
        Ok(Self {
            address,
            authority,
            admin: spawned.admin.clone(),
            pid: Some(spawned.server_pid()),
            tokens: spawned.tokens.clone(),
            speed: Some(speed),
            spawned: Some(spawned),
        })
    }

    fn running(arguments: &TargetArgs) -> Result<Self> {
        let (authority, address) = resolve(&arguments.url, "url")?;
        let admin = arguments.admin.trim_end_matches('/').to_owned();
        let mut tokens: Vec<String> = arguments.token.iter().cloned().collect();
        if let Some(file) = &arguments.token_file {
            let text = fs::read_to_string(file).context(&format!("reading {}", file.display()))?;
            tokens.extend(text.lines().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned));
        }
        if tokens.is_empty() {
            return Err(Error::Flag {
                flag: "token",
                value: "missing".to_owned(),
                allowed: "give --token, --token-file or --spawn".to_owned(),
            });
        }
        let pid = arguments.server_pid;
        Ok(Self { address, authority, admin, pid, tokens, speed: None, spawned: None })
    }

    /// Pins everything that was started here to one core, except the threads whose name starts with
    /// `prefix`.
    ///
    /// # Errors
    /// [`Error::Io`] when a process is gone.
    pub(crate) fn place_all_but(&self, prefix: &str, core: usize) -> Result<()> {
        let Some(spawned) = &self.spawned else { return Ok(()) };
        place_threads(spawned.exchange_pid(), core, |_| true)?;
        place_threads(spawned.server_pid(), core, |name| !name.starts_with(prefix))
    }

    /// CPU time of the server's threads, when its process is known.
    ///
    /// # Errors
    /// [`Error::Io`] when the process is gone.
    pub(crate) fn cpu(&self) -> Result<Option<ProcessCpu>> {
        self.pid.map(ProcessCpu::read).transpose()
    }
}

/// `host:port` and the socket address of a plain HTTP URL.
fn resolve(url: &str, flag: &'static str) -> Result<(String, SocketAddr)> {
    let refuse =
        || Error::Flag { flag, value: url.to_owned(), allowed: "http://HOST:PORT".to_owned() };
    let authority = url.strip_prefix("http://").ok_or_else(refuse)?.trim_end_matches('/');
    let mut addresses = authority.to_socket_addrs().map_err(|_| refuse())?;
    Ok((authority.to_owned(), addresses.next().ok_or_else(refuse)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_addresses_with_a_port_are_taken() {
        let (authority, address) = resolve("http://127.0.0.1:8080/", "url").unwrap();
        assert_eq!((authority.as_str(), address.port()), ("127.0.0.1:8080", 8080));
        for url in ["127.0.0.1:8080", "https://127.0.0.1:8080", "http://127.0.0.1", "http://"] {
            assert!(matches!(resolve(url, "url"), Err(Error::Flag { .. })), "{url}");
        }
    }
}
