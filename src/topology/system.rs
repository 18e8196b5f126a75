use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::http::OPERATOR_CONNECTIONS;
use crate::index::MAX_STORE_FILES;

/// What a thread-per-core executor locks of memory for its rings.
const NEEDED_MEMLOCK_BYTES: u64 = 512 * 1024;
/// Descriptors that are not streams: those of the process itself, and HTTP connections.
pub(super) const RESERVED_FILES: u64 = 1_000;
/// Fewest open files that make sense.
const NEEDED_FILES: u64 = RESERVED_FILES + FEWEST_CLIENTS;
const FEWEST_CLIENTS: u64 = 100;
/// Files of the process itself that do not depend on its threads: of the store up to 256, operators, log,
/// exchange, Postgres, Redis.
const OWN_FILES: u64 = MAX_STORE_FILES as u64 + 2 * OPERATOR_CONNECTIONS + 116;
/// Files of each executor: rings, event counters, listeners.
const FILES_PER_EXECUTOR: u64 = 16;
/// Executors beside the shards.
const OTHER_EXECUTORS: u64 = 2;
const _: () = assert!(OWN_FILES + (OTHER_EXECUTORS + 1) * FILES_PER_EXECUTOR < RESERVED_FILES);

/// What this machine does not allow and how to allow it.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// io_uring is switched off.
    #[error(
        "io_uring is disabled on this machine (kernel.io_uring_disabled is {value}): enable it with `sysctl kernel.io_uring_disabled=0`"
    )]
    IoUring {
        /// The setting.
        value: String,
    },
    /// Too little memory may be locked.
    #[error(
        "only {bytes} bytes of memory may be locked (RLIMIT_MEMLOCK): allow at least {NEEDED_MEMLOCK_BYTES}, with `ulimit -l 512` or LimitMEMLOCK=512K"
    )]
    Memlock {
        /// The limit.
        bytes: u64,
    },
    /// Too few files may be open.
    #[error(
        "only {files} files may be open (RLIMIT_NOFILE): allow at least {NEEDED_FILES}, with `ulimit -n` or LimitNOFILE"
    )]
    Files {
        /// The limit.
        files: u64,
    },
}

/// Checks what the process needs from the system, raises its limits as far as it may, and returns that
/// of open files.
///
/// # Errors
/// What is missing, in a sentence with the remedy.
pub(super) fn prepare() -> Result<u64, SystemError> {
    // Kernels before 6.6 have no such switch.
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    if disabled.trim() == "2" {
        return Err(SystemError::IoUring { value: disabled.trim().to_owned() });
    }
    // The executors look at the limit whoever the user is, also at that of root, who is above it.
    let bytes = raised(Resource::Memlock);
    if bytes < NEEDED_MEMLOCK_BYTES {
        return Err(SystemError::Memlock { bytes });
    }
    let files = raised(Resource::Nofile);
    if files < NEEDED_FILES { Err(SystemError::Files { files }) } else { Ok(files) }
}

/// How many connections clients may have, streams among them, so that clients never take the files that
/// the process needs: without a feed, the exchange or the disk nobody is served.
pub(super) fn client_connections(files: u64, shards: usize) -> u64 {
    let executors = OTHER_EXECUTORS.saturating_add(u64::try_from(shards).unwrap_or(u64::MAX));
    let own = OWN_FILES.saturating_add(executors.saturating_mul(FILES_PER_EXECUTOR));
    files.saturating_sub(own).max(FEWEST_CLIENTS)
}

/// A limit, raised as far as it may be.
fn raised(resource: Resource) -> u64 {
    let limit = getrlimit(resource);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // The old limit stays where raising it is not allowed.
    let _refused = setrlimit(resource, raised);
    getrlimit(resource).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_the_process_what_it_needs() {
        assert_eq!(client_connections(NEEDED_FILES, 2), NEEDED_FILES - 500 - 4 * 16);
        assert_eq!(client_connections(1_000_000, 64), 1_000_000 - 500 - 66 * 16);
        assert_eq!(client_connections(NEEDED_FILES, 1_000), FEWEST_CLIENTS, "some, at least");
    }
}
