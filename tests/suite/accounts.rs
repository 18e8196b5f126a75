//! Accounts: what users see of theirs, and orders that nothing pays for.

use crate::support::world::{World, id};
use crate::support::{Server, api};
use serde_json::{Value, json};

const CASH: [&str; 4] = ["--account-mode", "cash", "--opening-balance-cents", "100000"];

fn limit(position: &str, shares: u64, cents: u64) -> Value {
    json!({"position": position, "symbol": "IBM", "numShares": shares, "priceInCents": cents})
}

#[test]
fn a_buy_needs_buying_power_and_a_sell_needs_shares() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &CASH);
    let alice = server.user(data.path(), "alice");
    let account = || alice.get("/account").body;
    assert_eq!(account()["buyingPowerInCents"], 100_000, "what the first order begins with");

    let refused = alice.post("/order", &limit("buy", 1_001, 100));
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("insufficient_buying_power")));
    assert_eq!(
        (&refused.body["neededInCents"], &refused.body["availableInCents"]),
        (&json!(100_100), &json!(100_000))
    );
    let refused = alice.post("/order", &limit("sell", 1, 100));
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("insufficient_shares")));
    assert_eq!(refused.body["availableShares"], 0);
    assert_eq!(alice.all_orders().len(), 0, "nothing is recorded");

    // Far below the market, so it rests.
    let resting = alice.post("/order", &limit("buy", 1_000, 100));
    assert_eq!(resting.status, 201, "{}", resting.text);
    let shown = account();
    assert_eq!(shown["reservedCashInCents"], 100_000);
    assert_eq!((&shown["buyingPowerInCents"], &shown["mode"]), (&json!(0), &json!("cash")));
    assert_eq!(alice.post("/order", &limit("buy", 1, 1)).status, 422);
    server.program.kill();

    let server = Server::start(data.path(), &CASH);
    let alice = server.user(data.path(), "alice");
    assert_eq!(alice.get("/account").body["reservedCashInCents"], 100_000, "it survives");
    let id = resting.body["orderId"].as_str().unwrap();
    assert_eq!(alice.delete(&format!("/order/{id}")).status, 200);
    let shown = alice.get("/account").body;
    assert_eq!(
        (&shown["buyingPowerInCents"], &shown["cashInCents"]),
        (&json!(100_000), &json!(100_000))
    );
}

#[test]
fn a_position_is_shown_as_its_order_is_and_sold_again() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--speed", "20"]);
    let alice = server.user(data.path(), "alice");
    assert_eq!(alice.get("/positions").body, json!({"positions": []}));
    assert_eq!(alice.get("/positions/IBM").status, 404);
    let order = alice.post("/order", &json!({"position": "buy", "symbol": "IBM", "numShares": 3}));
    assert!(matches!(order.status, 201 | 202), "{}", order.text);
    let path = format!("/order/{}", order.body["orderId"].as_str().unwrap());
    let filled = api::until("the order is filled", || {
        let order = alice.get(&path).body;
        (order["status"] == "filled").then_some(order)
    });
    // Whoever has seen the order sees what it came to.
    let value = filled["filledValueInCents"].as_i64().unwrap();
    let account = alice.get("/account").body;
    assert_eq!((&account["cashInCents"], &account["mode"]), (&json!(-value), &json!("unchecked")));
    assert_eq!(account["costInCents"], value);
    let position = alice.get("/positions/ibm").body;
    assert_eq!((&position["shares"], &position["costInCents"]), (&json!(3), &json!(value)));
    assert_eq!(alice.get("/positions").body["positions"][0]["shares"], 3);
    let bob = server.user(data.path(), "bob");
    assert_eq!(bob.get("/account").body["cashInCents"], 0, "nobody else's");
    server.program.kill();

    // Ended orders have left memory, the account comes from the store.
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    assert_eq!(alice.get("/account").body["costInCents"], value);
    assert_eq!(alice.get("/positions/IBM").body["shares"], 3);
}

#[test]
fn a_market_buy_reserves_above_the_last_price_and_pays_what_it_cost() {
    let mut world = World::start(&CASH);
    let market = json!({"position": "buy", "symbol": "SPY", "numShares": 2});
    let refused = world.alice.post("/order", &market);
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("price_unavailable")));
    assert_eq!(world.alice.all_orders().len(), 0, "nothing is recorded");
    world.venue.trade("SPY", 10_000, 1);
    let accepted = api::until("a price", || {
        let answer = world.alice.post("/order", &market);
        (answer.status == 201).then_some(answer.body)
    });
    let account = |world: &World| world.alice.get("/account").body;
    assert_eq!(account(&world)["reservedCashInCents"], 21_000, "5 percent above");
    world.venue.fill(id(&accepted), 9_900, 2);
    world.await_filled(id(&accepted), 2);
    let shown = account(&world);
    assert_eq!(
        (&shown["cashInCents"], &shown["reservedCashInCents"], &shown["marketValueInCents"]),
        (&json!(80_200), &json!(0), &json!(19_800))
    );

    let sell = |shares: u64| json!({"position": "sell", "symbol": "SPY", "numShares": shares, "priceInCents": 20_000});
    assert_eq!(world.alice.post("/order", &sell(3)).body["availableShares"], 2);
    assert_eq!(world.alice.post("/order", &sell(2)).status, 201);
    world.restart(|_venue| {});
    let position = world.alice.get("/positions/SPY").body;
    assert_eq!(
        (&position["shares"], &position["availableShares"], &position["costInCents"]),
        (&json!(2), &json!(0), &json!(19_800))
    );
    let refused = world.alice.post("/order", &sell(1));
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("insufficient_shares")));
}
