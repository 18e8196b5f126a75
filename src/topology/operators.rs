use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::http::{Admin, HttpLimits, HttpMetrics, Site, serve_operators};
use crate::runtime::{self, ExecutorOptions, adopt_listener, spawn_local};
use crate::shutdown::Shutdown;

/// Memory for storage I/O that the executor registers with the kernel: it does none.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// The thread of the operators' listener. It waits for no shard, and ends when all others have ended:
/// until then somebody may want to know how far the stop is.
pub(super) struct Operators {
    /// One for each address that operators connect to.
    pub listeners: Vec<OwnedFd>,
    pub http: HttpLimits,
    pub site: Site,
    pub metrics: HttpMetrics,
    /// Whether the process is stopping.
    pub shutdown: Shutdown,
    /// When to end.
    pub stop: Shutdown,
}

impl Operators {
    /// Serves until the end is requested.
    ///
    /// # Errors
    /// The executor could not be made.
    pub(super) fn run(self) -> Result<(), String> {
        let options = ExecutorOptions {
            io_memory_bytes: Some(IO_MEMORY_BYTES),
            ..ExecutorOptions::default()
        };
        let serving = async {
            let Self { listeners, http, site, metrics, shutdown, stop } = self;
            let admin = Rc::new(Admin::new(site, shutdown));
            let serving: Vec<_> = listeners
                .into_iter()
                .map(|listener| {
                    let (metrics, stop, admin) = (metrics.clone(), stop.clone(), Rc::clone(&admin));
                    let listener = adopt_listener(listener);
                    spawn_local(serve_operators(listener, http, metrics, stop, admin))
                })
                .collect();
            for serving in serving {
                serving.await;
            }
        };
        runtime::run(options, serving).map_err(|error| error.to_string())
    }
}
