//! The servers under test: how to start them, how clients subscribe, how they report lost prices, and
//! which threads send.

use std::{collections::HashMap, net::SocketAddr, path::Path, process::Command};

use serde_json::Value;

use super::{
    LoadOptions, axum_peer,
    exchange::Exchange,
    nchan::{Nchan, NchanOptions},
};
use crate::{
    cpu::{self, ProcessCpu},
    error::{Context, Error, Result},
    metrics::{self, Metrics},
    peer::Peer,
    phase::Interrupt,
    spawn::{self, Program},
};

/// Name prefix of Longbow's sending threads.
pub(super) const LONGBOW_SENDERS: &str = "shard-";
/// Counter of Longbow's successful sends.
const SENDS: &str = "longbow_stream_sends_total";

/// A kind of server.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, strum::IntoStaticStr,
)]
#[strum(serialize_all = "kebab-case", const_into_str)]
pub enum Kind {
    /// `longbow serve`.
    Longbow,
    /// axum + tokio broadcast, one channel per symbol.
    AxumSymbols,
    /// axum + tokio broadcast, one channel of batches.
    AxumBatches,
    /// axum + tokio broadcast, as in axum's documentation.
    AxumSse,
    /// nginx + nchan.
    Nchan,
}

/// Mode of a Longbow stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case", const_into_str)]
pub enum Mode {
    /// The newest price.
    Latest,
    /// Every print.
    Every,
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Contender {
    /// The kind of server.
    pub kind: Kind,
    /// Where clients connect.
    pub address: SocketAddr,
    tokens: Vec<String>,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Longbow { program: Program, admin: String },
    Axum(Peer),
    Nchan(Box<Nchan>, NchanOptions),
}

impl Contender {
    /// Starts the server beside a running exchange.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(
        kind: Kind,
        options: &LoadOptions,
        exchange: &Exchange,
        directory: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        match kind {
            Kind::Longbow => longbow(options, exchange, directory, interrupt),
            Kind::AxumSymbols | Kind::AxumBatches | Kind::AxumSse => {
                axum(kind, options, exchange, directory, interrupt)
            }
            Kind::Nchan => {
                let nchan_options = NchanOptions {
                    server_core: options.server_core,
                    publisher_core: options.client_core,
                    connections: cpu::raise_descriptor_limit().min(MAX_CONNECTIONS),
                    exchange: exchange.address,
                };
                let nchan = Nchan::start(&nchan_options, directory, interrupt)?;
                let address = nchan.address;
                let running = Running::Nchan(Box::new(nchan), nchan_options);
                Ok(Self { kind, address, tokens: Vec::new(), running })
            }
        }
    }

    /// The request of client `number`, which watches `names`.
    #[must_use]
    pub(super) fn request(&self, names: &[&str], number: usize, mode: Mode) -> Vec<u8> {
        match self.kind {
            Kind::Longbow => {
                let mut body = serde_json::json!({ "symbols": names });
                if let (Mode::Every, Some(body)) = (mode, body.as_object_mut()) {
                    body.insert("mode".to_owned(), Value::from(mode.into_str()));
                }
                let body = body.to_string();
                let token = self.tokens.get(number % self.tokens.len().max(1));
                format!(
                    "POST /subscribe HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    self.address,
                    token.map_or("", String::as_str),
                    body.len()
                )
            }
            // HTTP/1.0 avoids chunked encoding.
            Kind::AxumSymbols | Kind::AxumBatches | Kind::AxumSse => format!(
                "GET /subscribe?symbols={} HTTP/1.0\r\nHost: {}\r\n\r\n",
                names.join(","),
                self.address
            ),
            Kind::Nchan => format!(
                "GET /sub/{} HTTP/1.0\r\nHost: {}\r\nAccept: text/event-stream\r\n\r\n",
                names.join(","),
                self.address
            ),
        }
        .into_bytes()
    }

    /// Tells the server that all clients are connected. `watchers` has the number of clients by symbol.
    ///
    /// # Errors
    /// The publisher cannot reach the server.
    pub(super) fn clients_are_there(&mut self, watchers: HashMap<String, u64>) -> Result<()> {
        match &mut self.running {
            Running::Nchan(nchan, options) => nchan.publish(options, watchers),
            Running::Longbow { .. } | Running::Axum(_) => Ok(()),
        }
    }

    /// Whether it reads the feed.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn is_feed_up(&mut self) -> Result<bool> {
        match &mut self.running {
            Running::Longbow { admin, .. } => Ok(metrics::get(&format!("{admin}/readyz")).is_ok()),
            Running::Axum(peer) => Ok(peer.ask("state")?.get("feedUp") == Some(&Value::Bool(true))),
            Running::Nchan(nchan, _) => Ok(nchan.is_feed_up()),
        }
    }

    /// Number of prices that the server reports as lost so far.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn lost(&mut self) -> Result<u64> {
        match &mut self.running {
            // Longbow tells clients with events.
            Running::Longbow { .. } => Ok(0),
            Running::Axum(peer) => {
                Ok(peer.ask("state")?.get("lost").and_then(Value::as_u64).unwrap_or(0))
            }
            Running::Nchan(nchan, _) => Ok(nchan.refused()),
        }
    }

    /// Number of events that all clients together must have received, if known.
    #[must_use]
    pub(super) fn owed(&self) -> Option<u64> {
        match &self.running {
            Running::Nchan(nchan, _) => Some(nchan.owed()),
            Running::Longbow { .. } | Running::Axum(_) => None,
        }
    }

    /// The process whose CPU time and memory count.
    #[must_use]
    pub(super) fn pid(&self) -> i32 {
        match &self.running {
            Running::Longbow { program, .. } => program.pid(),
            Running::Axum(peer) => peer.pid(),
            Running::Nchan(nchan, _) => nchan.worker,
        }
    }

    /// CPU time of its threads.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn cpu(&self) -> Result<ProcessCpu> {
        ProcessCpu::read(self.pid())
    }

    /// Whether a thread of this name sends to clients.
    #[must_use]
    pub(super) fn is_sender(&self, thread: &str) -> bool {
        match self.kind {
            Kind::Longbow => thread.starts_with(LONGBOW_SENDERS),
            Kind::AxumSymbols | Kind::AxumBatches | Kind::AxumSse => {
                thread == axum_peer::SENDER_THREAD
            }
            Kind::Nchan => true,
        }
    }

    /// Its counters, if it has any.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn counters(&self) -> Result<Option<Metrics>> {
        match &self.running {
            Running::Longbow { admin, .. } => {
                Ok(Some(Metrics::parse(&metrics::get(&format!("{admin}/metrics"))?)))
            }
            Running::Axum(_) | Running::Nchan(..) => Ok(None),
        }
    }
}

/// How many sends lie between two readings of the counters.
#[must_use]
pub(super) fn sends_between(before: &Metrics, after: &Metrics) -> Option<f64> {
    Some(after.get(SENDS)? - before.get(SENDS)?)
}

/// More than the limit of open files allows.
const MAX_CONNECTIONS: usize = 1_000_000;

fn axum(
    kind: Kind,
    options: &LoadOptions,
    exchange: &Exchange,
    directory: &Path,
    interrupt: &Interrupt,
) -> Result<Contender> {
    let design = match kind {
        Kind::AxumBatches => "batches",
        Kind::AxumSse => "sse",
        Kind::AxumSymbols | Kind::Longbow | Kind::Nchan => "symbols",
    };
    let arguments = [
        format!("--exchange={}", exchange.address),
        format!("--design={design}"),
        format!("--server-core={}", options.server_core),
        format!("--feed-core={}", options.client_core),
    ];
    let peer = Peer::start("axum", &arguments, directory, interrupt)?;
    Ok(Contender { kind, address: peer.address, tokens: Vec::new(), running: Running::Axum(peer) })
}

fn longbow(
    options: &LoadOptions,
    exchange: &Exchange,
    directory: &Path,
    interrupt: &Interrupt,
) -> Result<Contender> {
    let data = directory.join("longbow-data");
    let mut serve = Command::new(&options.program);
    serve
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--shards", "1", "--exchange", &format!("http://{}", exchange.address)])
        .arg("--data-dir")
        .arg(&data)
        .args(&options.serve_arguments);
    let wanted = ["listening on ", "admin on "];
    let (program, addresses) = Program::start(serve, "serve", directory, &wanted, interrupt)?;
    let mut addresses = addresses.into_iter();
    let url = addresses.next().unwrap_or_default();
    let admin = addresses.next().unwrap_or_default();
    spawn::wait_until_ready(&admin, &program, interrupt)?;
    let shard_core = ProcessCpu::read(program.pid())?.pinned_core(LONGBOW_SENDERS);
    if shard_core != Some(options.server_core) {
        return Err(Error::Flag {
            flag: "server-core",
            value: options.server_core.to_string(),
            allowed: format!("the core of the server's shard, {shard_core:?}"),
        });
    }
    // The shard has a core to itself, like the peers' workers.
    cpu::place_threads(program.pid(), options.client_core, |name| {
        !name.starts_with(LONGBOW_SENDERS)
    })?;
    let tokens = (0..options.users.max(1))
        .map(|user| spawn::token(&options.program, &data, user))
        .collect::<Result<_>>()?;
    let address = url.strip_prefix("http://").unwrap_or_default().parse();
    let address = address.map_err(std::io::Error::other).context("the server's address")?;
    Ok(Contender {
        kind: Kind::Longbow,
        address,
        tokens,
        running: Running::Longbow { program, admin },
    })
}
