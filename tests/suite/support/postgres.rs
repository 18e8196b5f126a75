//! A real Postgres of the test's own, which can be killed, started again and stopped, and SQL in it.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::ports::free_port;
use super::{PATIENCE, Server, api, run};

/// The database that every server has.
const DATABASE: &str = "longbow";
/// The administrator, whom nobody asks for a password.
const USER: &str = "longbow";
/// Small, but durable: it is the system of record.
const SETTINGS: [&str; 9] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=on",
    "shared_buffers=32MB",
    "max_connections=40",
    "max_worker_processes=2",
    "log_min_messages=warning",
    "log_checkpoints=off",
    // A start after a crash looks at one file system rather than at each of some thousand files.
    "recovery_init_sync_method=syncfs",
];
/// What it logs once it takes connections, also after a crash.
const READY: &str = "database system is ready to accept connections";
/// A server that recovers from a crash on a busy machine takes its time.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A Postgres with its data in a temporary folder, stopped and removed when it goes out of scope.
pub struct Postgres {
    program: Program,
    port: u16,
    settings: Vec<String>,
    running: Option<Running>,
    _folder: Option<TempDir>,
}

/// Where it is and whom it runs as.
struct Program {
    bin: PathBuf,
    data: PathBuf,
    /// Postgres refuses to run as root.
    user: Option<(u32, u32)>,
}

struct Running {
    postmaster: Child,
    log: Receiver<String>,
}

/// One database of a server: its address is all that it takes.
#[derive(Debug, Clone)]
pub struct Database {
    /// `postgres://user@host:port/database`.
    pub url: String,
}

impl Postgres {
    /// Starts one on a free port, with the empty database `longbow`.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with more settings, such as `work_mem=1MB`.
    pub fn start_with(more: &[&str]) -> Self {
        let mut postgres = Self::absent_with(more);
        postgres.start_again();
        postgres
    }

    /// Prepares one without starting it: its address is known already.
    pub fn absent() -> Self {
        Self::absent_with(&[])
    }

    fn absent_with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut postgres = Self::prepare(folder.path(), more);
        postgres._folder = Some(folder);
        postgres
    }

    /// Starts one whose data are in this folder, and stay there.
    pub fn start_in(folder: &Path, more: &[&str]) -> Self {
        let mut postgres = Self::prepare(folder, more);
        postgres.start_again();
        postgres
    }

    fn prepare(folder: &Path, more: &[&str]) -> Self {
        let program =
            Program { bin: find_bin(), data: folder.join("data"), user: unprivileged_user() };
        program.own(folder);
        program.make_data();
        let settings = SETTINGS.iter().chain(more).map(|&setting| setting.to_owned()).collect();
        Self { program, port: free_port(), settings, running: None, _folder: None }
    }

    /// The database that is there from the start.
    pub fn database(&self) -> Database {
        self.named(DATABASE)
    }

    /// A database that may not be there.
    pub fn named(&self, name: &str) -> Database {
        Database { url: format!("postgres://{USER}@127.0.0.1:{}/{name}", self.port) }
    }

    /// Makes another database.
    pub fn create(&self, name: &str) -> Database {
        self.database().sql(&format!("CREATE DATABASE {name}"));
        self.named(name)
    }

    /// `host:port`, for a relay.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it on its data and its port, and waits until it takes connections.
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let mut command = self.program.command("postgres");
        command.arg("-D").arg(&self.program.data).args(["-p", &self.port.to_string()]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        self.running = Some(Running::start(command));
    }

    /// Kills it and all of its processes as a power cut would, and waits until they are gone.
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.kill();
    }

    /// Holds all of its processes: it is there and answers nothing.
    pub fn pause(&self) {
        let running = self.running.as_ref().expect("it runs");
        running.signal(Signal::STOP);
        running.signal_children(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        let running = self.running.as_ref().expect("it runs");
        running.signal_children(Signal::CONT);
        running.signal(Signal::CONT);
    }

    /// Stops it in order: clients are cut off, what they have committed is on disk.
    pub fn stop(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.signal(Signal::INT);
        running.postmaster.wait().expect("it can be waited for");
    }

    /// Copies its data, as a backup does. It must be stopped.
    pub fn back_up(&self) -> TempDir {
        assert!(self.running.is_none(), "its files change while it runs");
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy(&self.program.data, &folder.path().join("data"));
        folder
    }

    /// Puts a backup in the place of its data.
    pub fn set_back(&self, backup: &TempDir) {
        assert!(self.running.is_none(), "its files are in use");
        std::fs::remove_dir_all(&self.program.data).expect("its data");
        copy(&backup.path().join("data"), &self.program.data);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }
}

impl Program {
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        // Settings of whoever runs the tests are not for this server; where the tests stand it may
        // not be allowed to go.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C");
        command
    }

    fn own(&self, path: &Path) {
        if let Some((user, group)) = self.user {
            std::os::unix::fs::chown(path, Some(user), Some(group)).expect("root may do this");
        }
    }

    /// Makes the data directory: a copy of one that is made once for all tests of this build.
    fn make_data(&self) {
        let output = self.command("postgres").arg("--version").output().expect("it runs");
        let version = String::from_utf8_lossy(&output.stdout);
        let version = version.split_whitespace().nth(2).unwrap_or("unknown").to_owned();
        // Only its owner can read it.
        let owner = rustix::process::geteuid().as_raw();
        let template = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("postgres-{version}-template-of-{owner}"));
        if !template.exists() {
            self.init();
            self.create_database();
            // Under another name first, so that nobody finds half of it. Another test may have been
            // faster.
            let own = template.with_extension(std::process::id().to_string());
            copy(&self.data, &own);
            if std::fs::rename(&own, &template).is_err() {
                std::fs::remove_dir_all(&own).expect("our own copy");
            }
            return;
        }
        copy(&template, &self.data);
    }

    fn init(&self) {
        let mut command = self.command("initdb");
        command.arg("-D").arg(&self.data).args(["-U", USER, "--auth=trust", "--no-sync"]);
        command.args(["--encoding=UTF8", "--locale=C", "--no-instructions"]);
        expect_success(command);
    }

    /// In single-user mode: it needs no port.
    fn create_database(&self) {
        let mut command = self.command("postgres");
        command.arg("--single").arg("-D").arg(&self.data).arg("postgres").stdin(Stdio::piped());
        command.stdout(Stdio::null());
        let mut process = command.spawn().expect("it runs");
        let mut input = process.stdin.take().expect("its input is piped");
        std::io::Write::write_all(&mut input, format!("CREATE DATABASE {DATABASE}\n").as_bytes())
            .expect("it reads");
        drop(input);
        assert!(process.wait().expect("it ends").success(), "the database was not made");
    }
}

/// With owners and modes, which Postgres checks.
fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    command.arg("-a").arg(from).arg(to);
    expect_success(command);
}

fn expect_success(mut command: Command) {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Running {
    fn start(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut postmaster =
            command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let output = postmaster.stderr.take().expect("its log is piped");
        let log = super::lines_of(output, true);
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

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.postmaster), signal).expect("it is there");
    }

    fn children(&self) -> Vec<Pid> {
        let postmaster = self.postmaster.id();
        let list = format!("/proc/{postmaster}/task/{postmaster}/children");
        let children = std::fs::read_to_string(list).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.filter_map(Pid::from_raw).collect()
    }

    fn signal_children(&self, signal: Signal) {
        for pid in self.children() {
            // It may have ended by itself.
            let _gone = kill_process(pid, signal);
        }
    }

    fn kill(&mut self) {
        // Held first, so that it makes no new processes and does not see the others end.
        self.signal(Signal::STOP);
        // Held by a descriptor: its number cannot be given to another process meanwhile.
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
}

/// The programs of Postgres: those on the path, otherwise the newest that Debian has installed.
fn find_bin() -> PathBuf {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&on_path)
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists());
    if let Some(folder) = found {
        // The link leads to where its other files are.
        let real = folder.join("postgres").canonicalize().expect("it exists");
        return real.parent().expect("it is in a folder").to_owned();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_string_lossy().parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    versions.sort();
    let (_, bin) = versions.pop().expect("Postgres is installed (scripts/install-test-tools)");
    bin
}

/// Who runs Postgres where the tests run as root: user and group `postgres`, otherwise `nobody`.
pub fn unprivileged_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwords = std::fs::read_to_string("/etc/passwd").expect("the list of users");
    let users: BTreeMap<&str, (u32, u32)> = passwords
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            Some((*fields.first()?, (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))
        })
        .collect();
    let user = users.get("postgres").or_else(|| users.get("nobody"));
    Some(*user.expect("a user without rights"))
}

impl Database {
    /// Runs statements and gives the rows of all of them, each value as text.
    pub fn sql(&self, text: &str) -> Vec<Vec<Option<String>>> {
        self.try_sql(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    /// Runs statements that may fail.
    pub fn try_sql(&self, text: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
            let driver = tokio::spawn(connection);
            let messages = client.simple_query(text).await?;
            drop(client);
            // Its end is the end of the session: locks and connections are given back.
            driver.await.expect("it does not panic")?;
            let rows = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    let value = |column| row.get(column).map(str::to_owned);
                    Some((0..row.len()).map(value).collect())
                }
                _ => None,
            });
            Ok(rows.collect())
        })
    }

    /// The rows of a query, each an object with its columns. Moments are microseconds since 1970 if
    /// the query makes them so.
    pub fn rows(&self, query: &str) -> Vec<Value> {
        let rows = self.sql(&format!("SELECT to_json(q) FROM ({query}) AS q"));
        let row = |row: Vec<Option<String>>| row.into_iter().next().flatten().expect("a value");
        rows.into_iter().map(|columns| serde_json::from_str(&row(columns)).expect("JSON")).collect()
    }

    /// The one value of a query, as a number.
    pub fn number(&self, query: &str) -> i64 {
        let rows = self.sql(query);
        let value = rows.first().and_then(|row| row.first()).cloned().flatten();
        value.expect("one value").parse().expect("a whole number")
    }

    /// Waits until a query gives this number.
    pub fn await_number(&self, query: &str, expected: i64) {
        api::until(&format!("{query} to give {expected}"), || {
            (self.number(query) == expected).then_some(())
        });
    }
}

/// Columns of `orders` as `GET /orders` names them, in microseconds.
const ORDER_AS_ANSWERED: &str = "\
    SELECT order_id AS \"orderId\", client_order_id AS \"clientOrderId\", \
        external_order_id AS \"externalOrderId\", symbol, position, \
        CASE WHEN limit_price_cents IS NULL THEN 'market' ELSE 'limit' END AS type, \
        time_in_force AS \"timeInForce\", limit_price_cents AS \"priceInCents\", \
        num_shares AS \"numShares\", filled_shares AS \"filledShares\", \
        filled_value_cents AS \"filledValueInCents\", status, reason, \
        (extract(epoch FROM created_at) * 1000000)::bigint AS \"createdAt\", \
        (extract(epoch FROM updated_at) * 1000000)::bigint AS \"updatedAt\", version \
    FROM orders";

/// Waits until Postgres has everything, compares each user's orders with what the server answers,
/// stops the server, and lets the program itself compare log, index and Postgres.
pub fn assert_records_agree(server: Server, data: &Path, postgres: &str) {
    await_caught_up(&server, data, postgres);
    let databases = databases_of(postgres);
    let mut users: Vec<String> = Vec::new();
    for database in &databases {
        let found = database.sql("SELECT DISTINCT user_id FROM orders");
        users.extend(found.into_iter().filter_map(|row| row.into_iter().next().flatten()));
    }
    for user in &users {
        let client = server.user(data, user);
        let deadline = Instant::now() + PATIENCE;
        // Open orders may be filled between the two looks.
        while let Err(difference) = compare(&client, user, &databases) {
            assert!(Instant::now() < deadline, "{difference}");
        }
    }
    for database in &databases {
        assert_events_tell_of_orders(database);
    }
    assert!(server.program.stop().success(), "a stop is no failure");
    verify(data, postgres);
}

/// Compares what a user is answered with what Postgres has.
fn compare(client: &api::Client, user: &str, databases: &[Database]) -> Result<(), String> {
    let query = format!("{ORDER_AS_ANSWERED} WHERE user_id = '{user}' ORDER BY order_id DESC");
    let mut expected = client.all_orders();
    for order in &mut expected {
        // Rounded from two columns: Postgres does not keep it.
        order.as_object_mut().expect("an order").remove("averagePriceInCents");
    }
    let found: Vec<Value> = databases.iter().flat_map(|one| one.rows(&query)).collect();
    if found.len() != expected.len() {
        return Err(format!("{user} has {} orders, and {} here", found.len(), expected.len()));
    }
    match found.iter().zip(&expected).find(|(found, expected)| found != expected) {
        Some((found, expected)) => Err(format!("{user}: {found} should be {expected}")),
        None => Ok(()),
    }
}

/// Waits until Postgres has everything that the server has committed so far: an order that is placed
/// now, and how far each server is.
pub fn await_caught_up(server: &Server, data: &Path, postgres: &str) {
    let order = server.user(data, "barrier").place_resting("IBM");
    let id = order["orderId"].as_str().expect("an id");
    let databases = databases_of(postgres);
    let created = format!("SELECT lsn FROM order_events WHERE order_id = '{id}' AND version = 1");
    let lsn = api::until("the newest order to be there", || {
        let rows = databases.iter().flat_map(|one| one.try_sql(&created).unwrap_or_default());
        rows.flatten().flatten().next()
    });
    let behind = format!("SELECT count(*) FROM projection WHERE is_current AND lsn < {lsn}");
    for database in &databases {
        database.await_number(&behind, 0);
    }
}

/// The addresses of one address or of ranges with an address each.
fn databases_of(postgres: &str) -> Vec<Database> {
    let address = |part: &str| {
        let url = part
            .split_once("=postgres")
            .map_or(part.to_owned(), |(_, rest)| format!("postgres{rest}"));
        Database { url }
    };
    postgres.split(',').map(address).collect()
}

/// Each version of each order is in `order_events` once, the last one says what `orders` says, and
/// the fills in it are the executions.
fn assert_events_tell_of_orders(database: &Database) {
    for (what, query) in [
        (
            "orders whose events are not their versions, each once",
            "SELECT o.order_id FROM orders o LEFT JOIN order_events e USING (order_id) \
             GROUP BY o.user_id, o.order_id, o.version \
             HAVING count(e.version) <> o.version OR max(e.version) <> o.version \
                OR count(DISTINCT e.version) <> o.version",
        ),
        (
            "orders that are not as their last event has left them",
            "SELECT o.order_id FROM orders o JOIN order_events e USING (order_id, version) \
             WHERE (o.status, o.filled_shares, o.user_id, o.updated_at) \
                IS DISTINCT FROM (e.status, e.filled_shares, e.user_id, e.at)",
        ),
        (
            "events without an order",
            "SELECT e.order_id FROM order_events e LEFT JOIN orders o USING (order_id) \
             WHERE o.order_id IS NULL",
        ),
        (
            "fills that are no executions",
            "SELECT e.order_id FROM order_events e \
             LEFT JOIN executions x USING (user_id, order_id, execution_id) \
             WHERE e.event = 'filled' AND (x.num_shares, x.price_cents, x.executed_at) \
                IS DISTINCT FROM (e.execution_shares, e.execution_price_cents, e.executed_at)",
        ),
        (
            "orders whose executions are not what was filled",
            "SELECT o.order_id FROM orders o LEFT JOIN executions x \
                ON (x.user_id, x.order_id) = (o.user_id, o.order_id) AND x.busted_at IS NULL \
             GROUP BY o.user_id, o.order_id, o.filled_shares, o.filled_value_cents \
             HAVING coalesce(sum(x.num_shares), 0) <> o.filled_shares \
                OR coalesce(sum(x.num_shares * x.price_cents), 0) <> o.filled_value_cents",
        ),
        (
            "ids of the exchange that mean other orders",
            "SELECT o.order_id FROM orders o LEFT JOIN external_orders x USING (external_order_id) \
             WHERE o.external_order_id IS NOT NULL \
                AND (x.user_id, x.order_id) IS DISTINCT FROM (o.user_id, o.order_id)",
        ),
    ] {
        let found = database.sql(query);
        assert!(found.is_empty(), "{} {what}, the first: {:?}", found.len(), found.first());
    }
}

/// `longbow verify` finds no difference. The server must be stopped.
pub fn verify(data: &Path, postgres: &str) {
    let data = data.to_str().expect("a printable path");
    let output = run(&["verify", "--data-dir", data, "--postgres", postgres]);
    let found = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && found.is_empty(), "{found}{errors}");
}
