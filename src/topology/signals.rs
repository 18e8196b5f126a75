use std::io;
use std::thread::{Builder, JoinHandle};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};

use crate::shutdown::{Shutdown, StopReason};

/// Signals cannot be waited for.
#[derive(Debug, thiserror::Error)]
#[error("cannot wait for signals")]
pub struct SignalError(#[from] io::Error);

/// The thread that waits for signals.
pub(super) struct SignalThread {
    handle: Handle,
    thread: JoinHandle<()>,
}

/// SIGINT and SIGTERM ask for a stop; a second one ends the process at once. A member of a cluster is
/// asked to hand over its users first (`hand_over`), and a second signal does not wait for that. SIGHUP, by which a terminal
/// says that it has gone and others ask for a look at the settings, changes nothing; nor does SIGXFSZ,
/// as the write that was too much says so itself.
///
/// # Errors
/// The system does not let this process wait for them.
pub(super) fn stop_on_signals(
    shutdown: &Shutdown,
    hand_over: Option<Shutdown>,
) -> Result<SignalThread, SignalError> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGXFSZ])?;
    let handle = signals.handle();
    let shutdown = shutdown.clone();
    let thread = Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP => {
                    tracing::info!("SIGHUP is ignored: settings are read only at the start");
                    continue;
                }
                SIGXFSZ => {
                    tracing::warn!(
                        "a write would have exceeded this process's file size limit (RLIMIT_FSIZE)"
                    );
                    continue;
                }
                _ => {}
            }
            if shutdown.is_requested() {
                // Whoever asks twice does not want to wait.
                std::process::exit(128 + signal);
            }
            let first = hand_over.as_ref().filter(|hand_over| !hand_over.is_requested());
            if let Some(hand_over) = first {
                tracing::info!(
                    signal,
                    "a stop was requested: other nodes take over the users first"
                );
                hand_over.request(StopReason::Requested);
                continue;
            }
            tracing::info!(signal, "a stop was requested");
            shutdown.request(StopReason::Requested);
        }
    })?;
    Ok(SignalThread { handle, thread })
}

impl SignalThread {
    /// Ends the thread.
    pub(super) fn join(self) {
        self.handle.close();
        // It does nothing that could panic.
        let _ended = self.thread.join();
    }
}
