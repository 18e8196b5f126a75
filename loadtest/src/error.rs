//! What can go wrong in a load test.

use std::io;

/// Why a load test could not be run to its end.
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
    /// The tested server answered something that the test cannot go on with.
    #[error("{what}: {answer}")]
    Answer {
        /// What was asked for.
        what: String,
        /// The answer, cut to a readable length.
        answer: String,
    },
    /// An HTTP call of the set-up failed.
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
        /// What it was asked for.
        what: String,
        /// What it or its client said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A flag has a value that cannot be used.
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
        /// What is known about the cause, empty or starting with a separator.
        detail: String,
    },
    /// Something was seen that must not be. The details are printed already.
    #[error("{count} violations; seed {seed}; data and logs are in {}", directory.display())]
    Violations {
        /// How many, at most as many as are kept.
        count: usize,
        /// What the run was drawn from.
        seed: u64,
        /// Where everything is that can be looked at.
        directory: std::path::PathBuf,
    },
    /// A thread of the test died.
    #[error("the {0} thread panicked")]
    Thread(&'static str),
    /// The operator pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// Result of everything in this crate.
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
    /// Enough for a status line, the headers and a problem document.
    const MAX_EXCERPT_BYTES: usize = 600;
    let end = bytes.len().min(MAX_EXCERPT_BYTES);
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}
