use std::path::Path;
use std::time::Duration;

use crate::metrics::{Gauge, Metrics};
use crate::shutdown::Shutdown;
use crate::wal::{self, Lsn, VisitError, WalError};

use super::threads::with_causes;

/// Payload bytes that are read in a row, and the pause after them: 100 MB/s at most, so that nobody
/// who waits for the disk notices.
const BYTES_IN_A_ROW: usize = 2 * 1024 * 1024;
const PAUSE: Duration = Duration::from_millis(20);

/// Ends the look.
#[derive(Debug, thiserror::Error)]
#[error("enough records were read")]
struct Enough;

/// Reads once what a start does not: the records that the store has. Says where they are damaged, as
/// `longbow wal verify` does, and then waits for the end.
pub(super) fn check_old_records(
    directory: &Path,
    stored: Lsn,
    metrics: &Metrics,
    shutdown: &Shutdown,
) {
    let damaged: Gauge = Gauge::default();
    let help = "1 if log records that the store already has are unreadable";
    metrics.register(|registry| registry.register("log_old_damage", help, damaged.clone()));
    let mut bytes = 0;
    let read = wal::inspect(directory, None, &mut |record| {
        bytes += record.payload.len();
        if bytes >= BYTES_IN_A_ROW {
            bytes = 0;
            shutdown.wait_timeout(PAUSE);
        }
        let is_enough = record.lsn >= stored || shutdown.is_requested();
        if is_enough { Err(VisitError::from(Enough)) } else { Ok(()) }
    });
    // Anything else is for whoever needs these records to say.
    if let Err(error @ WalError::Damaged { .. }) = read {
        damaged.set(1);
        tracing::error!(
            stored = stored.0,
            error = with_causes(&error),
            "an old part of the log, which the store already has, is damaged: orders continue; \
             `longbow wal verify` says who may still need it"
        );
    }
    shutdown.wait();
}
