//! A real Postgres for one test, which can be killed, restarted and stopped, and SQL in it.

mod database;
mod program;
mod records;
mod running;
mod template;

use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

pub(crate) use database::Database;
pub(crate) use program::unprivileged_user;
pub(crate) use records::{assert_records_agree, await_caught_up, verify};

use super::ports::free_port;
use program::{DATA, Program, copy};
use running::Running;

/// The initial database of every server.
const DATABASE: &str = "longbow";
/// The superuser, without a password.
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
    // After a crash, syncs the file system once rather than each of some thousand files.
    "recovery_init_sync_method=syncfs",
];

/// What a server has when it starts first.
#[derive(Debug, Clone, Copy)]
enum Content {
    /// The empty database `longbow`.
    Bare,
    /// That database with Longbow's tables and roles.
    Tables,
}

/// A Postgres with its data in a temporary folder, stopped and removed when dropped.
pub(crate) struct Postgres {
    program: Program,
    port: u16,
    settings: Vec<String>,
    running: Option<Running>,
    _folder: Option<TempDir>,
}

impl Postgres {
    /// Starts one on a free port, with Longbow's tables in the database `longbow`.
    pub(crate) fn start() -> Self {
        let mut postgres = Self::absent_with(Content::Tables);
        postgres.start_again();
        postgres
    }

    /// Starts one whose database `longbow` is empty.
    pub(crate) fn start_bare() -> Self {
        let mut postgres = Self::absent();
        postgres.start_again();
        postgres
    }

    /// Prepares one with a known address, without starting it. Its database is empty.
    pub(crate) fn absent() -> Self {
        Self::absent_with(Content::Bare)
    }

    fn absent_with(content: Content) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut postgres = Self::prepare(folder.path(), content, &[]);
        postgres._folder = Some(folder);
        postgres
    }

    /// Starts one with its data in this folder, where they stay, and with more settings, such as
    /// `work_mem=1MB`.
    pub(crate) fn start_in(folder: &Path, more: &[&str]) -> Self {
        let mut postgres = Self::prepare(folder, Content::Tables, more);
        postgres.start_again();
        postgres
    }

    fn start_bare_in(folder: &Path) -> Self {
        let mut postgres = Self::prepare(folder, Content::Bare, &[]);
        postgres.start_again();
        postgres
    }

    fn prepare(folder: &Path, content: Content, more: &[&str]) -> Self {
        let program = Program::prepare(folder, content);
        let settings = SETTINGS.iter().chain(more).map(|&setting| setting.to_owned()).collect();
        Self { program, port: free_port(), settings, running: None, _folder: None }
    }

    /// Starts a standby that streams from this one, under its own port, and has this one wait for it
    /// at each commit.
    pub(crate) fn start_standby(&self) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = Program::copy_running(folder.path(), &self.address(), USER);
        let (port, settings) = (free_port(), self.settings.clone());
        let mut standby = Self { program, port, settings, running: None, _folder: Some(folder) };
        standby.start_again();
        let database = self.database();
        database.sql("ALTER SYSTEM SET synchronous_standby_names = '*'");
        database.sql("SELECT pg_reload_conf()");
        database
            .await_number("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", 1);
        standby
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        // What it has copied of the settings would have it wait for a standby of its own.
        let database = self.database();
        assert_eq!(
            database.number("SELECT pg_promote()::int"),
            1,
            "it is promoted within a minute"
        );
        database.sql("ALTER SYSTEM RESET synchronous_standby_names");
        database.sql("SELECT pg_reload_conf()");
    }

    /// The initial database, of this server or of that one, whichever is the primary.
    pub(crate) fn database_of_both(&self, other: &Self) -> Database {
        let url = self.database().url;
        Database {
            url: url.replace(&self.address(), &format!("{},{}", self.address(), other.address())),
        }
    }

    /// The initial database.
    pub(crate) fn database(&self) -> Database {
        self.named(DATABASE)
    }

    /// A database that may not exist.
    pub(crate) fn named(&self, name: &str) -> Database {
        Database { url: format!("postgres://{USER}@127.0.0.1:{}/{name}", self.port) }
    }

    /// Creates another database.
    pub(crate) fn create(&self, name: &str) -> Database {
        self.database().sql(&format!("CREATE DATABASE {name}"));
        self.named(name)
    }

    /// `host:port`, for a relay.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it with its data and port, and waits until it accepts connections.
    pub(crate) fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let mut command = self.program.command("postgres");
        command.arg("-D").arg(&self.program.data).args(["-p", &self.port.to_string()]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        self.running = Some(Running::start(command));
    }

    /// Kills all of its processes with SIGKILL, and waits until they are gone.
    pub(crate) fn kill(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.kill();
    }

    /// Freezes all of its processes: it is up but does not answer.
    pub(crate) fn pause(&self) {
        let running = self.running.as_ref().expect("it runs");
        running.signal(Signal::STOP);
        running.signal_children(Signal::STOP);
    }

    /// Resumes all of its processes.
    pub(crate) fn resume(&self) {
        let running = self.running.as_ref().expect("it runs");
        running.signal_children(Signal::CONT);
        running.signal(Signal::CONT);
    }

    /// Stops it in fast mode: clients are disconnected, and everything committed is on disk.
    pub(crate) fn stop(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.signal(Signal::INT);
        running.wait();
    }

    /// Copies its data as a backup. It must be stopped.
    pub(crate) fn back_up(&self) -> TempDir {
        assert!(self.running.is_none(), "its files change while it runs");
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy(&self.program.data, &folder.path().join(DATA));
        folder
    }

    /// Replaces its data with a backup.
    pub(crate) fn set_back(&self, backup: &TempDir) {
        assert!(self.running.is_none(), "its files are in use");
        std::fs::remove_dir_all(&self.program.data).expect("its data");
        copy(&backup.path().join(DATA), &self.program.data);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }
}
