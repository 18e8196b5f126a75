//! Rounds of load, each followed by a check of everything that clients saw: the body of `crash-loop`
//! and `linearize`.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use serde_json::{Map, Value};

use crate::{
    api::Api,
    clock::{Moment, seconds_between},
    cluster::{Cluster, ClusterOptions},
    error::{Error, Result},
    linear::Rules,
    phase::Interrupt,
    reconcile::{Checker, ExchangeProgress},
    record::Histories,
    workload::{Mix, Workload, WorkloadOptions},
};

/// Rounds between progress lines.
const ROUNDS_PER_LINE: u64 = 10;
/// How many rounds back the check after each round rereads orders; older ones are read at each
/// reconciliation.
const ROUNDS_READ_AGAIN: usize = 2;
/// Longest load of a round before the kill, in milliseconds.
const MAX_LOAD_MILLIS: u64 = 1_200;
/// Longest time from a start of the server to a kill during its recovery, in milliseconds. A start
/// takes some 100 ms.
const MAX_START_MILLIS: u64 = 150;
/// Longest time from a completed start to a second kill, in milliseconds.
const MAX_SECOND_KILL_MILLIS: u64 = 30;
/// How long a round without a kill may take, in seconds.
const QUIET_ROUND_SECONDS: f64 = 60.0;

/// Flags of both tests.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RoundArgs {
    /// The longbow binary to test; it is started as exchange and as server, on loopback, and stopped
    #[arg(long, value_name = "PATH")]
    spawn: PathBuf,
    /// Random seed of clients, kills and faults [default: random]
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Clients, each with one request at a time
    #[arg(long, default_value_t = 12, value_name = "COUNT")]
    clients: usize,
    /// Users; clients use them in turn
    #[arg(long, default_value_t = 4, value_name = "COUNT")]
    users: usize,
    /// Replay speed of the tape
    #[arg(long, default_value_t = 20.0, value_name = "FACTOR")]
    speed: f64,
    /// Changes the exchange's faults, in the format of longbow exchange --fault, such as
    /// orders.bust=0,feed.skip=0.01; other faults keep this test's settings
    #[arg(long, default_value = "", value_name = "KIND=VALUE,...")]
    fault: String,
    /// No faults of the exchange except those of --fault
    #[arg(long)]
    no_faults: bool,
    /// Directory for data and logs, kept afterwards [default: a temporary one, kept only after a
    /// violation]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// An extra argument for longbow serve (repeatable)
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    serve_arg: Vec<String>,
}

/// The plan of the rounds.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Number of rounds.
    pub rounds: u64,
    /// Most requests per client and round.
    pub requests: usize,
    /// What clients do.
    pub mix: Mix,
    /// Whether the server is killed in each round.
    pub kills: bool,
    /// The exchange is also killed once in this many rounds; 0 for never.
    pub rounds_per_exchange_kill: u64,
    /// Rounds between two comparisons with the exchange's record.
    pub rounds_per_reconciliation: u64,
    /// Default faults.
    pub faults: &'static str,
}

/// What happened, for the report.
#[derive(Debug, Default)]
struct Tally {
    rounds: u64,
    server_kills: u64,
    kills_during_start: u64,
    second_kills: u64,
    exchange_kills: u64,
    /// Orders that waited for the exchange after a recovery.
    recovered_waiting: u64,
    reconciliations: u64,
    faults: BTreeMap<String, u64>,
}

/// A run of all rounds.
struct Rounds<'a> {
    plan: &'a Plan,
    interrupt: &'a Interrupt,
    cluster: Cluster,
    histories: Arc<Histories>,
    workload: Workload,
    random: Xoshiro256PlusPlus,
    seed: u64,
    faults: Map<String, Value>,
    progress: ExchangeProgress,
    /// The newest order of each user after each round.
    newest: Vec<Vec<Option<String>>>,
    tally: Tally,
    began: Moment,
}

/// Runs the rounds and prints a report.
///
/// # Errors
/// [`Error::Violations`] if an invariant was violated, or whatever stopped the test early.
pub(crate) fn run(arguments: &RoundArgs, plan: &Plan, interrupt: &Interrupt) -> Result<()> {
    for (flag, value) in [("clients", arguments.clients), ("users", arguments.users)] {
        if !(1..=1_000).contains(&value) {
            let allowed = "1 to 1000".to_owned();
            return Err(Error::Flag { flag, value: value.to_string(), allowed });
        }
    }
    let seed = arguments.seed.unwrap_or_else(|| rand::random::<u32>().into());
    println!("seed {seed}");
    let mut rounds = Rounds::start(arguments, plan, seed, interrupt)?;
    let outcome = rounds.run();
    let directory = rounds.cluster.directory.path.clone();
    let violations = rounds.histories.violations();
    rounds.print(violations.len());
    for violation in &violations {
        println!("\nVIOLATION: {violation}");
    }
    if !violations.is_empty() {
        rounds.cluster.directory.keep();
        return Err(Error::Violations { count: violations.len(), seed, directory });
    }
    if outcome.is_err() && !matches!(outcome, Err(Error::Interrupted)) {
        rounds.cluster.directory.keep();
        eprintln!("seed {seed}; data and logs are in {}", directory.display());
    }
    outcome
}

impl<'a> Rounds<'a> {
    fn start(
        arguments: &RoundArgs,
        plan: &'a Plan,
        seed: u64,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let cluster = ClusterOptions {
            program: arguments.spawn.clone(),
            directory: arguments.data_dir.clone(),
            speed: arguments.speed,
            faults: changed(if arguments.no_faults { "" } else { plan.faults }, &arguments.fault),
            users: arguments.users,
            serve_arguments: arguments.serve_arg.clone(),
        };
        let cluster = Cluster::start(cluster, interrupt)?;
        let faults = cluster.exchange().faults().unwrap_or_default().settings;
        let orders = faults.get("orders").and_then(|orders| orders.get("bust"));
        let busts = orders.is_some_and(|chance| chance.as_f64() != Some(0.0));
        let histories = Arc::new(Histories::new(Rules { busts }));
        let workload = WorkloadOptions {
            clients: arguments.clients,
            tokens: cluster.tokens.clone(),
            requests: plan.requests,
            mix: plan.mix,
            seed,
        };
        Ok(Self {
            workload: Workload::start(&workload, &histories)?,
            plan,
            interrupt,
            cluster,
            histories,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            seed,
            faults,
            progress: ExchangeProgress::default(),
            newest: Vec::new(),
            tally: Tally::default(),
            began: Moment::now(),
        })
    }

    fn run(&mut self) -> Result<()> {
        for number in 1..=self.plan.rounds {
            self.set_faults(number)?;
            self.cluster.wait_until_ready(self.interrupt)?;
            // With kills, the same hot orders stay for two rounds: what is seen after a kill must
            // agree with what was seen before it.
            let wave = if self.plan.kills { number / 2 } else { number };
            self.workload.open(number, wave, &self.cluster.url);
            if self.plan.kills {
                self.kill_and_recover(number)?;
            } else {
                self.await_quiet()?;
            }
            self.verify()?;
            let is_last = number == self.plan.rounds;
            if is_last || number.is_multiple_of(self.plan.rounds_per_reconciliation) {
                self.reconcile()?;
            }
            self.tally.rounds = number;
            if number.is_multiple_of(ROUNDS_PER_LINE) {
                self.print_progress();
            }
            if !self.histories.violations().is_empty() {
                break;
            }
        }
        self.note_faults();
        Ok(())
    }

    /// Applies load for a while, kills the server, and restarts it, sometimes killing it again.
    fn kill_and_recover(&mut self, number: u64) -> Result<()> {
        let load = self.random.random_range(20..=MAX_LOAD_MILLIS);
        self.interrupt.sleep(millis(load))?;
        let every = self.plan.rounds_per_exchange_kill;
        let with_exchange = every > 0 && number.is_multiple_of(every);
        let exchange_first = with_exchange && self.random.random_bool(0.5);
        if exchange_first {
            self.kill_exchange()?;
            let between = self.random.random_range(0..=50);
            self.interrupt.sleep(millis(between))?;
        }
        self.cluster.kill_server()?;
        self.tally.server_kills += 1;
        if with_exchange && !exchange_first {
            self.kill_exchange()?;
        }
        self.workload.close()?;
        if with_exchange {
            self.cluster.start_exchange(self.interrupt)?;
        }
        while self.random.random_bool(0.2) {
            let after = Duration::from_millis(self.random.random_range(1..=MAX_START_MILLIS));
            self.cluster.start_and_kill_server(after, self.interrupt)?;
            self.tally.kills_during_start += 1;
        }
        self.cluster.start_server(self.interrupt)?;
        if self.random.random_bool(0.15) {
            let after = self.random.random_range(0..=MAX_SECOND_KILL_MILLIS);
            self.interrupt.sleep(millis(after))?;
            self.cluster.kill_server()?;
            self.tally.second_kills += 1;
            self.cluster.start_server(self.interrupt)?;
        }
        Ok(())
    }

    fn kill_exchange(&mut self) -> Result<()> {
        self.note_faults();
        self.cluster.kill_exchange()?;
        self.tally.exchange_kills += 1;
        Ok(())
    }

    fn await_quiet(&mut self) -> Result<()> {
        let done = || Ok(self.workload.is_done());
        if !self.interrupt.wait_until(QUIET_ROUND_SECONDS, done)? {
            return Err(Error::Timeout {
                what: "the end of a round".to_owned(),
                seconds: 60,
                detail: String::new(),
            });
        }
        self.workload.close()
    }

    /// Reads the newer orders of every user and checks everything seen.
    fn verify(&mut self) -> Result<()> {
        let users = self.cluster.tokens.len();
        let checker = checker(&self.cluster, &self.histories, self.interrupt);
        let before = self.newest.len().checked_sub(ROUNDS_READ_AGAIN);
        let before = before.and_then(|round| self.newest.get(round));
        let mut newest = Vec::new();
        for user in 0..users {
            let until = before.and_then(|ids| ids.get(user)).and_then(Option::as_deref);
            let (waiting, orders) = checker.read_orders(user, until)?;
            if self.plan.kills {
                self.tally.recovered_waiting += waiting;
            }
            newest.push(orders.first().map(|order| order.order_id.clone()));
        }
        checker.compare_exchange_orders(&mut self.progress)?;
        self.newest.push(newest);
        self.histories.check(true);
        Ok(())
    }

    fn reconcile(&mut self) -> Result<()> {
        self.cluster.wait_until_ready(self.interrupt)?;
        checker(&self.cluster, &self.histories, self.interrupt).reconcile()?;
        self.histories.check(true);
        self.tally.reconciliations += 1;
        Ok(())
    }

    /// Sets the faults of this round, with a new seed.
    fn set_faults(&mut self, number: u64) -> Result<()> {
        self.faults.insert("seed".to_owned(), self.seed.wrapping_add(number).into());
        let settings = Value::Object(self.faults.clone());
        checker(&self.cluster, &self.histories, self.interrupt).set_faults(&settings)
    }

    /// Adds up the exchange's fault counts before it ends.
    fn note_faults(&mut self) {
        let Some(report) = self.cluster.exchange().faults() else { return };
        for (group, kinds) in report.done {
            for (kind, count) in kinds {
                *self.tally.faults.entry(format!("{group}.{kind}")).or_default() += count;
            }
        }
    }

    fn print_progress(&self) {
        let (orders, acknowledged) = self.histories.orders();
        println!(
            "round {:>4}: {:>6.1} s, {orders} orders, {acknowledged} acknowledged, {} requests",
            self.tally.rounds,
            seconds_between(self.began, Moment::now()),
            self.histories.counts().requests
        );
    }

    fn print(&self, violations: usize) {
        let tally = &self.tally;
        let counts = self.histories.counts();
        let (orders, acknowledged) = self.histories.orders();
        let seconds = seconds_between(self.began, Moment::now());
        println!("\n{} rounds in {seconds:.1} s, seed {}", tally.rounds, self.seed);
        println!(
            "kills: {} of the server under load, {} during its start, {} right after it, {} of the \
             exchange",
            tally.server_kills, tally.kills_during_start, tally.second_kills, tally.exchange_kills
        );
        println!(
            "orders: {orders} asked for, {acknowledged} acknowledged; {} waited for the exchange \
             when a server had recovered",
            tally.recovered_waiting
        );
        println!(
            "requests: {}, of which {} without an answer and {} refused with 503; {} operations \
             checked",
            counts.requests, counts.unanswered, counts.refused, counts.operations
        );
        println!("comparisons with the exchange's whole record: {}", tally.reconciliations);
        let faults: Vec<String> = tally
            .faults
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        println!("faults: {}", if faults.is_empty() { "none".into() } else { faults.join(", ") });
        println!("violations: {violations}");
    }
}

fn checker<'a>(
    cluster: &Cluster,
    histories: &'a Histories,
    interrupt: &'a Interrupt,
) -> Checker<'a> {
    let users = cluster.tokens.iter().map(|token| Api::new(&cluster.url, token)).collect();
    Checker { histories, users, exchange: cluster.exchange(), interrupt }
}

/// Fault settings with some of them replaced.
fn changed(settings: &str, changes: &str) -> String {
    let parts = settings.split(',').chain(changes.split(',')).map(str::trim);
    let named = parts.filter(|part| !part.is_empty());
    let by_name: BTreeMap<&str, &str> =
        named.map(|part| (part.split('=').next().unwrap_or(part), part)).collect();
    by_name.into_values().collect::<Vec<_>>().join(",")
}

fn millis(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_changed_by_their_names() {
        let faults = "feed.skip=0.1, orders.bust=0.2";
        assert_eq!(changed(faults, "orders.bust=0,seed=3"), "feed.skip=0.1,orders.bust=0,seed=3");
        assert_eq!(changed("", ""), "");
        assert_eq!(changed(faults, "nonsense"), "feed.skip=0.1,nonsense,orders.bust=0.2");
    }
}
