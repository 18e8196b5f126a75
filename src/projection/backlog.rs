//! Watches how much of the log is kept for Postgres.

use std::time::Duration;

use super::{Progress, ProjectionMetrics};
use crate::wal::LogHandle;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Watches how much of the log is kept for Postgres, and has new orders refused before that fills
/// the disk.
pub(super) struct Backlog {
    // Orders are refused beyond `max_bytes`, and taken again below nine tenths of it.
    pub(super) log: LogHandle,
    /// Bytes of the log that stay on disk even if Postgres has everything.
    pub(super) kept_bytes: u64,
    /// Most bytes beyond that.
    pub(super) max_bytes: u64,
    pub(super) progress: Progress,
    pub(super) metrics: ProjectionMetrics,
}

impl Backlog {
    /// Checks until the runtime ends.
    pub(super) async fn watch(self) {
        let mut is_warned = false;
        loop {
            let (_, bytes) = self.log.kept_segments();
            let bytes = bytes.saturating_sub(self.kept_bytes);
            let lag = self.log.committed().0.saturating_sub(self.progress.slowest().0);
            self.metrics.lag_records.set(lag.cast_signed());
            let was_full = self.progress.is_backlogged();
            let limit = if was_full { self.max_bytes / 10 * 9 } else { self.max_bytes };
            let is_full = bytes > limit;
            if is_full && !was_full {
                tracing::error!(
                    bytes,
                    limit = self.max_bytes,
                    records = lag,
                    "Postgres is too far behind: new orders are refused until it catches up"
                );
            } else if was_full && !is_full {
                tracing::warn!(
                    bytes,
                    "Postgres has caught up enough: new orders are accepted again"
                );
            } else if bytes > self.max_bytes / 2 && !is_warned {
                tracing::warn!(
                    bytes,
                    limit = self.max_bytes,
                    records = lag,
                    "the log has grown to half of its limit for Postgres"
                );
            }
            is_warned = bytes > self.max_bytes / 2;
            self.progress.set_backlogged(is_full);
            self.metrics.backlogged.set(is_full.into());
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }
}
