//! The thread of this node's lease, and the place of its data directory.

use std::io;
use std::net::SocketAddr;

use crate::cluster::{Common, Member, NodeIdentity, NodeMetrics};
use crate::config::{ExchangeChoice, ServeArgs};
use crate::data_dir::{DataDir, DataHome};
use crate::http::KeysDirectory;
use crate::metrics::Metrics;
use crate::projection::PostgresServers;
use crate::wal::LogId;

use super::ServeError;

/// Where the data directory is. Warns if it was elsewhere when it was last used: a copy beside a
/// running original would place its orders again.
///
/// # Errors
/// The directory cannot be read or written.
pub(super) fn find_home(directory: &DataDir) -> Result<DataHome, ServeError> {
    let unusable = |source| unusable(directory, source);
    let home = DataHome::of(directory).map_err(unusable)?;
    let before = DataHome::remembered(directory).map_err(unusable)?;
    if before.as_ref().is_some_and(|before| *before != home) {
        tracing::warn!(
            directory = %directory.path().display(),
            before = before.map(|before| before.host),
            now = home.host,
            "the data directory was copied or moved since it was last used: if its original still \
             runs anywhere, stop one of the two, or orders are placed twice"
        );
    }
    home.remember(directory).map_err(unusable)?;
    Ok(home)
}

/// Whether a server has run in the data directory, which may not exist yet.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn has_been_used(directory: &DataDir) -> Result<bool, ServeError> {
    let home = DataHome::remembered(directory).map_err(|source| unusable(directory, source))?;
    Ok(home.is_some())
}

fn unusable(directory: &DataDir, source: io::Error) -> ServeError {
    ServeError::DataDirectory { path: directory.path().to_path_buf(), source }
}

/// Joins the nodes that share a Postgres. `peer_address`: where other nodes reach this one, if it is a
/// member of a cluster.
///
/// # Errors
/// Another process is this node, or runs with the original of this data directory.
pub(super) fn join(
    servers: &PostgresServers,
    (arguments, home, log_id): (&ServeArgs, DataHome, LogId),
    peer_address: Option<SocketAddr>,
    metrics: &Metrics,
) -> Result<Member, ServeError> {
    let node_metrics = NodeMetrics::default();
    metrics.register(|registry| node_metrics.register(registry));
    let (node_id, log_id) = (arguments.node_id, log_id.0.cast_signed());
    let common = match peer_address {
        Some(_) => common(arguments)?,
        None => Common::default(),
    };
    let identity = NodeIdentity { node_id, log_id, home, peer_address, common };
    Ok(Member::join(servers.of_nodes().clone(), identity, node_metrics)?)
}

/// What all members must have in common.
fn common(arguments: &ServeArgs) -> Result<Common, ServeError> {
    let exchange = match &arguments.exchange {
        ExchangeChoice::At(address) => Some(address.to_string()),
        ExchangeChoice::Simulated => return Err(ServeError::NodeWithOwnExchange),
    };
    let keys = arguments.keys.as_deref().ok_or(ServeError::NodeWithoutKeys)?;
    let keys = KeysDirectory::at(keys).fingerprint().map_err(ServeError::Secret)?;
    Ok(Common { exchange, keys: Some(keys) })
}
