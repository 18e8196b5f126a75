//! The contenders: Longbow in three settings, and the baseline.

use std::{fmt, net::SocketAddr, path::Path};

use super::Stage;
use crate::{
    cpu::{ProcessCpu, on_cores},
    error::{Error, Result},
    metrics::Scrape,
    peer::Peer,
    spawn::{Directory, Program, start_exchange, start_server},
};

/// Name of the database, created anew for each contender.
pub(super) const DATABASE: &str = "orders";
/// How long the projection may take to connect.
const CONNECT_SECONDS: f64 = 60.0;
/// Gauge of the connected Postgres servers.
pub(super) const CONNECTED: &str = "longbow_projection_connected";

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Longbow with the projection; replies wait for its log.
    Wal,
    /// Longbow with the projection; replies wait for Postgres too.
    Postgres,
    /// Longbow without Postgres.
    Alone,
    /// The baseline with a number of connections.
    Baseline {
        /// Connections to Postgres.
        pool: usize,
    },
}

impl Kind {
    const fn has_database(self) -> bool {
        !matches!(self, Self::Alone)
    }

    /// Whether it is Longbow with a projection.
    pub(super) const fn has_projection(self) -> bool {
        matches!(self, Self::Wal | Self::Postgres)
    }

    /// Flags of `longbow serve`.
    fn arguments(self, secret: &Path, database: Option<&str>) -> Vec<String> {
        let mut arguments =
            vec!["--shards=1".to_owned(), format!("--jwt-secret-file={}", secret.display())];
        if let Some(database) = database {
            let commit = if self == Self::Postgres { "postgres" } else { "wal" };
            arguments.push(format!("--postgres={database}"));
            arguments.push(format!("--commit={commit}"));
            arguments.push("--migrate".to_owned());
        }
        arguments
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Wal => "wal".to_owned(),
            Self::Postgres => "postgres".to_owned(),
            Self::Alone => "alone".to_owned(),
            Self::Baseline { pool } => format!("baseline-{pool}"),
        };
        formatter.pad(&name)
    }
}

/// A new server with a new exchange. Dropping it stops both, the server first.
#[derive(Debug)]
pub(super) struct Contender {
    /// The kind of server.
    pub kind: Kind,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Address of its database.
    pub database: Option<String>,
    running: Running,
    exchange: Program,
    // Dropped last: it holds the log.
    _data: Option<Directory>,
}

#[derive(Debug)]
enum Running {
    Longbow { program: Program, admin: String },
    Baseline(Peer),
}

impl Contender {
    /// Starts everything, empty.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(kind: Kind, stage: &Stage<'_>) -> Result<Self> {
        let database = kind.has_database().then(|| stage.postgres.fresh_database(DATABASE));
        let database = database.transpose()?;
        // The recorded speed, as in `loadtest orders`.
        let (exchange, exchange_url) = exchange(stage, 1.0)?;
        let unreadable = |url: &str| Error::Answer {
            what: "an address that was printed".to_owned(),
            answer: url.to_owned(),
        };
        let address_of = |url: &str| {
            let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
            address.ok_or_else(|| unreadable(url))
        };
        if let (Kind::Baseline { pool }, Some(url)) = (kind, &database) {
            let arguments = [
                format!("--exchange={}", address_of(&exchange_url)?),
                format!("--database={url}"),
                format!("--pool={pool}"),
                format!("--jwt-secret-file={}", stage.secret.display()),
            ];
            let peer = on_cores(&stage.baseline_cores, "baseline-cores", || {
                Peer::start("baseline-orders", &arguments, stage.path(), stage.interrupt)
            })?;
            let address = peer.address;
            let running = Running::Baseline(peer);
            return Ok(Self { kind, address, database, running, exchange, _data: None });
        }
        let data = Directory::inside(stage.path(), "data")?;
        let own = kind.arguments(&stage.secret, database.as_deref());
        let arguments = [own, stage.serve_arguments.clone()].concat();
        let places = (data.path.as_path(), exchange_url.as_str());
        let program = (stage.program.as_path(), stage.path());
        let (program, url, admin) = start_server(program, places, &arguments, stage.interrupt)?;
        if kind.has_projection() {
            wait_until_followed(&admin, &program, stage)?;
        }
        let address = address_of(&url)?;
        let running = Running::Longbow { program, admin };
        Ok(Self { kind, address, database, running, exchange, _data: Some(data) })
    }

    /// CPU time of the server's threads.
    ///
    /// # Errors
    /// The process has ended.
    pub(super) fn cpu(&self) -> Result<ProcessCpu> {
        ProcessCpu::read(match &self.running {
            Running::Longbow { program, .. } => program.pid(),
            Running::Baseline(peer) => peer.pid(),
        })
    }

    /// CPU time of the exchange.
    ///
    /// # Errors
    /// The process has ended.
    pub(super) fn exchange_cpu(&self) -> Result<ProcessCpu> {
        ProcessCpu::read(self.exchange.pid())
    }

    /// Its metrics, if it has any.
    ///
    /// # Errors
    /// The metrics cannot be read.
    pub(super) fn scrape(&self) -> Result<Option<Scrape>> {
        match &self.running {
            Running::Longbow { admin, .. } => Scrape::read(admin).map(Some),
            Running::Baseline(_) => Ok(None),
        }
    }

    /// The end of its output, for an error message.
    pub(super) fn log_end(&self) -> String {
        match &self.running {
            Running::Longbow { program, .. } => program.log_end(),
            Running::Baseline(_) => String::new(),
        }
    }
}

/// Starts an exchange on its cores; returns its address, `http://host:port`.
///
/// # Errors
/// It cannot be started.
pub(super) fn exchange(stage: &Stage<'_>, speed: f64) -> Result<(Program, String)> {
    let program = (stage.program.as_path(), stage.path());
    on_cores(&stage.exchange_cores, "exchange-cores", || {
        start_exchange(program, speed, &stage.exchange_arguments, stage.interrupt)
    })
}

/// Waits until the projection of a server is connected.
///
/// # Errors
/// [`Error::Timeout`] with the end of the server's log.
pub(super) fn wait_until_followed(admin: &str, server: &Program, stage: &Stage<'_>) -> Result<()> {
    let connected =
        || Ok(Scrape::read(admin)?.metrics.get(CONNECTED).is_some_and(|servers| servers > 0.0));
    if stage.interrupt.wait_until(CONNECT_SECONDS, connected)? {
        return Ok(());
    }
    Err(Error::Timeout {
        what: "the connection of the projection".to_owned(),
        seconds: 60,
        detail: server.log_end(),
    })
}
