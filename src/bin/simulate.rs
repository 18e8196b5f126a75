//! Runs seeds of the [simulation](longbow::simulation) and prints the trace of a failing seed.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use longbow::simulation::{SeedReport, TraceListener, run_cluster_seed, run_seed};

/// Exit status when every invariant held.
const HELD: u8 = 0;
/// Exit status when an invariant was broken.
const BROKEN: u8 = 1;
/// Exit status when the code under test, or the simulation, panicked.
const PANICKED: u8 = 2;
/// Exit status when two runs of a seed differed: something other than the seed decides.
const DIFFERED: u8 = 3;

/// For so many seeds of a single node there is one of several nodes, which takes longer.
const SEEDS_FOR_ONE_CLUSTER: u64 = 20;

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum World {
    SingleNode,
    /// Several nodes that share users.
    Cluster,
}

impl World {
    fn run(
        self,
        seed: u64,
        steps: Option<usize>,
        listener: Option<TraceListener<'_>>,
    ) -> SeedReport {
        match self {
            Self::SingleNode => run_seed(seed, steps, listener),
            Self::Cluster => run_cluster_seed(seed, steps, listener),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::SingleNode => "a single node",
            Self::Cluster => "several nodes",
        }
    }
}

/// Simulates the order system. The seed decides everything: the same seed gives the same run.
///
/// Seeds of a single node, and for each twenty of them one of several nodes.
#[derive(Parser)]
struct Args {
    /// Number of seeds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Runs this seed alone and prints its trace.
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
    /// Runs seeds of several nodes alone.
    #[arg(long)]
    cluster: bool,
    /// Threads to run on; each seed runs on one thread [default: one per core].
    #[arg(long)]
    threads: Option<usize>,
    /// Steps of each seed before the faults stop [default: drawn from the seed].
    #[arg(long)]
    steps: Option<usize>,
    /// Prints how often each event happened.
    #[arg(long)]
    counts: bool,
    /// Runs each seed twice and fails if the runs differ.
    #[arg(long)]
    twice: bool,
    /// Continues after a seed that panics, to find one that breaks an invariant.
    #[arg(long)]
    past_panics: bool,
    /// Prints only what a failing seed breaks, not its trace.
    #[arg(long)]
    brief: bool,
}

/// How a seed failed.
enum Failure {
    Broken,
    Panicked,
    Differed,
}

/// Results of all threads so far.
#[derive(Default)]
struct Found {
    done: u64,
    /// All trace hashes combined, independent of their order.
    traces: u64,
    counts: BTreeMap<&'static str, u64>,
    /// The first seed that failed, and how.
    failure: Option<(u64, Failure)>,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let world = if args.cluster { World::Cluster } else { World::SingleNode };
    if let Some(seed) = args.seed {
        return ExitCode::from(print_seed(world, seed, args.steps, false));
    }
    let mut status = run_seeds(world, &args, args.start, args.seeds);
    if world == World::SingleNode && status == HELD {
        let (start, seeds) =
            (args.start / SEEDS_FOR_ONE_CLUSTER, args.seeds / SEEDS_FOR_ONE_CLUSTER);
        status = run_seeds(World::Cluster, &args, start, seeds);
    }
    ExitCode::from(status)
}

/// Runs one seed and prints its trace line by line, so that a panic ends the trace where it
/// happened.
fn print_seed(world: World, seed: u64, steps: Option<usize>, is_brief: bool) -> u8 {
    let mut print = |line: &str| {
        if !is_brief {
            println!("{line}");
        }
    };
    let run = || world.run(seed, steps, Some(&mut print));
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(report) => match report.violation {
            None => {
                println!("seed {seed} holds, trace {:016x}", report.trace_hash);
                HELD
            }
            Some(violation) => {
                println!("seed {seed} breaks: {}", violation.invariant);
                println!("  {}", violation.detail);
                BROKEN
            }
        },
        Err(_) => {
            println!("seed {seed} panics");
            PANICKED
        }
    }
}

/// Runs seeds from `start` on.
fn run_seeds(world: World, args: &Args, start: u64, seeds: u64) -> u8 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or(cores).max(1);
    let began = Instant::now();
    let found = Mutex::new(Found::default());
    let (next, stop) = (AtomicU64::new(start), AtomicBool::new(false));
    let end = start.saturating_add(seeds);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Seeds are handed out in order, and a seed once started is finished: so the first
                // failing seed is the same on any number of threads.
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    if note_seed(world, seed, args, &found) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = began.elapsed().as_secs_f64();
    if args.counts {
        for (what, times) in &found.counts {
            println!("{times:>12} {what}");
        }
    }
    println!(
        "{} seeds of {} in {seconds:.1} s, {:.0} a second on {threads} threads, traces {:016x}",
        found.done,
        world.name(),
        found.done as f64 / seconds,
        found.traces
    );
    match found.failure {
        None => HELD,
        Some((seed, failure)) => {
            let status = match failure {
                Failure::Broken => BROKEN,
                Failure::Panicked => PANICKED,
                Failure::Differed => {
                    println!("seed {seed}: two runs differed");
                    return DIFFERED;
                }
            };
            let _printed = print_seed(world, seed, args.steps, args.brief);
            status
        }
    }
}

/// Runs a seed and records its result. Returns `true` if it failed.
fn note_seed(world: World, seed: u64, args: &Args, found: &Mutex<Found>) -> bool {
    let run = catch_unwind(AssertUnwindSafe(|| world.run(seed, args.steps, None)));
    let again = args.twice.then(|| world.run(seed, args.steps, None));
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
    found.done += 1;
    let failure = match run {
        Ok(report) => {
            found.traces ^= report.trace_hash;
            for (what, times) in report.counts {
                *found.counts.entry(what).or_default() += times;
            }
            let differs = again.is_some_and(|again| again.trace_hash != report.trace_hash);
            let failure = report.violation.map(|_| Failure::Broken);
            failure.or_else(|| differs.then_some(Failure::Differed))
        }
        Err(_) if args.past_panics => {
            *found.counts.entry("panics").or_default() += 1;
            None
        }
        Err(_) => Some(Failure::Panicked),
    };
    let Some(failure) = failure else { return false };
    if found.failure.as_ref().is_none_or(|(first, _)| seed < *first) {
        found.failure = Some((seed, failure));
    }
    true
}
