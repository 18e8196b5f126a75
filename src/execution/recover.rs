use compact_str::CompactString;

use super::error::ExecutionError;
use super::views::CommittedViews;
use crate::engine::{EngineOptions, Engines};
use crate::order::decode;
use crate::wal::{self, Lsn, Recovery, VisitError, WalOptions};

/// What the log says: the state that the orders thread goes on from.
#[derive(Debug)]
pub struct Recovered {
    /// With all orders of the log.
    pub engines: Engines,
    /// The same, as readers see it.
    pub views: CommittedViews,
    /// To open the log for appending with.
    pub wal: Recovery,
    /// Session and last sequence that the feed was taken to: a feed goes on with the next one.
    pub feed_position: Option<(CompactString, u64)>,
}

/// Reads the log and replays its events. Nothing on disk is changed.
///
/// # Errors
/// The log is damaged, in use, or written by a newer program.
pub fn recover(log: &WalOptions, options: EngineOptions) -> Result<Recovered, ExecutionError> {
    let mut engines = Engines::new(options);
    let wal = wal::recover(log, Lsn(0), &mut |record| {
        let event = decode(record.kind, record.format_version, record.payload)
            .map_err(|error| -> VisitError { Box::new(error) })?;
        engines.replay(&event).map_err(|error| -> VisitError { Box::new(error) })
    })?;
    let views = CommittedViews::new();
    for order in engines.orders() {
        views.publish(order.clone());
    }
    let feed_position =
        engines.feed_position().map(|(session, sequence)| (session.clone(), sequence));
    Ok(Recovered { engines, views, wal, feed_position })
}
