//! The disk of the simulated exchange is full: it stands still, goes on by itself, and ends nobody.
//! On a real file system mounted for this test.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::path::Path;

use crate::support::small_disk::{fill_up_to, with_small_disk};
use crate::support::{Exchange, Server, api};
use serde_json::json;

const SETTINGS: [&str; 8] =
    ["--speed", "20", "--wal-segment-mib", "1", "--wal-keep-mib", "0", "--disk-reserve-mib", "16"];

#[test]
fn a_simulated_exchange_whose_disk_is_full_stands_still_and_goes_on() {
    let name = "a_simulated_exchange_whose_disk_is_full_stands_still_and_goes_on";
    with_small_disk(name, "size=160m,mode=0755", stands_still_and_goes_on);
}

fn stands_still_and_goes_on(disk: &Path) {
    let (data, ballast) = (disk.join("data"), disk.join("ballast"));
    let server = Server::start(&data, &SETTINGS);
    let alice = server.user(&data, "alice");
    let market = json!({"position": "buy", "symbol": "SPY", "numShares": 5_000_000});
    let ids: Vec<String> = (0..20)
        .map(|_| alice.post("/order", &market).body["orderId"].as_str().unwrap().to_owned())
        .collect();
    let filled =
        || -> u64 { ids.iter().map(|id| alice.order(id)["filledShares"].as_u64().unwrap()).sum() };
    api::until("fills", || (filled() > 0).then_some(()));

    fill_up_to(&ballast, 0);
    let line = server.program.await_error("stands still until its journal can be written");
    assert!(line.contains("No space left"), "{line}");
    let ready = api::get_anonymously(&format!("{}/healthz", server.admin)).unwrap();
    assert_eq!(ready.status, 200, "the server lives");

    std::fs::remove_file(&ballast).unwrap();
    server.program.await_error("its journal can be written again");
    let before = filled();
    api::until("more fills", || (filled() > before).then_some(()));
    api::until("orders are taken", || (alice.post("/order", &market).status == 201).then_some(()));

    // Nothing of the journal is lost or torn.
    let before = filled();
    server.program.kill();
    let server = Server::start(&data, &SETTINGS);
    let alice = server.user(&data, "alice");
    let filled: u64 = ids.iter().map(|id| alice.order(id)["filledShares"].as_u64().unwrap()).sum();
    assert!(filled >= before, "{filled} after {before}");
    assert_eq!(server.metric("orders_open_cases"), 0);
}

#[test]
fn all_orders_are_listed_after_an_empty_id() {
    let data = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(data.path(), &[]);
    let list = |query: &str| {
        api::get_anonymously(&format!("{}/admin/orders{query}", exchange.address)).unwrap()
    };
    assert_eq!((list("?after=").status, list("?after=").body), (200, list("").body));
    assert_eq!(list("?after=a%20b").status, 400);
}
