//! What a subcommand prints. Whoever reads it may stop reading (`longbow wal inspect | head`), and the
//! disk that it goes to may be full.

use std::io::{self, BufWriter, Stdout, Write};
use std::os::fd::AsFd;

use super::log_sink::{WRITE_PATIENCE, write_within};

/// Standard output of a subcommand.
#[derive(Debug)]
pub struct Console {
    out: BufWriter<Stdout>,
    reader_has_gone: bool,
}

impl Console {
    /// Nothing is printed yet.
    pub fn new() -> Self {
        Self { out: BufWriter::new(io::stdout()), reader_has_gone: false }
    }

    /// Whether what was printed last has no reader any more.
    pub fn reader_has_gone(&self) -> bool {
        self.reader_has_gone
    }

    fn note<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.map_err(|error| {
            self.reader_has_gone |= error.kind() == io::ErrorKind::BrokenPipe;
            io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
        })
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.note(flushed)
    }
}

/// Says on standard error why the program ends. Where nobody can hear it, it ends all the same.
pub fn complain(what: &str) {
    note(&format!("error: {what}"));
}

/// Says something on standard error, beside what a subcommand prints.
pub(super) fn note(what: &str) {
    let _unheard =
        write_within(io::stderr().as_fd(), format!("{what}\n").as_bytes(), WRITE_PATIENCE);
}
