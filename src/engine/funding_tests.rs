//! New orders in cash mode: who pays for them, and what happens to those that nobody pays for.

use super::test_rig::{OPTIONS, Rig, create_reply, external, filled, has_alert};
use super::*;
use crate::money::{Account, Refusal};
use crate::order::{Anomaly, CashMovementKind, Event, ReportKind, Status};
use crate::types::*;

const CASH: EngineOptions = EngineOptions {
    accounts: AccountRules { mode: AccountMode::Cash, collar_percent: 5, opening_cents: 1_000 },
    ..OPTIONS
};

fn price(cents: i64) -> PriceCents {
    PriceCents::new(cents).unwrap()
}

fn alice() -> UserId {
    UserId::new("alice").unwrap()
}

fn account(rig: &Rig) -> Account {
    rig.engines.account(&alice()).cloned().unwrap_or_default()
}

/// Asks for an order of alice; gives its id and the reply, if there is one at once.
fn ask(
    rig: &mut Rig,
    side: Side,
    num_shares: Shares,
    change: impl FnOnce(&mut CreateOrder),
) -> (OrderId, Option<CreateReply>) {
    let mut request = CreateOrder { side, ..rig.request("alice", None, num_shares) };
    change(&mut request);
    let order_id = request.order_id;
    rig.take();
    rig.act(|engines, now, out| engines.create(now, request, ReplyTo(1), out));
    let effects = rig.take();
    (order_id, create_reply(&effects).cloned())
}

fn buy(rig: &mut Rig, num_shares: Shares, cents: i64) -> (OrderId, Option<CreateReply>) {
    ask(rig, Side::Buy, num_shares, |request| request.limit_price = Some(price(cents)))
}

#[test]
fn exactly_enough_passes_and_one_cent_less_does_not() {
    let mut rig = Rig::with(CASH);
    let (_, reply) = buy(&mut rig, 7, 143);
    let refusal = Refusal::InsufficientBuyingPower { available_cents: 1_000, needed_cents: 1_001 };
    assert_eq!(reply, Some(CreateReply::Unfunded(refusal)));
    assert!(rig.log.is_empty(), "a refusal records nothing, neither the opening");
    assert_eq!(rig.engines.account(&alice()), None);

    let (_, reply) = buy(&mut rig, 8, 125);
    assert_eq!(reply, None, "it is sent to the exchange");
    let [Event::CashMoved(opening), Event::Created(_)] = &rig.log[..] else {
        panic!("{:?}", rig.log);
    };
    assert_eq!((opening.cents, opening.kind), (1_000, CashMovementKind::Opening));
    assert_eq!((account(&rig).cash_cents(), account(&rig).buying_power_cents()), (1_000, 0));

    let (_, reply) = buy(&mut rig, 1, 1);
    let refusal = Refusal::InsufficientBuyingPower { available_cents: 0, needed_cents: 1 };
    assert_eq!(reply, Some(CreateReply::Unfunded(refusal)));
    assert_eq!(rig.log.len(), 2);
    rig.restart();
    assert_eq!(account(&rig).buying_power_cents(), 0);
}

#[test]
fn a_market_buy_reserves_the_collar_and_needs_a_price() {
    let mut rig = Rig::with(CASH);
    let market = |last: Option<i64>| {
        move |request: &mut CreateOrder| {
            request.limit_price = None;
            request.last_price = last.map(price);
        }
    };
    let (_, reply) = ask(&mut rig, Side::Buy, 1, market(None));
    assert_eq!(reply, Some(CreateReply::PriceUnavailable));
    assert!(rig.log.is_empty());
    let (order_id, reply) = ask(&mut rig, Side::Buy, 4, market(Some(100)));
    assert_eq!(reply, None);
    assert_eq!(account(&rig).reserved_cents(), 420);
    rig.accept(order_id, "x");
    rig.report("x", filled("e1", 1));
    assert_eq!((account(&rig).cash_cents(), account(&rig).reserved_cents()), (900, 315));
    // A sell needs none.
    let (_, reply) = ask(&mut rig, Side::Sell, 1, market(None));
    assert_eq!(reply, None);
}

#[test]
fn shares_are_sold_once() {
    let mut rig = Rig::with(CASH);
    let (order_id, _) = buy(&mut rig, 10, 100);
    rig.accept(order_id, "x");
    let sell = |rig: &mut Rig, num_shares| ask(rig, Side::Sell, num_shares, |_| {});
    let refusal = |available_shares, needed_shares| {
        Some(CreateReply::Unfunded(Refusal::InsufficientShares { available_shares, needed_shares }))
    };
    assert_eq!(sell(&mut rig, 1).1, refusal(0, 1), "what is not filled is not there");
    rig.report("x", filled("e1", 6));
    assert_eq!(sell(&mut rig, 7).1, refusal(6, 7));
    let (sold, reply) = sell(&mut rig, 4);
    assert_eq!(reply, None);
    assert_eq!(sell(&mut rig, 3).1, refusal(2, 3));
    rig.accept(sold, "y");
    rig.report("y", ReportKind::Cancelled);
    assert_eq!(rig.status(sold), Status::Cancelled);
    assert_eq!(sell(&mut rig, 6).1, None, "a cancel releases what it reserved");
    rig.restart();
    assert_eq!(account(&rig).holding(Symbol::new("IBM").unwrap()).available_shares(), 0);
}

#[test]
fn what_ends_is_available_again_and_what_opens_again_is_not() {
    let mut rig = Rig::with(CASH);
    let (order_id, _) = buy(&mut rig, 10, 100);
    rig.accept(order_id, "x");
    rig.report("x", ReportKind::Expired);
    assert_eq!(account(&rig).buying_power_cents(), 1_000);
    let (second, _) = buy(&mut rig, 9, 100);
    rig.accept(second, "y");
    // A late fill opens the first again.
    rig.take();
    rig.report("x", filled("late", 1));
    assert!(has_alert(&rig.take(), Anomaly::Overdrawn));
    assert_eq!(rig.engines.overdrawn_accounts(), 1);
    assert_eq!(account(&rig).buying_power_cents(), -900, "it may be filled, and so it reserves");
    assert!(account(&rig).is_overdrawn());
    assert!(matches!(buy(&mut rig, 1, 1).1, Some(CreateReply::Unfunded(_))));
    rig.restart();
    assert_eq!(account(&rig).buying_power_cents(), -900);
    assert_eq!(rig.engines.overdrawn_accounts(), 1, "a replay counts it too");
    rig.report("x", ReportKind::Cancelled);
    assert_eq!(rig.engines.overdrawn_accounts(), 0, "it is cured");
    assert_eq!(rig.engines.order(order_id).unwrap().external_order_id, Some(external("x")));
}

#[test]
fn a_repeated_key_is_not_paid_for_again() {
    let mut rig = Rig::with(CASH);
    let key = |request: &mut CreateOrder| {
        request.client_order_id = ClientOrderId::new("k").ok();
        request.limit_price = Some(price(100));
    };
    let (order_id, _) = ask(&mut rig, Side::Buy, 10, key);
    rig.accept(order_id, "x");
    let (_, reply) = ask(&mut rig, Side::Buy, 10, key);
    assert!(matches!(reply, Some(CreateReply::Duplicate(_))), "{reply:?}");
    assert_eq!(account(&rig).reserved_cents(), 1_000);
}

#[test]
fn unchecked_accounts_are_kept_and_refuse_nothing() {
    let mut rig = Rig::new();
    let (order_id, reply) = buy(&mut rig, 10, 100);
    assert_eq!(reply, None);
    assert_eq!(rig.engines.account(&alice()), None, "nothing has moved");
    rig.accept(order_id, "x");
    rig.report("x", filled("e1", 4));
    assert_eq!((account(&rig).cash_cents(), account(&rig).reserved_cents()), (-400, 0));
    rig.report("x", ReportKind::Busted { execution_id: ExecutionId::new("e1").unwrap() });
    assert_eq!(account(&rig).cash_cents(), 0);
    rig.restart();
    assert_eq!(account(&rig).version(), 2);
}
