//! Deterministic simulation of the whole order system: one seed decides everything. No real time,
//! no threads, no files, no sockets. This page is about a single node; `cluster` has several.
//!
//! Real are: the service that takes requests and reads, the engines, the driver of the orders
//! thread and its slices, the batches of its sessions and their translation, the feed reader, the
//! log with its writer and its recovery, the index that follows it, and the rules of the simulated
//! exchange. Simulated are: users (`clients`), operators and the exchange's calls (`others`), the
//! network (`network`), the feed connection (`feed`), misbehavior of the exchange (`exchange`),
//! clocks (`clock`), Postgres (`postgres`, awaited in some seeds), the store below the index, and
//! the disk, which tears, forgets, fails, rots and fills up. The process may die at every step, in
//! the middle of disk work, and during a start.
//!
//! A seed first draws a [profile](profile): how long it runs, how bad the network is, how often
//! each kind of step comes (many seeds leave out many kinds, because some bugs need the absence of
//! something), and whether it has a [focus](focus): a group of faults that is repeated many times.
//! Then `world` takes step after step. At the end `quiesce` stops all faults: both sides must then
//! agree, and nobody may be left waiting.
//!
//! # How to write a check
//!
//! 1. Give it a name and a sentence in [`Invariant`].
//! 2. Find the place that knows enough: `durable` sees each event when it becomes durable, `readers`
//!    each order that a user could read, `streams` each change that a stream gets, `replies` each
//!    answer, `network_actions` what leaves for the exchange and arrives there, `quiesce` the end.
//! 3. Compare with something that the code under test did not compute: the events of the log, the
//!    exchange's own record, what users were told before. Return the result of
//!    `ensure(holds, invariant, || detail)`.
//! 4. Write a mutant that breaks it (`tests/mutants/`), and check that `make mutants` catches it.
//!
//! # How to write a step
//!
//! Add a kind with a weight to `profile::Action`, and its code to the file of actions that it belongs
//! to: draw every choice from `world.dice`, write one line to the trace, and count what should happen
//! often. Never depend on a real clock, the order of a hash map or an address.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "an unexpected value is a bug of the simulation, which may panic"
)]

mod action;
mod check_context;
mod clients;
mod clock;
mod clock_actions;
mod cluster;
mod dice;
mod disk_actions;
mod durable;
mod exchange;
mod exchange_actions;
mod execution_ids;
mod feed;
mod feed_actions;
mod focus;
mod garble;
mod invariant;
mod money;
mod network;
mod network_actions;
mod node;
mod operator_actions;
mod others;
mod postgres;
mod process_actions;
mod profile;
mod published;
mod quiesce;
mod readers;
mod records;
mod replies;
mod rot;
mod second_book;
mod sessions;
mod streams;
mod trace;
mod user_actions;
mod world;

use std::collections::BTreeMap;

pub use invariant::{Invariant, Violation};
pub use trace::TraceListener;
use world::World;

/// The result of one seed.
#[derive(Debug, Clone)]
pub struct SeedReport {
    pub seed: u64,
    /// A hash of the trace: equal for equal seeds.
    pub trace_hash: u64,
    /// How often things happened that a useful simulation must bring about.
    pub counts: BTreeMap<&'static str, u64>,
    /// The broken invariant, if any.
    pub violation: Option<Violation>,
}

/// Runs one seed to its end, or to the first violation, with `steps` steps before the faults stop,
/// or as many as the seed draws.
pub fn run_seed(
    seed: u64,
    steps: Option<usize>,
    listener: Option<TraceListener<'_>>,
) -> SeedReport {
    let mut world = World::new(seed, steps, listener);
    let violation = world.run().err();
    let trace_hash = world.trace.hash();
    SeedReport { seed, trace_hash, counts: world.trace.into_counts(), violation }
}

/// The same with several nodes that share users.
pub fn run_cluster_seed(
    seed: u64,
    steps: Option<usize>,
    listener: Option<TraceListener<'_>>,
) -> SeedReport {
    let mut world = cluster::World::new(seed, steps, listener);
    let violation = world.run().err();
    let trace_hash = world.trace.hash();
    SeedReport { seed, trace_hash, counts: world.trace.into_counts(), violation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_deterministic() {
        for seed in 0..40 {
            let mut lines = 0;
            let first = run_seed(seed, None, Some(&mut |_line: &str| lines += 1));
            let again = run_seed(seed, None, None);
            assert!(lines > 60, "a seed does something");
            assert_eq!(first.trace_hash, again.trace_hash, "seed {seed}");
            assert_eq!(first.counts, again.counts, "seed {seed}");
            assert!(first.violation.is_none(), "seed {seed}: {:?}", first.violation);
        }
    }

    #[test]
    fn a_seed_of_several_nodes_is_deterministic() {
        for seed in 0..10 {
            let first = run_cluster_seed(seed, None, None);
            let again = run_cluster_seed(seed, None, None);
            assert_eq!(first.trace_hash, again.trace_hash, "seed {seed}");
            assert_eq!(first.counts, again.counts, "seed {seed}");
            assert!(first.violation.is_none(), "seed {seed}: {:?}", first.violation);
        }
    }
}
