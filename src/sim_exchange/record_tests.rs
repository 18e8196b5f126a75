//! Records that lag, are cut short or do not say how complete they are; and a clock that is wrong.

use serde_json::{Value, json};

use super::SimHandle;
use super::fault_tests::set;
use super::test_server::{exchange, order, post, query, submit};

/// The record as answered, including `asOf`.
fn record_of(exchange: &SimHandle, id: &str) -> Value {
    let ids = json!({ "clientOrderIds": [id] });
    post(exchange, "/v1/orders/query", &ids).1["results"][0].take()
}

#[test]
fn a_record_can_lag_and_omit_how_complete_it_is() {
    let (_directory, exchange) = exchange();
    submit(&exchange, &[order("fresh", Some(1), 1)]);
    assert_eq!(record_of(&exchange, "fresh")["status"], "open");
    set(&exchange, &json!({"manner": {"recordLagMs": 600_000}}));
    assert_eq!(record_of(&exchange, "fresh")["status"], "unknown");
    set(&exchange, &json!({"manner": {"recordAsOf": false}}));
    let record = record_of(&exchange, "fresh");
    assert_eq!((&record["status"], &record["asOf"]), (&json!("open"), &Value::Null));
    set(&exchange, &json!({}));
    assert!(record_of(&exchange, "fresh")["asOf"].is_object());
}

#[test]
fn a_list_of_executions_can_be_cut_short() {
    let (_directory, exchange) = exchange();
    set(&exchange, &json!({"orders": {"fillFirst": 1}, "seed": 3}));
    submit(&exchange, &[order("filled", None, 1)]);
    set(&exchange, &json!({"queries": {"cutList": 1}}));
    let mut seen = Vec::new();
    while !(seen.contains(&0) && seen.contains(&1)) {
        let record = record_of(&exchange, "filled");
        assert_eq!((&record["status"], &record["asOf"]), (&json!("filled"), &Value::Null));
        seen.push(record["executions"].as_array().unwrap().len());
    }
    set(&exchange, &json!({}));
    assert_eq!(query(&exchange, "filled")["executions"].as_array().unwrap().len(), 1);
}

#[test]
fn the_clock_can_be_ahead() {
    let (_directory, exchange) = exchange();
    set(&exchange, &json!({"manner": {"clockAheadMs": 3_600_000}}));
    let results = submit(&exchange, &[order("late", Some(1), 1)]);
    assert_eq!(results[0]["error"]["code"], "too_late");
}
