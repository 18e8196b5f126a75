//! The programs of an installed Postgres, and their data directory.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Content, DATABASE, USER, template};

/// The data directory in a server's folder.
pub(super) const DATA: &str = "data";

/// Where Postgres is installed, where its data are, and the user that it runs as.
pub(super) struct Program {
    bin: PathBuf,
    pub(super) data: PathBuf,
    /// Postgres refuses to run as root.
    user: Option<(u32, u32)>,
}

impl Program {
    /// Finds Postgres and creates a data directory in this folder.
    pub(super) fn prepare(folder: &Path, content: Content) -> Self {
        let program = Self::new(folder);
        match content {
            Content::Bare => program.copy_bare(),
            Content::Tables => copy(&template::with_tables(&program), &program.data),
        }
        program
    }

    fn new(folder: &Path) -> Self {
        let program = Self { bin: find_bin(), data: folder.join(DATA), user: unprivileged_user() };
        program.own(folder);
        program
    }

    /// Copies a server that runs into this folder, as a standby of it.
    pub(super) fn copy_running(folder: &Path, address: &str, user: &str) -> Self {
        let program = Self::new(folder);
        let (host, port) = address.rsplit_once(':').expect("host:port");
        let mut command = program.command("pg_basebackup");
        command.arg("-D").arg(&program.data).args(["--write-recovery-conf", "--no-sync"]);
        command.args(["--checkpoint=fast", "--host", host, "--port", port, "--username", user]);
        expect_success(command);
        program
    }

    pub(super) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        // `PG` variables of the environment must not reach this server, and its user may not have
        // access to the tests' directory.
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

    /// Copies the data directory of an empty server, made once.
    fn copy_bare(&self) {
        let template = template::made_once(&format!("{}-bare", self.kind()), |folder| {
            let program = Self::new(folder);
            program.init();
            program.single_user("postgres", &[&format!("CREATE DATABASE {DATABASE}")]);
        });
        copy(&template, &self.data);
    }

    /// The version, and whose the files are: only their owner can read them.
    pub(super) fn kind(&self) -> String {
        let output = self.command("postgres").arg("--version").output().expect("it runs");
        let version = String::from_utf8_lossy(&output.stdout);
        let version = version.split_whitespace().nth(2).unwrap_or("unknown").to_owned();
        format!("postgres-{version}-of-{}", rustix::process::geteuid().as_raw())
    }

    fn init(&self) {
        let mut command = self.command("initdb");
        command.arg("-D").arg(&self.data).args(["-U", USER, "--auth=trust", "--no-sync"]);
        command.args(["--encoding=UTF8", "--locale=C", "--no-instructions"]);
        expect_success(command);
    }

    /// Runs statements in single-user mode, which needs no port.
    pub(super) fn single_user(&self, database: &str, statements: &[&str]) {
        let mut command = self.command("postgres");
        command.arg("--single").arg("-D").arg(&self.data).arg(database).stdin(Stdio::piped());
        command.stdout(Stdio::null());
        let mut process = command.spawn().expect("it runs");
        let mut input = process.stdin.take().expect("its input is piped");
        for statement in statements {
            writeln!(input, "{statement}").expect("it reads");
        }
        drop(input);
        assert!(process.wait().expect("it ends").success(), "{statements:?} failed");
    }
}

/// Copies with owners and modes, which Postgres checks.
pub(super) fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    command.arg("-a").arg(from).arg(to);
    expect_success(command);
}

fn expect_success(mut command: Command) {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The programs of Postgres: those on the path, otherwise the newest ones installed by Debian.
fn find_bin() -> PathBuf {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&on_path)
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists());
    if let Some(folder) = found {
        // The link leads to the folder of the other files.
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

/// The user for Postgres if the tests run as root: user and group `postgres`, otherwise `nobody`.
pub(crate) fn unprivileged_user() -> Option<(u32, u32)> {
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
