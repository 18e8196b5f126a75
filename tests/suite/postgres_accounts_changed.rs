//! Accounts changed by hand: `longbow verify` names each, and `--repair` and `backfill` bring them back.

use crate::offline::{assert_agree, assert_differ, succeed};
use crate::support::money::{CASH, assert_balanced, fill};
use crate::support::postgres::{Postgres, await_caught_up};
use crate::support::{Server, run};

#[test]
fn changed_rows_of_accounts_are_found_and_repaired() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let settings = [&CASH[..], &["--postgres", url, "--migrate", "--speed", "20"]].concat();
    let server = Server::start(data.path(), &settings);
    for user in ["alice", "bob", "carol"] {
        fill(&server.user(data.path(), user), "buy", 3);
    }
    await_caught_up(&server, data.path(), url);
    let live = || run(&["verify", "--data-dir", data.path().to_str().unwrap(), "--postgres", url]);
    assert!(live().status.success(), "{}", String::from_utf8_lossy(&live().stdout));
    database.sql(
        "UPDATE accounts SET cash_cents = cash_cents + 5, deposited_cents = deposited_cents + 5 \
            WHERE user_id = 'alice'; \
         UPDATE positions SET shares = 4 WHERE user_id = 'bob'; \
         DELETE FROM accounts WHERE user_id = 'carol'; \
         UPDATE executions SET profit_cents = 1 \
            WHERE order_id = (SELECT order_id FROM executions WHERE user_id = 'bob' LIMIT 1)",
    );
    let said = String::from_utf8_lossy(&live().stdout).into_owned();
    assert!(said.contains("account of user alice: cash_cents"), "beside the server: {said}");
    assert!(server.program.stop().success());
    let expected: [&[&str]; 8] = [
        &["account of user alice: cash_cents"],
        &["account of user alice: deposited_cents"],
        &["account of user bob: shares of IBM", "has 3", "has 4"],
        &["account of user carol: account", "has it", "has none"],
        &["order", "bob", "profit"],
        &["trial balance", ": cash: "],
        &["trial balance", ": clearing: "],
        &["trial balance", ": shares of IBM: "],
    ];
    assert_differ(data.path(), url, &expected);
    let repair = ["verify", "--repair", "--data-dir", data.path().to_str().unwrap()];
    let repaired = run(&[&repair[..], &["--postgres", url]].concat());
    assert!(repaired.status.success(), "{}", String::from_utf8_lossy(&repaired.stdout));
    assert_agree(data.path(), url);
    assert_balanced(&database);

    // As a copy that was cut short leaves it.
    database.sql("UPDATE projection SET keeps_accounts = false WHERE is_current");
    let server = Server::start(data.path(), &settings);
    await_caught_up(&server, data.path(), url);
    server.program.await_error("accounts do not follow");
    assert!(server.program.stop().success());
    assert_differ(data.path(), url, &[&["accounts do not follow", "longbow backfill"]]);
    database.sql("DELETE FROM accounts; DELETE FROM positions");
    succeed("backfill", data.path(), url);
    assert_agree(data.path(), url);
    let server = Server::start(data.path(), &settings);
    fill(&server.user(data.path(), "carol"), "sell", 2);
    await_caught_up(&server, data.path(), url);
    assert!(server.program.stop().success());
    assert_agree(data.path(), url);
}
