//! Starts the simulated exchange and the server for a load test, and stops them however the test
//! ends.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    clock::{Moment, seconds_between},
    error::{Context, Error, Result},
    metrics,
    phase::Interrupt,
};

/// How long a program may take to print its address. The first start unpacks the tape.
const START_SECONDS: u64 = 60;
/// How long the server may take to become ready.
const READY_SECONDS: f64 = 60.0;
/// How long a program may take to stop by itself.
const STOP_SECONDS: f64 = 10.0;
/// Lines of output buffered during the start.
const PENDING_LINES: usize = 10_000;
/// Bytes of a log that an error message shows.
const LOG_EXCERPT_BYTES: usize = 2_000;

/// What to start.
#[derive(Debug, Clone)]
pub(crate) struct SpawnOptions {
    /// The `longbow` binary.
    pub program: PathBuf,
    /// Where data and logs go; by default a temporary directory, removed at the end.
    pub directory: Option<PathBuf>,
    /// Replay speed of the tape.
    pub speed: f64,
    /// Shards of the server.
    pub shards: usize,
    /// Number of users to create tokens for.
    pub users: usize,
    /// Extra arguments for `longbow exchange`.
    pub exchange_arguments: Vec<String>,
    /// Extra arguments for `longbow serve`.
    pub serve_arguments: Vec<String>,
}

/// The running exchange and server. Dropping it stops both, the server first.
#[derive(Debug)]
pub(crate) struct Spawned {
    server: Program,
    exchange: Program,
    /// Address of the client listener, `http://host:port`.
    pub url: String,
    /// Address of the admin listener, `http://host:port`.
    pub admin: String,
    /// One token per user.
    pub tokens: Vec<String>,
    // Dropped last: the programs write to it until they have stopped.
    _directory: Directory,
}

impl Spawned {
    /// Starts both and waits until the server is ready.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the end of the log when one does not come up, [`Error::Io`] when it
    /// cannot be started.
    pub(crate) fn start(options: &SpawnOptions, interrupt: &Interrupt) -> Result<Self> {
        let directory = Directory::new(options.directory.clone())?;
        let data = directory.path.join("data");
        let place = (options.program.as_path(), directory.path.as_path());
        let (exchange, exchange_url) =
            start_exchange(place, options.speed, &options.exchange_arguments, interrupt)?;
        let shards = ["--shards".to_owned(), options.shards.to_string()];
        let serve_arguments = [shards.as_slice(), &options.serve_arguments].concat();
        let (server, url, admin) =
            start_server(place, (&data, &exchange_url), &serve_arguments, interrupt)?;
        let tokens = (0..options.users)
            .map(|user| token(&options.program, &data, user))
            .collect::<Result<_>>()?;
        Ok(Self { server, exchange, url, admin, tokens, _directory: directory })
    }

    /// Process id of the exchange.
    #[must_use]
    pub(crate) fn exchange_pid(&self) -> i32 {
        self.exchange.pid()
    }

    /// Process id of the server.
    #[must_use]
    pub(crate) fn server_pid(&self) -> i32 {
        self.server.pid()
    }
}

/// Starts `longbow exchange` with its log in the directory; returns its address,
/// `http://host:port`.
///
/// # Errors
/// As [`Program::start`].
pub(crate) fn start_exchange(
    (program, directory): (&Path, &Path),
    speed: f64,
    arguments: &[String],
    interrupt: &Interrupt,
) -> Result<(Program, String)> {
    let mut command = Command::new(program);
    command
        .args(["exchange", "--listen", "127.0.0.1:0", "--universe", "0", "--speed"])
        .arg(speed.to_string())
        .args(arguments);
    let wanted = ["exchange listening on "];
    let (exchange, addresses) = Program::start(command, "exchange", directory, &wanted, interrupt)?;
    Ok((exchange, addresses.into_iter().next().unwrap_or_default()))
}

/// Starts `longbow serve` with its log in the directory and waits until it is ready; returns the
/// addresses of its two listeners, `http://host:port`.
///
/// # Errors
/// As [`Program::start`] and [`wait_until_ready`].
pub(crate) fn start_server(
    (program, directory): (&Path, &Path),
    (data, exchange): (&Path, &str),
    arguments: &[String],
    interrupt: &Interrupt,
) -> Result<(Program, String, String)> {
    let mut command = Command::new(program);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(data)
        .args(["--exchange", exchange])
        // The load sells what it has not bought. Later arguments win.
        .args(["--account-mode", "unchecked"])
        .args(arguments);
    let wanted = ["listening on ", "admin on "];
    let (server, addresses) = Program::start(command, "serve", directory, &wanted, interrupt)?;
    let mut addresses = addresses.into_iter();
    let url = addresses.next().unwrap_or_default();
    let admin = addresses.next().unwrap_or_default();
    wait_until_ready(&admin, &server, interrupt)?;
    Ok((server, url, admin))
}

/// Waits until the server with this admin listener is ready.
///
/// # Errors
/// [`Error::Timeout`] with the end of its log.
pub(crate) fn wait_until_ready(admin: &str, server: &Program, interrupt: &Interrupt) -> Result<()> {
    let url = format!("{admin}/readyz");
    let ready = interrupt.wait_until(READY_SECONDS, || Ok(metrics::get(&url).is_ok()))?;
    if ready {
        return Ok(());
    }
    Err(Error::Timeout {
        what: "readiness of the server".to_owned(),
        seconds: 60,
        detail: server.log_end(),
    })
}

/// A development token, as `longbow token` prints it.
///
/// # Errors
/// [`Error::Answer`] with the program's output, [`Error::Io`] when it cannot be started.
pub(crate) fn token(program: &Path, data: &Path, user: usize) -> Result<String> {
    token_by("--data-dir", program, data, user)
}

/// A token signed with the key in a file.
///
/// # Errors
/// As [`token`].
pub(crate) fn token_by_secret(program: &Path, file: &Path, user: usize) -> Result<String> {
    token_by("--jwt-secret-file", program, file, user)
}

fn token_by(flag: &str, program: &Path, place: &Path, user: usize) -> Result<String> {
    let name = if user == 0 { "load".to_owned() } else { format!("load-{user}") };
    let output = Command::new(program)
        .args(["token", flag])
        .arg(place)
        .args(["--user", &name])
        .stdin(Stdio::null())
        .output()
        .context("running longbow token")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let token = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    match token {
        Some(token) if output.status.success() => Ok(token.to_owned()),
        _ => Err(Error::Answer {
            what: "longbow token".to_owned(),
            answer: String::from_utf8_lossy(&output.stderr).into_owned(),
        }),
    }
}

/// An address with a free port, for programs that cannot report the port they chose.
///
/// # Errors
/// [`Error::Io`] when there is none.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    listener.local_addr().context("looking for a free port")
}

/// One started program with its log.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    name: &'static str,
    log: PathBuf,
}

impl Program {
    /// Starts the program and waits for a line with each of the `wanted` beginnings; returns what
    /// follows them, in their order.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the end of the log when they do not come, [`Error::Io`] when it
    /// cannot be started.
    pub(crate) fn start(
        command: Command,
        name: &'static str,
        directory: &Path,
        wanted: &[&'static str],
        interrupt: &Interrupt,
    ) -> Result<(Self, Vec<String>)> {
        let (program, printed) = Self::spawn(command, name, directory)?;
        let addresses = program.wait_for_lines(&printed, wanted, interrupt)?;
        Ok((program, addresses))
    }

    /// Starts the program and returns the lines that it will print. Its log is appended to that of an
    /// earlier program with the same name.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be started.
    pub(crate) fn spawn(
        mut command: Command,
        name: &'static str,
        directory: &Path,
    ) -> Result<(Self, mpsc::Receiver<String>)> {
        command.stdin(Stdio::null());
        Self::spawn_with_input(command, name, directory)
    }

    /// Like [`Self::spawn`], with the command's standard input.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be started.
    pub(crate) fn spawn_with_input(
        mut command: Command,
        name: &'static str,
        directory: &Path,
    ) -> Result<(Self, mpsc::Receiver<String>)> {
        let log = directory.join(format!("{name}.log"));
        let log_file = OpenOptions::new().create(true).append(true).open(&log);
        let mut log_file = log_file.context("opening a log file")?;
        let errors = log_file.try_clone().context("making a log file")?;
        // A process group of its own: Ctrl-C reaches only this tool, which then stops the program.
        command.stdout(Stdio::piped()).stderr(errors).process_group(0);
        let mut child = command.spawn().context(&format!("starting {name}"))?;
        let output = child.stdout.take();
        let program = Self { child, name, log };

        let (lines, printed) = mpsc::sync_channel(PENDING_LINES);
        let drain = move || {
            let Some(output) = output else { return };
            // Everything is copied to the log, so that the program never blocks on a full pipe.
            for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                let _ = writeln!(log_file, "{line}");
                // Once the addresses are known, nobody receives.
                let _ = lines.try_send(line);
            }
        };
        thread::Builder::new().name("log".to_owned()).spawn(drain).context("log thread")?;
        Ok((program, printed))
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be killed.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().context(&format!("killing {}", self.name))?;
        self.child.wait().context(&format!("waiting for {}", self.name)).map(drop)
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits at most `seconds` until it has ended.
    pub(crate) fn wait_for_end(&mut self, seconds: f64) {
        let asked = Moment::now();
        while !self.has_ended() && seconds_between(asked, Moment::now()) < seconds {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its process id.
    #[must_use]
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(0)
    }

    /// Its standard input, if piped.
    pub(crate) fn take_input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits for a line with each of the `wanted` beginnings; returns what follows them.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the end of the log when they do not come.
    pub(crate) fn wait_for_lines(
        &self,
        printed: &mpsc::Receiver<String>,
        wanted: &[&'static str],
        interrupt: &Interrupt,
    ) -> Result<Vec<String>> {
        let mut found: Vec<Option<String>> = vec![None; wanted.len()];
        let started = Moment::now();
        while found.iter().any(Option::is_none) {
            interrupt.check()?;
            match printed.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => note_address(&line, wanted, &mut found),
                Err(mpsc::RecvTimeoutError::Timeout)
                    if seconds_between(started, Moment::now()) < START_SECONDS as f64 => {}
                Err(_) => {
                    return Err(Error::Timeout {
                        what: format!("the start of {}", self.name),
                        seconds: START_SECONDS,
                        detail: self.log_end(),
                    });
                }
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// The end of the log, for an error message.
    pub(crate) fn log_end(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(LOG_EXCERPT_BYTES);
        let end = text.get(start..).unwrap_or_default();
        format!("; the end of its output:\n{}", String::from_utf8_lossy(end))
    }
}

/// Stores the address of a line that has one of the wanted beginnings.
fn note_address(line: &str, wanted: &[&'static str], found: &mut [Option<String>]) {
    for (beginning, slot) in wanted.iter().zip(found) {
        if let Some(rest) = line.trim().strip_prefix(beginning)
            && slot.is_none()
            && let Some(address) = rest.split_whitespace().next()
        {
            *slot = Some(address.trim_end_matches('/').to_owned());
        }
    }
}

impl Drop for Program {
    /// Terminates it, and kills it after a while.
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let asked = Moment::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if seconds_between(asked, Moment::now()) > STOP_SECONDS {
                eprintln!("{} did not stop within {STOP_SECONDS} s: killed", self.name);
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A directory, removed at the end if this test created it.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Its path.
    pub path: PathBuf,
    temporary: bool,
}

impl Directory {
    /// The given directory, or a temporary one.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be created.
    pub(crate) fn new(given: Option<PathBuf>) -> Result<Self> {
        let temporary = given.is_none();
        let path = given.unwrap_or_else(|| {
            std::env::temp_dir().join(format!("longbow-load-{}", std::process::id()))
        });
        fs::create_dir_all(&path).context(&format!("making {}", path.display()))?;
        Ok(Self { path, temporary })
    }

    /// A temporary directory of this process, named after its purpose.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be created.
    pub(crate) fn temporary(what: &str) -> Result<Self> {
        let name = format!("longbow-load-{}-{what}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).context(&format!("making {}", path.display()))?;
        Ok(Self { path, temporary: true })
    }

    /// A new directory of this process inside another one, which is created if missing.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be created.
    pub(crate) fn inside(parent: &Path, what: &str) -> Result<Self> {
        let path = parent.join(format!("{what}-{}", std::process::id()));
        fs::create_dir_all(&path).context(&format!("making {}", path.display()))?;
        // Valid for other users and working directories.
        let path = path.canonicalize().context(&format!("finding {}", path.display()))?;
        Ok(Self { path, temporary: true })
    }

    /// Keeps it at the end, for inspection.
    pub(crate) fn keep(&mut self) {
        self.temporary = false;
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell script in place of `longbow`.
    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn scratch(name: &str) -> Directory {
        let path =
            std::env::temp_dir().join(format!("longbow-load-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory { path, temporary: true }
    }

    #[test]
    fn addresses_are_taken_from_what_a_program_prints() {
        let directory = scratch("addresses");
        let script = "echo warming up; echo admin on http://127.0.0.1:2; \
            echo 'listening on http://127.0.0.1:1/ (4 shards)'; exec sleep 60";
        let wanted = ["listening on ", "admin on "];
        let (program, addresses) =
            Program::start(shell(script), "serve", &directory.path, &wanted, &Interrupt::never())
                .unwrap();
        assert_eq!(addresses, ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
        let pid = Pid::from_raw(i32::try_from(program.child.id()).unwrap()).unwrap();
        drop(program);
        assert!(rustix::process::test_kill_process(pid).is_err(), "stopped and reaped");
    }

    #[test]
    fn a_program_that_dies_at_its_start_shows_why() {
        let directory = scratch("dies");
        let script = "echo the disk is full >&2; exit 1";
        let error =
            Program::start(shell(script), "serve", &directory.path, &["x"], &Interrupt::never())
                .unwrap_err();
        assert!(error.to_string().contains("the disk is full"), "{error}");
    }
}
