//! The processes of a running Postgres.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::support::lines_of;

/// Its log line once it accepts connections, also after a crash.
/// A standby says that it accepts read-only connections.
const READY: &str = "database system is ready to accept";
/// Longest start: recovery after a crash may be slow on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A postmaster and its log.
pub(super) struct Running {
    postmaster: Child,
    log: Receiver<String>,
}

impl Running {
    pub(super) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut postmaster =
            command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let output = postmaster.stderr.take().expect("its log is piped");
        let log = lines_of(output, true);
        let running = Self { postmaster, log };
        running.await_log(READY, START_PATIENCE);
        running
    }

    fn await_log(&self, text: &str, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(error) => panic!("Postgres does not log {text:?}: {error}"),
            }
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.postmaster), signal).expect("it is there");
    }

    fn children(&self) -> Vec<Pid> {
        let postmaster = self.postmaster.id();
        let list = format!("/proc/{postmaster}/task/{postmaster}/children");
        let children = std::fs::read_to_string(list).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.filter_map(Pid::from_raw).collect()
    }

    pub(super) fn signal_children(&self, signal: Signal) {
        for pid in self.children() {
            // It may have ended by itself.
            let _gone = kill_process(pid, signal);
        }
    }

    pub(super) fn kill(&mut self) {
        // Frozen first, so that it starts no new processes and does not notice the others' end.
        self.signal(Signal::STOP);
        // Held by a pidfd, so that the number cannot be reused meanwhile.
        let backends: Vec<_> = self
            .children()
            .into_iter()
            .filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)))
            .collect();
        for (pid, _) in &backends {
            // It may have ended by itself.
            let _gone = kill_process(*pid, Signal::KILL);
        }
        self.postmaster.kill().expect("it can be killed");
        self.postmaster.wait().expect("it can be waited for");
        for (pid, backend) in &backends {
            let mut ended = [PollFd::new(backend, PollFlags::IN)];
            let limit = Timespec { tv_sec: 30, tv_nsec: 0 };
            let count = poll(&mut ended, Some(&limit)).expect("a descriptor of a process");
            assert_eq!(count, 1, "process {pid:?} of Postgres does not end");
        }
    }

    /// Waits for the end of a server told to stop.
    pub(super) fn wait(&mut self) {
        self.postmaster.wait().expect("it can be waited for");
    }
}
