//! Rot in the log stops the start with the name of a command, and that command says where it is.

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use support::{Server, run};

#[test]
fn rot_is_refused_at_the_start_and_shown_by_the_command_that_the_error_names() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_str().unwrap();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    for _ in 0..5 {
        alice.place_resting("IBM");
    }
    server.program.kill();

    let sound = run(&["wal", "verify", "--data-dir", dir]);
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stdout));

    // One byte of the first batch, which batches that were synced later follow.
    let first_segment = fs::read_dir(data.path().join("wal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .min()
        .unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&first_segment).unwrap();
    let (offset, mut byte) = (4096 + 60, [0]);
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();

    let listen = "127.0.0.1:0";
    let refused = run(&["serve", "--listen", listen, "--admin-listen", listen, "--data-dir", dir]);
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(error.contains("damaged") && error.contains("longbow wal verify"), "{error}");

    let rotten = run(&["wal", "verify", "--data-dir", dir]);
    assert_eq!(rotten.status.code(), Some(1));
    let report = String::from_utf8(rotten.stdout).unwrap();
    let name = first_segment.file_name().unwrap().to_str().unwrap();
    assert!(report.contains(name) && report.contains("4096"), "{report}");

    let nothing = run(&["wal", "verify", "--data-dir", "/does/not/exist"]);
    let error = String::from_utf8(nothing.stderr).unwrap();
    assert!(!nothing.status.success() && error.contains("/does/not/exist"), "{error}");
}
