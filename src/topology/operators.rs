use std::os::fd::OwnedFd;
use std::rc::Rc;

use glommio::{LocalExecutorBuilder, Placement};

use crate::http::{Admin, HttpLimits, HttpMetrics, Site, serve_operators};
use crate::net::adopt_listener;
use crate::shutdown::Shutdown;

/// Memory for storage I/O that the executor registers with the kernel: it does none.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// The thread of the operators' listener. It waits for no shard, and ends when all others have ended:
/// until then somebody may want to know how far the stop is.
pub(super) struct Operators {
    pub listener: OwnedFd,
    pub site: Site,
    pub metrics: HttpMetrics,
    /// Whether the process is stopping.
    pub shutdown: Shutdown,
    /// When to end.
    pub stop: Shutdown,
}

impl Operators {
    /// Serves until the end is asked for.
    ///
    /// # Errors
    /// The executor could not be made.
    pub fn run(self) -> Result<(), String> {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(IO_MEMORY_BYTES)
            .make()
            .map_err(|error| error.to_string())?;
        executor.run(async {
            let Self { listener, site, metrics, shutdown, stop } = self;
            let admin = Rc::new(Admin { site, shutdown });
            let listener = adopt_listener(listener);
            serve_operators(listener, HttpLimits::default(), metrics, stop, admin).await;
        });
        Ok(())
    }
}
