//! Deterministic simulation of the whole order system: one seed decides everything. No real time,
//! no threads, no files, no sockets.
//!
//! Real are the service that takes requests and reads, the engines, the orders thread's driver and its
//! slices, the batches of its sessions and their translation, the feed's reader, the log with its
//! writer and its recovery, the index that follows it, and the rules of the simulated exchange.
//! Simulated are users (`clients`), operators and the exchange's calls (`others`), the network
//! (`network`), the feed's connection (`feed`), what an exchange does beyond its rules (`exchange`),
//! clocks (`clock`), Postgres (`postgres`, awaited in some seeds), the store below the index, and the
//! disk, which tears, forgets, fails, rots and
//! runs full. The process may die at every step, in the middle of disk work, and
//! while it starts.
//!
//! A seed draws a [profile](profile) first: how long it is, how bad the network, how often each
//! kind of step comes (many are left out of many seeds, because mistakes hide in the absence of
//! something as well), and whether it has a [focus](focus): a group of faults that comes many times as
//! often. Then `world` takes step after step, and at the end `rest` lets all faults
//! stop: both sides have to agree then, and nobody may be left waiting.
//!
//! # How to write a check
//!
//! 1. Give it a name and a sentence in [`Invariant`].
//! 2. Find the place that knows enough: `durable` sees each event when it becomes durable, `readers`
//!    each order that a user could read, `streams` each change that a stream gets, `replies` each answer, `moves` what leaves for the exchange
//!    and what arrives there, `rest` the end.
//! 3. Compare with something that the code under test has not computed itself: the events of the
//!    log, the exchange's own record, what users were told before. Return what
//!    `ensure(holds, invariant, || detail)` gives.
//! 4. Write a mutant that breaks it (`tests/mutants/`), and see `make mutants` catch it.
//!
//! # How to write a step
//!
//! Add a kind to `profile::Action` with a weight, and what it does to `moves` or `world`: draw
//! every choice from `world.dice`, say one line to the trace, count what should happen often
//! enough to be worth something. Never look at a real clock, a hash map's order or an address.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a surprise in here is a mistake of the simulation, which may stop at it"
)]

mod clients;
mod clock;
mod clock_moves;
mod dice;
mod durable;
mod exchange;
mod execution_ids;
mod feed;
mod feed_moves;
mod focus;
mod garble;
mod invariant;
mod moves;
mod network;
mod node;
mod others;
mod postgres;
mod profile;
mod published;
mod readers;
mod records;
mod replies;
mod rest;
mod rot;
mod sessions;
mod streams;
mod trace;
mod world;

use std::collections::BTreeMap;

pub use invariant::{Invariant, Violation};
pub use trace::TraceListener;
use world::World;

/// What came of one seed.
#[derive(Debug, Clone)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// A hash of all that happened: the same seed gives the same.
    pub trace_hash: u64,
    /// How often things happened that a simulation worth its name has to bring about.
    pub counts: BTreeMap<&'static str, u64>,
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
}

/// Runs one seed from its beginning to its end, or to the first violation. Takes so many `steps`
/// before the faults stop, or as many as the seed draws.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_same_each_time() {
        for seed in 0..40 {
            let mut lines = 0;
            let first = run_seed(seed, None, Some(&mut |_line: &str| lines += 1));
            let again = run_seed(seed, None, None);
            assert!(lines > 60, "something happens");
            assert_eq!(first.trace_hash, again.trace_hash, "seed {seed}");
            assert_eq!(first.counts, again.counts, "seed {seed}");
            assert!(first.violation.is_none(), "seed {seed}: {:?}", first.violation);
        }
    }
}
