//! The day's end: every execution that the exchange lists for a day is compared with ours, whatever the
//! feed has lost and whether or not its order has ended.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::process::Output;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::api::{self, until};
use crate::support::run;
use crate::support::venue::{EXECUTIONS, Reply, Venue};
use crate::support::world::World;
use serde_json::{Value, json};

/// A time of today's trade date, long enough ago.
fn a_minute_ago() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap() - 60_000_000
}

/// The trade date of a time, in New York.
fn trade_date(micros: u64) -> String {
    let time = jiff::Timestamp::from_microsecond(micros.try_into().unwrap()).unwrap();
    let place = jiff::tz::TimeZone::get("America/New_York").unwrap();
    time.to_zoned_datetime(place).date().to_string()
}

/// The venue's list says that all was executed at a time, and lacks the named executions.
fn list(venue: &Venue, at: u64, lacking: &[&str]) {
    let lacking: Vec<String> = lacking.iter().map(|&id| id.to_owned()).collect();
    venue.set(|options| options.lists_executions = true);
    venue.on(EXECUTIONS, move |request| {
        Reply::edited(request, |answer| {
            let executions = answer["executions"].as_array_mut().unwrap();
            executions.retain(|one| !lacking.iter().any(|id| one["executionId"] == **id));
            executions.iter_mut().for_each(|one| one["timestamp"] = at.into());
        })
    });
}

fn reconcile(world: &World, date: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let admin = world.server.admin.clone();
    let arguments = [&["reconcile", "--date", date, "--admin-url", &admin], more].concat();
    let Output { status, stdout, stderr } = run(&arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn filled(world: &World, order: &str) -> Value {
    world.alice.order(order)["filledShares"].clone()
}

/// An order that was cancelled, has left memory, and was executed all the same, as only the exchange's
/// record says.
fn lost_fill(world: &World) -> (String, String) {
    let order = world.buy(10);
    assert_eq!(world.alice.delete(&format!("/order/{order}")).status, 200);
    // Queries go on showing the record of before.
    world.venue.show(&order, Some(world.venue.record(&order)));
    let execution = world.venue.fill_quietly(&order, 100, 4);
    assert_eq!(filled(world, &order), 0);
    (order, execution)
}

#[test]
fn a_lost_execution_of_an_ended_order_is_booked() {
    let world = World::start(&["--keep-ended-seconds", "0"]);
    let at = a_minute_ago();
    let date = trade_date(at);
    let (order, execution) = lost_fill(&world);
    list(&world.venue, at, &[]);
    let (code, said, errors) = reconcile(&world, &date, &[]);
    assert_eq!(code, Some(1), "{said}{errors}");
    for part in [&date, &order, &execution, "did not count here", "booked as a repair", "Signed:"] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    assert!(errors.contains("differ from the exchange's"), "{errors}");
    assert_eq!(filled(&world, &order), 4);
    assert_eq!(world.server.metric("orders_repairs_total{cause=\"day_end\"}"), 1);
    let (code, said, _) = reconcile(&world, &date, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("No differences."), "{said}");
    // The numbers of both sides, and what is durable of the report.
    let (_, report, _) = reconcile(&world, &date, &["--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let side = json!({"executions": 1, "shares": 4, "valueInCents": 400});
    assert_eq!(report["total"], json!({"exchange": side, "ours": side}), "{report}");
    assert_eq!((&report["agrees"], &report["differences"]), (&json!(true), &json!([])));
}

#[test]
fn an_execution_that_the_exchange_does_not_list_is_for_an_operator_to_decide() {
    let world = World::start(&[]);
    let at = a_minute_ago();
    let order = world.buy(10);
    let external = world.venue.order(&order).external_id;
    world.venue.feed_line(json!({"type": "trade", "executionId": "phantom", "symbol": "SPY",
        "priceInCents": 100, "numShares": 3, "orderId": external, "timestamp": at}));
    until("the fill", || (filled(&world, &order) == 3).then_some(()));
    // Not all of the day is listed: nothing is held against what it lacks.
    world.venue.set(|options| options.lists_executions = true);
    world
        .venue
        .on(EXECUTIONS, |_request| Reply::Json(json!({"executions": [], "complete": false})));
    let (code, said, errors) = reconcile(&world, &trade_date(at), &[]);
    assert_eq!(code, Some(0), "{said}{errors}");
    assert!(said.contains("incomplete"), "{said}");
    list(&world.venue, at, &[]);
    let (code, said, errors) = reconcile(&world, &trade_date(at), &[]);
    assert_eq!(code, Some(1), "{said}{errors}");
    assert!(said.contains("does not list it; in quarantine"), "{said}");
    assert_eq!(filled(&world, &order), 3, "it counts until somebody decides");
    let cases = api::get_anonymously(&format!("{}/quarantine", world.server.admin)).unwrap();
    let case = &cases.body["cases"][0];
    assert_eq!((&case["cause"], &case["counts"]), (&json!("doubtful"), &json!(true)), "{case}");
    assert_eq!(case["execution"]["executionId"], "phantom");
}

#[test]
fn one_unreadable_element_and_an_unknown_order_hold_up_no_other() {
    let world = World::start(&[]);
    let at = a_minute_ago();
    let (order, execution) = lost_fill(&world);
    world.venue.set(|options| options.lists_executions = true);
    world.venue.on(EXECUTIONS, move |request| {
        Reply::edited(request, |answer| {
            let executions = answer["executions"].as_array_mut().unwrap();
            executions.iter_mut().for_each(|one| one["timestamp"] = at.into());
            let mut foreign = executions[0].clone();
            foreign["executionId"] = "foreign".into();
            foreign["orderId"] = "nobody-1".into();
            foreign["clientOrderId"] = Value::Null;
            executions.insert(0, json!({"executionId": "odd", "numShares": "many"}));
            executions.push(foreign);
        })
    });
    let (code, said, _) = reconcile(&world, &trade_date(at), &[]);
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "Differences: 2. Unreadable: 1.",
        "unreadable: {\"executionId\":\"odd\"",
        "foreign of the exchange's order nobody-1",
        "the order is not known here; left as it is",
        &format!("{execution} of order {order}: 4 SPY at 100 cents"),
    ] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    assert_eq!(filled(&world, &order), 4);
}

#[test]
fn an_exchange_without_a_list_hands_it_over_as_a_file() {
    let world = World::start(&[]);
    let at = a_minute_ago();
    let date = trade_date(at);
    let (order, execution) = lost_fill(&world);
    let (code, _, errors) = reconcile(&world, &date, &[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("offers no list of a day's executions"), "{errors}");
    let external = world.venue.order(&order).external_id;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.csv");
    let header = "executionId,orderId,symbol,side,priceInCents,numShares,timestamp";
    std::fs::write(&path, format!("{header}\n{execution},{external},SPY,buy,1x,4,{at}\n")).unwrap();
    let file = ["--executions", path.to_str().unwrap()];
    let (code, _, errors) = reconcile(&world, &date, &file);
    assert_eq!(code, Some(1));
    assert!(errors.contains("line: 2"), "{errors}");
    assert_eq!(filled(&world, &order), 0, "nothing of it was taken");
    std::fs::write(&path, format!("{header}\n{execution},{external},SPY,buy,100,4,{at}\n"))
        .unwrap();
    let (code, said, errors) = reconcile(&world, &date, &file);
    assert_eq!(code, Some(1), "{said}{errors}");
    assert!(said.contains("List from: the file") && said.contains("booked as a repair"), "{said}");
    assert_eq!(filled(&world, &order), 4);
    let (code, _, errors) = reconcile(&world, "2026-2-30", &[]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("a date such as"), "{errors}");
}

#[test]
fn a_day_is_compared_by_itself_once_its_session_has_closed() {
    let world = World::start(&["--day-end-delay-minutes", "0"]);
    let at = a_minute_ago();
    let (order, _) = lost_fill(&world);
    list(&world.venue, at, &[]);
    assert!(world.venue.requests(EXECUTIONS).is_empty(), "the session goes on");
    world.venue.set(|options| {
        for symbol in &mut options.symbols {
            symbol["sessionOpen"] = (at - 3_600_000_000).into();
            symbol["sessionClose"] = at.into();
        }
    });
    world.venue.new_session("afterwards");
    until("the repair", || (filled(&world, &order) == 4).then_some(()));
    let url = format!("{}/day-ends/{}", world.server.admin, trade_date(at));
    let report = until("the report", || api::get_anonymously(&url).filter(|it| it.status == 200));
    assert_eq!(report.body["differences"][0]["outcome"], "booked", "{}", report.text);
}
