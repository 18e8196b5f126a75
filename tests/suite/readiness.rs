//! Readiness names each problem exactly as long as it lasts.

use std::fs;
use std::path::Path;

use crate::support::small_disk::with_small_disk;
use crate::support::{Exchange, Server, api};
use serde_json::json;

/// Waits until this check fails, and returns its reason; dependent checks may fail as well.
fn await_failing(server: &Server, wanted: &str) -> String {
    api::until(&format!("{wanted} to fail"), || {
        let answer = api::get_anonymously(&format!("{}/readyz", server.admin))?;
        let reason = answer.body.get("reasons")?.get(wanted)?.as_str()?.to_owned();
        let check = answer.body.get("checks")?.get(wanted)?;
        assert_eq!((answer.status, check), (503, &json!(false)), "{}", answer.text);
        Some(reason)
    })
}

/// Waits until nothing fails.
fn await_ready(server: &Server) {
    api::until("the server to be ready", || {
        let answer = api::get_anonymously(&format!("{}/readyz", server.admin))?;
        (answer.status == 200 && answer.body.get("reasons") == Some(&json!({}))).then_some(())
    });
}

fn order_is_refused(server: &Server, data: &Path) {
    let order = json!({"position": "buy", "symbol": "IBM", "numShares": 1});
    let refused = server.user(data, "alice").post("/order", &order);
    assert_eq!((refused.status, refused.body.get("code")), (503, Some(&json!("disk_full"))));
}

#[test]
fn a_silent_feed_is_named_until_it_speaks() {
    let (data, books) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let exchange = Exchange::start(books.path(), &[]);
    let server = Server::start(data.path(), &["--exchange", &exchange.address]);
    exchange.program.freeze();
    assert!(await_failing(&server, "feed").contains("the exchange's feed is down"));
    exchange.program.thaw();
    await_ready(&server);
}

#[test]
fn a_log_that_is_not_where_it_was_is_named_until_it_is_back() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let resting = server.user(data.path(), "alice").place_resting("IBM");
    let (wal, aside) = (data.path().join("wal"), data.path().join("aside"));
    fs::rename(&wal, &aside).unwrap();
    assert!(await_failing(&server, "disk").contains("is gone"));
    order_is_refused(&server, data.path());
    // Cancels still work.
    let id = resting.get("orderId").unwrap().as_str().unwrap();
    let cancelled = server.user(data.path(), "alice").delete(&format!("/order/{id}"));
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    fs::rename(&aside, &wal).unwrap();
    await_ready(&server);
    server.user(data.path(), "alice").place_resting("IBM");
}

#[test]
fn a_disk_without_room_for_another_file_is_named_until_one_is_removed() {
    let name = "a_disk_without_room_for_another_file_is_named_until_one_is_removed";
    with_small_disk(name, "size=512m,nr_inodes=1000,mode=0755", |disk| {
        let data = disk.join("data");
        let server = Server::start(&data, &["--disk-reserve-mib", "16"]);
        let files = disk.join("files");
        fs::create_dir(&files).unwrap();
        for number in 0.. {
            if fs::write(files.join(number.to_string()), "").is_err() {
                break;
            }
        }
        assert!(await_failing(&server, "disk").contains("inodes"));
        order_is_refused(&server, &data);
        fs::remove_dir_all(&files).unwrap();
        await_ready(&server);
    });
}
