//! Which orders are asked about together. An answer that cannot be read as a whole (too long, no JSON,
//! an error again and again, none at all) may be so because of one order: the others are asked about
//! in halves, down to single orders, and an order that fails alone goes on alone and ever less often.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::exchange::wire::MAX_BATCH;
use crate::types::{MonotonicMicros, OrderId};

/// Most orders that wait in parts of requests that failed. What is beyond is lost to whoever asked,
/// who asks again.
const MAX_IN_PARTS: usize = 4 * MAX_BATCH;
/// Failures in a row, of requests of any size, after which it is found out whether the exchange
/// answers anything at all.
const FAILURES_TO_DOUBT: u32 = 4;
/// Most orders that are known to fail alone. Beyond it more of them only cost more requests.
const MAX_DIFFICULT: usize = 1_024;
/// Questions on their way to becoming requests.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    /// Parts of requests that failed, oldest first: all parts of a size before the smaller ones.
    parts: VecDeque<Vec<OrderId>>,
    in_parts: usize,
    /// The last request was such a part: what is new has its turn.
    parts_had_turn: bool,
    failures_in_a_row: u32,
    /// Requests that were answered, ever.
    answered: u64,
    difficult: HashMap<OrderId, Difficult>,
    /// How long whoever asks waits before asking again.
    grace: Duration,
    /// How often the pause before an order that fails alone is asked about again doubles.
    max_doublings: u32,
}

/// An order whose question failed although nothing else was asked with it.
#[derive(Debug)]
struct Difficult {
    failures: u32,
    not_before: MonotonicMicros,
    /// How many requests had been answered when it failed. While there are no more, the order may
    /// not be what is wrong.
    answered: u64,
}

/// What to ask.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// About these.
    Orders(Vec<OrderId>),
    /// Whether the exchange answers anything at all.
    Probe,
}

impl Questions {
    /// Sets the first pause before an order that fails alone is asked about again, and how often it
    /// doubles.
    pub(crate) fn set_pauses(&mut self, grace: Duration, max_doublings: u32) {
        self.grace = grace;
        self.max_doublings = max_doublings;
    }

    /// Whether something waits that did not come with the last questions.
    pub(crate) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// The next request, out of what waits here and, by turns, of what `fresh` gives. An order that
    /// has to wait because it fails alone goes to `lost`.
    pub(crate) fn next(
        &mut self,
        now: MonotonicMicros,
        fresh: impl FnOnce() -> Vec<OrderId>,
        lost: &mut Vec<OrderId>,
    ) -> Option<Question> {
        if self.has_parts() && self.failures_in_a_row >= FAILURES_TO_DOUBT {
            return Some(Question::Probe);
        }
        if !self.parts_had_turn
            && let Some(part) = self.next_part()
        {
            self.parts_had_turn = true;
            return Some(part);
        }
        self.parts_had_turn = false;
        let mut fresh = fresh();
        if !self.difficult.is_empty() {
            self.set_aside(now, &mut fresh, lost);
        }
        if fresh.is_empty() { self.next_part() } else { Some(Question::Orders(fresh)) }
    }

    fn next_part(&mut self) -> Option<Question> {
        let part = self.parts.pop_front()?;
        self.in_parts -= part.len();
        Some(Question::Orders(part))
    }

    /// Takes difficult orders out of what is asked about together.
    fn set_aside(
        &mut self,
        now: MonotonicMicros,
        fresh: &mut Vec<OrderId>,
        lost: &mut Vec<OrderId>,
    ) {
        let mut alone = Vec::new();
        fresh.retain(|order_id| match self.difficult.get(order_id) {
            None => true,
            Some(difficult) => {
                let list = if now < difficult.not_before { &mut *lost } else { &mut alone };
                list.push(*order_id);
                false
            }
        });
        alone.into_iter().for_each(|order_id| self.put(vec![order_id]));
    }

    fn put(&mut self, part: Vec<OrderId>) {
        self.in_parts += part.len();
        self.parts.push_back(part);
    }

    /// Puts back what was not sent, or not taken.
    pub(crate) fn put_back(&mut self, part: Vec<OrderId>) {
        if !part.is_empty() {
            self.in_parts += part.len();
            self.parts.push_front(part);
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&mut self, order_ids: &[OrderId]) {
        self.failures_in_a_row = 0;
        self.answered += 1;
        if !self.difficult.is_empty() {
            for order_id in order_ids {
                self.difficult.remove(order_id);
            }
        }
    }

    /// A request was not answered in a way that can be read. The orders that are lost to whoever
    /// asked; the rest is asked about in parts.
    pub(crate) fn failed(
        &mut self,
        now: MonotonicMicros,
        mut order_ids: Vec<OrderId>,
    ) -> Vec<OrderId> {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if let [order_id] = order_ids[..] {
            self.note_difficult(now, order_id);
            return order_ids;
        }
        let is_probe = order_ids.is_empty();
        if is_probe {
            // It is not about the orders: nothing comes of asking in parts.
            self.in_parts = 0;
            return self.parts.drain(..).flatten().collect();
        }
        let is_doubtful = self.failures_in_a_row > FAILURES_TO_DOUBT;
        if is_doubtful || self.in_parts + order_ids.len() > MAX_IN_PARTS {
            return order_ids;
        }
        let second = order_ids.split_off(order_ids.len() / 2);
        self.put(order_ids);
        self.put(second);
        Vec::new()
    }

    fn note_difficult(&mut self, now: MonotonicMicros, order_id: OrderId) {
        let answered = self.answered;
        if let Some(difficult) = self.difficult.get_mut(&order_id) {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const GRACE: Duration = Duration::from_secs(2);
    const MAX_DOUBLINGS: u32 = 7;

    fn begun() -> Questions {
        Questions { grace: GRACE, max_doublings: MAX_DOUBLINGS, ..Questions::default() }
    }

    fn ids(numbers: std::ops::Range<u128>) -> Vec<OrderId> {
        numbers.map(OrderId::from_u128).collect()
    }

    /// Asks about all of `order_ids` until nothing is left to ask, of an exchange that answers where
    /// `is_fine`. What was answered, what was lost, and how many requests that took.
    fn ask(
        questions: &mut Questions,
        order_ids: Vec<OrderId>,
        is_fine: impl Fn(&[OrderId]) -> bool,
    ) -> (BTreeSet<OrderId>, Vec<OrderId>, usize) {
        let now = MonotonicMicros::new(7);
        let (mut fresh, mut answered, mut lost) = (Some(order_ids), BTreeSet::new(), Vec::new());
        let mut requests = 0;
        loop {
            let next = questions.next(now, || fresh.take().unwrap_or_default(), &mut lost);
            let Some(next) = next else { return (answered, lost, requests) };
            requests += 1;
            let asked = match next {
                Question::Orders(asked) => asked,
                Question::Probe => Vec::new(),
            };
            if is_fine(&asked) {
                questions.answered(&asked);
                answered.extend(asked);
            } else {
                lost.extend(questions.failed(now, asked));
            }
        }
    }

    #[test]
    fn one_order_never_holds_up_the_others() {
        for odd in [0, 100, 255] {
            let odd = OrderId::from_u128(odd);
            let mut questions = begun();
            let is_fine = |asked: &[OrderId]| !asked.contains(&odd);
            let (answered, lost, requests) = ask(&mut questions, ids(0..256), is_fine);
            assert_eq!((answered.len(), lost), (255, vec![odd]));
            assert!(requests <= 20, "{requests}");
            // It goes alone from now on, and costs the others nothing.
            let (answered, lost, requests) = ask(&mut questions, ids(0..256), is_fine);
            assert_eq!((answered.len(), lost, requests), (255, vec![odd], 2));
            let (answered, lost, requests) = ask(&mut questions, ids(0..256), is_fine);
            assert_eq!((answered.len(), lost, requests), (255, vec![odd], 1), "not so soon");
            // Once it is fine it is one of them.
            let later =
                MonotonicMicros::new(7).saturating_add(GRACE.saturating_mul(1 << MAX_DOUBLINGS));
            let next = questions.next(later, || vec![odd], &mut Vec::new());
            assert_eq!(next, Some(Question::Orders(vec![odd])));
            questions.answered(&[odd]);
            assert_eq!(ask(&mut questions, ids(0..256), |_| true).2, 1);
        }
    }

    #[test]
    fn many_odd_orders_are_found_all_the_same() {
        let mut questions = begun();
        let is_odd = |order_id: &OrderId| order_id.as_u128() < 40;
        let is_fine = |asked: &[OrderId]| !asked.iter().any(is_odd);
        let (answered, lost, _) = ask(&mut questions, ids(0..256), is_fine);
        assert_eq!((answered.len(), lost.len()), (216, 40));
    }

    #[test]
    fn an_exchange_that_answers_nothing_is_not_asked_in_ever_smaller_parts() {
        let mut questions = begun();
        for _ in 0..10 {
            let (answered, lost, requests) = ask(&mut questions, ids(0..256), |_| false);
            assert_eq!((answered.len(), lost.len()), (0, 256));
            assert!(requests <= 6, "{requests}");
        }
        let (answered, _, requests) = ask(&mut questions, ids(0..256), |_| true);
        assert_eq!((answered.len(), requests), (256, 1), "at once when it is back");
        // A single order was asked about in vain meanwhile: that is not the order's fault.
        let mut questions = begun();
        for _ in 0..10 {
            assert_eq!(questions.failed(MonotonicMicros::new(7), ids(1..2)), ids(1..2));
        }
        let soon = MonotonicMicros::new(7).saturating_add(GRACE);
        let next = questions.next(soon, || ids(1..2), &mut Vec::new());
        assert_eq!(next, Some(Question::Orders(ids(1..2))));
    }

    #[test]
    fn pauses_of_an_order_that_fails_alone_grow() {
        let mut questions = begun();
        let mut now = MonotonicMicros::new(7);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            questions.failed(now, ids(1..2));
            questions.answered(&ids(2..3));
            let before = now;
            while questions.next(now, || ids(1..2), &mut Vec::new()).is_none() {
                now = now.saturating_add(Duration::from_secs(1));
            }
            pauses.push(now.saturating_since(before).as_secs());
        }
        assert_eq!(pauses.iter().take(3).collect::<Vec<_>>(), [&0, &4, &8]);
        assert_eq!(pauses.last(), Some(&GRACE.saturating_mul(1 << MAX_DOUBLINGS).as_secs()));
    }

    #[test]
    fn what_waits_in_parts_is_bounded_and_new_questions_have_their_turn() {
        let mut questions = begun();
        let mut lost = Vec::new();
        for batch in 0..10 {
            questions.failures_in_a_row = 0;
            lost.extend(
                questions.failed(MonotonicMicros::new(7), ids(batch * 256..(batch + 1) * 256)),
            );
        }
        assert_eq!(lost.len(), 10 * 256 - MAX_IN_PARTS);
        let kinds: Vec<bool> = (0..4)
            .map(|_| {
                let fresh = ids(9_999..10_000);
                let now = MonotonicMicros::new(7);
                let next = questions.next(now, || fresh.clone(), &mut Vec::new());
                next == Some(Question::Orders(fresh))
            })
            .collect();
        assert_eq!(kinds.iter().filter(|is_fresh| **is_fresh).count(), 2, "{kinds:?}");
    }
}
