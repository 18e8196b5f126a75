use std::error::Error;
use std::io;
use std::thread::{Builder, JoinHandle};

use crate::shutdown::{Shutdown, StopReason};

/// An error and what led to it, in one line.
pub fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The threads of one stage of the process: they are told to stop and joined together.
pub(super) struct Threads {
    running: Vec<(String, JoinHandle<()>)>,
}

/// Tells everybody when a thread ends unasked, by a panic too.
struct EndGuard {
    thread: String,
    shutdown: Shutdown,
    error: Option<String>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        let error = match self.error.take() {
            Some(error) => error,
            None if std::thread::panicking() => "it panicked".to_owned(),
            None if self.shutdown.is_requested() => return,
            None => "it ended without a reason".to_owned(),
        };
        let thread = std::mem::take(&mut self.thread);
        tracing::error!(thread, error, "a thread ended");
        self.shutdown.request(StopReason::ThreadEnded { thread, error });
    }
}

impl Threads {
    pub(super) fn new() -> Self {
        Self { running: Vec::new() }
    }

    /// Starts a thread. When it ends, well or not, before a stop was requested, the process stops.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub(super) fn spawn<E: Into<Box<dyn Error>>>(
        &mut self,
        name: &str,
        shutdown: &Shutdown,
        body: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> io::Result<()> {
        let mut guard =
            EndGuard { thread: name.to_owned(), shutdown: shutdown.clone(), error: None };
        let handle = Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(error) = body() {
                guard.error = Some(with_causes(&*error.into()));
            }
            drop(guard);
        })?;
        self.running.push((name.to_owned(), handle));
        Ok(())
    }

    /// Waits for all of them.
    pub(super) fn join(self) {
        for (name, handle) in self.running {
            // A panic has been reported by the thread's guard.
            let _panicked = handle.join();
            tracing::debug!(thread = name, "joined");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason_of(body: impl FnOnce() -> Result<(), String> + Send + 'static) -> StopReason {
        let shutdown = Shutdown::new();
        let mut threads = Threads::new();
        threads.spawn("worker", &shutdown, body).unwrap();
        let reason = shutdown.wait();
        threads.join();
        reason
    }

    #[test]
    fn a_thread_that_ends_stops_everybody_and_says_why() {
        let ended =
            |error: &str| StopReason::ThreadEnded { thread: "worker".into(), error: error.into() };
        assert_eq!(reason_of(|| Err("disk gone".into())), ended("disk gone"));
        assert_eq!(reason_of(|| Ok(())), ended("it ended without a reason"));
        assert_eq!(reason_of(|| panic!("for the test")), ended("it panicked"));
    }

    #[test]
    fn a_thread_that_was_asked_to_end_is_no_reason() {
        let shutdown = Shutdown::new();
        let mut threads = Threads::new();
        let seen = shutdown.clone();
        let body = move || {
            seen.wait();
            Ok::<(), String>(())
        };
        threads.spawn("worker", &shutdown, body).unwrap();
        shutdown.request(StopReason::Requested);
        threads.join();
        assert_eq!(shutdown.wait(), StopReason::Requested);
    }
}
