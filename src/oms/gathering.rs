use std::time::Duration;

use crate::exchange::wire::MAX_BATCH;
use crate::types::MonotonicMicros;

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
pub(crate) struct Gathering {
    in_flight: usize,
    last_sent: Option<MonotonicMicros>,
    is_busy: bool,
    /// The exchange takes nothing before that.
    pub(crate) closed_until: Option<MonotonicMicros>,
    /// Orders that will be there to send once the log has them.
    pub(crate) on_their_way: usize,
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
    /// What to do while `waiting` orders could be sent.
    pub(crate) fn decide(&self, now: MonotonicMicros, waiting: usize) -> Decision {
        if waiting == 0 {
            return Decision::Wait;
        }
        if let Some(until) = self.closed_until.filter(|until| now < *until) {
            return Decision::WaitUntil(until);
        }
        let is_idle = self.in_flight == 0 && self.on_their_way == 0;
        let is_enough = !self.is_busy || waiting >= WORTHWHILE;
        let due = self.last_sent.map_or(now, |sent| sent.saturating_add(GATHER_FOR));
        if (is_idle && is_enough) || waiting >= MAX_BATCH || due <= now {
            Decision::Send
        } else {
            Decision::WaitUntil(due)
        }
    }

    /// A request with so many orders began.
    pub(crate) fn sent(&mut self, now: MonotonicMicros, orders: usize) {
        self.in_flight += 1;
        self.is_busy = orders >= WORTHWHILE || (self.is_busy && orders >= FEW);
        self.last_sent = Some(now);
    }

    /// A request ended, well or not.
    pub(crate) fn answered(&mut self) {
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
        assert_eq!(gathering.decide(now, 0), Decision::Wait);
        assert_eq!(gathering.decide(now, 1), Decision::Send);
        gathering.sent(now, 1);
        gathering.answered();
        assert_eq!(gathering.decide(now, 1), Decision::Send, "however soon that is");
    }

    #[test]
    fn orders_gather_while_a_request_is_in_flight_or_more_are_on_their_way() {
        let now = MonotonicMicros::new(7);
        let mut gathering = Gathering::default();
        gathering.sent(now, 1);
        let due = Decision::WaitUntil(now.saturating_add(GATHER_FOR));
        assert_eq!(gathering.decide(now, 1), due);
        assert_eq!(gathering.decide(now, MAX_BATCH - 1), due);
        assert_eq!(gathering.decide(now, MAX_BATCH), Decision::Send, "it is full");
        assert_eq!(
            gathering.decide(now.saturating_add(GATHER_FOR), 1),
            Decision::Send,
            "a slow answer"
        );
        gathering.answered();
        gathering.on_their_way = 1;
        assert_eq!(gathering.decide(now, 1), due);
        gathering.on_their_way = 0;
        assert_eq!(gathering.decide(now, 1), Decision::Send);
    }

    #[test]
    fn a_busy_pool_waits_for_what_is_worthwhile_until_there_is_little_to_send() {
        let now = MonotonicMicros::new(7);
        let mut gathering = Gathering::default();
        gathering.sent(now, WORTHWHILE);
        gathering.answered();
        let due = Decision::WaitUntil(now.saturating_add(GATHER_FOR));
        assert_eq!(gathering.decide(now, 1), due);
        assert_eq!(gathering.decide(now, WORTHWHILE), Decision::Send);
        gathering.sent(now, FEW);
        gathering.answered();
        assert_eq!(gathering.decide(now, 1), due, "still busy");
        gathering.sent(now, FEW - 1);
        gathering.answered();
        assert_eq!(gathering.decide(now, 1), Decision::Send);
    }

    #[test]
    fn nothing_is_sent_while_the_exchange_takes_nothing() {
        let now = MonotonicMicros::new(7);
        let until = now.saturating_add(Duration::from_secs(1));
        let gathering = Gathering { closed_until: Some(until), ..Gathering::default() };
        assert_eq!(gathering.decide(now, 0), Decision::Wait);
        assert_eq!(gathering.decide(now, MAX_BATCH), Decision::WaitUntil(until));
        assert_eq!(gathering.decide(until, 1), Decision::Send);
    }

    /// Requests for 10,000 orders that come one each 100 us, `together` of them at a time as the
    /// log lets them go. Answers take a millisecond; one early answer takes ten.
    fn requests_for(together: usize) -> usize {
        let mut gathering = Gathering::default();
        let (mut waiting, mut requests, mut answer_at) = (0, 0, None);
        for step in 0..10_000_usize {
            let now = MonotonicMicros::new(step as u64 * 100);
            gathering.on_their_way = step % together;
            if gathering.on_their_way == 0 {
                waiting += together;
            }
            if answer_at.is_some_and(|at| at <= now) {
                gathering.answered();
                answer_at = None;
            }
            // One connection, so that this counts what the policy does and not what a second adds.
            if answer_at.is_none() && gathering.decide(now, waiting) == Decision::Send {
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
            assert_eq!(gathering.decide(now, 1), Decision::Send);
            gathering.sent(now, 1);
            gathering.answered();
        }
    }
}
