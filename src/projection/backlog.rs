use std::time::Duration;

use super::{Progress, ProjectionMetrics};
use crate::wal::LogHandle;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Looks after how much of the log is kept for Postgres, and has new orders refused before it fills
/// the disk.
pub(super) struct Backlog {
    pub(super) log: LogHandle,
    /// Bytes of the log that may be there although Postgres has everything.
    pub(super) kept_bytes: u64,
    /// Most bytes beyond that. Within nine tenths of them orders are taken again.
    pub(super) max_bytes: u64,
    pub(super) progress: Progress,
    pub(super) metrics: ProjectionMetrics,
}

impl Backlog {
    /// Looks again and again, for as long as the runtime lives.
    pub(super) async fn watch(self) {
        let mut is_warned = false;
        loop {
            let (_, bytes) = self.log.kept_segments();
            let bytes = bytes.saturating_sub(self.kept_bytes);
            let lag = self.log.committed().0.saturating_sub(self.progress.committed().0);
            self.metrics.lag_records.set(lag.cast_signed());
            let was_full = self.progress.is_backlogged();
            let limit = if was_full { self.max_bytes / 10 * 9 } else { self.max_bytes };
            let is_full = bytes > limit;
            if is_full && !was_full {
                tracing::error!(
                    bytes,
                    limit = self.max_bytes,
                    records = lag,
                    "Postgres is too far behind: new orders are refused until it has caught up"
                );
            } else if was_full && !is_full {
                tracing::warn!(bytes, "Postgres has caught up enough: new orders are taken again");
            } else if bytes > self.max_bytes / 2 && !is_warned {
                tracing::warn!(
                    bytes,
                    limit = self.max_bytes,
                    records = lag,
                    "the log has grown to half of what is kept for Postgres"
                );
            }
            is_warned = bytes > self.max_bytes / 2;
            self.progress.set_backlogged(is_full);
            self.metrics.backlogged.set(is_full.into());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}
