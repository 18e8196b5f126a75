//! From a cluster back to one server: not with the data directory of a member, but with one that is restored
//! from Postgres.

use crate::support::cluster::{Cluster, id_of};
use crate::support::{Server, run};

#[test]
fn a_server_that_is_alone_refuses_the_directory_of_a_member_and_takes_a_restored_one() {
    let mut cluster = Cluster::start(&[]);
    let order = id_of(&cluster.client("alice").place("key", Some(1)));
    for number in 0..3 {
        assert!(cluster.take(number).program.stop().success());
    }
    let (postgres, exchange) = (cluster.database.url.clone(), cluster.exchange_address.clone());
    let settings = ["--postgres", &postgres, "--exchange", &exchange, "--commit", "postgres"];

    let of_member = cluster.data(0);
    let data = of_member.to_str().unwrap();
    let alone = ["serve", "--data-dir", data, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"];
    for more in [&settings[..], &settings[2..4], &[]] {
        let output = run(&[&alone[..], more].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        for expected in [data, "member of a cluster", "--redis", "longbow restore"] {
            assert!(said.contains(expected), "{expected} is missing: {said}");
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let restored = folder.path().join("restored");
    let data = restored.to_str().unwrap();
    let output = run(&["restore", "--data-dir", data, "--postgres", &postgres]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let server = Server::start(&restored, &settings);
    let alice = server.user(&restored, "alice");
    assert_eq!(alice.order(&order).get("status"), Some(&"submitted".into()));
    alice.place_resting("IBM");
}
