//! Why a server did not start, or stopped.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::cluster::NodeError;
use crate::config::ListenAddress;
use crate::data_dir::BeginAnewError;
use crate::exchange::ExchangeAddress;
use crate::exchange::webhook::WebhookSecretError;
use crate::http::SecretError;
use crate::index::IndexError;
use crate::offline::OfflineError;
use crate::oms::{KillSwitchError, OmsError};
use crate::projection::{ProjectionError, ServersError};
use crate::runtime::ListenError;
use crate::sim_exchange::SimError;
use crate::wal::WalError;

use super::logging::LogError;
use super::signals::SignalError;
use super::system::{RESERVED_FILES, SystemError};

/// Why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The machine does not allow what is needed.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The log of a member cannot begin anew.
    #[error(transparent)]
    BeginAnew(#[from] BeginAnewError),
    /// The directory of a member, and a server that is alone.
    #[error(
        "{} is the data directory of a member of a cluster, and has only what that has written since its start: start it with --redis, --postgres and --commit postgres, or stop all members and start this server with a new directory, which `longbow restore` fills with the orders of all",
        .path.display()
    )]
    DirectoryOfMember {
        /// The directory.
        path: PathBuf,
    },
    /// A member with several Postgres servers.
    #[error(
        "--redis with --commit postgres makes this node share users with others, which needs all of them in one Postgres server: --postgres names {servers}"
    )]
    SeveralServers {
        /// How many there are.
        servers: usize,
    },
    /// More shards than cores.
    #[error(
        "--shards {wanted} needs as many cores, but this process may use {cores}: allow 0 to {cores}"
    )]
    Shards {
        /// The requested value.
        wanted: u64,
        /// What there is.
        cores: usize,
    },
    /// More streams than open files.
    #[error(
        "--max-streams {wanted} exceeds the limit of {files} open files, {RESERVED_FILES} of which are reserved for other uses: raise the limit with `ulimit -n`, or allow fewer streams"
    )]
    Streams {
        /// The requested value.
        wanted: u64,
        /// What there is.
        files: u64,
    },
    /// Both listeners on one address.
    #[error("--listen and --admin-listen are both {address}; they need different addresses")]
    SameAddress {
        /// The address.
        address: SocketAddr,
    },
    /// `--peer-listen` of a process that has no peers.
    #[error(
        "--peer-listen is for a node that shares users with others: it needs --redis, --postgres and --commit postgres"
    )]
    PeersOfOneAlone,
    /// An address that other hosts cannot connect to.
    #[error(
        "other nodes cannot connect to {address}: name an address of this host with --peer-listen, such as 10.0.0.7:7443"
    )]
    PeersCannotReach {
        /// The address.
        address: SocketAddr,
    },
    /// Cash accounts of a member.
    #[error(
        "--account-mode cash is for a server alone, because nodes do not share accounts yet: start without it, or without --redis, --postgres and --commit postgres"
    )]
    CashInCluster,
    /// A member with an exchange of its own.
    #[error(
        "with --redis, --postgres and --commit postgres this process is one of several nodes, which must have the same exchange: give each its address with --exchange (`longbow exchange` runs the simulated one alone)"
    )]
    NodeWithOwnExchange,
    /// A node without keys.
    #[error(
        "with --redis, --postgres and --commit postgres this process is one of several nodes, which must have the same keys: make them with `longbow keys init DIR`, and give --keys DIR to each"
    )]
    NodeWithoutKeys,
    /// A name to listen on has no address.
    #[error("{setting} {address} cannot be resolved")]
    UnknownName {
        /// Which setting.
        setting: &'static str,
        /// What was given.
        address: ListenAddress,
        /// What the resolver said.
        source: io::Error,
    },
    /// The data directory cannot be made.
    #[error("--data-dir {path} cannot be used", path = path.display())]
    DataDirectory {
        /// Which directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What `longbow restore` has left.
    #[error(transparent)]
    Records(#[from] OfflineError),
    /// The key of `--jwt-secret-file`, or one of `--keys`.
    #[error(transparent)]
    Secret(SecretError),
    /// The token key in the data directory.
    #[error(transparent)]
    OwnSecret(SecretError),
    /// The webhook's secrets.
    #[error(transparent)]
    WebhookSecret(#[from] WebhookSecretError),
    /// The exchange cannot sign what it posts.
    #[error("--webhook-url {url} needs --webhook-secret-file: the exchange signs with its secret")]
    WebhookWithoutSecret {
        /// The address.
        url: String,
    },
    /// The exchange's name is not known.
    #[error("--exchange {exchange} cannot be resolved")]
    Exchange {
        /// Its address.
        exchange: ExchangeAddress,
        /// What the resolver said.
        source: io::Error,
    },
    /// Connections cannot come from there.
    #[error("--exchange-source-ip {address} is not an address of this machine")]
    SourceAddress {
        /// What was given.
        address: IpAddr,
        /// What the system said.
        source: io::Error,
    },
    /// One is IPv4, the other IPv6.
    #[error(
        "--exchange-source-ip {address} cannot reach the exchange at {exchange}: both must be IPv4 or IPv6"
    )]
    SourceFamily {
        /// What was given.
        address: IpAddr,
        /// The exchange.
        exchange: IpAddr,
    },
    /// Something is set that the exchange does not hear of.
    #[error(
        "{setting} configures the built-in simulated exchange, but --exchange is {exchange}: remove it, or pass it to `longbow exchange`"
    )]
    NotSimulated {
        /// Which setting.
        setting: &'static str,
        /// The exchange.
        exchange: ExchangeAddress,
    },
    /// The simulated exchange.
    #[error("the simulated exchange cannot run")]
    Simulator(#[from] SimError),
    /// The write-ahead log.
    #[error("the write-ahead log cannot be opened")]
    Log(#[from] WalError),
    /// The index.
    #[error("the index of orders cannot be opened")]
    Index(#[from] IndexError),
    /// What the log says.
    #[error("the orders cannot be recovered")]
    Orders(#[from] OmsError),
    /// What `--postgres` says.
    #[error("--postgres cannot be used")]
    PostgresServers(#[from] ServersError),
    /// What `--postgres-schema` says.
    #[error(transparent)]
    PostgresSchema(ServersError),
    /// `--commit postgres` without Postgres.
    #[error("--commit postgres needs --postgres with the address of a server")]
    CommitWithoutPostgres,
    /// Postgres.
    #[error(transparent)]
    Postgres(#[from] ProjectionError),
    /// Another process is this node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The kill switch.
    #[error(transparent)]
    KillSwitch(#[from] KillSwitchError),
    /// An address is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Signals.
    #[error(transparent)]
    Signals(#[from] SignalError),
    /// No room for another thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A thread ended that never should; the process is not of use without it.
    #[error("the thread `{thread}` ended: {error}")]
    ThreadEnded {
        /// Its name.
        thread: String,
        /// What it said.
        error: String,
    },
}

impl ServeError {
    /// Whether a setting is wrong, rather than the machine, the records or a peer.
    fn is_wrong_setting(&self) -> bool {
        match self {
            Self::Shards { .. }
            | Self::Streams { .. }
            | Self::SameAddress { .. }
            | Self::PeersOfOneAlone
            | Self::PeersCannotReach { .. }
            | Self::CashInCluster
            | Self::NodeWithOwnExchange
            | Self::NodeWithoutKeys
            | Self::Secret(_)
            | Self::WebhookSecret(_)
            | Self::WebhookWithoutSecret { .. }
            | Self::SourceAddress { .. }
            | Self::SourceFamily { .. }
            | Self::NotSimulated { .. }
            | Self::PostgresServers(_)
            | Self::PostgresSchema(_)
            | Self::CommitWithoutPostgres
            | Self::SeveralServers { .. }
            | Self::DirectoryOfMember { .. }
            | Self::Simulator(SimError::Setting { .. } | SimError::Tape { .. }) => true,
            Self::System(_)
            | Self::BeginAnew(_)
            | Self::UnknownName { .. }
            | Self::DataDirectory { .. }
            | Self::Records(_)
            | Self::OwnSecret(_)
            | Self::Exchange { .. }
            | Self::Simulator(_)
            | Self::Log(_)
            | Self::Index(_)
            | Self::Orders(_)
            | Self::Postgres(_)
            | Self::Node(_)
            | Self::KillSwitch(_)
            | Self::Listen(_)
            | Self::Signals(_)
            | Self::Thread(_)
            | Self::ThreadEnded { .. } => false,
        }
    }
}

/// Whether an error of a command says that a setting is wrong, which has an exit code of its own.
pub fn is_wrong_setting(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<ServeError>() {
        return error.is_wrong_setting();
    }
    matches!(error.downcast_ref(), Some(LogError::Filter(_)))
        || matches!(error.downcast_ref(), Some(OfflineError::OfMember { .. }))
}
