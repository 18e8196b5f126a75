//! `loadtest crash-loop`: kills the server again and again under load, beside a misbehaving exchange;
//! whatever any client was told must stay true.

use crate::{
    error::{Error, Result},
    phase::Interrupt,
    rounds::{self, Plan, RoundArgs},
    workload::Mix,
};

/// A mix of every exchange fault that the engine must tolerate.
const FAULTS: &str = "submits.delay=0.1,submits.cut-before=0.03,submits.error-before=0.02,\
    submits.drop-reply=0.03,submits.cut-in-answer=0.02,submits.error-after=0.02,\
    submits.garbage=0.01,submits.wrong-shape=0.01,submits.leave-out=0.02,submits.shuffle=0.1,submits.throttle=0.01,submits.spoil=0.01,submits.contradict=0.01,\
    cancels.delay=0.1,cancels.cut-before=0.03,cancels.error-before=0.02,cancels.drop-reply=0.03,\
    cancels.cut-in-answer=0.02,cancels.error-after=0.02,cancels.garbage=0.01,\
    cancels.wrong-shape=0.01,cancels.leave-out=0.02,cancels.shuffle=0.1,cancels.throttle=0.02,cancels.spoil=0.01,cancels.contradict=0.01,\
    queries.delay=0.1,queries.cut-before=0.03,queries.error-before=0.03,queries.drop-reply=0.02,\
    queries.cut-in-answer=0.02,queries.garbage=0.01,queries.wrong-shape=0.01,\
    queries.leave-out=0.02,queries.shuffle=0.1,queries.throttle=0.02,queries.spoil=0.02,queries.contradict=0.02,queries.cut-list=0.05,\
    orders.reject=0.03,orders.refuse-cancel=0.05,orders.fill-first=0.1,\
    orders.cancel-unasked=0.03,orders.expire-unasked=0.02,orders.bust=0.03,\
    feed.repeat=0.02,feed.repeat-renumbered=0.02,feed.reorder=0.02,feed.skip=0.002,\
    feed.stall=0.0002,feed.cut=0.0002,\
    manner.submit-delay-ms=1..400,manner.cancel-delay-ms=1..400,manner.query-delay-ms=1..400,\
    manner.later-ms=0..50,manner.stall-ms=200..5000,\
    manner.record-lag-ms=1500";

/// Flags of `loadtest crash-loop`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CrashLoopArgs {
    #[command(flatten)]
    rounds_of: RoundArgs,
    /// Rounds, each with a kill of the server
    #[arg(long, default_value_t = 200, value_name = "COUNT")]
    rounds: u64,
    /// Most requests per client and round
    #[arg(long, default_value_t = 120, value_name = "COUNT")]
    requests: usize,
    /// Rounds between comparisons with the exchange's whole record; each waits until every order is
    /// reconciled, some 8 s
    #[arg(long, default_value_t = 20, value_name = "ROUNDS")]
    reconcile_every: u64,
    /// Also kill the exchange once in this many rounds; 0 for never
    #[arg(long, default_value_t = 7, value_name = "ROUNDS")]
    exchange_kill_every: u64,
}

/// Runs the test and prints its report.
///
/// # Errors
/// [`Error::Violations`], or whatever stopped the test early.
pub(crate) fn run(arguments: &CrashLoopArgs, interrupt: &Interrupt) -> Result<()> {
    if arguments.reconcile_every == 0 {
        let (value, allowed) = ("0".to_owned(), "1 or more".to_owned());
        return Err(Error::Flag { flag: "reconcile-every", value, allowed });
    }
    let plan = Plan {
        rounds: arguments.rounds,
        requests: arguments.requests,
        mix: Mix::Broad,
        kills: true,
        rounds_per_exchange_kill: arguments.exchange_kill_every,
        rounds_per_reconciliation: arguments.reconcile_every,
        faults: FAULTS,
    };
    rounds::run(&arguments.rounds_of, &plan, interrupt)
}
