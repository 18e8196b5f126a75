//! What happened to a user's orders and cash, in the sequence of the log; the portfolio; and what an order
//! would reserve.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::api;
use crate::support::world::{World, id};
use serde_json::{Value, json};
use ureq::http::Request;

const CASH: [&str; 4] = ["--account-mode", "cash", "--opening-balance-cents", "100000"];

/// All activities of alice, a few at a time.
fn activities(world: &World, query: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.alice.get(&format!("/activities?limit=2{query}{cursor}"));
        assert_eq!(page.status, 200, "{}", page.text);
        all.extend(page.body["activities"].as_array().unwrap().clone());
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

fn types(activities: &[Value]) -> Vec<&str> {
    activities.iter().map(|activity| activity["type"].as_str().unwrap()).collect()
}

fn deposit(world: &World, id: &str, cents: i64) {
    let body = json!({"id": id, "amountInCents": cents, "by": "carol", "reason": "wire"});
    let request = Request::post(format!("{}/accounts/alice/deposits", world.server.admin));
    let answer = api::send(request.body(body.to_string().into_bytes()).unwrap()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[test]
fn activities_are_listed_in_the_sequence_of_the_log_and_stay() {
    let mut world = World::start(&CASH);
    let order = world.buy(10);
    world.venue.fill(&order, 99, 4);
    world.await_filled(&order, 4);
    let fills = activities(&world, "&types=fill");
    let fill = &fills[0];
    assert_eq!(
        (&fill["orderId"], &fill["symbol"], &fill["position"]),
        (&json!(order), &json!("SPY"), &json!("buy"))
    );
    assert_eq!((&fill["numShares"], &fill["priceInCents"]), (&json!(4), &json!(99)));
    world.venue.feed_line(json!({"type": "bust", "executionId": fill["executionId"],
        "symbol": "SPY", "priceInCents": 99, "numShares": 4,
        "orderId": world.venue.order(&order).external_id, "timestamp": 1}));
    world.await_filled(&order, 0);
    assert_eq!(world.alice.delete(&format!("/order/{order}")).status, 200);
    deposit(&world, "d1", 77);
    let all = activities(&world, "");
    assert_eq!(types(&all), ["opening", "fill", "bust", "cancel", "deposit"]);
    let [opening, fill, bust, cancel, deposited] = &all[..] else { unreachable!() };
    assert_eq!(opening["amountInCents"], 100_000);
    assert_eq!((&bust["takesBack"], &bust["executionId"]), (&fill["id"], &fill["executionId"]));
    assert_eq!((&bust["numShares"], &bust["priceInCents"]), (&json!(4), &json!(99)));
    assert_eq!((&cancel["orderId"], &cancel["numShares"]), (&json!(order), &json!(10)));
    assert_eq!((&deposited["movementId"], &deposited["amountInCents"]), (&json!("d1"), &json!(77)));
    let ids: Vec<u64> =
        all.iter().map(|activity| activity["id"].as_str().unwrap().parse().unwrap()).collect();
    assert!(ids.is_sorted(), "{ids:?}");

    let since = format!("&from={}", bust["at"]);
    assert_eq!(activities(&world, &since), all[2..]);
    assert_eq!(types(&activities(&world, "&types=fill,bust")), ["fill", "bust"]);
    assert_eq!(world.bob.get("/activities").body["activities"], json!([]), "nobody else's");
    for wrong in ["types=gift", "from=yesterday", "limit=0", "cursor=x", "cursor=-1", "user=bob"] {
        let answer = world.alice.get(&format!("/activities?{wrong}"));
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text);
    }
    world.restart(|_venue| {});
    assert_eq!(activities(&world, ""), all, "with the same ids");
}

#[test]
fn a_portfolio_has_cash_and_positions() {
    let world = World::start(&CASH);
    let order = world.buy(10);
    world.venue.fill(&order, 100, 10);
    world.await_filled(&order, 10);
    let portfolio = world.alice.get("/portfolio").body;
    assert_eq!(portfolio["account"]["cashInCents"], 99_000);
    assert_eq!(portfolio["positions"][0]["symbol"], "SPY");
    assert_eq!(portfolio["positions"][0]["shares"], 10);
    assert_eq!(portfolio["account"], world.alice.get("/account").body);
}

#[test]
fn a_preview_says_what_an_order_would_reserve_and_records_nothing() {
    let world = World::start(&CASH);
    let preview = |body: Value| world.alice.post("/orders/preview", &body);
    let limit = |position: &str, shares: u64| json!({"position": position, "symbol": "SPY", "numShares": shares, "priceInCents": 100});
    let shown = preview(limit("buy", 1_000));
    assert_eq!((shown.status, &shown.body["wouldPass"]), (200, &json!(true)), "{}", shown.text);
    assert_eq!(
        (&shown.body["reservedCashInCents"], &shown.body["buyingPowerInCents"]),
        (&json!(100_000), &json!(100_000))
    );
    for (body, code) in [
        (limit("buy", 1_001), "insufficient_buying_power"),
        (limit("sell", 1), "insufficient_shares"),
    ] {
        let shown = preview(body.clone());
        assert_eq!((shown.status, &shown.body["wouldPass"]), (200, &json!(false)));
        let refused = world.alice.post("/order", &body);
        assert_eq!(refused.body["code"], code);
        assert_eq!(shown.body["refusal"], refused.body, "as the order is refused");
    }
    let market = json!({"position": "buy", "symbol": "SPY", "numShares": 2});
    let refused = preview(market.clone());
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("price_unavailable")));
    world.venue.trade("SPY", 10_000, 1);
    let shown = api::until("a price", || {
        let shown = preview(market.clone());
        (shown.status == 200).then_some(shown.body)
    });
    assert_eq!(
        (&shown["reservedPriceInCents"], &shown["reservedCashInCents"], &shown["valueInCents"]),
        (&json!(10_500), &json!(21_000), &json!(20_000))
    );
    assert_eq!(preview(json!({"position": "buy"})).status, 400);
    assert_eq!(world.alice.all_orders().len(), 0);
    let placed = world.alice.post("/order", &market);
    assert_eq!(placed.status, 201, "{}", id(&placed.body));
}
