//! A wall clock that a test sets with libfaketime, only for the program under test and without
//! affecting its other clocks.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian's package `faketime` installs the library, by architecture.
const PLACES: [&str; 2] = ["/usr/lib", "/usr/local/lib"];
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A wall clock whose offset from the true one is in a file.
pub(crate) struct WallClock {
    offset: PathBuf,
}

impl WallClock {
    /// A clock that shows the right time.
    pub(crate) fn new(directory: &Path) -> Self {
        let clock = Self { offset: directory.join("wall-clock") };
        clock.set(0);
        clock
    }

    /// Sets its offset in seconds from the true time.
    pub(crate) fn set(&self, seconds: i64) {
        // Atomically: the program may read at any moment.
        let new = self.offset.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}s\n")).expect("a file of the test");
        std::fs::rename(new, &self.offset).expect("a file of the test");
    }

    /// Makes a program see this clock.
    pub(crate) fn show(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", library());
        command.env("FAKETIME_TIMESTAMP_FILE", &self.offset);
        command.env("FAKETIME_NO_CACHE", "1");
        // The monotonic clock stays true.
        command.env("DONT_FAKE_MONOTONIC", "1");
        command
    }
}

fn library() -> PathBuf {
    let of_architectures = PLACES.iter().flat_map(std::fs::read_dir).flatten().flatten();
    let found = of_architectures.map(|entry| entry.path().join(LIBRARY)).find(|at| at.exists());
    found.expect("libfaketime is here; scripts/install-test-tools installs it")
}
