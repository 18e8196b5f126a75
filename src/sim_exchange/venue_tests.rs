//! The rules of the exchange under arbitrary histories.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::entry::{Entry, FRAME_HEADER_BYTES};
use super::replay::Print;
use super::venue::Venue;
use crate::exchange::wire::{ExchangeStatus, FeedLine, FeedLineType, SubmitOrder, SubmitResult};
use crate::types::{
    ExternalOrderId, OrderType, PriceCents, Side, Symbol, TimeInForce, TimestampMicros,
};

const NOW: TimestampMicros = TimestampMicros::new(1_732_400_000_000_000);

fn price(cents: i64) -> PriceCents {
    PriceCents::new(cents).unwrap()
}

fn symbols() -> [Symbol; 2] {
    ["AAA", "BBB"].map(|name| Symbol::new(name).unwrap())
}

fn venue() -> Venue {
    let mut venue = Venue::new(&symbols());
    venue.begin_session(1);
    venue
}

fn order(id: &str, side: Side, limit: Option<i64>, num_shares: u64) -> SubmitOrder {
    SubmitOrder {
        client_order_id: id.into(),
        side,
        symbol: Symbol::new("AAA").unwrap(),
        order_type: if limit.is_some() { OrderType::Limit } else { OrderType::Market },
        limit_price_in_cents: limit.map(price),
        time_in_force: TimeInForce::Gtc,
        num_shares,
        submit_before: NOW,
    }
}

fn print(symbol: u16, cents: i64, shares: u32) -> Print {
    Print { symbol, price: price(cents), shares }
}

fn take_lines(venue: &mut Venue) -> Vec<FeedLine> {
    let bytes = std::mem::take(&mut venue.lines.bytes);
    venue.lines.marks.clear();
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// A venue rebuilt from another one's journal alone, in the next session.
fn restored(frames: &[u8], symbols: &[Symbol]) -> Venue {
    let mut venue = Venue::new(symbols);
    let mut frames = frames;
    let mut last_session = 0;
    while let Some((header, rest)) = frames.split_at_checked(FRAME_HEADER_BYTES) {
        let length = u32::from_le_bytes(header[..4].try_into().unwrap());
        let (payload, rest) = rest.split_at(length as usize);
        let entry = Entry::read(payload).unwrap();
        frames = rest;
        if let Entry::Started { session } = entry {
            last_session = session;
        }
        venue.restore(&entry);
    }
    venue.begin_session(last_session + 1);
    venue
}

fn refusal_code(result: &SubmitResult) -> &str {
    result.error.as_ref().map_or("", |error| error.code.as_str())
}

#[test]
fn a_buy_limit_fills_at_or_below_its_price_and_a_sell_at_or_above() {
    for (side, limit, fills_at, waits_at) in
        [(Side::Buy, 100, [99, 100], 101), (Side::Sell, 100, [101, 100], 99)]
    {
        for fill_price in fills_at {
            let mut venue = venue();
            venue.submit(&order("a", side, Some(limit), 10), NOW);
            venue.print(print(0, waits_at, 50), NOW);
            venue.print(print(1, fill_price, 50), NOW);
            assert_eq!(
                venue.query("a").filled_shares,
                0,
                "a print at another price or symbol fills nothing"
            );
            venue.print(print(0, fill_price, 50), NOW);
            let record = venue.query("a");
            assert_eq!(record.status, ExchangeStatus::Filled);
            assert_eq!(
                record.executions[0].price_in_cents,
                price(fill_price),
                "it fills at the print's price"
            );
        }
    }
}

#[test]
fn a_print_is_allocated_by_priority_and_never_exceeded() {
    let mut venue = venue();
    venue.submit(&order("first", Side::Buy, Some(100), 80), NOW);
    venue.submit(&order("market", Side::Sell, None, 30), NOW);
    venue.submit(&order("second", Side::Buy, Some(100), 80), NOW);
    venue.print(print(0, 100, 120), NOW);
    let lines = take_lines(&mut venue);
    assert_eq!(lines.len(), 4, "the print, then a line for each order");
    assert!(lines[0].order_id.is_none() && lines[0].volume);
    assert!(lines[1..].iter().all(|line| {
        line.order_id.is_some() && !line.volume && line.execution_id == lines[0].execution_id
    }));
    let filled = ["market", "first", "second"].map(|id| venue.query(id).filled_shares);
    assert_eq!(filled, [30, 80, 10], "the last order fills in part");
    assert_eq!(venue.query("second").status, ExchangeStatus::Open);
}

#[test]
fn invalid_orders_are_refused_with_a_code_for_good() {
    let mut venue = venue();
    let good = order("good", Side::Buy, Some(1), 1);
    let with = |id: &str, change: &dyn Fn(&mut SubmitOrder)| {
        let mut order = SubmitOrder { client_order_id: id.into(), ..good.clone() };
        change(&mut order);
        order
    };
    let refused = [
        (with("late", &|o| o.submit_before = TimestampMicros::new(NOW.micros() - 1)), "too_late"),
        (with("symbol", &|o| o.symbol = Symbol::new("ZZZ").unwrap()), "unknown_symbol"),
        (with("none", &|o| o.num_shares = 0), "invalid_quantity"),
        (with("many", &|o| o.num_shares = 10_000_001), "invalid_quantity"),
        (with("limit", &|o| o.limit_price_in_cents = None), "invalid_price"),
        (with("market", &|o| o.order_type = OrderType::Market), "invalid_price"),
    ];
    for (order, code) in &refused {
        let first = venue.submit(order, NOW);
        assert_eq!(refusal_code(&first), *code);
        let repaired =
            SubmitOrder { client_order_id: order.client_order_id.clone(), ..good.clone() };
        assert_eq!(venue.submit(&repaired, NOW), first, "a known id gets its first answer");
        assert_eq!(venue.query(&order.client_order_id).status, ExchangeStatus::Rejected);
    }
    assert_eq!(venue.query("never seen").status, ExchangeStatus::Unknown);
    let again = restored(&venue.journal, &symbols());
    for (order, code) in &refused {
        assert_eq!(again.query(&order.client_order_id).error.unwrap().code, *code);
    }
}

#[test]
fn cancels_report_the_state_of_the_order() {
    let mut venue = venue();
    let ids: Vec<_> = ["open", "filled"]
        .map(|id| venue.submit(&order(id, Side::Buy, Some(100), 5), NOW))
        .into_iter()
        .map(|result| result.external_order_id.unwrap())
        .collect();
    venue.print(print(0, 100, 8), NOW);
    take_lines(&mut venue);
    let code = |venue: &mut Venue, id: &ExternalOrderId| {
        venue.cancel(id, NOW).error.map_or("cancelled".to_owned(), |error| error.code.into())
    };
    assert_eq!(code(&mut venue, &ids[0]), "filled");
    assert_eq!(code(&mut venue, &ids[1]), "cancelled");
    assert_eq!(code(&mut venue, &ids[1]), "already_cancelled");
    for unknown in ["o1-3", "o2-1", "o01-1", "x"] {
        let unknown = ExternalOrderId::new(unknown).unwrap();
        assert_eq!(code(&mut venue, &unknown), "unknown");
    }
    let lines = take_lines(&mut venue);
    assert_eq!(lines.len(), 1, "only the effective cancel has a line");
    assert_eq!(lines[0].line_type, FeedLineType::Cancelled);
    assert_eq!(lines[0].order_id.as_ref(), Some(&ids[1]));
    venue.print(print(0, 100, 50), NOW);
    assert_eq!(venue.query("filled").filled_shares, 3, "a cancelled order keeps its fills");
}

#[test]
fn day_orders_expire_and_others_stay() {
    let mut venue = venue();
    for (id, time_in_force) in [("day", TimeInForce::Day), ("gtc", TimeInForce::Gtc)] {
        let order = order(id, Side::Buy, Some(1), 5);
        venue.submit(&SubmitOrder { time_in_force, ..order }, NOW);
    }
    let keys = venue.open_day_orders();
    venue.expire(&keys, NOW);
    venue.expire(&keys, NOW);
    assert_eq!(venue.query("day").status, ExchangeStatus::Expired);
    assert_eq!(venue.query("gtc").status, ExchangeStatus::Open);
    let lines = take_lines(&mut venue);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].line_type, FeedLineType::Expired);
}

#[test]
fn orders_of_untraded_symbols_can_be_cancelled() {
    let mut before = venue();
    before.submit(&order("a", Side::Buy, Some(1), 5), NOW);
    let mut after = restored(&before.journal, &[]);
    let id = after.query("a").external_order_id.unwrap();
    assert_eq!(after.cancel(&id, NOW).status, Some(ExchangeStatus::Cancelled));
    assert_eq!(take_lines(&mut after)[0].symbol, Symbol::new("AAA").ok());
}

#[test]
fn timestamps_never_go_back() {
    let mut venue = venue();
    venue.print(print(0, 100, 1), NOW);
    venue.print(print(0, 100, 1), TimestampMicros::new(5));
    let lines = take_lines(&mut venue);
    assert_eq!(lines[1].timestamp, NOW);
}

#[derive(Debug, Clone)]
enum Step {
    Submit { id: u8, buy: bool, limit: Option<i64>, shares: u64, day: bool },
    Print { symbol: u16, cents: i64, shares: u32 },
    Cancel { id: u8 },
    ExpireDay,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..40_u8, any::<bool>(), prop::option::of(95..105_i64), 1..60_u64, any::<bool>())
            .prop_map(|(id, buy, limit, shares, day)| Step::Submit { id, buy, limit, shares, day }),
        6 => (0..2_u16, 95..105_i64, 1..100_u32)
            .prop_map(|(symbol, cents, shares)| Step::Print { symbol, cents, shares }),
        2 => (0..40_u8).prop_map(|id| Step::Cancel { id }),
        1 => Just(Step::ExpireDay),
        1 => Just(Step::Restart),
    ]
}

/// What a client learns from answers and the feed.
#[derive(Default)]
struct Witness {
    orders: HashMap<String, (SubmitOrder, SubmitResult)>,
    filled: HashMap<String, u64>,
    sequence: u64,
}

impl Witness {
    fn read(&mut self, lines: &[FeedLine]) {
        let mut print: Option<(&FeedLine, u64)> = None;
        for line in lines {
            self.sequence += 1;
            assert_eq!(line.sequence, self.sequence, "sequences have no gap");
            if line.line_type != FeedLineType::Trade {
                continue;
            }
            let shares = line.num_shares.unwrap();
            let Some(id) = &line.order_id else {
                print = Some((line, shares));
                continue;
            };
            let (of, left) = print.as_mut().unwrap();
            assert_eq!(
                (&line.execution_id, line.symbol, line.price_in_cents),
                (&of.execution_id, of.symbol, of.price_in_cents)
            );
            *left = left.checked_sub(shares).expect("the fills of a print are at most its size");
            let (order, _) = self
                .orders
                .values()
                .find(|(_, answer)| answer.external_order_id.as_ref() == Some(id))
                .unwrap();
            if let Some(limit) = order.limit_price_in_cents {
                let price = line.price_in_cents.unwrap();
                match order.side {
                    Side::Buy => assert!(price <= limit),
                    Side::Sell => assert!(price >= limit),
                }
            }
            *self.filled.entry(order.client_order_id.to_string()).or_default() += shares;
        }
    }
}

const REGRESSIONS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proptest-regressions/sim_exchange/venue_tests.txt");

fn histories() -> ProptestConfig {
    let failures = FileFailurePersistence::Direct(REGRESSIONS);
    ProptestConfig {
        failure_persistence: Some(Box::new(failures)),
        ..ProptestConfig::with_cases(300)
    }
}

proptest! {
    #![proptest_config(histories())]
    #[test]
    fn no_history_breaks_the_rules(steps in prop::collection::vec(step(), 1..120)) {
        let mut venue = venue();
        let mut witness = Witness::default();
        let mut journal = Vec::new();
        for step in steps {
            match step {
                Step::Submit { id, buy, limit, shares, day } => {
                    let side = if buy { Side::Buy } else { Side::Sell };
                    let mut order = order(&format!("c{id}"), side, limit, shares);
                    order.time_in_force = if day { TimeInForce::Day } else { TimeInForce::Gtc };
                    let answer = venue.submit(&order, NOW);
                    let known = witness.orders.entry(format!("c{id}"));
                    let (_, first) = known.or_insert((order, answer.clone()));
                    prop_assert_eq!(&answer, first, "an id gets its first answer");
                }
                Step::Print { symbol, cents, shares } => {
                    venue.print(print(symbol, cents, shares), NOW);
                }
                Step::Cancel { id } => {
                    let external = venue.query(&format!("c{id}")).external_order_id;
                    if let Some(external) = external {
                        venue.cancel(&external, NOW);
                    }
                }
                Step::ExpireDay => {
                    let keys = venue.open_day_orders();
                    venue.expire(&keys, NOW);
                    prop_assert!(venue.open_day_orders().is_empty());
                }
                Step::Restart => {
                    journal.append(&mut venue.journal);
                    venue = restored(&journal, &symbols());
                    if witness.orders.len().is_multiple_of(2) {
                        journal = venue.snapshot(NOW); // as a rewritten journal
                        venue = restored(&journal, &symbols());
                    }
                    witness.sequence = 0;
                }
            }
            let lines = take_lines(&mut venue);
            witness.read(&lines);
            for (id, (order, _)) in &witness.orders {
                let record = venue.query(id);
                let executed: u64 = record.executions.iter().map(|e| e.num_shares).sum();
                prop_assert!(record.filled_shares <= order.num_shares);
                prop_assert_eq!(record.filled_shares, executed);
                prop_assert_eq!(executed, witness.filled.get(id).copied().unwrap_or(0));
                let full = record.filled_shares == order.num_shares;
                prop_assert_eq!(record.status == ExchangeStatus::Filled, full);
            }
        }
    }
}
