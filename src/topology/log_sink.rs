//! Where log lines go: to a thread of their own, which writes them to standard error. Whoever logs
//! never waits for it. Lines that cannot be written, because the disk is full, the reader has gone or
//! does not read, are dropped and counted; trading goes on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::metrics::Counter;

/// Bytes of lines that may wait to be written: some ten thousand lines.
const MAX_WAITING_BYTES: usize = 1024 * 1024;
/// How long a descriptor may take for a few lines before they count as lost.
pub(super) const WRITE_PATIENCE: Duration = Duration::from_secs(1);

/// Takes lines from any thread.
#[derive(Debug, Clone)]
pub(super) struct LogSink(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    lost: Counter,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    is_writing: bool,
}

/// What is written to: standard error, but for tests.
pub(super) trait Target: Send {
    /// Writes some of the bytes, after however long it takes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// Standard error, around the lock that everybody else takes who writes there: a write may never
/// return.
pub(super) struct StandardError;

impl Target for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_some(io::stderr().as_fd(), bytes, None)
    }
}

impl LogSink {
    /// Starts the thread that writes to `target`.
    ///
    /// # Errors
    /// There is no room for another thread.
    pub(super) fn start(target: impl Target + 'static) -> io::Result<Self> {
        let (waiting, changed) = (Mutex::default(), Condvar::new());
        let sink = Self(Arc::new(Shared { waiting, changed, lost: Counter::default() }));
        let writer = Writer { sink: sink.clone(), target, is_mid_line: false, told: 0 };
        // Nobody joins it: it may be stuck in a write for good.
        drop(std::thread::Builder::new().name("log".into()).spawn(move || writer.run())?);
        Ok(sink)
    }

    /// Lines that were not written.
    pub(super) fn lost(&self) -> &Counter {
        &self.0.lost
    }

    /// Takes whole lines, or counts them as lost where too many wait.
    pub(super) fn take(&self, lines: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.bytes.len() + lines.len() > MAX_WAITING_BYTES {
            drop(waiting);
            self.lose(lines);
            return;
        }
        waiting.bytes.extend_from_slice(lines);
        drop(waiting);
        self.0.changed.notify_all();
    }

    pub(super) fn lose(&self, lines: &[u8]) {
        self.0.lost.inc_by(memchr::memchr_iter(b'\n', lines).count() as u64);
    }

    /// Waits until everything is written that was taken before, but not longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut waiting = self.waiting();
        while !waiting.bytes.is_empty() || waiting.is_writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.0.changed.wait_timeout(waiting, left);
            (waiting, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One event's line.
impl io::Write for LogSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread's state.
struct Writer<T> {
    sink: LogSink,
    target: T,
    /// A line was cut by an error.
    is_mid_line: bool,
    /// How many lost lines have been told.
    told: u64,
}

impl<T: Target> Writer<T> {
    fn run(mut self) {
        let mut lines = Vec::new();
        loop {
            self.next(&mut lines);
            let is_written = self.write(&lines);
            lines.clear();
            let shared = &self.sink.0;
            self.sink.waiting().is_writing = false;
            shared.changed.notify_all();
            let lost = shared.lost.get();
            if is_written && lost > self.told {
                tracing::warn!(lines = lost - self.told, "lines of this log were lost");
                self.told = lost;
            }
        }
    }

    /// Waits for lines, and takes all that wait.
    fn next(&self, lines: &mut Vec<u8>) {
        let mut waiting = self.sink.waiting();
        while waiting.bytes.is_empty() {
            let woken = self.sink.0.changed.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
        }
        waiting.is_writing = true;
        std::mem::swap(&mut waiting.bytes, lines);
    }

    /// Writes whole lines. False when some of them are lost.
    fn write(&mut self, lines: &[u8]) -> bool {
        if self.is_mid_line && matches!(self.target.write(b"\n"), Ok(1)) {
            self.is_mid_line = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.target.write(rest) {
                Ok(written) if written > 0 => rest = rest.get(written..).unwrap_or_default(),
                Ok(_) | Err(_) => {
                    let written = lines.len() - rest.len();
                    self.is_mid_line |=
                        written > 0 && lines.get(written - 1).is_some_and(|last| *last != b'\n');
                    self.sink.lose(rest);
                    return false;
                }
            }
        }
        true
    }
}

/// Writes all of a few lines to a descriptor that somebody else may have made non-blocking, without
/// waiting for it longer than `patience`. Pipes that are ready take 4 KiB at once (POSIX).
///
/// # Errors
/// What the system says; [`io::ErrorKind::TimedOut`] where it would take longer.
pub(super) fn write_within(
    descriptor: BorrowedFd<'_>,
    mut lines: &[u8],
    patience: Duration,
) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    while !lines.is_empty() {
        let chunk = lines.get(..lines.len().min(4_096)).unwrap_or_default();
        let written = write_some(descriptor, chunk, Some(deadline))?;
        lines = lines.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn write_some(
    descriptor: BorrowedFd<'_>,
    bytes: &[u8],
    deadline: Option<Instant>,
) -> io::Result<usize> {
    loop {
        wait_until_ready(descriptor, deadline)?;
        match rustix::io::write(descriptor, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => return Ok(written),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn wait_until_ready(descriptor: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut ready = [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)];
        match poll(&mut ready, timeout.as_ref()) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            // Also where it has failed or its reader has gone: the write says so.
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Asks the test what becomes of each write.
    struct Asking {
        written: Sender<Vec<u8>>,
        outcomes: Receiver<io::Result<usize>>,
    }

    impl Target for Asking {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _gone = self.written.send(bytes.to_vec());
            self.outcomes.recv().unwrap_or(Ok(bytes.len()))
        }
    }

    struct Rig {
        sink: LogSink,
        written: Receiver<Vec<u8>>,
        outcomes: Sender<io::Result<usize>>,
    }

    impl Rig {
        fn new() -> Self {
            let (written, written_receiver) = channel();
            let (outcomes, outcomes_receiver) = channel();
            let sink = LogSink::start(Asking { written, outcomes: outcomes_receiver }).unwrap();
            Self { sink, written: written_receiver, outcomes }
        }

        /// What the thread writes next, and what comes of it.
        fn expect(&self, bytes: &[u8], outcome: io::Result<usize>) {
            let written = self.written.recv_timeout(Duration::from_secs(30)).unwrap();
            assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(bytes));
            self.outcomes.send(outcome).unwrap();
        }
    }

    fn full() -> io::Error {
        io::ErrorKind::StorageFull.into()
    }

    #[test]
    fn lines_are_written_in_their_order_and_in_parts() {
        let rig = Rig::new();
        rig.sink.take(b"one\n");
        rig.expect(b"one\n", Ok(2));
        rig.sink.take(b"two\n");
        rig.expect(b"e\n", Ok(2));
        rig.expect(b"two\n", Ok(4));
        rig.sink.flush(Duration::from_secs(30));
        assert_eq!(rig.sink.lost().get(), 0);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_later_ones_are_tried() {
        let rig = Rig::new();
        rig.sink.take(b"one\ntwo\n");
        rig.expect(b"one\ntwo\n", Ok(5));
        rig.expect(b"wo\n", Err(full()));
        rig.sink.flush(Duration::from_secs(30));
        assert_eq!(rig.sink.lost().get(), 1, "the one that was cut");
        rig.sink.take(b"three\n");
        rig.expect(b"\n", Ok(1));
        rig.expect(b"three\n", Err(io::ErrorKind::BrokenPipe.into()));
        rig.sink.flush(Duration::from_secs(30));
        assert_eq!(rig.sink.lost().get(), 2);
        rig.sink.take(b"four\n");
        rig.expect(b"four\n", Ok(5));
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read() {
        let rig = Rig::new();
        rig.sink.take(b"stuck\n");
        let stuck = rig.written.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(stuck, b"stuck\n");
        let line = [&[b'x'; 1_023][..], b"\n"].concat();
        for _ in 0..MAX_WAITING_BYTES / line.len() + 5 {
            rig.sink.take(&line);
        }
        assert_eq!(rig.sink.lost().get(), 5);
        rig.sink.flush(Duration::from_millis(1));
    }

    #[test]
    fn a_pipe_that_is_full_takes_no_longer_than_allowed() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let lines = vec![b'\n'; 4 * 1024 * 1024];
        let error = write_within(writer.as_fd(), &lines, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let error = write_within(writer.as_fd(), b"\n", Duration::from_secs(30)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
