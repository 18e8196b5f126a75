use crate::data_dir::DataDir;
use crate::index::{Index, IndexFollower, IndexMetrics, IndexReaders};
use crate::metrics::Metrics;
use crate::offline::VerifySocket;
use crate::shutdown::Shutdown;
use crate::wal::LogHandle;

use super::ServeError;
use super::threads::Threads;

/// Starts the thread that applies the log to the index.
///
/// # Errors
/// Log and index do not go together, or there is no room for another thread.
pub(super) fn start_index(
    index: &Index,
    log: LogHandle,
    metrics: &Metrics,
    (threads, shutdown): (&mut Threads, &Shutdown),
) -> Result<(), ServeError> {
    let index_metrics = IndexMetrics::default();
    metrics.register(|registry| index_metrics.register(registry));
    let follower = IndexFollower::new(index.clone(), log, index_metrics)?;
    let stop = shutdown.clone();
    threads.spawn("index", shutdown, move || follower.run(&stop)).map_err(ServeError::Thread)
}

/// Starts the threads that read the index for others. They end when nobody can ask them any more.
///
/// # Errors
/// There is no room for another thread.
pub(super) fn start_readers(
    index: &Index,
    (readers, shutdown): (&mut Threads, &Shutdown),
) -> Result<IndexReaders, ServeError> {
    let (store, bodies) = IndexReaders::new(index);
    for (number, body) in bodies.into_iter().enumerate() {
        let read = move || {
            body.run();
            Ok::<(), String>(())
        };
        readers
            .spawn(&format!("index-read-{number}"), shutdown, read)
            .map_err(ServeError::Thread)?;
    }
    Ok(store)
}

/// Lets `longbow verify` look at the records of this process. Without it there is everything else.
///
/// # Errors
/// There is no room for another thread.
pub(super) fn show_records(
    data_dir: &DataDir,
    (index, log): (&Index, LogHandle),
    (threads, shutdown): (&mut Threads, &Shutdown),
) -> Result<(), ServeError> {
    match VerifySocket::open(data_dir, index.clone(), log) {
        Ok(socket) => {
            let stop = shutdown.clone();
            threads
                .spawn("offline", shutdown, move || socket.run(&stop))
                .map_err(ServeError::Thread)
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "`longbow verify` will not work beside this server");
            Ok(())
        }
    }
}
