//! Errors of load tests.

use std::io;

/// Why a load test could not finish.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A system call or a file failed.
    #[error("{what} failed")]
    Io {
        /// What was being done.
        what: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The server gave an answer that the test cannot use.
    #[error("{what}: {answer}")]
    Answer {
        /// What was requested.
        what: String,
        /// The answer, truncated.
        answer: String,
    },
    /// An HTTP call of the setup failed.
    #[error("GET {url} failed")]
    Call {
        /// The address that was called.
        url: String,
        /// What the HTTP client said.
        #[source]
        source: Box<ureq::Error>,
    },
    /// Postgres refused something, or could not be reached.
    #[error("Postgres did not {what}")]
    Sql {
        /// What was requested.
        what: String,
        /// What it or its client said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A flag has an invalid value.
    #[error("--{flag} is {value}: {allowed}")]
    Flag {
        /// Name of the flag, without the dashes.
        flag: &'static str,
        /// The value that was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s{detail}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long, in seconds.
        seconds: u64,
        /// The known cause: empty, or starting with a separator.
        detail: String,
    },
    /// An invariant was violated. The details have been printed.
    #[error("{count} violations; seed {seed}; data and logs are in {}", directory.display())]
    Violations {
        /// How many violations were kept.
        count: usize,
        /// Random seed of the run.
        seed: u64,
        /// The directory with data and logs.
        directory: std::path::PathBuf,
    },
    /// A thread of the test died.
    #[error("the {0} thread panicked")]
    Thread(&'static str),
    /// The operator pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// The result type of this crate.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Names what was being done when an I/O call failed.
pub(crate) trait Context<T> {
    /// Turns the error into [`Error::Io`] with `what` as its first words.
    ///
    /// # Errors
    /// The same failure, with its context.
    fn context(self, what: &str) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: &str) -> Result<T> {
        self.map_err(|source| Error::Io { what: what.to_owned(), source: source.into() })
    }
}

/// The first bytes of an answer as text, for an error message.
#[must_use]
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    /// Enough for a status line, headers and a problem document.
    const MAX_EXCERPT_BYTES: usize = 600;
    let end = bytes.len().min(MAX_EXCERPT_BYTES);
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}
