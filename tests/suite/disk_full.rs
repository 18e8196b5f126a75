//! The server's disk is full: new orders are refused, cancels and fills continue, and it recovers by
//! itself. On a real file system mounted for this test.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::small_disk::{fill_up_to, free_bytes, with_small_disk};
use crate::support::{Exchange, Server, api, run};
use serde_json::{Value, json};
use ureq::http::Request;

/// Options of the file system, a tmpfs.
const SIZE: &str = "size=160m,mode=0755";
/// Small segments, several of which are used up while the disk is full, and a reserve.
const SETTINGS: [&str; 6] =
    ["--wal-segment-mib", "1", "--wal-keep-mib", "0", "--disk-reserve-mib", "16"];
const RESERVE_BYTES: u64 = 16 << 20;
/// Batches that surely fit a segment of 1 MiB.
const SEGMENT_BATCHES: u64 = 255;
/// Takes long to fill: the prints of the tape have a few hundred shares each.
const MANY_SHARES: u64 = 5_000_000;

#[test]
fn cancels_and_fills_go_on_from_the_reserve_and_orders_once_there_is_room() {
    let name = "cancels_and_fills_go_on_from_the_reserve_and_orders_once_there_is_room";
    with_small_disk(name, SIZE, cancels_and_fills_go_on);
}

fn cancels_and_fills_go_on(disk: &Path) {
    let (data, ballast) = (disk.join("data"), disk.join("ballast"));
    let books = tempfile::tempdir().unwrap();
    let exchange = Exchange::start(books.path(), &["--speed", "20"]);
    let mut settings = SETTINGS.to_vec();
    settings.extend(["--exchange", &exchange.address]);
    let server = Server::start(&data, &settings);
    api::until("the reserve", || {
        (server.metric("log_reserve_bytes") == RESERVE_BYTES).then_some(())
    });
    let alice = server.user(&data, "alice");
    let resting: Vec<String> = (0..400).map(|_| id_of(&alice.place_resting("IBM"))).collect();
    let market = json!({"position": "buy", "symbol": "SPY", "numShares": MANY_SHARES});
    let filling = id_of(&alice.post("/order", &market).body);
    let keyed = json!({"position": "buy", "symbol": "SPY", "numShares": MANY_SHARES,
                       "clientOrderId": "again"});
    let first = alice.post("/order", &keyed);
    assert!(matches!(first.status, 201 | 202), "{}", first.text);

    // In two steps, so that records are usually written in between.
    fill_up_to(&ballast, RESERVE_BYTES / 2);
    let ready = await_readiness(&server, 503);
    assert_eq!(failing(&ready), ["disk"], "{ready}");
    assert!(ready["reasons"]["disk"].as_str().unwrap().contains("the disk is full"), "{ready}");
    api::until("the metric", || (server.metric("disk_full") == 1).then_some(()));
    let more = disk.join("more");
    fill_up_to(&more, 0);
    let refused = alice.post("/order", &market);
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("disk_full")));
    assert_eq!(refused.headers["retry-after"], "1");
    let again = alice.post("/order", &keyed);
    assert_eq!(again.status, 200, "it is there and needs no room: {}", again.text);
    assert_eq!(again.order()["orderId"], first.order()["orderId"]);

    // An operator can still halt trading.
    let halt = |all: bool| {
        let request = Request::put(format!("{}/kill-switch", server.admin));
        let body = json!({ "all": all }).to_string().into_bytes();
        api::send(request.body(body).unwrap()).unwrap()
    };
    let halted = halt(true);
    assert_eq!((halted.status, &halted.body["all"]), (200, &json!(true)), "{}", halted.text);
    assert_eq!(halted.body["durable"], false, "{}", halted.text);
    let warning = halted.body["warning"].as_str().unwrap();
    assert!(warning.contains("free space on the disk"), "{warning}");
    assert_eq!(alice.post("/order", &market).body["code"], "trading_halted");
    assert_eq!(halt(false).status, 200);

    // More than the open and prepared segments hold, so it uses the reserve.
    let (events, before) = (server.metric("orders_events_total"), shares_of(&alice, &filling));
    for id in &resting {
        let cancel = alice.delete(&format!("/order/{id}"));
        assert_eq!((cancel.status, &cancel.body), (200, &json!({"ok": true})), "{}", cancel.text);
    }
    api::until("more than two segments", || {
        (server.metric("orders_events_total") > events + 3 * SEGMENT_BATCHES).then_some(())
    });
    assert!(server.metric("log_reserve_bytes") < RESERVE_BYTES);
    api::until("fills", || (shares_of(&alice, &filling) > before).then_some(()));
    assert_eq!(free_bytes(disk), 0, "none of this was free room");
    assert_eq!(await_readiness(&server, 503)["checks"]["index"], true, "it holds still, unharmed");
    assert_eq!(server.metric("index_failures_total"), 0);
    let seen = versions(&alice);

    // After a kill it continues on the full disk.
    server.program.kill();
    let server = Server::start_unready(&data, &settings);
    let alice = server.user(&data, "alice");
    // The feed is not up yet in the first moments.
    api::until("only the disk to fail", || {
        (failing(&await_readiness(&server, 503)) == ["disk"]).then_some(())
    });
    assert_none_older(&seen, &versions(&alice));
    let seen = versions(&alice);

    for file in [&ballast, &more] {
        std::fs::remove_file(file).unwrap();
    }
    await_readiness(&server, 200);
    api::until("the reserve", || {
        (server.metric("log_reserve_bytes") == RESERVE_BYTES).then_some(())
    });
    let taken = alice.post("/order", &market);
    assert!(matches!(taken.status, 201 | 202), "{}", taken.text);
    let taken = id_of(&taken.body);
    let recorded = server.metric("index_position") + server.metric("index_lag_records");
    api::until("the store to follow", || {
        (server.metric("index_position") >= recorded).then_some(())
    });

    server.program.kill();
    let server = Server::start(&data, &settings);
    let now = versions(&server.user(&data, "alice"));
    assert_none_older(&seen, &now);
    assert!(now.contains_key(&taken));
}

fn id_of(order: &Value) -> String {
    order["orderId"].as_str().unwrap().to_owned()
}

fn shares_of(client: &api::Client, id: &str) -> u64 {
    client.order(id)["filledShares"].as_u64().unwrap()
}

fn await_readiness(server: &Server, status: u16) -> Value {
    api::until(&format!("readiness to be {status}"), || {
        let answer = api::get_anonymously(&format!("{}/readyz", server.admin))?;
        (answer.status == status).then_some(answer.body)
    })
}

/// Names of the checks that fail.
fn failing(ready: &Value) -> Vec<&str> {
    let checks = ready["checks"].as_object().unwrap();
    checks.iter().filter(|(_, is_right)| **is_right == false).map(|(name, _)| &**name).collect()
}

/// The version of each order of a user.
fn versions(client: &api::Client) -> BTreeMap<String, u64> {
    let orders = client.all_orders();
    orders.iter().map(|order| (id_of(order), order["version"].as_u64().unwrap())).collect()
}

fn assert_none_older(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) {
    for (id, version) in before {
        assert!(
            now.get(id).is_some_and(|now| now >= version),
            "{id} had version {version}: {now:?}"
        );
    }
}

#[test]
fn a_start_without_room_says_how_much_is_needed_and_which_settings_need_it() {
    let name = "a_start_without_room_says_how_much_is_needed_and_which_settings_need_it";
    with_small_disk(name, "size=40m,mode=0755", start_without_room);
}

fn start_without_room(disk: &Path) {
    let data = disk.join("data");
    let any = "127.0.0.1:0";
    let arguments = ["serve", "--listen", any, "--admin-listen", any, "--data-dir"];
    let output = run(&[&arguments[..], &[data.to_str().unwrap()]].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    for part in ["64 MiB (--wal-segment-mib)", "(--disk-reserve-mib)", "for 320 MiB more"] {
        assert!(error.contains(part), "{part} is missing: {error}");
    }
}
