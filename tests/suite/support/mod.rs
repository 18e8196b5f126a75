//! Shared by the tests of the whole program: the real binary on free ports with its data in a temporary
//! folder, a third-party HTTP client, and a reader of event streams.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

pub(crate) mod api;
pub(crate) mod clients;
pub(crate) mod cluster;
pub(crate) mod events;
pub(crate) mod load;
pub(crate) mod market;
pub(crate) mod money;
pub(crate) mod pgbouncer;
pub(crate) mod ports;
pub(crate) mod postgres;
pub(crate) mod postgres_relay;
pub(crate) mod price_cluster;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod relay;
pub(crate) mod small_disk;
pub(crate) mod stream_story;
pub(crate) mod tape;
pub(crate) mod venue;
pub(crate) mod wall_clock;
pub(crate) mod webdriver;
pub(crate) mod world;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::PidfdFlags;

/// Longest wait for anything in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub(crate) fn longbow() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longbow"));
    // `LONGBOW_` variables of the environment must not reach the program.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LONGBOW_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the program to its end.
pub(crate) fn run<S: AsRef<OsStr>>(arguments: &[S]) -> Output {
    longbow().args(arguments).output().expect("the program starts")
}

/// A running program, killed when dropped.
pub(crate) struct Program {
    process: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Program {
    /// Starts the program with these arguments.
    pub(crate) fn start<S: AsRef<OsStr>>(arguments: &[S]) -> Self {
        let mut command = longbow();
        command.args(arguments);
        Self::spawn(command)
    }

    /// Starts any program.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process =
            command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let lines = lines_of(process.stdout.take().expect("its output is piped"), false);
        let errors = lines_of(process.stderr.take().expect("its output is piped"), true);
        Self { process, lines, errors }
    }

    /// Starts any program with the command's own output; its lines are not read.
    pub(crate) fn spawn_unheard(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        let process =
            command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let ((_, lines), (_, errors)) = (channel(), channel());
        Self { process, lines, errors }
    }

    /// Waits for a printed line that begins with `start` and returns its rest.
    pub(crate) fn await_line(&self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(start) {
                        return rest.trim().to_owned();
                    }
                }
                Err(error) => panic!("no line {start:?}: {error}"),
            }
        }
    }

    /// Waits for the next printed line; `None` once the output has ended.
    pub(crate) fn next_line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("waited {PATIENCE:?} for a line"),
        }
    }

    /// Waits for a line on standard error that contains `text`.
    pub(crate) fn await_error(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.errors.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(error) => panic!("it does not say {text:?}: {error}"),
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.kill_in_place();
    }

    /// Kills it through a borrow.
    pub(crate) fn kill_in_place(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it has ended");
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.ask_to_stop();
        self.wait()
    }

    /// Asks it to stop.
    pub(crate) fn ask_to_stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it can be asked");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).expect("it is there");
    }

    /// Freezes it with SIGSTOP. It can still be killed.
    pub(crate) fn freeze(&self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP)
            .expect("it can be frozen");
    }

    /// Continues it after a freeze.
    pub(crate) fn thaw(&self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("it can go on");
    }

    /// The names of its threads; none once it has ended.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        let names = tasks
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.map(|name| name.trim().to_owned()).collect()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.process);
        // The number is its own until somebody has waited for it.
        if let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            let mut ended = [PollFd::new(&handle, PollFlags::IN)];
            let limit = PATIENCE.try_into().expect("a short time");
            let count = rustix::event::poll(&mut ended, Some(&limit)).expect("it can be awaited");
            assert_eq!(count, 1, "waited {PATIENCE:?} for the program to end");
        }
        self.process.wait().expect("it has ended")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// The lines of a program's output, also copied to the test's output.
fn lines_of(output: impl Read + Send + 'static, is_shown: bool) -> Receiver<String> {
    let (sender, lines) = channel();
    // Reads to the end, so that the program never blocks on a full pipe.
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if is_shown {
                eprintln!("{line}");
            }
            // The test no longer listens.
            let _unheard = sender.send(line);
        }
    });
    lines
}

/// A server on free ports, by default with the simulated exchange inside.
pub(crate) struct Server {
    pub program: Program,
    /// `http://host:port` for clients.
    pub address: String,
    /// `http://host:port` for operators.
    pub admin: String,
}

impl Server {
    /// Starts a server in a data directory and waits until it is ready.
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        Self::start_by(longbow(), data, more)
    }

    /// Starts a server and waits only until it answers.
    pub(crate) fn start_unready(data: &Path, more: &[&str]) -> Self {
        Self::spawn(longbow(), data, more)
    }

    /// Starts a server with a limit of open files.
    pub(crate) fn start_with_files(files: u64, data: &Path, more: &[&str]) -> Self {
        let server = longbow();
        let mut shell = Command::new("sh");
        for (name, value) in server.get_envs() {
            assert!(value.is_none(), "settings are only taken away");
            shell.env_remove(name);
        }
        shell.args(["-c", "ulimit -n $0 && exec \"$@\"", &files.to_string()]);
        shell.arg(server.get_program());
        Self::start_by(shell, data, more)
    }

    /// Starts a server with a command that ends with the program, and waits until it is ready.
    pub(crate) fn start_by(command: Command, data: &Path, more: &[&str]) -> Self {
        let server = Self::spawn(command, data, more);
        server.await_ready();
        server
    }

    fn spawn(mut command: Command, data: &Path, more: &[&str]) -> Self {
        let [listen, admin] = [(); 2].map(|()| ports::free_address());
        command.args(["serve", "--listen", &listen, "--admin-listen", &admin]);
        command.arg("--data-dir").arg(data);
        // Little is preallocated: these tests start hundreds of servers.
        command.args(["--wal-segment-mib", "8", "--disk-reserve-mib", "16"]);
        // Most tests are of orders, whoever pays for them; those of accounts say what they need.
        command.args(["--account-mode", "unchecked"]);
        // A small market starts faster; a test can override it with a later flag.
        if !more.contains(&"--exchange") {
            command.args(["--universe", "5"]).args(tape::arguments(more));
        }
        // Even on a busy machine, answers contain the outcome.
        if !more.contains(&"--order-reply-timeout-ms") {
            command.args(["--order-reply-timeout-ms", "20000"]);
        }
        command.args(more);
        let program = Program::spawn(command);
        let address = program.await_line("listening on ");
        let admin = program.await_line("admin on ");
        Self { program, address, admin }
    }

    pub(crate) fn await_ready(&self) {
        api::until("the server to be ready", || {
            self.readiness().filter(|answer| answer.status == 200).map(|_| ())
        });
    }

    /// What `/readyz` says, if it is answered.
    pub(crate) fn readiness(&self) -> Option<api::Answer> {
        api::get_anonymously(&format!("{}/readyz", self.admin))
    }

    /// Waits until `/readyz` says something with `text` among these, under this name.
    pub(crate) fn await_word(&self, among: &str, name: &str, text: &str) -> api::Answer {
        api::until(&format!("{text:?} of {name}"), || {
            let answer = self.readiness()?;
            let said = answer.body.get(among)?.get(name)?.as_str()?.contains(text);
            said.then_some(answer)
        })
    }

    /// The value of a metric, summed over its labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let url = format!("{}/metrics", self.admin);
        metric_of(&api::get_anonymously(&url).expect("the operators' page").text, name)
    }

    /// A client with a token from `longbow token`.
    pub(crate) fn user(&self, data: &Path, name: &str) -> api::Client {
        api::Client::new(&self.address, &token(data, name))
    }
}

/// The value of a metric on a metrics page, summed over its labels.
pub(crate) fn metric_of(page: &str, name: &str) -> u64 {
    let start = format!("longbow_{name}");
    let values: Vec<u64> = page
        .lines()
        .filter_map(|line| line.strip_prefix(&start))
        .filter(|rest| rest.starts_with([' ', '{']))
        .filter_map(|rest| rest.rsplit(' ').next())
        .map(|value| value.parse::<u64>().expect("a whole number"))
        .collect();
    assert!(!values.is_empty(), "{name} is no known metric");
    values.iter().sum()
}

/// A token from `longbow token`.
pub(crate) fn token(data: &Path, user: &str) -> String {
    let data = data.to_str().expect("a printable path");
    let output = run(&["token", "--data-dir", data, "--user", user]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a token is text").trim().to_owned()
}

/// The simulated exchange as a separate process.
pub(crate) struct Exchange {
    pub program: Program,
    pub address: String,
}

impl Exchange {
    /// Starts it on a free port.
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        Self::start_at(&ports::free_address(), data, more)
    }

    /// Starts it at an earlier one's address.
    pub(crate) fn start_at(listen: &str, data: &Path, more: &[&str]) -> Self {
        let data = data.to_str().expect("a printable path");
        let mut arguments =
            vec!["exchange", "--listen", listen, "--data-dir", data, "--universe", "5"];
        arguments.extend(more);
        let tape = tape::arguments(more);
        arguments.extend(tape.iter().map(String::as_str));
        let program = Program::start(&arguments);
        let address = program.await_line("exchange listening on ");
        Self { program, address }
    }
}
