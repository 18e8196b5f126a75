//! What would mix up the users of a cluster is refused: a node with another exchange or other keys, and a
//! restore beside the nodes.

use crate::support::cluster::Cluster;
use crate::support::run;

#[test]
fn who_has_another_exchange_or_other_keys_does_not_join_and_nothing_is_restored() {
    let cluster = Cluster::start(&[]);
    let said = cluster.refusal(("--exchange", "http://127.0.0.1:9"));
    for expected in ["shares users", &cluster.exchange_address, "http://127.0.0.1:9", "--exchange"]
    {
        assert!(said.contains(expected), "{expected} is missing: {said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let keys = keys.to_str().unwrap();
    assert!(run(&["keys", "init", keys]).status.success());
    let said = cluster.refusal(("--keys", keys));
    assert!(said.contains("has other keys") && said.contains("--keys"), "{said}");

    let data = folder.path().join("restored");
    let data = data.to_str().unwrap();
    let output = run(&["restore", "--data-dir", data, "--postgres", &cluster.database.url]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("nodes need no restore"), "{said}");
    let left = std::fs::read_dir(data).unwrap().count();
    assert_eq!(left, 0, "the directory is as it was");
    assert_eq!(cluster.client("alice").place("key", Some(1)).status, 201, "all go on");
}
