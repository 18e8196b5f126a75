//! The profile of a seed: how many nodes, how fast, what fails how often.

use std::time::Duration;

use super::fault::Fault;
use crate::engine::{AccountRules, EngineOptions};
use crate::simulation::dice::Dice;

/// The exchange may take an order for so long: as in a member.
const SUBMIT_WINDOW_MICROS: u64 = 1_500_000;
/// Longer than a seed: open orders are asked about after gaps and moves alone.
const NEVER: Duration = Duration::from_secs(3_600);

pub(super) struct Profile {
    /// Steps before the faults stop.
    pub(super) steps: usize,
    pub(super) nodes: usize,
    pub(super) users: usize,
    /// Keys per user.
    pub(super) keys: usize,
    /// Longest time between two steps, in microseconds.
    pub(super) pace_micros: u64,
    /// Percentage of steps with a fault.
    pub(super) faults_percent: u64,
    /// The faults of this seed.
    pub(super) faults: Vec<Fault>,
    /// Percentage of messages to and from the exchange that are lost.
    pub(super) lost_percent: u64,
    /// Percentage of arrivals of a submit that come later instead.
    pub(super) held_percent: u64,
    /// Percentage of requests to Redis whose connection breaks.
    pub(super) redis_fails_percent: u64,
    /// Whether the exchange's records say how complete they are.
    pub(super) shows_as_of: bool,
    /// Timeout of a request to the exchange, in microseconds.
    pub(super) request_timeout_micros: u64,
    pub(super) engine: EngineOptions,
    pub(super) commits_alone: bool,
    pub(super) sweep_interval: Duration,
    pub(super) keep_ended: Duration,
    pub(super) cleanup_interval: Duration,
}

impl Profile {
    pub(super) fn draw(dice: &mut Dice, steps: Option<usize>) -> Self {
        let some = Fault::ALL.iter().copied().filter(|_| dice.percent(50));
        let faults: Vec<Fault> = some.collect();
        Self {
            steps: steps.unwrap_or_else(|| 300 << dice.below(3)),
            nodes: 2 + dice.below(3),
            users: 1 + dice.below(4),
            keys: dice.below(4),
            pace_micros: [8_000, 20_000, 60_000][dice.below(3)],
            faults_percent: if faults.is_empty() { 0 } else { [1, 2, 5][dice.below(3)] },
            faults,
            lost_percent: [0, 0, 10, 30][dice.below(4)],
            held_percent: [0, 20, 80][dice.below(3)],
            redis_fails_percent: [0, 5, 30][dice.below(3)],
            shows_as_of: dice.percent(50),
            request_timeout_micros: [100_000, 1_000_000][dice.below(2)],
            engine: EngineOptions {
                submit_window_micros: SUBMIT_WINDOW_MICROS,
                clock_tolerance_micros: 100_000,
                grace_micros: [50_000, 400_000][dice.below(2)],
                unmatched_report_age_micros: 5_000_000,
                lookup_age_micros: [20_000, 400_000][dice.below(2)],
                unknown_span_micros: 400_000,
                doubt_age_micros: 400_000,
                max_doubt_pause_micros: 1_000_000,
                ended_window_micros: 900_000_000,
                relook_pauses_micros: [300_000, 600_000, 1_200_000, 2_400_000, 4_800_000],
                shares_users: true,
                accounts: AccountRules::default(),
            },
            commits_alone: dice.percent(50),
            sweep_interval: Duration::from_millis([20, 200][dice.below(2)]),
            keep_ended: Duration::from_millis([0, 1_000][dice.below(2)]),
            cleanup_interval: [Duration::from_millis(500), NEVER, NEVER][dice.below(3)],
        }
    }
}
