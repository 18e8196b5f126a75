use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

/// How a thread runs its tasks.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExecutorOptions {
    /// The core that it stays on; any where there is none.
    pub core: Option<usize>,
    /// How long it looks for work before it sleeps.
    pub spin: Option<Duration>,
    /// Memory for storage I/O that is registered with the kernel, where not the usual.
    pub io_memory_bytes: Option<usize>,
}

/// There is no executor: the kernel has no io_uring, or no memory that may be locked, or there is no
/// such core.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ExecutorError(String);

/// Runs a future on the calling thread, with all the tasks that it [spawns](super::spawn_local), until
/// that future ends. Tasks that are left are not dropped.
///
/// # Errors
/// The executor cannot be made.
pub fn run<F: Future>(options: ExecutorOptions, future: F) -> Result<F::Output, ExecutorError> {
    let placement = options.core.map_or(Placement::Unbound, Placement::Fixed);
    let mut builder = LocalExecutorBuilder::new(placement);
    if let Some(spin) = options.spin {
        builder = builder.spin_before_park(spin);
    }
    if let Some(bytes) = options.io_memory_bytes {
        builder = builder.io_memory(bytes);
    }
    let executor = builder.make().map_err(|error| ExecutorError(error.to_string()))?;
    Ok(executor.run(future))
}

/// Runs work that blocks on a thread of its own, and waits for it. See the [wakers](super#wakers) of
/// who waits.
pub async fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    glommio::executor().spawn_blocking(work).await
}
