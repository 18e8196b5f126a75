//! Entry point of the fuzz target `exchange_words`: arbitrary answers and reports of an exchange,
//! from their JSON to the orders. A violated property panics.

use std::str;
use std::sync::Arc;

use compact_str::{CompactString, ToCompactString};
use serde::de::DeserializeOwned;

use super::translate;
use crate::engine::{
    CancelOutcome, CreateOrder, EngineOptions, Engines, Outbox, ReplyTo, SubmitOutcome,
};
use crate::exchange::wire::{CancelResult, FeedLine, QueryResult, SubmitResult};
use crate::exchange::{ResultElement, Results, read_results};
use crate::order::{Event, EventEncoder, Order, RECORD_FORMAT_VERSION, Status, decode};
use crate::types::{
    ExternalOrderId, OrderId, PriceCents, Side, Symbol, TimeInForce, TimestampMicros, UserId,
};

/// Orders that are submitted.
const ORDERS: u64 = 3;
const SHARES: u64 = 100;
const START_MICROS: u64 = 1_700_000_000_000_000;
/// Time between two lines: a few lines pass every deadline of the engine.
const STEP_MICROS: u64 = 700_000;
/// Most lines of an input that are processed.
const MAX_LINES: usize = 64;
/// Overdue orders processed per line.
const LOOKS: usize = 16;

/// An input consists of lines: `s`, `c` or `q` and the exchange's answer to a submit, a cancel or a
/// query of all orders; `x` and a digit for a user's cancel; `l` for lost answers. Any other line
/// is a feed line.
///
/// # Panics
/// When an outcome is missing, an order breaks an invariant, or replaying the log gives other
/// orders.
pub fn exchange_words(data: &[u8]) {
    let mut story = Story::new();
    for line in data.split(|&byte| byte == b'\n').take(MAX_LINES) {
        story.now = story.now.saturating_add_micros(STEP_MICROS);
        story.take(line);
        story.check();
    }
    story.check_replay();
}

struct Story {
    engines: Engines,
    out: Outbox,
    orders: Vec<Arc<Order>>,
    log: Vec<Event>,
    now: TimestampMicros,
}

impl Story {
    fn new() -> Self {
        let now = TimestampMicros::new(START_MICROS);
        let engines = Engines::new(EngineOptions::default());
        let mut story =
            Self { engines, out: Outbox::new(), orders: Vec::new(), log: Vec::new(), now };
        for number in 0..ORDERS {
            story.create(number);
        }
        story.orders = story.engines.orders().cloned().collect();
        story.orders.sort_by_key(|order| order.order_id);
        story.check();
        story
    }

    fn create(&mut self, number: u64) {
        let (Ok(user), Ok(symbol)) = (UserId::new("alice"), Symbol::new("SPY")) else { return };
        let nanos = u128::from(START_MICROS + number) * 1_000;
        let request = CreateOrder {
            order_id: OrderId::new(nanos, number, user.partition()),
            user,
            client_order_id: None,
            symbol,
            side: Side::Buy,
            limit_price: PriceCents::new(100).ok(),
            time_in_force: TimeInForce::Day,
            num_shares: SHARES,
            last_price: None,
            created_at: self.now,
        };
        self.engines.create(self.now, request, ReplyTo(number), &mut self.out);
    }

    fn take(&mut self, line: &[u8]) {
        match line.split_first() {
            Some((b's', rest)) => self.submit_answer(rest),
            Some((b'c', rest)) => self.cancel_answer(rest),
            Some((b'q', rest)) => self.query_answer(rest),
            Some((b'x', rest)) => self.cancel(rest),
            Some((b'l', _)) => self.lose_answers(),
            _ => self.feed_line(line),
        }
        self.engines.tick(self.now, LOOKS, &mut self.out);
    }

    fn submit_answer(&mut self, json: &[u8]) {
        let Some(answer) = answer::<SubmitResult>(json) else { return };
        let sent = |order: &Arc<Order>| translate::submit_order(order, order.submit_before);
        let orders: Vec<_> = self.orders.iter().map(sent).collect();
        let outcomes = translate::submit_outcomes(&orders, answer, &mut Vec::new());
        assert_eq!(outcomes.len(), orders.len(), "one outcome per order");
        for (order, outcome) in self.orders.iter().zip(outcomes) {
            self.engines.submit_answer(self.now, order.order_id, outcome, &mut self.out);
        }
    }

    fn cancel_answer(&mut self, json: &[u8]) {
        let Some(answer) = answer::<CancelResult>(json) else { return };
        let known = self.orders.iter().filter_map(|order| {
            let id = self.engines.order(order.order_id)?.external_order_id.clone()?;
            Some((order.order_id, id))
        });
        let (order_ids, ids): (Vec<OrderId>, Vec<ExternalOrderId>) = known.unzip();
        let outcomes = translate::cancel_outcomes(&ids, answer, &mut Vec::new());
        assert_eq!(outcomes.len(), ids.len(), "one outcome per cancel");
        for (order_id, outcome) in order_ids.into_iter().zip(outcomes) {
            self.engines.cancel_answer(self.now, order_id, outcome, &mut self.out);
        }
    }

    fn query_answer(&mut self, json: &[u8]) {
        let Some(answer) = answer::<QueryResult>(json) else { return };
        let ids: Vec<CompactString> =
            self.orders.iter().map(|order| order.order_id.to_compact_string()).collect();
        let records = translate::query_answers(&ids, answer, &mut Vec::new());
        assert_eq!(records.len(), ids.len(), "one answer per order");
        for (order, record) in self.orders.iter().zip(records) {
            let record = record.map(|record| (self.now, record));
            self.engines.query_answer(self.now, order.order_id, record, &mut self.out);
        }
    }

    fn cancel(&mut self, digits: &[u8]) {
        let number = digits.first().map_or(0, |digit| usize::from(digit % 8));
        let Some(order) = self.orders.get(number) else { return };
        let request = (&order.user, order.order_id);
        self.engines.cancel(self.now, request, ReplyTo(ORDERS), &mut self.out);
    }

    fn lose_answers(&mut self) {
        for order in &self.orders {
            let (now, id) = (self.now, order.order_id);
            self.engines.submit_answer(now, id, SubmitOutcome::Unknown, &mut self.out);
            self.engines.cancel_answer(now, id, CancelOutcome::Unknown, &mut self.out);
            self.engines.query_answer(now, id, None, &mut self.out);
        }
    }

    fn feed_line(&mut self, json: &[u8]) {
        let Some(line) = parse::<FeedLine>(json) else { return };
        let sequence = line.sequence;
        if let Some(report) = translate::report(line, None) {
            self.engines.report(self.now, report, &mut self.out);
        }
        self.engines.feed_reached(sequence);
    }

    fn now_of_orders(&self) -> impl Iterator<Item = &Arc<Order>> {
        self.orders.iter().filter_map(|order| self.engines.order(order.order_id))
    }

    fn check(&mut self) {
        for order in self.now_of_orders() {
            let is_full = order.filled_shares >= order.num_shares;
            assert_eq!(order.status == Status::Filled, is_full, "{order:?}");
            assert!(order.filled_value_cents >= 0 && order.updated_at >= order.created_at);
            assert_eq!(order.filled_shares == 0, order.filled_value_cents == 0, "{order:?}");
            assert!(serde_json::to_vec(&**order).is_ok(), "every order can be serialized");
        }
        self.out.effects.clear();
        self.log.append(&mut self.out.events);
    }

    /// Replaying the log gives the same orders.
    fn check_replay(&self) {
        let mut encoder = EventEncoder::new();
        let mut replayed = Engines::new(EngineOptions::default());
        for event in &self.log {
            let payload = encoder.encode(event).map(<[u8]>::to_vec).unwrap_or_default();
            let read = decode(event.kind(), RECORD_FORMAT_VERSION, &payload);
            assert_eq!(read.as_ref().ok(), Some(event), "events round-trip");
            let taken = read.ok().and_then(|event| replayed.replay(&event).ok());
            assert!(taken.is_some(), "events refer to orders of the log");
        }
        for order in self.now_of_orders() {
            assert_eq!(replayed.order(order.order_id), Some(order));
        }
    }
}

fn answer<T: ResultElement>(json: &[u8]) -> Option<Results<T>> {
    read_results(json).ok()
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    serde_json::from_str(str::from_utf8(json).ok()?).ok()
}
