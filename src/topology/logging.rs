//! What a server says: its log on standard error, and a few lines for people on standard output.

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use super::log_fields::FieldsWithinLine;
use super::log_sink::{LogSink, StandardError, WRITE_PATIENCE, write_within};

/// The store below the index tells of each of its files.
const DEFAULT_FILTER: &str = "info,fjall=warn,lsm_tree=warn";
/// How long a thread that panics waits for its words to be written: the process may end with it.
const PANIC_PATIENCE: Duration = Duration::from_millis(200);

/// The log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("RUST_LOG is not a log filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// No room for its thread.
    #[error("cannot start the thread of the log")]
    Thread(#[from] io::Error),
}

/// The log of this process. Nobody who logs waits for whoever reads it. What still waits is written
/// when this is dropped, unless that takes more than a second.
#[derive(Debug)]
pub struct Log {
    sink: LogSink,
}

impl Log {
    /// Starts it: lines go to standard error, panics are lines as well, and `RUST_LOG` chooses which.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn start() -> Result<Self, LogError> {
        let wanted = std::env::var("RUST_LOG").unwrap_or_default();
        let wanted = if wanted.is_empty() { DEFAULT_FILTER } else { &wanted };
        let filter = EnvFilter::try_new(wanted)?;
        let sink = LogSink::start(StandardError)?;
        let writer = sink.clone();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || writer.clone())
            .with_ansi(io::stderr().is_terminal())
            .log_internal_errors(false)
            .fmt_fields(FieldsWithinLine)
            .init();
        let last_words = sink.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            let thread = thread.name().unwrap_or("unnamed");
            tracing::error!(thread, %panic, "a thread panicked");
            last_words.flush(PANIC_PATIENCE);
        }));
        Ok(Self { sink })
    }

    /// Registers what it counts.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Lines of the log and of standard output that could not be written";
        registry.register("log_lines_lost", help, self.sink.lost().clone());
    }

    /// Prints lines for people to standard output. They are worth no more than lines of the log.
    pub(super) fn announce(&self, lines: impl Display) {
        let lines = format!("{lines}\n");
        if let Err(error) = write_within(io::stdout().as_fd(), lines.as_bytes(), WRITE_PATIENCE) {
            self.sink.lose(lines.as_bytes());
            tracing::warn!(%error, "cannot write to standard output");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.sink.flush(WRITE_PATIENCE);
    }
}
