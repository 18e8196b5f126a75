//! Orders on their way to the exchange, and when they go: the one owner of both.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxBuildHasher;

use super::limits::MAX_WAITING_SUBMITS;
use super::local_queue::LocalQueue;
use super::throttle::{Pause, Throttle};
use crate::exchange::wire::MAX_BATCH;
use crate::order::Order;
use crate::types::{Moment, MonotonicMicros, OrderId};

/// How long after one request began the next may begin at the latest, whatever is in flight. At
/// 10,000 orders/s some 30 orders gather in that time, which makes 0.033 requests an order; of the
/// 200 ms that an order may take it is little.
const GATHER_FOR: Duration = Duration::from_millis(3);

/// Orders that are worth a request of their own: at 0.042 requests an order it is within the target
/// of 0.05. A pool that has sent so many in one is busy.
const WORTHWHILE: usize = 24;
/// Orders in a request below which a busy pool is busy no longer: 2,700 orders/s, a third of what
/// makes it busy, so that it does not change its mind with every gap of a busy market.
const FEW: usize = 8;

const _: () = assert!(FEW < WORTHWHILE && WORTHWHILE < MAX_BATCH);

/// Orders to send, once each, and the rules by which they gather. Shared by the driver and the
/// connections that carry orders, all on one thread.
#[derive(Debug)]
pub(crate) struct SubmitQueue {
    orders: LocalQueue<Arc<Order>>,
    gathering: RefCell<Gathering>,
    throttle: RefCell<Throttle>,
    /// How long the user of an order waits for its outcome.
    reply_timeout: Cell<Duration>,
    /// Orders that the exchange has refused for now, until their outcome. Their users wait for it,
    /// until the deadline of the order at most.
    held_back: RefCell<HashSet<OrderId, FxBuildHasher>>,
}

impl SubmitQueue {
    /// An empty queue of an idle pool.
    pub(crate) fn new() -> Self {
        Self {
            orders: LocalQueue::new(),
            gathering: RefCell::default(),
            throttle: RefCell::default(),
            reply_timeout: Cell::default(),
            held_back: RefCell::default(),
        }
    }

    /// Sets how long the user of an order waits for its outcome.
    pub(super) fn set_reply_timeout(&self, reply_timeout: Duration) {
        self.reply_timeout.set(reply_timeout);
    }

    /// Orders that wait for a connection.
    pub(crate) fn len(&self) -> usize {
        self.orders.len()
    }

    /// Whether more orders would only wait for their deadlines.
    pub(super) fn is_backed_up(&self) -> bool {
        self.len() >= MAX_WAITING_SUBMITS
    }

    /// Whether an order would only wait for an exchange that takes no more for now.
    pub(super) fn turns_away(&self, now: MonotonicMicros, submit_window: Duration) -> bool {
        self.throttle.borrow().turns_away(now, submit_window, self.reply_timeout.get())
    }

    /// So many orders are on their way through the log.
    pub(super) fn expect(&self, orders: usize) {
        self.gathering.borrow_mut().expected += orders;
    }

    /// Orders that were expected are durable.
    pub(super) fn push_expected(&self, orders: Vec<Arc<Order>>) {
        if !orders.is_empty() {
            self.gathering.borrow_mut().came(orders.len());
            self.orders.extend(orders);
        }
    }

    /// What a free connection does now.
    pub(crate) fn decide(&self, now: MonotonicMicros) -> Decision {
        let closed_until = self.throttle.borrow().closed_until(now);
        self.gathering.borrow().decide(now, self.len(), closed_until)
    }

    /// Stands for this moment to [`changed_since`](Self::changed_since).
    pub(super) fn generation(&self) -> u64 {
        self.orders.generation()
    }

    /// Waits until orders came or [`wake`](Self::wake) was called after that moment.
    pub(super) async fn changed_since(&self, generation: u64) {
        self.orders.changed_since(generation).await;
    }

    /// Takes a batch to send. Orders whose deadline has passed go to `late`: the exchange would
    /// refuse them. A batch that is not empty is in flight until [`answered`](Self::answered).
    pub(super) fn take_batch(
        &self,
        now: Moment,
        mut late: impl FnMut(Arc<Order>),
    ) -> Vec<Arc<Order>> {
        let mut batch = self.orders.take(MAX_BATCH);
        assert!(batch.len() <= MAX_BATCH, "a request has at most what the exchange takes");
        batch.extract_if(.., |order| order.submit_before < now.wall).for_each(&mut late);
        if !batch.is_empty() {
            self.gathering.borrow_mut().sent(now.monotonic, batch.len());
        }
        batch
    }

    /// A request ended, well or not.
    pub(super) fn answered(&self) {
        self.gathering.borrow_mut().answered();
    }

    /// The exchange takes orders.
    pub(super) fn taken(&self, now: MonotonicMicros) {
        self.throttle.borrow_mut().taken(now);
    }

    /// Puts back a batch of which nothing has left this process.
    pub(super) fn put_back(&self, orders: Vec<Arc<Order>>) {
        self.orders.put_back(orders);
    }

    /// Puts back a batch that the exchange has refused for now. Returns the pause and the orders
    /// whose deadline is over by then, of the batch and of those after it.
    pub(super) fn hold_back(
        &self,
        orders: Vec<Arc<Order>>,
        retry_after: Option<Duration>,
        now: Moment,
    ) -> (Pause, Vec<Arc<Order>>) {
        let pause = self.throttle.borrow_mut().refused(now.monotonic, retry_after);
        let pause_micros = pause.until.saturating_since(now.monotonic).as_micros();
        let Ok(pause_micros) = u64::try_from(pause_micros) else {
            unreachable!("a pause has a limit: {pause_micros} us");
        };
        let resumes = now.wall.saturating_add_micros(pause_micros);
        let mut again = orders;
        again.append(&mut self.orders.take(usize::MAX));
        let held_up = again.len();
        let refused: Vec<Arc<Order>> =
            again.extract_if(.., |order| order.submit_before <= resumes).collect();
        assert_eq!(again.len() + refused.len(), held_up, "an order is sent again, or refused");
        self.held_back.borrow_mut().extend(again.iter().map(|order| order.order_id));
        assert_eq!(self.len(), 0, "everything that waits is held up");
        self.put_back(again);
        (pause, refused)
    }

    /// Whether the exchange has refused this order for now and it is sent again.
    pub(super) fn is_held_back(&self, order_id: OrderId) -> bool {
        self.held_back.borrow().contains(&order_id)
    }

    /// The outcome of an order's submit is known, or known to be unknown.
    pub(super) fn end(&self, order_id: OrderId) {
        self.held_back.borrow_mut().remove(&order_id);
    }

    /// Has the other connections look again: what has gathered may go over whichever is free.
    pub(super) fn wake(&self) {
        self.orders.wake();
    }
}

/// Decides when gathered orders go to the exchange. Every request costs both sides the same
/// whether it carries one order or many, so orders travel together where that delays nobody much:
///
/// - an idle pool sends at once: nothing is in flight, and no order is on its way through the log;
///   if it was busy just now, only what is [`WORTHWHILE`];
/// - otherwise orders gather until a request is full, or [`GATHER_FOR`] has passed since the last
///   one began.
///
/// A single client that waits for each answer therefore never waits here. Several that do fall into
/// step: while their orders are on their way through the log together, the first waits for the rest,
/// which is one sync of the disk. Orders that come independently of each other (what a market does)
/// meet the time limit. Further connections join only while an answer takes longer than that.
#[derive(Debug, Default)]
struct Gathering {
    in_flight: usize,
    last_sent: Option<MonotonicMicros>,
    is_busy: bool,
    /// Orders that will be there to send once the log has them.
    expected: usize,
}

/// What a free connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Takes a batch and sends it.
    Send,
    /// Looks again when something changed.
    Wait,
    /// The same, but not longer than this.
    WaitUntil(MonotonicMicros),
}

impl Gathering {
    /// What to do while `waiting` orders could be sent, and the exchange takes none before
    /// `closed_until`.
    fn decide(
        &self,
        now: MonotonicMicros,
        waiting: usize,
        closed_until: Option<MonotonicMicros>,
    ) -> Decision {
        if waiting == 0 {
            return Decision::Wait;
        }
        if let Some(until) = closed_until {
            assert!(until > now, "a pause in progress ends later");
            return Decision::WaitUntil(until);
        }
        let is_idle = self.in_flight == 0 && self.expected == 0;
        let is_enough = !self.is_busy || waiting >= WORTHWHILE;
        let due = self.last_sent.map_or(now, |sent| sent.saturating_add(GATHER_FOR));
        if (is_idle && is_enough) || waiting >= MAX_BATCH || due <= now {
            Decision::Send
        } else {
            Decision::WaitUntil(due)
        }
    }

    /// So many orders that were expected are there.
    fn came(&mut self, orders: usize) {
        assert!(orders <= self.expected, "every order for the exchange is expected");
        self.expected -= orders;
    }

    /// A request with so many orders began.
    fn sent(&mut self, now: MonotonicMicros, orders: usize) {
        assert!((1..=MAX_BATCH).contains(&orders), "a request has some orders, and not too many");
        assert!(self.last_sent.is_none_or(|last| last <= now), "requests go in order of time");
        self.in_flight += 1;
        self.is_busy = orders >= WORTHWHILE || (self.is_busy && orders >= FEW);
        self.last_sent = Some(now);
    }

    /// A request ended, well or not.
    fn answered(&mut self) {
        assert!(self.in_flight > 0, "only a request in flight is answered");
        self.in_flight -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_pool_sends_at_once() {
        let now = MonotonicMicros::new(7);
        let mut gathering = Gathering::default();
        assert_eq!(gathering.decide(now, 0, None), Decision::Wait);
        assert_eq!(gathering.decide(now, 1, None), Decision::Send);
        gathering.sent(now, 1);
        gathering.answered();
        assert_eq!(gathering.decide(now, 1, None), Decision::Send, "however soon that is");
    }

    #[test]
    fn orders_gather_while_a_request_is_in_flight_or_more_are_expected() {
        let now = MonotonicMicros::new(7);
        let mut gathering = Gathering::default();
        gathering.sent(now, 1);
        let due = Decision::WaitUntil(now.saturating_add(GATHER_FOR));
        assert_eq!(gathering.decide(now, 1, None), due);
        assert_eq!(gathering.decide(now, MAX_BATCH - 1, None), due);
        assert_eq!(gathering.decide(now, MAX_BATCH, None), Decision::Send, "it is full");
        assert_eq!(
            gathering.decide(now.saturating_add(GATHER_FOR), 1, None),
            Decision::Send,
            "a slow answer"
        );
        gathering.answered();
        gathering.expected = 1;
        assert_eq!(gathering.decide(now, 1, None), due);
        gathering.expected = 0;
        assert_eq!(gathering.decide(now, 1, None), Decision::Send);
    }

    #[test]
    fn a_busy_pool_waits_for_what_is_worthwhile_until_there_is_little_to_send() {
        let now = MonotonicMicros::new(7);
        let mut gathering = Gathering::default();
        gathering.sent(now, WORTHWHILE);
        gathering.answered();
        let due = Decision::WaitUntil(now.saturating_add(GATHER_FOR));
        assert_eq!(gathering.decide(now, 1, None), due);
        assert_eq!(gathering.decide(now, WORTHWHILE, None), Decision::Send);
        gathering.sent(now, FEW);
        gathering.answered();
        assert_eq!(gathering.decide(now, 1, None), due, "still busy");
        gathering.sent(now, FEW - 1);
        gathering.answered();
        assert_eq!(gathering.decide(now, 1, None), Decision::Send);
    }

    #[test]
    fn nothing_is_sent_while_the_exchange_takes_nothing() {
        let now = MonotonicMicros::new(7);
        let until = now.saturating_add(Duration::from_secs(1));
        let gathering = Gathering::default();
        assert_eq!(gathering.decide(now, 0, Some(until)), Decision::Wait);
        assert_eq!(gathering.decide(now, MAX_BATCH, Some(until)), Decision::WaitUntil(until));
        assert_eq!(gathering.decide(until, 1, None), Decision::Send);
    }

    /// Requests for 10,000 orders that come one each 100 us, `together` of them at a time as the
    /// log lets them go. Answers take a millisecond; one early answer takes ten.
    fn requests_for(together: usize) -> usize {
        let mut gathering = Gathering::default();
        let (mut waiting, mut requests, mut answer_at) = (0, 0, None);
        for step in 0..10_000_usize {
            let now = MonotonicMicros::new(step as u64 * 100);
            gathering.expected = step % together;
            if gathering.expected == 0 {
                waiting += together;
            }
            if answer_at.is_some_and(|at| at <= now) {
                gathering.answered();
                answer_at = None;
            }
            // One connection, so that this counts what the policy does and not what a second adds.
            if answer_at.is_none() && gathering.decide(now, waiting, None) == Decision::Send {
                gathering.sent(now, waiting);
                let millis = if requests == 10 { 10 } else { 1 };
                answer_at = Some(now.saturating_add(Duration::from_millis(millis)));
                (waiting, requests) = (0, requests + 1);
            }
        }
        requests
    }

    #[test]
    fn requests_are_few_however_the_log_lets_orders_go() {
        for together in [1, 3, 7] {
            let requests = requests_for(together);
            assert!(requests * 20 < 10_000, "{requests} requests, {together} at a time");
        }
    }

    #[test]
    fn a_client_that_waits_for_each_answer_never_waits_here() {
        let mut gathering = Gathering::default();
        for step in 0..1_000 {
            let now = MonotonicMicros::new(step * 700);
            assert_eq!(gathering.decide(now, 1, None), Decision::Send);
            gathering.sent(now, 1);
            gathering.answered();
        }
    }
}
