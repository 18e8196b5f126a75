use crate::index::{Index, IndexFollower, IndexMetrics, IndexReaders};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::wal::LogHandle;

use super::ServeError;
use super::threads::Threads;

/// Starts the thread that moves the index behind the log, and those that read it for others.
///
/// # Errors
/// Log and index do not go together, or there is no room for another thread.
pub(super) fn start_index(
    index: &Index,
    log: LogHandle,
    metrics: &Metrics,
    (threads, shutdown): (&mut Threads, &Shutdown),
) -> Result<IndexReaders, ServeError> {
    let index_metrics = IndexMetrics::default();
    metrics.register(|registry| index_metrics.register(registry));
    let follower = IndexFollower::new(index.clone(), log, index_metrics)?;
    let stop = shutdown.clone();
    threads.spawn("index", shutdown, move || follower.run(&stop)).map_err(ServeError::Thread)?;
    let (readers, bodies) = IndexReaders::new(index);
    for (number, body) in bodies.into_iter().enumerate() {
        let read = move || {
            body.run();
            Ok::<(), String>(())
        };
        threads
            .spawn(&format!("index-read-{number}"), shutdown, read)
            .map_err(ServeError::Thread)?;
    }
    Ok(readers)
}
