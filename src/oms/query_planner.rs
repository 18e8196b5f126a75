//! Decides which orders share a query request. An answer that cannot be read as a whole (too long,
//! not JSON, repeated errors, or none at all) may fail because of one order. Its orders are then
//! queried in halves, down to single orders; an order that fails alone is queried alone, and ever
//! less often.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::exchange::wire::MAX_BATCH;
use crate::types::{MonotonicMicros, OrderId};

/// Most orders waiting in parts of failed requests. Orders beyond this are lost; whoever needs
/// them queries again.
const MAX_IN_PARTS: usize = 4 * MAX_BATCH;
/// Failures in a row, of requests of any size, after which a probe finds out whether the exchange
/// answers at all.
const FAILURES_TO_DOUBT: u32 = 4;
/// Most orders known to fail alone. Beyond this, more of them only cost more requests.
const MAX_DIFFICULT: usize = 1_024;

/// Queries waiting to become requests.
#[derive(Debug, Default)]
pub(crate) struct QueryPlanner {
    /// Parts of failed requests, oldest first: all parts of one size before the smaller ones.
    parts: VecDeque<Vec<OrderId>>,
    in_parts: usize,
    /// Whether the last request was such a part, so that new queries are next.
    parts_had_turn: bool,
    failures_in_a_row: u32,
    /// Requests answered so far.
    answered: u64,
    difficult: HashMap<OrderId, Difficult>,
    /// How long to wait before querying an order again.
    grace: Duration,
    /// How often the pause of an order that fails alone doubles.
    max_doublings: u32,
}

/// An order whose query failed although it was alone.
#[derive(Debug)]
struct Difficult {
    failures: u32,
    not_before: MonotonicMicros,
    /// Requests answered when it last failed. While there are no more, the order may not be at
    /// fault.
    answered: u64,
}

/// The next request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextQuery {
    /// Queries these orders.
    Orders(Vec<OrderId>),
    /// Finds out whether the exchange answers at all.
    Probe,
}

impl QueryPlanner {
    /// Sets the first pause of an order that fails alone, and how often it doubles.
    pub(crate) fn set_pauses(&mut self, grace: Duration, max_doublings: u32) {
        assert!(max_doublings < u32::BITS, "a pause is doubled by a shift");
        self.grace = grace;
        self.max_doublings = max_doublings;
    }

    fn assert_invariants(&self) {
        debug_assert_eq!(
            self.parts.iter().map(Vec::len).sum::<usize>(),
            self.in_parts,
            "all orders in parts are counted"
        );
        debug_assert!(self.parts.iter().all(|part| !part.is_empty()), "a part has an order");
        assert!(self.parts.len() <= self.in_parts, "a part has an order");
        assert!(self.difficult.len() <= MAX_DIFFICULT, "orders that fail alone are bounded");
    }

    /// Whether parts of failed requests are waiting.
    pub(crate) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// The next request: from the waiting parts and, alternately, from `fresh`. Orders that fail
    /// alone and must pause go to `lost`.
    pub(crate) fn next(
        &mut self,
        now: MonotonicMicros,
        fresh: impl FnOnce() -> Vec<OrderId>,
        lost: &mut Vec<OrderId>,
    ) -> Option<NextQuery> {
        self.assert_invariants();
        if self.has_parts() && self.failures_in_a_row >= FAILURES_TO_DOUBT {
            return Some(NextQuery::Probe);
        }
        if !self.parts_had_turn
            && let Some(part) = self.next_part()
        {
            self.parts_had_turn = true;
            return Some(part);
        }
        self.parts_had_turn = false;
        let mut fresh = fresh();
        assert!(fresh.len() <= MAX_BATCH, "a request has at most what the exchange takes");
        if !self.difficult.is_empty() {
            self.set_aside(now, &mut fresh, lost);
        }
        if fresh.is_empty() { self.next_part() } else { Some(NextQuery::Orders(fresh)) }
    }

    fn next_part(&mut self) -> Option<NextQuery> {
        let part = self.parts.pop_front()?;
        assert!(part.len() <= self.in_parts, "all orders in parts are counted");
        self.in_parts -= part.len();
        self.assert_invariants();
        Some(NextQuery::Orders(part))
    }

    /// Takes orders that fail alone out of a common request.
    fn set_aside(
        &mut self,
        now: MonotonicMicros,
        fresh: &mut Vec<OrderId>,
        lost: &mut Vec<OrderId>,
    ) {
        let (asked, lost_before) = (fresh.len(), lost.len());
        let mut alone = Vec::new();
        fresh.retain(|order_id| match self.difficult.get(order_id) {
            None => true,
            Some(difficult) => {
                let list = if now < difficult.not_before { &mut *lost } else { &mut alone };
                list.push(*order_id);
                false
            }
        });
        assert!(fresh.len() + alone.len() <= MAX_BATCH, "a request is only split up");
        assert_eq!(
            fresh.len() + alone.len() + lost.len() - lost_before,
            asked,
            "an order is queried with others, alone, or later"
        );
        alone.into_iter().for_each(|order_id| self.put(vec![order_id]));
    }

    fn put(&mut self, part: Vec<OrderId>) {
        assert!(part.len() <= MAX_BATCH, "a part is one of a request");
        self.in_parts += part.len();
        self.parts.push_back(part);
        self.assert_invariants();
    }

    /// Puts back orders that were not sent, or that the exchange throttled.
    pub(crate) fn put_back(&mut self, part: Vec<OrderId>) {
        assert!(part.len() <= MAX_BATCH, "what is put back was one request");
        if !part.is_empty() {
            self.in_parts += part.len();
            self.parts.push_front(part);
        }
        self.assert_invariants();
    }

    /// A request was answered.
    pub(crate) fn answered(&mut self, order_ids: &[OrderId]) {
        assert!(order_ids.len() <= MAX_BATCH, "a request has at most what the exchange takes");
        self.failures_in_a_row = 0;
        self.answered += 1;
        if !self.difficult.is_empty() {
            for order_id in order_ids {
                self.difficult.remove(order_id);
            }
        }
    }

    /// A request has no readable answer. Returns the orders that are lost; the others are queried
    /// in parts.
    pub(crate) fn failed(&mut self, now: MonotonicMicros, order_ids: Vec<OrderId>) -> Vec<OrderId> {
        assert!(order_ids.len() <= MAX_BATCH, "a request has at most what the exchange takes");
        let waiting = self.in_parts + order_ids.len();
        let lost = self.split(now, order_ids);
        assert_eq!(self.in_parts + lost.len(), waiting, "an order is queried in a part, or lost");
        lost
    }

    /// Splits the orders of a failed request into parts. Returns those that are lost.
    fn split(&mut self, now: MonotonicMicros, mut order_ids: Vec<OrderId>) -> Vec<OrderId> {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if let [order_id] = order_ids[..] {
            self.note_difficult(now, order_id);
            return order_ids;
        }
        let is_probe = order_ids.is_empty();
        if is_probe {
            // The orders are not at fault, so querying them in parts is useless.
            self.in_parts = 0;
            return self.parts.drain(..).flatten().collect();
        }
        let is_doubtful = self.failures_in_a_row > FAILURES_TO_DOUBT;
        if is_doubtful || self.in_parts + order_ids.len() > MAX_IN_PARTS {
            return order_ids;
        }
        let second = order_ids.split_off(order_ids.len() / 2);
        assert!(!order_ids.is_empty() && !second.is_empty(), "several orders have two halves");
        self.put(order_ids);
        self.put(second);
        Vec::new()
    }

    fn note_difficult(&mut self, now: MonotonicMicros, order_id: OrderId) {
        let answered = self.answered;
        if let Some(difficult) = self.difficult.get_mut(&order_id) {
            assert!(answered >= difficult.answered, "answers are counted upwards");
            if answered > difficult.answered {
                difficult.failures = difficult.failures.saturating_add(1);
                difficult.answered = answered;
            }
            let doublings = difficult.failures.min(self.max_doublings);
            let pause = self.grace.saturating_mul(1 << doublings);
            difficult.not_before = now.saturating_add(pause);
            return;
        }
        if self.difficult.len() >= MAX_DIFFICULT {
            let longest = self.grace.saturating_mul(1 << self.max_doublings);
            self.difficult.retain(|_, known| known.not_before.saturating_add(longest) > now);
        }
        if self.difficult.len() < MAX_DIFFICULT {
            let difficult = Difficult { failures: 0, not_before: now, answered };
            self.difficult.insert(order_id, difficult);
        }
        self.assert_invariants();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const GRACE: Duration = Duration::from_secs(2);
    const MAX_DOUBLINGS: u32 = 7;

    fn new_planner() -> QueryPlanner {
        QueryPlanner { grace: GRACE, max_doublings: MAX_DOUBLINGS, ..QueryPlanner::default() }
    }

    fn ids(numbers: std::ops::Range<u128>) -> Vec<OrderId> {
        numbers.map(OrderId::from_u128).collect()
    }

    /// Queries all of `order_ids` until nothing is left, at an exchange that answers if `is_fine`.
    /// Returns the answered and the lost orders, and the number of requests.
    fn query_all(
        planner: &mut QueryPlanner,
        order_ids: Vec<OrderId>,
        is_fine: impl Fn(&[OrderId]) -> bool,
    ) -> (BTreeSet<OrderId>, Vec<OrderId>, usize) {
        let now = MonotonicMicros::new(7);
        let (mut fresh, mut answered, mut lost) = (Some(order_ids), BTreeSet::new(), Vec::new());
        let mut requests = 0;
        loop {
            let next = planner.next(now, || fresh.take().unwrap_or_default(), &mut lost);
            let Some(next) = next else { return (answered, lost, requests) };
            requests += 1;
            let order_ids = match next {
                NextQuery::Orders(order_ids) => order_ids,
                NextQuery::Probe => Vec::new(),
            };
            if is_fine(&order_ids) {
                planner.answered(&order_ids);
                answered.extend(order_ids);
            } else {
                lost.extend(planner.failed(now, order_ids));
            }
        }
    }

    #[test]
    fn one_failing_order_does_not_block_the_others() {
        for odd in [0, 100, 255] {
            let odd = OrderId::from_u128(odd);
            let mut planner = new_planner();
            let is_fine = |order_ids: &[OrderId]| !order_ids.contains(&odd);
            let (answered, lost, requests) = query_all(&mut planner, ids(0..256), is_fine);
            assert_eq!((answered.len(), lost), (255, vec![odd]));
            assert!(requests <= 20, "{requests}");
            // From now on it is queried alone and does not affect the others.
            let (answered, lost, requests) = query_all(&mut planner, ids(0..256), is_fine);
            assert_eq!((answered.len(), lost, requests), (255, vec![odd], 2));
            let (answered, lost, requests) = query_all(&mut planner, ids(0..256), is_fine);
            assert_eq!((answered.len(), lost, requests), (255, vec![odd], 1), "not so soon");
            // Once it succeeds, it is queried with the others again.
            let later =
                MonotonicMicros::new(7).saturating_add(GRACE.saturating_mul(1 << MAX_DOUBLINGS));
            let next = planner.next(later, || vec![odd], &mut Vec::new());
            assert_eq!(next, Some(NextQuery::Orders(vec![odd])));
            planner.answered(&[odd]);
            assert_eq!(query_all(&mut planner, ids(0..256), |_| true).2, 1);
        }
    }

    #[test]
    fn many_failing_orders_are_isolated() {
        let mut planner = new_planner();
        let is_odd = |order_id: &OrderId| order_id.as_u128() < 40;
        let is_fine = |order_ids: &[OrderId]| !order_ids.iter().any(is_odd);
        let (answered, lost, _) = query_all(&mut planner, ids(0..256), is_fine);
        assert_eq!((answered.len(), lost.len()), (216, 40));
    }

    #[test]
    fn an_exchange_that_answers_nothing_is_not_queried_in_ever_smaller_parts() {
        let mut planner = new_planner();
        for _ in 0..10 {
            let (answered, lost, requests) = query_all(&mut planner, ids(0..256), |_| false);
            assert_eq!((answered.len(), lost.len()), (0, 256));
            assert!(requests <= 6, "{requests}");
        }
        let (answered, _, requests) = query_all(&mut planner, ids(0..256), |_| true);
        assert_eq!((answered.len(), requests), (256, 1), "one request when the exchange is back");
        // A single order failed meanwhile, but nothing else was answered: the order is not at
        // fault.
        let mut planner = new_planner();
        for _ in 0..10 {
            assert_eq!(planner.failed(MonotonicMicros::new(7), ids(1..2)), ids(1..2));
        }
        let soon = MonotonicMicros::new(7).saturating_add(GRACE);
        let next = planner.next(soon, || ids(1..2), &mut Vec::new());
        assert_eq!(next, Some(NextQuery::Orders(ids(1..2))));
    }

    #[test]
    fn the_pause_of_an_order_that_fails_alone_grows() {
        let mut planner = new_planner();
        let mut now = MonotonicMicros::new(7);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            planner.failed(now, ids(1..2));
            planner.answered(&ids(2..3));
            let before = now;
            while planner.next(now, || ids(1..2), &mut Vec::new()).is_none() {
                now = now.saturating_add(Duration::from_secs(1));
            }
            pauses.push(now.saturating_since(before).as_secs());
        }
        assert_eq!(pauses.iter().take(3).collect::<Vec<_>>(), [&0, &4, &8]);
        assert_eq!(pauses.last(), Some(&GRACE.saturating_mul(1 << MAX_DOUBLINGS).as_secs()));
    }

    #[test]
    fn waiting_parts_are_bounded_and_alternate_with_new_queries() {
        let mut planner = new_planner();
        let mut lost = Vec::new();
        for batch in 0..10 {
            planner.failures_in_a_row = 0;
            lost.extend(
                planner.failed(MonotonicMicros::new(7), ids(batch * 256..(batch + 1) * 256)),
            );
        }
        assert_eq!(lost.len(), 10 * 256 - MAX_IN_PARTS);
        let kinds: Vec<bool> = (0..4)
            .map(|_| {
                let fresh = ids(9_999..10_000);
                let now = MonotonicMicros::new(7);
                let next = planner.next(now, || fresh.clone(), &mut Vec::new());
                next == Some(NextQuery::Orders(fresh))
            })
            .collect();
        assert_eq!(kinds.iter().filter(|is_fresh| **is_fresh).count(), 2, "{kinds:?}");
    }
}
