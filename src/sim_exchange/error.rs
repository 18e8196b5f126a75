//! Errors of the simulated exchange.

use std::io;
use std::path::PathBuf;

/// Why the simulated exchange did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A setting has an invalid value.
    #[error("{setting} is {value:?}: expected {allowed}")]
    Setting {
        /// The setting's name on the command line.
        setting: &'static str,
        /// The given value.
        value: String,
        /// The allowed values.
        allowed: String,
    },
    /// A tape or universe file is invalid.
    #[error("the {file} cannot be used: {problem}")]
    Data {
        /// The kind of file.
        file: &'static str,
        /// The problem.
        problem: &'static str,
    },
    /// The tape given by `--tape` cannot be replayed.
    #[error("--tape {} holds no tape", path.display())]
    Tape {
        /// The file.
        path: PathBuf,
        /// The problem.
        source: Box<SimError>,
    },
    /// A file or directory cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What failed, such as `open`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Another process has the data directory open.
    #[error("the exchange directory {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The listener could not be created.
    #[error("the exchange cannot listen on {address}")]
    Listen {
        /// The requested address.
        address: std::net::SocketAddr,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The thread or its runtime could not be created, or its server failed.
    #[error("the exchange thread cannot {action}")]
    Thread {
        /// What failed.
        action: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The thread panicked; its message went to standard error.
    #[error("the exchange thread panicked")]
    Panicked,
}
