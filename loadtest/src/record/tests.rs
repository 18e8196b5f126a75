use super::*;

fn terms() -> Terms {
    Terms {
        position: "buy",
        symbol: "SPY",
        num_shares: 5,
        price_in_cents: Some(1),
        time_in_force: "day",
        client_order_id: "k".to_owned(),
    }
}

fn order(version: u64, status: &str) -> String {
    format!(
        r#"{{"orderId":"0a","clientOrderId":"k","externalOrderId":"o1-1","symbol":"SPY",
        "position":"buy","type":"limit","timeInForce":"day","priceInCents":1,"numShares":5,
        "filledShares":0,"filledValueInCents":0,"averagePriceInCents":null,
        "status":"{status}","reason":null,"createdAt":1,"updatedAt":1,"version":{version}}}"#
    )
}

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, body: body.to_owned() }
}

fn created() -> Histories {
    let histories = Histories::new(Rules::default());
    histories.expect(0, &terms());
    let sent = histories.send(1, 0);
    assert!(histories.created(sent, &terms(), Some(&answer(201, &order(2, "submitted")))));
    histories
}

fn only_violation(histories: &Histories) -> String {
    histories.check(true);
    let violations = histories.violations();
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations.into_iter().next().unwrap()
}

#[test]
fn a_life_in_order_has_no_violation() {
    let histories = created();
    assert_eq!(histories.order_id(0, "k").as_deref(), Some("0a"));
    histories.check(true);
    histories.read(histories.send(2, 0), "k", Some(&answer(200, &order(2, "submitted"))));
    histories.cancelled(histories.send(1, 0), "k", Some(&answer(200, r#"{"ok":true}"#)));
    histories.check(true);
    let page = format!(r#"{{"orders":[{}],"nextCursor":null}}"#, order(4, "cancelled"));
    assert!(histories.listed(histories.send(2, 0), None, Some(&answer(200, &page))).is_some());
    histories.check(true);
    assert_eq!(histories.violations(), Vec::<String>::new());
    assert_eq!(histories.orders(), (1, 1));
}

#[test]
fn an_acknowledged_order_that_a_list_leaves_out_is_a_violation() {
    let histories = created();
    let empty = answer(200, r#"{"orders":[],"nextCursor":null}"#);
    histories.listed(histories.send(2, 0), None, Some(&empty));
    assert!(only_violation(&histories).contains("not linearizable"));
    let histories = created();
    histories.listed(histories.send(2, 0), Some("00"), Some(&empty));
    histories.check(true);
    assert!(histories.violations().is_empty(), "it is not in the page's range");
}

#[test]
fn what_was_seen_before_a_restart_counts_after_it() {
    let histories = created();
    histories.read(histories.send(2, 0), "k", Some(&answer(200, &order(3, "filled"))));
    histories.check(true);
    histories.read(histories.send(2, 0), "k", Some(&answer(200, &order(2, "submitted"))));
    let violation = only_violation(&histories);
    assert!(violation.contains("version 3 Filled (terminal)"), "{violation}");
}

#[test]
fn a_key_names_one_order_with_the_terms_that_were_asked_for() {
    let histories = created();
    let other = order(2, "submitted").replace("\"0a\"", "\"0b\"");
    histories.created(histories.send(2, 0), &terms(), Some(&answer(200, &other)));
    assert!(only_violation(&histories).contains("the key names"));
    let histories = created();
    let other = order(2, "submitted").replace("\"numShares\":5", "\"numShares\":6");
    histories.read(histories.send(2, 0), "k", Some(&answer(200, &other)));
    assert!(only_violation(&histories).contains("the key names"));
}

#[test]
fn answers_that_do_not_fit_their_status_are_violations() {
    let histories = created();
    histories.cancelled(histories.send(2, 0), "k", Some(&answer(202, &order(3, "filled"))));
    assert!(only_violation(&histories).contains("answered 202"));
    let histories = created();
    histories.conflicted(histories.send(2, 0), "k", Some(&answer(201, &order(2, "submitted"))));
    assert!(only_violation(&histories).contains("another body"));
}
