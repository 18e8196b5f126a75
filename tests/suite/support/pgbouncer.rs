//! PgBouncer in front of a Postgres.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::Program;
use super::ports::free_port;
use super::postgres::{Database, Postgres, unprivileged_user};

/// A running PgBouncer.
pub(crate) struct PgBouncer {
    /// The database that it connects to.
    pub database: Database,
    _program: Program,
    _folder: TempDir,
}

impl PgBouncer {
    /// Starts one with this `pool_mode` and extra settings, one per line.
    pub(crate) fn start(postgres: &Postgres, pool_mode: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (host, to) = postgres.address().split_once(':').map(own).expect("host and port");
        let own_port = free_port();
        let config = format!(
            "[databases]\n* = host={host} port={to} user=longbow\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {own_port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {pool_mode}\n{more}\n"
        );
        let path = folder.path().join("pgbouncer.ini");
        std::fs::write(&path, config).expect("a file in a temporary folder");
        let mut command = Command::new("/usr/sbin/pgbouncer");
        command.arg(&path).current_dir("/");
        if let Some((user, group)) = unprivileged_user() {
            // It refuses to run as root.
            for path in [folder.path(), Path::new(&path)] {
                std::os::unix::fs::chown(path, Some(user), Some(group)).expect("root may do this");
            }
            command.uid(user).gid(group);
        }
        let program = Program::spawn(command);
        program.await_error("process up");
        let url = format!("postgres://longbow@127.0.0.1:{own_port}/longbow");
        Self { database: Database { url }, _program: program, _folder: folder }
    }
}

fn own((host, port): (&str, &str)) -> (String, String) {
    (host.to_owned(), port.to_owned())
}
