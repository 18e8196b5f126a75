//! `loadtest linearize`: many concurrent clients on few orders, then a search for a sequence of
//! operations that explains everything they saw.

use crate::{
    error::{Error, Result},
    phase::Interrupt,
    rounds::{self, Plan, RoundArgs},
    workload::Mix,
};

/// Faults that reorder events but do not change outcomes. No busts: they let an order go back, which
/// weakens the check.
const FAULTS: &str = "submits.delay=0.3,submits.drop-reply=0.1,submits.error-after=0.05,\
    submits.shuffle=0.2,cancels.delay=0.3,cancels.drop-reply=0.1,cancels.shuffle=0.2,\
    queries.delay=0.3,queries.drop-reply=0.1,orders.reject=0.05,orders.refuse-cancel=0.1,\
    orders.fill-first=0.3,orders.cancel-unasked=0.05,feed.repeat=0.05,\
    feed.repeat-renumbered=0.05,feed.reorder=0.05,feed.cut=0.0002,\
    manner.submit-delay-ms=1..300,manner.cancel-delay-ms=1..300,manner.query-delay-ms=1..100";

/// Flags of `loadtest linearize`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LinearizeArgs {
    #[command(flatten)]
    rounds_of: RoundArgs,
    /// Rounds, each with new orders (with --kills every second one)
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    rounds: u64,
    /// Requests per client and round
    #[arg(long, default_value_t = 150, value_name = "COUNT")]
    requests: usize,
    /// Orders per user, shared by all of the user's clients
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    keys: usize,
    /// Kill the server in each round
    #[arg(long)]
    kills: bool,
}

/// Runs the test and prints its report.
///
/// # Errors
/// [`Error::Violations`], or whatever stopped the test early.
pub(crate) fn run(arguments: &LinearizeArgs, interrupt: &Interrupt) -> Result<()> {
    if !(1..=40).contains(&arguments.keys) {
        let (value, allowed) = (arguments.keys.to_string(), "1 to 40".to_owned());
        return Err(Error::Flag { flag: "keys", value, allowed });
    }
    let plan = Plan {
        rounds: arguments.rounds,
        requests: arguments.requests,
        mix: Mix::Hot { keys: arguments.keys },
        kills: arguments.kills,
        rounds_per_exchange_kill: 0,
        rounds_per_reconciliation: arguments.rounds.max(1),
        faults: FAULTS,
    };
    rounds::run(&arguments.rounds_of, &plan, interrupt)
}
