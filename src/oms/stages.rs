//! Latency of orders by stage. One order in [`SAMPLED_ONE_OF`] is followed from the start of its
//! handler to the answer. Each stage ends where the next begins, so the sums show the shares of the
//! whole. The rest of the whole is the reply's progress back to the shard.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::registry::Registry;

use super::limits::MAX_WAITING_REPLIES;
use crate::metrics::Histogram;
use crate::types::{OrderId, USER_PARTITIONS};

/// Which orders are followed: 1,300 a second at the design peak. At about 0.5 us each that is less
/// than a thousandth of the orders thread's time.
const SAMPLED_ONE_OF: u128 = 8;
/// Bounds of the histograms: from 20 us, doubling, to 80 ms.
const FIRST_BOUND_SECONDS: f64 = 20e-6;
const BOUNDS: u16 = 13;

/// What an order waits for, in chronological order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its shard, from the start of the handler: body, authentication, validation.
    Shard,
    /// The orders thread, to take it from the mailbox.
    Queue,
    /// The engine's decision.
    Decide,
    /// The group commit that makes the order durable.
    FirstCommit,
    /// An idle connection to the exchange.
    Gather,
    /// The exchange's answer.
    Exchange,
    /// The group commit that makes the answer durable.
    SecondCommit,
}

/// In the order of [`Stage`].
const STAGES: [(Stage, &str); 7] = [
    (Stage::Shard, "shard"),
    (Stage::Queue, "queue"),
    (Stage::Decide, "decide"),
    (Stage::FirstCommit, "first_commit"),
    (Stage::Gather, "gather"),
    (Stage::Exchange, "exchange"),
    (Stage::SecondCommit, "second_commit"),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    stage: &'static str,
}

/// The histograms; clones share them.
#[derive(Debug, Clone)]
pub struct OrderStages {
    family: Family<Label, Histogram, fn() -> Histogram>,
    by_stage: [Histogram; STAGES.len()],
    whole: Histogram,
}

impl Default for OrderStages {
    fn default() -> Self {
        let make: fn() -> Histogram =
            || Histogram::new(exponential_buckets(FIRST_BOUND_SECONDS, 2.0, BOUNDS));
        let family = Family::new_with_constructor(make);
        let by_stage = STAGES.map(|(_, stage)| family.get_or_create(&Label { stage }).clone());
        Self { family, by_stage, whole: make() }
    }
}

impl OrderStages {
    /// Registers the histograms.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Seconds in each stage, of one accepted order in eight";
        registry.register("orders_stage_seconds", help, self.family.clone());
        let help = "Seconds from the start of its handler to its answer, of the same orders";
        registry.register("orders_whole_seconds", help, self.whole.clone());
    }

    /// The shard has the answer to an order whose handler started at `arrived`.
    pub fn answered(&self, order_id: OrderId, arrived: Instant) {
        if is_followed(order_id) {
            self.whole.observe(arrived.elapsed().as_secs_f64());
        }
    }
}

/// Random bits of the order id decide, so every thread decides alike.
fn is_followed(order_id: OrderId) -> bool {
    // The lowest bits are the user's partition.
    (order_id.as_u128() >> USER_PARTITIONS.trailing_zeros()).is_multiple_of(SAMPLED_ONE_OF)
}

/// The progress of one order.
#[derive(Debug)]
struct Progress {
    stage: Stage,
    since: Instant,
    /// Of the earlier stages. Counted together at the end, so that all stages have the same orders.
    took: [Duration; STAGES.len()],
}

/// Follows orders on the orders thread.
#[derive(Debug, Default)]
pub(super) struct StageClock {
    stages: OrderStages,
    in_progress: RefCell<HashMap<OrderId, Progress>>,
}

impl StageClock {
    /// A clock that observes into these histograms.
    pub(super) fn new(stages: OrderStages) -> Self {
        Self { stages, in_progress: RefCell::default() }
    }

    /// The orders thread has taken an order whose handler started at `arrived` and sent it at
    /// `asked`.
    pub(super) fn take(&self, order_id: OrderId, arrived: Instant, asked: Instant) {
        let mut in_progress = self.in_progress.borrow_mut();
        if is_followed(order_id) && in_progress.len() < MAX_WAITING_REPLIES {
            let mut progress =
                Progress { stage: Stage::Shard, since: arrived, took: Default::default() };
            progress.end_stage(asked);
            progress.end_stage(Instant::now());
            in_progress.insert(order_id, progress);
            assert!(in_progress.len() <= MAX_WAITING_REPLIES, "followed orders are bounded");
        }
    }

    /// Ends `stage` of an order. Ignored for an order that is not followed.
    pub(super) fn end(&self, order_id: OrderId, stage: Stage) {
        if !is_followed(order_id) {
            return;
        }
        if let Some(progress) = self.in_progress.borrow_mut().get_mut(&order_id)
            && progress.stage == stage
        {
            progress.end_stage(Instant::now());
        }
    }

    /// The client is answered. Without an outcome, nothing is counted.
    pub(super) fn finish(&self, order_id: OrderId) {
        if !is_followed(order_id) {
            return;
        }
        // Answered before, or one too many to be followed.
        let Some(mut progress) = self.in_progress.borrow_mut().remove(&order_id) else { return };
        if progress.stage == Stage::SecondCommit {
            progress.end_stage(Instant::now());
            for (histogram, took) in self.stages.by_stage.iter().zip(progress.took) {
                histogram.observe(took.as_secs_f64());
            }
        }
    }
}

impl Progress {
    fn end_stage(&mut self, now: Instant) {
        let index = self.stage as usize;
        let Some(took) = self.took.get_mut(index) else {
            unreachable!("every stage has a place: {:?}", self.stage);
        };
        // Zero where the shard's reading of the clock is a moment ahead of ours.
        *took = now.saturating_duration_since(self.since);
        // The last stage has no next.
        if let Some((next, _)) = STAGES.get(index + 1) {
            self.stage = *next;
        }
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, PageFormat};

    fn clock() -> (StageClock, Metrics) {
        let (stages, metrics) = (OrderStages::default(), Metrics::new());
        metrics.register(|registry| stages.register(registry));
        (StageClock::new(stages), metrics)
    }

    fn counted(metrics: &Metrics) -> usize {
        let of_one = |line: &&str| line.contains("stage_seconds_count") && line.ends_with(" 1");
        metrics.print(PageFormat::OpenMetrics).lines().filter(of_one).count()
    }

    const FOLLOWED: OrderId = OrderId::from_u128(SAMPLED_ONE_OF << 6);

    #[test]
    fn an_accepted_order_counts_in_every_stage() {
        let (clock, metrics) = clock();
        let now = Instant::now();
        clock.take(FOLLOWED, now, now);
        for (stage, _) in &STAGES[2..6] {
            assert_eq!(counted(&metrics), 0);
            clock.end(FOLLOWED, *stage);
            clock.end(FOLLOWED, *stage);
        }
        clock.finish(FOLLOWED);
        assert_eq!(counted(&metrics), STAGES.len());
        assert!(clock.in_progress.borrow().is_empty());
    }

    #[test]
    fn an_order_without_an_outcome_does_not_count_and_is_forgotten() {
        let (clock, metrics) = clock();
        let now = Instant::now();
        clock.take(FOLLOWED, now, now);
        clock.end(FOLLOWED, Stage::Decide);
        clock.finish(FOLLOWED);
        assert_eq!(counted(&metrics), 0);
        assert!(clock.in_progress.borrow().is_empty());
    }

    #[test]
    fn one_order_in_eight_is_followed_whatever_its_partition() {
        let (clock, _metrics) = clock();
        let now = Instant::now();
        for number in 0..64 * 64 {
            clock.take(OrderId::from_u128(number), now, now);
        }
        assert_eq!(clock.in_progress.borrow().len(), 64 * 64 / 8);
    }
}
