//! Records that are truncated, old, of another session or order, or contradictory neither remove nor
//! add fills. A record that proves itself does, until the execution is shown again.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use crate::support;
use crate::support::world::World;
use serde_json::{Value, json};

/// Open orders are reconciled each second.
const EAGER: [&str; 2] = ["--cleanup-interval-seconds", "1"];

/// Alters the record of an order with 40 of 100 shares filled to show too little or too much.
type Spoil = fn(&mut Value);

const HARMLESS: [(&str, Spoil); 14] = [
    ("a cut list", |record| record["executions"] = json!([])),
    ("a cut list and no word how old", |record| {
        record["executions"] = json!([]);
        record["asOf"] = Value::Null;
    }),
    ("a list that is left out", |record| {
        drop(record.as_object_mut().map(|record| record.remove("executions")));
    }),
    ("nothing, and no word how old", |record| {
        empty(record);
        record["asOf"] = Value::Null;
    }),
    ("nothing, as of another session", |record| {
        empty(record);
        record["asOf"] = json!({"session": "another", "sequence": 1_000_000});
    }),
    ("nothing, as of before the fill", |record| {
        empty(record);
        record["asOf"]["sequence"] = json!(0);
    }),
    ("nothing, with a sum that says more", |record| {
        empty(record);
        record["filledShares"] = json!(41);
    }),
    ("the fill, with a sum that says nothing", |record| record["filledShares"] = json!(0)),
    ("filled, of which the list knows nothing", |record| {
        record["status"] = "filled".into();
        record["filledShares"] = json!(100);
    }),
    ("filled, and nothing else", |record| {
        empty(record);
        record["status"] = "filled".into();
        record["asOf"] = Value::Null;
    }),
    ("the same execution twice", |record| {
        let twice = record["executions"][0].clone();
        record["executions"] = json!([twice, twice]);
        record["filledShares"] = json!(80);
    }),
    ("nothing, of another of the exchange's orders", |record| {
        empty(record);
        record["externalOrderId"] = "X-another".into();
    }),
    ("nothing, of another of our orders", |record| {
        empty(record);
        record["clientOrderId"] = "01939d6e-0000-7000-8000-000000000000".into();
    }),
    ("unknown, and no word how old", |record| {
        empty(record);
        record["status"] = "unknown".into();
        record["asOf"] = Value::Null;
    }),
];

/// Makes records unreadable.
const UNREADABLE: [(&str, Spoil); 7] = [
    ("nothing, as of less than nothing", |record| {
        empty(record);
        record["asOf"]["sequence"] = json!(-1);
    }),
    ("nothing, as of a sequence in words", |record| {
        empty(record);
        record["asOf"]["sequence"] = json!("1000000");
    }),
    ("nothing, as of a place without a session", |record| {
        empty(record);
        record["asOf"] = json!({"sequence": 1_000_000});
    }),
    ("a fill of no shares beside it", |record| {
        let one = record["executions"][0].clone();
        record["executions"] = json!([one, {"executionId": "zero", "priceInCents": 100,
            "numShares": 0, "timestamp": 1}]);
    }),
    ("a fill of half a share beside it", |record| {
        let one = record["executions"][0].clone();
        record["executions"] = json!([{"executionId": "half", "priceInCents": 100,
            "numShares": 0.5, "timestamp": 1}, one]);
    }),
    ("a status that nobody knows", |record| {
        empty(record);
        record["status"] = "resting".into();
    }),
    ("nothing at all", |record| *record = Value::Null),
];

fn empty(record: &mut Value) {
    record["executions"] = json!([]);
    record["filledShares"] = json!(0);
}

fn changes_nothing(spoils: &[(&str, Spoil)]) {
    let world = World::start(&EAGER);
    let venue = &world.venue;
    let orders: Vec<String> = spoils.iter().map(|_| world.buy(100)).collect();
    for ((_, spoil), order) in spoils.iter().zip(&orders) {
        venue.fill(order, 100, 40);
        let before = world.await_filled(order, 40);
        assert_eq!(before["status"], "partially_filled");
        let mut record = venue.record(order);
        spoil(&mut record);
        venue.show(order, Some(record));
    }
    // Another order whose record is right.
    let neighbour = world.buy(100);
    venue.fill_quietly(&neighbour, 100, 10);
    let all: Vec<&str> = orders.iter().map(String::as_str).collect();
    world.await_answers_about(&all);
    let mut wrong = Vec::new();
    for ((what, _), order) in spoils.iter().zip(&orders) {
        let now = world.alice.order(order);
        if now["filledShares"] != 40 || now["status"] != "partially_filled" {
            wrong.push(format!("{what}: {now}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.await_filled(&neighbour, 10);

    // None of it prevents the true record from counting.
    for order in &orders {
        venue.show(order, None);
        venue.fill(order, 99, 60);
        let filled = world.await_filled(order, 100);
        assert_eq!(filled["status"], "filled", "{filled}");
        assert_eq!(filled["filledValueInCents"], 40 * 100 + 60 * 99, "{filled}");
    }
}

#[test]
fn a_record_that_proves_nothing_changes_nothing() {
    changes_nothing(&HARMLESS);
}

#[test]
fn a_record_that_cannot_be_read_changes_nothing_and_hides_no_other() {
    changes_nothing(&UNREADABLE);
}

#[test]
fn a_record_that_proves_itself_takes_back_and_gives_again_what_no_bust_took() {
    let world = World::start(&EAGER);
    let venue = &world.venue;
    let order = world.buy(100);
    let execution = venue.fill(&order, 100, 40);
    world.await_filled(&order, 40);
    let whole = venue.record(&order);
    let mut without = whole.clone();
    empty(&mut without);
    venue.show(&order, Some(without));
    assert_eq!(world.await_filled(&order, 0)["status"], "submitted");
    venue.show(&order, Some(whole.clone()));
    assert_eq!(world.await_filled(&order, 40)["status"], "partially_filled");

    // A bust line is final for its execution, but not for another.
    venue.bust(&execution);
    world.await_filled(&order, 0);
    world.await_answers_about(&[&order]);
    assert_eq!(world.alice.order(&order)["filledShares"], 0);
    let mut renamed = whole;
    renamed["executions"][0]["executionId"] = "corrected".into();
    venue.show(&order, Some(renamed));
    world.await_filled(&order, 40);
}

#[test]
fn an_execution_with_a_new_name_replaces_the_old_one_where_the_record_proves_itself() {
    let world = World::start(&EAGER);
    let venue = &world.venue;
    let order = world.buy(100);
    venue.fill(&order, 100, 40);
    world.await_filled(&order, 40);
    let mut renamed = venue.record(&order);
    renamed["executions"][0]["executionId"] = "corrected".into();
    renamed["executions"][0]["priceInCents"] = json!(99);
    venue.show(&order, Some(renamed));
    support::api::until("the better price", || {
        (world.alice.order(&order)["filledValueInCents"] == 40 * 99).then_some(())
    });
    assert_eq!(world.alice.order(&order)["filledShares"], 40);
}

#[test]
fn what_only_the_record_shows_counts() {
    let world = World::start(&EAGER);
    let venue = &world.venue;
    // With and without `asOf`.
    for as_of in [true, false] {
        venue.set(|options| options.as_of = as_of);
        let order = world.buy(100);
        venue.fill_quietly(&order, 100, 30);
        world.await_filled(&order, 30);
        venue.fill_quietly(&order, 100, 70);
        assert_eq!(world.await_filled(&order, 100)["status"], "filled");
    }
}
