use std::io;
use std::path::PathBuf;

/// Why the simulated exchange did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A setting has a value that cannot be used.
    #[error("{setting} is {value:?}: expected {allowed}")]
    Setting {
        /// Name of the setting as on the command line.
        setting: &'static str,
        /// What was given.
        value: String,
        /// What would have been accepted.
        allowed: String,
    },
    /// A tape or universe file is not what it should be.
    #[error("the {file} cannot be used: {problem}")]
    Data {
        /// Which kind of file.
        file: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The tape that was asked for cannot be replayed.
    #[error("--tape {} holds no tape", path.display())]
    Tape {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<SimError>,
    },
    /// A file or directory could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, such as `open`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process has the data directory open.
    #[error("the exchange directory {} is in use by another process", path.display())]
    InUse {
        /// Which directory.
        path: PathBuf,
    },
    /// The listener could not be made.
    #[error("the exchange cannot listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The thread or its runtime could not be made, or its server failed.
    #[error("the exchange thread cannot {action}")]
    Thread {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The thread panicked; its message went to standard error.
    #[error("the exchange thread panicked")]
    Panicked,
}
