//! What settings and machine allow, found out before anything is made.

use crate::config::ServeArgs;

use super::ServeError;
use super::link;
use super::listeners::Addresses;
use super::placement::{Placement, allowed_cores, place};
use super::system::{self, RESERVED_FILES};

/// Sizes that follow from settings and machine.
pub(super) struct Plan {
    pub(super) placement: Placement,
    pub(super) addresses: Addresses,
    /// Most streams that may be open.
    pub(super) streams: usize,
    /// Most connections of clients, streams among them.
    pub(super) client_connections: usize,
}

/// Works them out, and checks that the addresses are free.
///
/// # Errors
/// The machine does not allow what the settings ask for.
pub(super) fn plan(arguments: &ServeArgs) -> Result<Plan, ServeError> {
    let files = system::prepare()?;
    let cores = allowed_cores();
    let wanted = usize::try_from(arguments.shards).unwrap_or(usize::MAX);
    let placement = place(&cores, wanted)
        .map_err(|cores| ServeError::Shards { wanted: arguments.shards, cores })?;
    let room = files - RESERVED_FILES;
    let streams = match arguments.streams.max_streams {
        0 => room,
        wanted if wanted <= room => wanted,
        wanted => return Err(ServeError::Streams { wanted, files }),
    };
    link::check(arguments)?;
    let addresses = Addresses::of(arguments)?;
    addresses.probe()?;
    let connections = system::client_connections(files, placement.shards.len());
    Ok(Plan {
        placement,
        addresses,
        streams: usize::try_from(streams).unwrap_or(usize::MAX),
        client_connections: usize::try_from(connections).unwrap_or(usize::MAX),
    })
}
