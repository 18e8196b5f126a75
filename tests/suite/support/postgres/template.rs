//! Data directories that are made once, and copied by the tests: to make one costs more than most tests.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::Postgres;
use super::program::{DATA, Program, copy};

/// A server with the tables, as `longbow migrate` of this build makes them.
pub(super) fn with_tables(program: &Program) -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_longbow"));
    let built = binary.metadata().and_then(|file| file.modified()).expect("it was built");
    let built = built.duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    let (kind, current) = (format!("{}-tables-", program.kind()), format!("built-{built}"));
    made_once(&format!("{kind}{current}"), |folder| {
        remove_of_other_builds(&kind, &current);
        let mut postgres = Postgres::start_bare_in(folder);
        let made = crate::support::run(&["migrate", "--postgres", &postgres.database().url]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        postgres.stop();
        // No test needs these, and most of a copy's time is the number of its files.
        let unused = [
            "DROP DATABASE postgres",
            "UPDATE pg_database SET datistemplate = false WHERE datname = 'template0'",
            "DROP DATABASE template0",
        ];
        postgres.program.single_user("template1", &unused);
    })
}

/// The data directory that is made in a given folder, by the first test that needs it.
pub(super) fn made_once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let template = templates().join(name);
    if !template.exists() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        make(folder.path());
        // Under a temporary name first, so that nobody finds half of it. Another test may have been
        // faster.
        let own = templates().join(format!("{name}-{}", std::process::id()));
        copy(&folder.path().join(DATA), &own);
        if std::fs::rename(&own, &template).is_err() {
            std::fs::remove_dir_all(&own).expect("our own copy");
        }
    }
    template
}

fn remove_of_other_builds(kind: &str, current: &str) {
    for entry in std::fs::read_dir(templates()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let build = name.to_str().and_then(|name| name.strip_prefix(kind));
        if build.is_some_and(|build| !build.starts_with(current)) {
            // Another test may be removing it as well.
            let _gone = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn templates() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
