//! `longbow restore`: an empty machine resumes from Postgres, and the replaced one is fenced off.

use crate::offline::{Traffic, assert_agree, command, id, keyed, market, succeed};
use crate::support::api::until;
use crate::support::events::EventStream;
use crate::support::postgres::{Postgres, assert_records_agree, await_caught_up};
use crate::support::{Exchange, Program, Server, run};
use serde_json::{Value, json};
use ureq::http::Method;

/// A stream of a user's orders, resumed after an id.
fn orders_of(address: &str, token: &str, last_id: Option<&str>) -> EventStream {
    let resume = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    EventStream::send(
        address,
        &format!(
            "GET /orders/stream HTTP/1.1\r\nHost: test\r\n\
             Authorization: Bearer {token}\r\n{resume}\r\n"
        ),
    )
}

#[test]
fn orders_come_back_on_another_machine_and_trading_goes_on() {
    let (data, venue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let exchange = Exchange::start(venue.path(), &["--speed", "5"]);
    let settings = ["--postgres", url, "--migrate", "--exchange", &exchange.address];
    let old = Server::start(data.path(), &settings);
    Traffic::of(&old, data.path(), (&exchange, "alice"));
    Traffic::of(&old, data.path(), (&exchange, "bob"));
    await_caught_up(&old, data.path(), url);
    let orders = |server: &Server, data: &std::path::Path, user: &str| -> Vec<Value> {
        server.user(data, user).all_orders()
    };
    let before = [orders(&old, data.path(), "alice"), orders(&old, data.path(), "bob")];
    let open = before.iter().flatten().filter(|order| order["status"] == "submitted").count();
    let resume = {
        let alice = old.user(data.path(), "alice");
        let mut stream = orders_of(&old.address, &alice.token, None);
        stream.await_event("the open orders", |event| event.id.is_some()).id
    };

    // The old server is still running, and is fenced off once the new one has taken over.
    let folder = tempfile::tempdir().unwrap();
    let fresh = folder.path().join("fresh/data");
    let said = succeed("restore", &fresh, url);
    // One more resting order shows how far Postgres had come.
    let all = before.iter().map(Vec::len).sum::<usize>() + 1;
    assert!(
        said.starts_with(&format!("restored {all} orders, {} of them open", open + 1)),
        "{said}"
    );
    let Server { mut program, .. } = old;
    program.await_error("written by another process");
    assert_eq!(program.wait().code(), Some(1));
    assert_agree(&fresh, url);

    let new = Server::start(&fresh, &settings);
    assert_eq!([orders(&new, &fresh, "alice"), orders(&new, &fresh, "bob")], before);
    let alice = new.user(&fresh, "alice");
    for order in &before[0] {
        assert_eq!(&alice.order(id(order)), order);
    }
    // A key still names the same order.
    let again = alice.post("/order", &keyed("resting"));
    let first = before[0].iter().find(|order| order["clientOrderId"] == "resting").unwrap();
    assert_eq!((again.status, &again.body), (200, first));
    let mut other = keyed("rejected");
    other["numShares"] = json!(6);
    assert_eq!(alice.post("/order", &other).status, 409);
    // Changes are numbered anew: a stream with an old number starts over.
    let mut stream = orders_of(&new.address, &alice.token, resume.as_deref());
    stream.await_event("to be told to start again", |event| event.name == "reset");

    // What rests there is still ours, and new orders are filled.
    assert_eq!(alice.delete(&format!("/order/{}", id(first))).status, 200);
    alice.await_status(id(first), "cancelled");
    market(&alice, "SPY", 200);
    new.user(&fresh, "bob").place_resting("IBM");
    assert_records_agree(new, &fresh, url);

    // The old machine must not come back either.
    let stranger = Server::start(data.path(), &settings);
    stranger.program.await_error("longbow restore");
}

#[test]
fn a_machine_at_work_is_shut_out_and_its_orders_are_reconciled_by_the_next() {
    let (data, venue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let exchange = Exchange::start(venue.path(), &["--speed", "5"]);
    let settings = ["--postgres", url, "--migrate", "--exchange", &exchange.address];
    let old = Server::start(data.path(), &settings);
    // They trade until nobody answers.
    let trade = |number: usize| {
        let client = old.user(data.path(), &format!("trader-{number}"));
        std::thread::spawn(move || {
            let limit =
                json!({"position": "buy", "symbol": "IBM", "numShares": 1, "priceInCents": 1});
            let market = json!({"position": "buy", "symbol": "SPY", "numShares": 1});
            for order in [limit, market].iter().cycle() {
                let body = order.to_string().into_bytes();
                if client.try_send(Method::POST, "/order", &body).is_none() {
                    break;
                }
            }
        })
    };
    let traders: Vec<_> = (0..4).map(trade).collect();
    until("some orders", || (database.number("SELECT count(*) FROM orders") > 200).then_some(()));

    let folder = tempfile::tempdir().unwrap();
    let said = succeed("restore", folder.path(), url);
    let orders = database.number("SELECT count(*) FROM orders");
    assert!(said.starts_with(&format!("restored {orders} orders")), "{said}");
    let Server { mut program, .. } = old;
    program.await_error("written by another process");
    assert_eq!(program.wait().code(), Some(1));
    traders.into_iter().for_each(|trader| trader.join().unwrap());
    assert_agree(folder.path(), url);

    let new = Server::start(folder.path(), &settings);
    let pending = "SELECT count(*) FROM orders WHERE status = 'pending'";
    until("what was under way to be reconciled", || (database.number(pending) == 0).then_some(()));
    market(&new.user(folder.path(), "trader-1"), "SPY", 200);
    assert_records_agree(new, folder.path(), url);
}

#[test]
fn a_restore_that_is_killed_has_taken_nothing_over_and_is_run_again() {
    let (data, venue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let exchange = Exchange::start(venue.path(), &["--speed", "5"]);
    let settings = ["--postgres", url, "--migrate", "--exchange", &exchange.address];
    let old = Server::start(data.path(), &settings);
    await_caught_up(&old, data.path(), url);

    // It cannot read until it is killed.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (blocker, connection) =
        runtime.block_on(tokio_postgres::connect(url, tokio_postgres::NoTls)).unwrap();
    let driver = runtime.spawn(connection);
    let block = "BEGIN; LOCK TABLE executions IN ACCESS EXCLUSIVE MODE";
    runtime.block_on(blocker.batch_execute(block)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let fresh = folder.path().to_str().unwrap();
    let restore = Program::start(&["restore", "--data-dir", fresh, "--postgres", url]);
    let waits = "SELECT count(*) FROM pg_locks \
        WHERE relation = 'executions'::regclass AND mode = 'AccessShareLock' AND NOT granted";
    database.await_number(waits, 1);
    let second = command("restore", folder.path(), Some(url));
    assert!(second.code == 1 && second.errors.contains("in use"), "{second:?}");
    restore.kill();
    drop(blocker);
    runtime.block_on(driver).unwrap().unwrap();

    // The old server has lost nothing, and continues.
    old.user(data.path(), "alice").place_resting("IBM");
    await_caught_up(&old, data.path(), url);
    assert_eq!(database.number("SELECT max(epoch) FROM projection"), 1);
    let serve = run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", fresh]);
    let errors = String::from_utf8(serve.stderr).unwrap();
    assert!(errors.contains("run `longbow restore"), "{errors}");
    assert!(command("verify", folder.path(), None).errors.contains("run `longbow restore"));

    let said = succeed("restore", folder.path(), url);
    assert!(said.starts_with("restored 3 orders, 3 of them open"), "{said}");
    assert_agree(folder.path(), url);
    let new = Server::start(folder.path(), &settings);
    assert_records_agree(new, folder.path(), url);
}

#[test]
fn what_is_there_is_never_overwritten_and_what_is_refused_leaves_nothing_behind() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let postgres = Postgres::start_bare();
    let database = postgres.database();
    let url = database.url.as_str();
    let fresh = folder.path().join("fresh");
    let refused = |expected: &[&str]| {
        let said = command("restore", &fresh, Some(url));
        assert_eq!((said.code, said.lines.len()), (1, 0), "{said:?}");
        for part in expected {
            assert!(said.errors.contains(part), "{part}: {}", said.errors);
        }
    };
    refused(&["longbow migrate"]);
    assert_eq!(run(&["migrate", "--postgres", url]).status.code(), Some(0));
    refused(&["no server has ever written to it", "check the address"]);
    assert_eq!(fresh.read_dir().unwrap().count(), 0, "what was refused leaves nothing behind");

    let server = Server::start(data.path(), &["--postgres", url]);
    let order = server.user(data.path(), "alice").place_resting("IBM");
    await_caught_up(&server, data.path(), url);
    server.program.kill();
    let said = succeed("restore", &fresh, url);
    assert!(said.starts_with("restored 2 orders, 2 of them open"), "{said}");
    assert_agree(&fresh, url);
    refused(&["is not empty", "\"index\""]);
    let epochs = "SELECT count(DISTINCT log_id) FROM projection";
    assert_eq!(database.number(epochs), 2, "what was refused has taken nothing over");

    // Servers with ranges restore their own users, and refuse others.
    let high = postgres.create("high");
    let ranges = format!("0-31={url},32-63={}", high.url);
    assert_eq!(run(&["migrate", "--postgres", &ranges]).status.code(), Some(0));
    let other = folder.path().join("other");
    let said = command("restore", &other, Some(&ranges));
    assert!(said.errors.contains("name the servers with the ranges"), "{} {order}", said.errors);
}
