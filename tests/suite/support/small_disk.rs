//! A small tmpfs that only the test sees and that fills quickly.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in the inner run of a test.
const INSIDE: &str = "TEST_IN_OWN_MOUNTS";
/// The mount point in the test's folder, and the file that proves the inner run.
const DISK: &str = "disk";
const RAN: &str = "ran";

/// Reruns the named test in its own mount namespace, and passes it an empty tmpfs with these options,
/// such as `size=256m,mode=0755`.
pub(crate) fn with_small_disk(name: &str, options: &str, test: impl FnOnce(&Path)) {
    match std::env::var_os(INSIDE) {
        None => run_inside(name),
        Some(folder) => {
            let disk = PathBuf::from(&folder).join(DISK);
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&disk);
            assert!(mount.status().expect("mount runs").success(), "{mount:?}");
            std::fs::write(Path::new(&folder).join(RAN), "").expect("a file");
            test(&disk);
        }
    }
}

fn run_inside(name: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join(DISK)).expect("a folder");
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    command.arg("--mount").arg(std::env::current_exe().expect("this program"));
    // The filter matches the end of the test's name.
    command.args([name, "--nocapture"]).env(INSIDE, folder.path());
    let status = command.status().expect("unshare runs");
    assert!(
        status.success(),
        "{status}. If it could not mount: run it as root, or allow user namespaces"
    );
    assert!(folder.path().join(RAN).exists(), "no test has the name {name}");
}

/// Writes a file until the disk is full.
pub(crate) fn fill(path: &Path) {
    fill_up_to(path, 0);
}

/// Writes a file until only `left_bytes` are free.
pub(crate) fn fill_up_to(path: &Path, left_bytes: u64) {
    let mut file = std::fs::File::create(path).expect("a file");
    // Large pieces first, and then the last page.
    for bytes in [1024 * 1024, 4096] {
        let piece = vec![1; bytes];
        while left_bytes == 0 || free_bytes(path) >= left_bytes + bytes as u64 {
            match file.write(&piece) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Free bytes on the file system of a path.
pub(crate) fn free_bytes(path: &Path) -> u64 {
    let disk = rustix::fs::statvfs(path).expect("a file system");
    disk.f_bavail * disk.f_frsize
}
