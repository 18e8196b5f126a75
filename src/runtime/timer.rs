use std::time::Duration;

pub use glommio::timer::{Timer, sleep};

/// Waits for a future, but not longer than `limit`: `None` where it has not ended by then.
pub async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let unlimited = async { Ok(future.await) };
    // It fails only when the time is over.
    glommio::timer::timeout(limit, unlimited).await.ok()
}
