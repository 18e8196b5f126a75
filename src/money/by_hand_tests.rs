//! Figures that were worked out by hand.

use super::*;
use crate::types::{PriceCents, Side, Symbol};

const NOTHING: (Held, Held) = (Held::Nothing, Held::Nothing);

fn spy() -> Symbol {
    Symbol::new("SPY").unwrap()
}

fn price(cents: i64) -> PriceCents {
    PriceCents::new(cents).unwrap()
}

fn trade(side: Side, num_shares: u64, cents: i64) -> Trade {
    Trade { symbol: spy(), side, num_shares, price: price(cents) }
}

/// Shares, cost and profit.
fn figures(account: &Account) -> (i64, i64, i64) {
    let holding = account.holding(spy());
    (holding.shares(), holding.cost_basis_cents(), holding.realized_profit_cents())
}

fn funded(cents: i64) -> Account {
    let mut account = Account::default();
    account.deposit(cents).unwrap();
    account
}

#[test]
fn a_buy_reserves_its_limit_and_pays_what_it_is_filled_at() {
    let mut account = funded(10_000);
    account.reserve_buy(10, price(900)).unwrap();
    assert_eq!((account.buying_power_cents(), account.reserved_cents()), (1_000, 9_000));
    // 4 of 10 at 850: 3,400 are paid, 6 * 900 stay reserved.
    let held = (Held::Cash(9_000), Held::Cash(5_400));
    account.apply_execution(&trade(Side::Buy, 4, 850), held).unwrap();
    assert_eq!((account.cash_cents(), account.reserved_cents()), (6_600, 5_400));
    assert_eq!(account.buying_power_cents(), 1_200);
    // The rest is cancelled.
    account.change_held((Held::Cash(5_400), Held::Nothing)).unwrap();
    assert_eq!((account.buying_power_cents(), account.reserved_cents()), (6_600, 0));
    assert_eq!(figures(&account), (4, 3_400, 0));
}

#[test]
fn refusals_say_what_is_there_and_what_is_needed() {
    let mut account = funded(10_000);
    account.apply_execution(&trade(Side::Buy, 3, 1_000), NOTHING).unwrap();
    let before = account.clone();
    let refused = account.reserve_buy(8, price(900)).unwrap_err();
    let expected = Refusal::InsufficientBuyingPower { available_cents: 7_000, needed_cents: 7_200 };
    assert_eq!(refused, expected);
    assert_eq!(refused.to_string(), "the order needs 7200 cents; 7000 are available");
    let refused = account.reserve_sell(spy(), 4).unwrap_err();
    let expected = Refusal::InsufficientShares { available_shares: 3, needed_shares: 4 };
    assert_eq!(refused, expected);
    let refused = account.withdraw(7_001).unwrap_err();
    let expected = Refusal::InsufficientCash { available_cents: 7_000, needed_cents: 7_001 };
    assert_eq!(refused, expected);
    for cents in [i64::MIN, -1, 0, MAX_CASH_MOVEMENT_CENTS + 1] {
        assert_eq!(account.deposit(cents), Err(Refusal::OutOfRange { cents }));
        assert_eq!(account.withdraw(cents), Err(Refusal::OutOfRange { cents }));
    }
    let all = account.reserve_buy(u64::MAX, price(2)).unwrap_err();
    let needed_cents = i64::MAX;
    let expected = Refusal::InsufficientBuyingPower { available_cents: 7_000, needed_cents };
    assert_eq!(all, expected);
    assert_eq!(account, before, "nothing was changed");
    account.withdraw(7_000).unwrap();
    assert_eq!(account.cash_cents(), 0);
}

#[test]
fn a_sale_realizes_the_difference_to_the_average() {
    let mut account = funded(10_000);
    account.apply_execution(&trade(Side::Buy, 1, 100), NOTHING).unwrap();
    account.apply_execution(&trade(Side::Buy, 2, 101), NOTHING).unwrap();
    // 302 for 3; one of them is 100.67, rounded to 101.
    account.apply_execution(&trade(Side::Sell, 1, 150), NOTHING).unwrap();
    assert_eq!(figures(&account), (2, 201, 49));
    // 100.5 is rounded to the even 100.
    account.apply_execution(&trade(Side::Sell, 1, 150), NOTHING).unwrap();
    assert_eq!(figures(&account), (1, 101, 99));
    account.apply_execution(&trade(Side::Sell, 1, 150), NOTHING).unwrap();
    assert_eq!(figures(&account), (0, 0, 148), "450 - 302");
    assert_eq!(account.cash_cents(), 10_148);
}

#[test]
fn a_sale_beyond_what_is_held_goes_on_from_zero() {
    let mut account = funded(10_000);
    account.apply_execution(&trade(Side::Buy, 5, 100), NOTHING).unwrap();
    account.apply_execution(&trade(Side::Sell, 8, 200), NOTHING).unwrap();
    assert_eq!(figures(&account), (-3, -600, 500));
    assert!(account.is_overdrawn());
    let available_shares = -3;
    let refused = account.reserve_sell(spy(), 1);
    let expected = Refusal::InsufficientShares { available_shares, needed_shares: 1 };
    assert_eq!(refused, Err(expected));
    // 1 of 3 is bought back for 250: a loss of 50.
    account.apply_execution(&trade(Side::Buy, 1, 250), NOTHING).unwrap();
    assert_eq!(figures(&account), (-2, -400, 450));
    // 2 more than are owed.
    account.apply_execution(&trade(Side::Buy, 4, 150), NOTHING).unwrap();
    assert_eq!(figures(&account), (2, 300, 550));
    assert!(!account.is_overdrawn());
}

#[test]
fn a_bust_takes_back_what_the_execution_did() {
    let mut account = funded(10_000);
    account.apply_execution(&trade(Side::Buy, 10, 100), NOTHING).unwrap();
    let sale = trade(Side::Sell, 10, 300);
    let (booked, _) = account.apply_execution(&sale, NOTHING).unwrap();
    assert_eq!(figures(&account), (0, 0, 2_000));
    account.bust_execution((&sale, booked), NOTHING).unwrap();
    assert_eq!((account.cash_cents(), figures(&account)), (9_000, (10, 1_000, 0)));
}

#[test]
fn cost_that_a_bust_leaves_over_is_profit() {
    let mut account = funded(10_000);
    let (cheap, dear) = (trade(Side::Buy, 10, 100), trade(Side::Buy, 10, 200));
    let (cheap_booked, _) = account.apply_execution(&cheap, NOTHING).unwrap();
    let (dear_booked, _) = account.apply_execution(&dear, NOTHING).unwrap();
    // 10 of 20 that cost 3,000.
    account.apply_execution(&trade(Side::Sell, 10, 250), NOTHING).unwrap();
    assert_eq!(figures(&account), (10, 1_500, 1_000));
    // Of the cheap ones alone the profit would have been 2,500 - 1,000.
    account.bust_execution((&dear, dear_booked), NOTHING).unwrap();
    assert_eq!(figures(&account), (0, 0, 1_500));
    // What is bought next costs what is paid for it.
    account.apply_execution(&trade(Side::Buy, 1, 300), NOTHING).unwrap();
    assert_eq!(figures(&account), (1, 300, 1_500));
    // Sold without ever having been bought: 9 are owed, and what they were sold for is not known.
    account.bust_execution((&cheap, cheap_booked), NOTHING).unwrap();
    assert_eq!(account.holding(spy()).shares(), -9);
    assert_eq!(account.cash_cents(), 10_000 + 2_500 - 300);
}

#[test]
fn late_truths_are_shown_and_refuse_new_buys() {
    let mut account = funded(1_000);
    let order = |shares_left, is_open| {
        let reservation = Reservation::Cash(price(100));
        OrderFunds { symbol: spy(), reservation, shares_left, is_open }.held().unwrap()
    };
    account.reserve_buy(10, price(100)).unwrap();
    // Filled in full, and then 5 too many.
    let fill = trade(Side::Buy, 10, 100);
    let held = (order(10, true), order(0, false));
    account.apply_execution(&fill, held).unwrap();
    let held = (order(0, false), order(0, false));
    account.apply_execution(&trade(Side::Buy, 5, 100), held).unwrap();
    assert_eq!((account.cash_cents(), account.buying_power_cents()), (-500, -500));
    assert_eq!(account.holding(spy()).shares(), 15);
    assert!(account.is_overdrawn());
    let refused = account.reserve_buy(1, price(1));
    let expected = Refusal::InsufficientBuyingPower { available_cents: -500, needed_cents: 1 };
    assert_eq!(refused, Err(expected));
    account.deposit(501).unwrap();
    assert!(account.reserve_buy(1, price(1)).is_ok());
}

#[test]
fn an_order_that_is_open_again_reserves_what_is_no_longer_there() {
    let mut account = funded(1_000);
    account.reserve_buy(10, price(100)).unwrap();
    account.change_held((Held::Cash(1_000), Held::Nothing)).unwrap();
    account.withdraw(600).unwrap();
    assert!(!account.is_overdrawn());
    account.change_held((Held::Nothing, Held::Cash(1_000))).unwrap();
    assert_eq!((account.cash_cents(), account.buying_power_cents()), (400, -600));
    assert!(account.is_overdrawn());
    // The same of shares.
    let mut account = funded(1_000);
    account.apply_execution(&trade(Side::Buy, 5, 100), NOTHING).unwrap();
    account.change_held((Held::Nothing, Held::Shares(spy(), 6))).unwrap();
    assert_eq!(account.holding(spy()).available_shares(), -1);
    assert!(account.is_overdrawn());
}

#[test]
fn amounts_beyond_64_bits_change_nothing() {
    let mut account = funded(MAX_CASH_MOVEMENT_CENTS);
    let before = account.clone();
    let huge = trade(Side::Buy, u64::MAX, 1_000_000_000);
    assert_eq!(account.apply_execution(&huge, NOTHING), Err(Overflow));
    let largest = trade(Side::Sell, i64::MAX as u64, 1);
    assert_eq!(account.apply_execution(&largest, NOTHING), Err(Overflow), "cash would overflow");
    assert_eq!(account, before);
}

#[test]
fn what_is_brought_forward_has_its_cost_and_no_cash() {
    let symbol = Symbol::new("IBM").unwrap();
    let trade = |side, num_shares, cents| Trade {
        symbol,
        side,
        num_shares,
        price: PriceCents::new(cents).unwrap(),
    };
    let mut account = Account::default();
    account.bring_forward(&trade(Side::Buy, 10, 100)).unwrap();
    account.bring_forward(&trade(Side::Sell, 4, 150)).unwrap();
    let holding = account.holding(symbol);
    assert_eq!((holding.shares(), holding.cost_basis_cents()), (6, 600));
    assert_eq!(holding.realized_profit_cents(), 200);
    assert_eq!((account.cash_cents(), account.deposited_cents()), (0, 400), "1000 in, 600 out");
    assert!(account.is_balanced());
}
