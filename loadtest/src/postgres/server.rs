//! A Postgres server for one run: created in a directory on the same disk as everything else, and
//! stopped and removed at the end.

use std::{
    env, fs,
    net::SocketAddr,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::sql::Sql;
use crate::{
    cpu::{Cores, on_cores},
    error::{Context, Error, Result},
    phase::Interrupt,
    spawn::{Program, free_address},
};

/// Settings that an operator would choose on a machine of this size; everything else is Postgres'
/// default. Commits are durable, and checkpoints are triggered by time rather than by WAL size.
pub(crate) const SETTINGS: [(&str, &str); 9] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "512MB"),
    ("max_wal_size", "4GB"),
    ("min_wal_size", "1GB"),
    ("effective_cache_size", "4GB"),
    ("random_page_cost", "1.1"),
    ("autovacuum", "on"),
];
/// Where Debian installs the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Users to run Postgres as, in order of preference, if this test runs as root, which Postgres refuses.
const OWNERS: [&str; 2] = ["postgres", "nobody"];
/// Name of the database superuser.
const USER: &str = "postgres";
/// How long it may take to start, and to stop after a last checkpoint.
const START_SECONDS: f64 = 60.0;
const STOP_SECONDS: f64 = 120.0;
/// `f_type` of a file system in memory.
const TMPFS: i64 = 0x0102_1994;

/// A running or paused Postgres. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Postgres {
    programs: PathBuf,
    /// Directory for logs.
    directory: PathBuf,
    data: PathBuf,
    owner: Option<(u32, u32)>,
    cores: Cores,
    address: SocketAddr,
    program: Option<Program>,
    /// Version, as Postgres prints it.
    pub version: String,
}

impl Postgres {
    /// Creates a cluster inside `directory` and starts it on some cores.
    ///
    /// # Errors
    /// [`Error::Answer`] if Postgres is not installed or fails, [`Error::Flag`] for a directory that its
    /// user cannot reach.
    pub(crate) fn start(directory: &Path, cores: &Cores, interrupt: &Interrupt) -> Result<Self> {
        let programs = programs()?;
        let home = directory.join("postgres");
        fs::create_dir_all(&home).context(&format!("making {}", home.display()))?;
        let owner = owner()?;
        if let Some((user, group)) = owner {
            refuse_closed(&home)?;
            chown(&home, Some(user), Some(group)).context("giving Postgres its directory")?;
        }
        let mut postgres = Self {
            data: home.join("data"),
            programs,
            directory: directory.to_owned(),
            owner,
            cores: cores.clone(),
            address: free_address()?,
            program: None,
            version: String::new(),
        };
        postgres.make_cluster()?;
        postgres.wake(interrupt)?;
        Ok(postgres)
    }

    fn make_cluster(&self) -> Result<()> {
        let made = self
            .command("initdb")
            .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"])
            .args(["--username", USER, "--pgdata"])
            .arg(&self.data)
            .stdin(Stdio::null())
            .output()
            .context("running initdb")?;
        if made.status.success() {
            return Ok(());
        }
        let answer = String::from_utf8_lossy(&made.stderr).into_owned();
        Err(Error::Answer { what: "initdb failed".to_owned(), answer })
    }

    /// Starts it again after [`rest`](Self::rest), at its old address.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the end of its log when it does not come up.
    pub(crate) fn wake(&mut self, interrupt: &Interrupt) -> Result<()> {
        if self.program.is_some() {
            return Ok(());
        }
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.data);
        let own = [
            ("listen_addresses", self.address.ip().to_string()),
            ("port", self.address.port().to_string()),
            ("unix_socket_directories", String::new()),
        ];
        let set = SETTINGS.iter().map(|(name, value)| (*name, (*value).to_owned()));
        for (name, value) in own.into_iter().chain(set) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let (mut program, _) = on_cores(&self.cores, "postgres-cores", || {
            Program::spawn(command, "postgres", &self.directory)
        })?;
        let mut session = None;
        interrupt.wait_until(START_SECONDS, || {
            session = Sql::connect(&self.url(USER)).ok();
            Ok(session.is_some() || program.has_ended())
        })?;
        let session = session.ok_or_else(|| Error::Timeout {
            what: "the start of Postgres".to_owned(),
            seconds: 60,
            detail: program.log_end(),
        })?;
        self.version = session.setting("server_version")?;
        self.program = Some(program);
        Ok(())
    }

    /// Stops it and keeps its data.
    ///
    /// # Errors
    /// [`Error::Interrupted`]. If it does not stop in time, it is killed.
    pub(crate) fn rest(&mut self, interrupt: &Interrupt) -> Result<()> {
        let Some(mut program) = self.program.take() else { return Ok(()) };
        ask_to_stop(&program);
        interrupt.wait_until(STOP_SECONDS, || Ok(program.has_ended())).map(drop)
    }

    /// Recreates a database, empty, after a checkpoint that flushes what other databases wrote.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) fn fresh_database(&self, name: &str) -> Result<String> {
        let session = Sql::connect(&self.url(USER))?;
        session.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        session.run(&format!("CREATE DATABASE {name}"))?;
        session.run("CHECKPOINT")?;
        Ok(self.url(name))
    }

    /// The address of a database.
    #[must_use]
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@{}/{database}", self.address)
    }

    /// Process id of the postmaster.
    #[must_use]
    pub(crate) fn pid(&self) -> i32 {
        self.program.as_ref().map_or(0, Program::pid)
    }

    /// A one-line description.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let settings: Vec<String> =
            SETTINGS.iter().map(|(name, value)| format!("{name} {value}")).collect();
        format!(
            "Postgres {} on cores {} in {}: {}",
            self.version,
            self.cores,
            self.data.display(),
            settings.join(", ")
        )
    }

    /// A command for one of its programs, run as its user and in its directory.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.env("LC_ALL", "C").current_dir(self.data.parent().unwrap_or(&self.data));
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // However the test ends, allow a last checkpoint.
        if let Some(program) = &mut self.program {
            ask_to_stop(program);
            program.wait_for_end(STOP_SECONDS);
        }
    }
}

/// Requests a fast shutdown, which does not wait for clients.
fn ask_to_stop(program: &Program) {
    if let Some(pid) = Pid::from_raw(program.pid()) {
        let _ = kill_process(pid, Signal::INT);
    }
}

/// The directory of `initdb` and `postgres`: on the `PATH`, or of the newest installed version.
fn programs() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(VERSIONS)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    folders.extend(versions.into_iter().rev().map(|(_, folder)| folder));
    let has_both =
        |folder: &PathBuf| ["initdb", "postgres"].iter().all(|p| folder.join(p).exists());
    folders.into_iter().find(has_both).ok_or_else(|| Error::Answer {
        what: format!("Postgres is neither on the PATH nor in {VERSIONS}"),
        answer: "on Debian: apt-get install postgresql".to_owned(),
    })
}

/// User and group for Postgres; `None` if this test does not run as root.
fn owner() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let owner = OWNERS.iter().find_map(|name| ids_of(&users, name));
    owner.map(Some).ok_or_else(|| Error::Answer {
        what: "root cannot run Postgres, and there is no other user for it".to_owned(),
        answer: "make a user named postgres".to_owned(),
    })
}

fn ids_of(users: &str, name: &str) -> Option<(u32, u32)> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut ids = line.split(':').skip(2);
    Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
}

/// Checks that a user other than root can reach a directory.
fn refuse_closed(directory: &Path) -> Result<()> {
    const OTHERS_MAY_ENTER: u32 = 0o001;
    for above in directory.ancestors().skip(1).filter(|above| above.as_os_str() != "") {
        let mode = fs::metadata(above).context(&format!("looking at {}", above.display()))?.mode();
        if mode & OTHERS_MAY_ENTER == 0 {
            return Err(Error::Flag {
                flag: "directory",
                value: directory.display().to_string(),
                allowed: format!(
                    "the user that runs Postgres may not enter {}; give a directory that all may \
                     enter, or run this test as somebody else than root",
                    above.display()
                ),
            });
        }
    }
    Ok(())
}

/// Refuses a directory in memory: a sync is free there, so figures mean nothing.
///
/// # Errors
/// [`Error::Flag`].
pub(crate) fn refuse_memory(directory: &Path) -> Result<()> {
    let system = rustix::fs::statfs(directory).context("looking at the file system")?;
    if system.f_type == TMPFS {
        return Err(Error::Flag {
            flag: "directory",
            value: directory.display().to_string(),
            allowed: "it is in memory; a directory on a disk is needed".to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let users =
            "root:x:0:0::/root:/bin/sh\npostgres2:x:7:8::/:/x\npostgres:x:101:104:P,,:/:/x\n";
        assert_eq!(ids_of(users, "postgres"), Some((101, 104)));
        assert_eq!(ids_of(users, "nobody"), None);
    }
}
