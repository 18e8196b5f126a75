//! Dropped days of `order_events`: a function removes and records them, and `verify`, `restore` and the
//! views take them into account.

use crate::offline::{assert_agree, assert_differ, command, id, succeed};
use crate::support::postgres::{Postgres, await_caught_up};
use crate::support::{self, Server};

/// A number of days before today.
fn day(before: u32) -> String {
    format!("(now() AT TIME ZONE 'UTC')::date - {before}")
}

#[test]
fn a_function_drops_or_detaches_days_that_are_over() {
    let postgres = Postgres::start();
    let database = postgres.database();
    assert!(support::run(&["migrate", "--postgres", &database.url]).status.success());
    for before in 0..6 {
        database.sql(&format!(
            "SELECT make_order_events_partition({} - date '1970-01-01')",
            day(before)
        ));
    }
    let names = |from: u32, to: u32| -> Vec<String> {
        let name =
            |before| format!("SELECT 'order_events_' || to_char({}, 'YYYYMMDD')", day(before));
        (to..=from).rev().filter_map(|before| database.sql(&name(before))[0][0].clone()).collect()
    };
    let call = |function: &str, before: u32| -> Vec<String> {
        let rows = database.sql(&format!("SELECT * FROM {function}({})", day(before)));
        rows.into_iter().flatten().flatten().collect()
    };
    let exists = |name: &str| {
        database.number(&format!("SELECT count(*) FROM pg_class WHERE relname = '{name}'")) == 1
    };
    assert_eq!(call("drop_order_events_before", 4), names(5, 5));
    assert!(!exists(&names(5, 5)[0]));
    assert_eq!(call("detach_order_events_before", 2), names(4, 3));
    assert!(names(4, 3).iter().all(|name| exists(name)), "they are there, beside it");
    assert_eq!(call("drop_order_events_before", 5), [""; 0], "it never goes back");
    let kept = format!(
        "SELECT count(*) FROM analysis.order_events_kept \
         WHERE kept_from = ({})::timestamp AT TIME ZONE 'UTC'",
        day(2)
    );
    assert_eq!(database.number(&kept), 1);
    let left = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'order_events'::regclass";
    assert_eq!(database.number(left), 3);
    let tomorrow = "SELECT drop_order_events_before((now() AT TIME ZONE 'UTC')::date + 1)";
    assert!(database.try_sql(tomorrow).is_err(), "today is not over");
    // With any search path of the caller.
    database.sql(&format!(
        "SET search_path = pg_catalog; SELECT public.drop_order_events_before({})",
        day(0)
    ));
    assert_eq!(database.number(left), 1);
}

#[test]
fn what_is_not_kept_is_no_difference() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let settings = ["--postgres", url, "--migrate"];
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    let (one, other) = (alice.place_resting("IBM"), alice.place_resting("SPY"));
    await_caught_up(&server, data.path(), url);
    // A moment within the day stands for the end of a day: earlier rows are gone.
    let moment = "(SELECT max(at) + interval '1 microsecond' FROM order_events)";
    database.sql(&format!("CREATE TABLE moment AS SELECT {moment} AS at"));
    assert_eq!(alice.delete(&format!("/order/{}", id(&one))).status, 200);
    let third = alice.place_resting("IBM");
    await_caught_up(&server, data.path(), url);
    assert!(server.program.stop().success());
    assert_agree(data.path(), url);
    database.sql(
        "ALTER TABLE order_events DISABLE TRIGGER ALL; \
         DELETE FROM order_events WHERE at < (SELECT at FROM moment)",
    );
    assert!(command("verify", data.path(), Some(url)).lines.len() > 4, "each version is missed");
    database.sql("INSERT INTO order_events_kept (kept_from) SELECT at FROM moment");
    assert_agree(data.path(), url);
    let events = "SELECT count(*) FROM analysis.order_events";
    assert_eq!(database.number(events), database.number("SELECT count(*) FROM order_events"));

    // The kept part must still have no holes.
    database.sql(&format!(
        "CREATE TABLE aside AS SELECT * FROM order_events; \
         DELETE FROM order_events WHERE order_id = '{}' AND version = 2",
        id(&third)
    ));
    let (row, gap) = ([id(&third), "of version 2", "none"], [id(&third), "order_events: "]);
    assert_differ(data.path(), url, &[&row, &gap]);
    database.sql("DELETE FROM order_events; INSERT INTO order_events SELECT * FROM aside");
    let folder = tempfile::tempdir().unwrap();
    succeed("restore", &folder.path().join("fresh"), url);
    // Its exchange is a different one without the order; do not wait until the order fails.
    let impatient = [&settings[..], &["--order-reply-timeout-ms", "100"]].concat();
    let server = Server::start(&folder.path().join("fresh"), &impatient);
    let again = server.user(&folder.path().join("fresh"), "alice");
    assert_eq!(again.delete(&format!("/order/{}", id(&other))).status, 202);
    await_caught_up(&server, &folder.path().join("fresh"), url);
    assert!(server.program.stop().success());
    assert_agree(&folder.path().join("fresh"), url);
}
