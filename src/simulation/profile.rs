//! The profile of a seed: the odds of every action and fault, and the settings of the process.

use std::time::Duration;

use super::action::Action;
use super::dice::Dice;
use super::focus::Focus;
use super::records::RecordBehavior;
use crate::engine::{AccountMode, AccountRules, EngineOptions};

/// Ordinary weight of each action, and whether a seed may leave it out: seeds that never crash find
/// other bugs than seeds that crash all the time.
const WEIGHTS: &[(Action, u64, bool)] = &[
    (Action::Create, 50, false),
    (Action::Repeat, 25, true),
    (Action::Cancel, 40, true),
    (Action::List, 20, true),
    (Action::ReadStream, 60, true),
    (Action::CutStream, 6, true),
    (Action::PollClients, 30, false),
    (Action::MassCancel, 2, true),
    (Action::Halt, 1, true),
    (Action::MoveCash, 12, true),
    (Action::Webhook, 20, true),
    (Action::HangUp, 5, true),
    (Action::Slice, 160, false),
    (Action::WriteLog, 130, false),
    (Action::PrepareLog, 30, false),
    (Action::FollowLog, 40, false),
    (Action::PersistIndex, 15, true),
    (Action::AnswerReads, 25, false),
    (Action::Find, 30, false),
    (Action::Probe, 10, false),
    (Action::SendSubmits, 70, false),
    (Action::SendControl, 70, false),
    (Action::Arrive, 100, false),
    (Action::Answer, 100, false),
    (Action::Cut, 8, true),
    (Action::Print, 50, true),
    (Action::Bust, 20, true),
    (Action::LateFill, 8, true),
    (Action::Unasked, 6, true),
    (Action::DayEnd, 1, true),
    (Action::ExchangeRestart, 1, true),
    (Action::RenameSession, 1, true),
    (Action::FeedLines, 70, false),
    (Action::FeedBeat, 25, false),
    (Action::FeedCut, 8, true),
    (Action::FeedForget, 3, true),
    (Action::FeedAgain, 12, true),
    (Action::FeedGap, 8, true),
    (Action::FeedSwap, 8, true),
    (Action::FeedGarble, 10, true),
    (Action::FeedJunk, 5, true),
    (Action::Wait, 15, false),
    (Action::SetClock, 3, true),
    (Action::StepExchangeClock, 4, true),
    (Action::DiskFault, 3, true),
    (Action::DiskFull, 2, true),
    (Action::DiskRoom, 8, false),
    (Action::Kill, 2, true),
    (Action::PowerLoss, 2, true),
    (Action::Stop, 1, true),
    (Action::Start, 60, false),
    (Action::FollowPostgres, 90, false),
    (Action::PostgresAway, 4, true),
    (Action::PostgresBack, 12, false),
];

/// Longer than a seed: open orders are never reconciled periodically.
const NO_RECONCILIATION: Duration = Duration::from_secs(30);
/// Most reserve segments of the log.
pub(super) const MAX_RESERVE_SEGMENTS: u64 = 2;

/// Some orders for a share or four at some hundred dollars, until the balance is used up.
const CASH_ACCOUNTS: AccountRules =
    AccountRules { mode: AccountMode::Cash, collar_percent: 5, opening_cents: 500_000 };

/// The profile of a seed.
pub(super) struct Profile {
    pub(super) focus: Focus,
    /// Steps before the faults stop.
    pub(super) steps: usize,
    pub(super) users: usize,
    /// Keys per user.
    pub(super) keys: usize,
    /// Percentage of requests to the exchange that are lost.
    pub(super) lost_requests: u64,
    /// Percentage of its answers that are lost or unreadable.
    pub(super) lost_answers: u64,
    /// Percentage of its answers that are incomplete or reordered.
    pub(super) mangled_answers: u64,
    /// Percentage of posted lines, and of answers, with an unreadable part.
    pub(super) garbled: u64,
    /// Percentage of order ids and execution ids that the exchange reuses after a restart.
    pub(super) reused_ids: u64,
    /// Percentage of its restarts after which the feed numbering restarts under the same name.
    pub(super) kept_names: u64,
    /// Percentage of feed connections that ask for lost lines and get others instead of `410`.
    pub(super) other_sessions: u64,
    /// Percentage of requests that the exchange throttles.
    pub(super) throttled_requests: u64,
    /// Percentage of attempts to send that find the exchange unreachable.
    pub(super) refused_connections: u64,
    /// Percentage of arrivals of a submit that come later instead.
    pub(super) held_submits: u64,
    /// Percentage of cancels that the exchange declines.
    pub(super) declined_cancels: u64,
    /// How the exchange's records behave.
    pub(super) records: RecordBehavior,
    /// Whether lines may be lost that only the feed has: busts.
    pub(super) loses_busts: bool,
    /// Offset of the exchange's clock from the true time, in microseconds.
    pub(super) exchange_clock: i64,
    /// Capacity of the queue from the feed to the orders thread.
    pub(super) feed_queue: usize,
    /// Longest time between two steps, in microseconds.
    pub(super) pace_micros: u64,
    /// Timing rules of the engines.
    pub(super) engine: EngineOptions,
    /// How long a client waits.
    pub(super) reply_timeout: Duration,
    /// Whether readers and clients wait for Postgres.
    pub(super) awaits_postgres: bool,
    /// How long Postgres may lag before new orders are refused.
    pub(super) postgres_stall: Duration,
    /// How much longer a client waits for Postgres.
    pub(super) postgres_patience: Duration,
    /// Whether the orders thread commits lone requests by itself.
    pub(super) commits_alone: bool,
    /// Interval between reconciliations of all open orders.
    pub(super) cleanup_interval: Duration,
    /// How long ended orders stay in memory.
    pub(super) keep_ended: Duration,
    /// Retention of order changes, in microseconds.
    pub(super) changes_age_micros: u64,
    /// How often the orders thread checks what waits.
    pub(super) sweep_interval: Duration,
    /// Timeout of a request to the exchange, in microseconds.
    pub(super) request_timeout_micros: u64,
    /// Reserve segments of the log.
    pub(super) reserve_segments: u64,
    weights: Vec<(Action, u64)>,
    total: u64,
}

impl Profile {
    pub(super) fn draw(dice: &mut Dice, steps: Option<usize>) -> Self {
        let focus = Focus::draw(dice);
        let weights = WEIGHTS.iter().map(|&(action, weight, may_be_left_out)| {
            let times = match dice.below(4) {
                0 if may_be_left_out => 0,
                0 | 1 => 2,
                2 => 4,
                _ => 8,
            };
            (action, weight * focus.weight_factor(action).unwrap_or(times))
        });
        let weights: Vec<(Action, u64)> = weights.collect();
        let total = weights.iter().map(|(_, weight)| weight).sum();
        // A perfect network, a mediocre one, and one that hardly works.
        let mut faults = |most: u64| match dice.below(3) {
            0 => 0,
            1 => most / 4,
            _ => most,
        };
        let (lost_requests, lost_answers) = (faults(40), faults(40));
        let (mangled_answers, refused_connections) = (faults(20), faults(30));
        let (throttled_requests, garbled) = (faults(15), faults(25));
        let (kept_names, other_sessions, reused_ids) = (faults(80), faults(80), faults(80));
        let (declined_cancels, held_submits) = (faults(20), faults(60));
        let clock_tolerance_micros = dice.between(0, 4) * 10_000;
        let tolerance = i64::try_from(clock_tolerance_micros).unwrap_or_default();
        let exchange_clock = [-tolerance, -tolerance / 2, 0, tolerance][dice.below(4)];
        let records = RecordBehavior {
            lag_micros: [0, 0, 15_000, 80_000][dice.below(4)],
            shows_as_of: dice.percent(50),
            cut_lists: [0, 0, 30][dice.below(3)],
        };
        let is_short = matches!(
            focus,
            Focus::Nothing
                | Focus::CutLines
                | Focus::LostLines
                | Focus::ReusedIds
                | Focus::CutLists
        );
        let mut profile = Self {
            focus,
            records,
            loses_busts: dice.percent(30),
            steps: steps.unwrap_or_else(|| 60 << if is_short { dice.below(4) } else { 3 }),
            users: 1 + dice.below(4),
            keys: dice.below(6),
            lost_requests,
            lost_answers,
            mangled_answers,
            garbled,
            reused_ids,
            kept_names,
            other_sessions,
            throttled_requests,
            refused_connections,
            held_submits,
            declined_cancels,
            exchange_clock,
            feed_queue: [1, 3, 64][dice.below(3)],
            pace_micros: [50, 400, 3_000][dice.below(3)],
            engine: EngineOptions {
                submit_window_micros: [10_000, 60_000, 500_000][dice.below(3)],
                clock_tolerance_micros,
                grace_micros: [10_000, 50_000][dice.below(2)],
                // Much longer than any answer takes: see the option.
                unmatched_report_age_micros: 5_000_000,
                lookup_age_micros: [1_000, 20_000, 200_000][dice.below(3)],
                unknown_span_micros: [10_000, 50_000][dice.below(2)],
                doubt_age_micros: [20_000, 200_000][dice.below(2)],
                max_doubt_pause_micros: 200_000,
                ended_window_micros: 30_000_000,
                relook_pauses_micros: [30_000, 100_000, 300_000, 800_000, 1_600_000],
                shares_users: false,
                accounts: AccountRules::default(),
            },
            reply_timeout: Duration::from_millis([5, 30, 100][dice.below(3)]),
            awaits_postgres: dice.below(3) == 0,
            postgres_stall: Duration::from_millis([5, 50][dice.below(2)]),
            postgres_patience: Duration::from_millis([5, 40][dice.below(2)]),
            commits_alone: dice.below(2) == 0,
            cleanup_interval: Duration::from_millis([20, 500, 30_000][dice.below(3)]),
            keep_ended: Duration::from_millis([0, 5, 5_000][dice.below(3)]),
            changes_age_micros: [20_000, 400_000, 86_400_000_000][dice.below(3)],
            sweep_interval: Duration::from_millis([2, 20][dice.below(2)]),
            request_timeout_micros: [10_000, 60_000][dice.below(2)],
            reserve_segments: dice.between(0, MAX_RESERVE_SEGMENTS),
            weights,
            total,
        };
        profile.concentrate(dice);
        if profile.keep_ended == Duration::from_millis(5) {
            // No draw of its own, so that all other seeds keep their histories.
            profile.engine.accounts = CASH_ACCOUNTS;
        }
        profile
    }

    /// Sets what the focus needs, and removes what would hide its faults.
    fn concentrate(&mut self, dice: &mut Dice) {
        match self.focus {
            Focus::Nothing => {}
            Focus::CutLines | Focus::LostLines => {
                self.records.cut_lists = 0;
                self.cleanup_interval = NO_RECONCILIATION;
                self.feed_queue = 64;
            }
            Focus::Renumbering => {
                let lag_micros = [15_000, 80_000][dice.below(2)];
                self.records = RecordBehavior { lag_micros, shows_as_of: true, cut_lists: 0 };
                self.kept_names = 100;
                self.pace_micros = [400, 3_000][dice.below(2)];
            }
            Focus::ReusedIds => self.reused_ids = 80,
            Focus::LateRecords => {
                // Records that say how old they are would not be believed.
                let lag_micros = 80_000;
                self.records = RecordBehavior { lag_micros, shows_as_of: false, cut_lists: 0 };
                self.lost_answers = 40;
                self.engine.submit_window_micros = 10_000;
                self.engine.unknown_span_micros = 10_000;
                // A start would query failed orders as recently ended ones.
                self.engine.ended_window_micros = 1_000;
                self.sweep_interval = Duration::from_millis(2);
                self.pace_micros = 400;
            }
            Focus::CutLists => {
                self.records = RecordBehavior { lag_micros: 0, shows_as_of: true, cut_lists: 60 };
                self.cleanup_interval = Duration::from_millis(20);
                self.pace_micros = 3_000;
            }
            Focus::OddRecords => {
                self.records = RecordBehavior { lag_micros: 0, cut_lists: 0, ..self.records };
                self.garbled = 60;
            }
            Focus::SlowSubmits => {
                let tolerance_micros: i32 = 200_000;
                self.engine.clock_tolerance_micros = u64::from(tolerance_micros.unsigned_abs());
                self.exchange_clock = i64::from(-tolerance_micros);
                self.engine.submit_window_micros = 10_000;
                self.engine.unknown_span_micros = 10_000;
                self.request_timeout_micros = 10_000;
                self.records.lag_micros = 0;
                self.sweep_interval = Duration::from_millis(2);
                self.calm_network();
                self.held_submits = 80;
                self.pace_micros = 400;
            }
            Focus::OldRecords => {
                let lag_micros = 30_000;
                self.records = RecordBehavior { lag_micros, shows_as_of: false, cut_lists: 0 };
                self.cleanup_interval = NO_RECONCILIATION;
                self.feed_queue = 64;
                self.calm_network();
                self.pace_micros = 400;
            }
            Focus::ReopenedOrders => {
                self.keep_ended = Duration::ZERO;
                self.sweep_interval = Duration::from_millis(2);
                self.engine.lookup_age_micros = 1_000;
                self.calm_network();
                self.pace_micros = 3_000;
            }
        }
    }

    /// Every request arrives and is answered, and nobody waits for Postgres.
    const fn calm_network(&mut self) {
        (self.lost_requests, self.lost_answers) = (0, 0);
        (self.refused_connections, self.throttled_requests) = (0, 0);
        self.held_submits = 0;
        self.awaits_postgres = false;
    }

    /// Draws the next action.
    pub(super) fn draw_action(&self, dice: &mut Dice) -> Action {
        let mut at = dice.between(0, self.total - 1);
        for &(action, weight) in &self.weights {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return action,
            }
        }
        Action::Slice
    }
}
