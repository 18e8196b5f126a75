use std::time::Duration;

use super::dice::Dice;
use super::focus::Focus;
use super::records::RecordManner;
use crate::engine::EngineOptions;

/// One kind of step. What exactly happens in it is drawn when its turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// A user asks for an order, with or without a key.
    Create,
    /// A user asks again with a key that was used before.
    Repeat,
    /// A user asks to cancel an order.
    Cancel,
    /// A user asks for a list of all orders.
    List,
    /// A stream of orders begins, or goes on from where it is.
    ReadStream,
    /// A stream of orders is cut off.
    CutStream,
    /// Users go on without the orders thread.
    GoOn,
    /// An operator cancels many orders.
    MassCancel,
    /// An operator halts new orders, or lets them in again.
    Halt,
    /// The exchange posts lines to us.
    Webhook,
    /// A user goes away before the answer.
    HangUp,
    /// One slice of the orders thread.
    Slice,
    /// What the log's writing thread does when it is woken.
    WriteLog,
    /// What the log's preparing thread does when it is woken.
    PrepareLog,
    /// The store takes what the log has committed.
    FollowLog,
    /// The store is made durable, and the log is cut up to there.
    PersistIndex,
    /// The store answers what it is asked.
    AnswerReads,
    /// The store is asked which order the exchange speaks of.
    Find,
    /// The exchange is asked whether it is back.
    Probe,
    /// A session that carries orders sends what has gathered.
    SendSubmits,
    /// The session that carries cancels and queries does.
    SendControl,
    /// A request arrives at the exchange, or never does.
    Arrive,
    /// An answer of the exchange arrives here.
    Answer,
    /// A connection to the exchange breaks under a request.
    Cut,
    /// A trade at the exchange, which may fill orders.
    Print,
    /// The exchange declares an execution void.
    Bust,
    /// The exchange executes an order that has ended.
    LateFill,
    /// The exchange cancels an order unasked.
    Unasked,
    /// Day orders expire.
    DayEnd,
    /// The exchange starts again, with another feed session.
    ExchangeRestart,
    /// The exchange gives the session of its feed another name.
    RenameSession,
    /// The feed brings lines.
    FeedLines,
    /// The feed beats.
    FeedBeat,
    /// The connection of the feed breaks.
    FeedCut,
    /// The exchange forgets old lines of the feed.
    FeedForget,
    /// The feed repeats a line.
    FeedAgain,
    /// The feed loses lines.
    FeedGap,
    /// The feed brings two lines in the wrong order.
    FeedSwap,
    /// The feed brings a line that nobody can read.
    FeedGarble,
    /// The feed brings something that is no line.
    FeedJunk,
    /// Time passes.
    Wait,
    /// Somebody sets our clock.
    SetClock,
    /// Somebody sets the exchange's clock.
    StepExchangeClock,
    /// The disk is told to fail in a moment.
    DiskFault,
    /// The disk runs full.
    DiskFull,
    /// There is room again.
    DiskRoom,
    /// The process is killed.
    Kill,
    /// The machine loses its power.
    PowerLoss,
    /// The process is asked to stop.
    Stop,
    /// The process starts.
    Start,
    /// Postgres takes what the log has committed, or some of it.
    FollowPostgres,
    /// Postgres goes away.
    PostgresAway,
    /// Postgres is back.
    PostgresBack,
}

/// How often each kind of step comes in an ordinary seed. Those that can be left out of a seed are
/// marked: seeds that never crash, or crash all the time, find different mistakes.
const WEIGHTS: &[(Action, u64, bool)] = &[
    (Action::Create, 50, false),
    (Action::Repeat, 25, true),
    (Action::Cancel, 40, true),
    (Action::List, 20, true),
    (Action::ReadStream, 60, true),
    (Action::CutStream, 6, true),
    (Action::GoOn, 30, false),
    (Action::MassCancel, 2, true),
    (Action::Halt, 1, true),
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

/// Longer than a seed: nobody compares open orders with the exchange's record of them.
const NO_COMPARISON: Duration = Duration::from_secs(30);
/// Most segments of the log that are kept for a full disk.
pub(super) const MAX_RESERVE_SEGMENTS: u64 = 2;

/// What kind of seed this is.
pub(super) struct Profile {
    /// What it is about.
    pub(super) focus: Focus,
    /// Steps before the faults stop.
    pub(super) steps: usize,
    /// How many users there are.
    pub(super) users: usize,
    /// How many keys each of them has.
    pub(super) keys: usize,
    /// Of a hundred requests to the exchange, so many never arrive.
    pub(super) lost_requests: u64,
    /// Of a hundred answers of the exchange, so many are lost or cannot be read.
    pub(super) lost_answers: u64,
    /// Of a hundred answers of the exchange, so many are incomplete or mixed up.
    pub(super) mangled_answers: u64,
    /// Of a hundred lines that are posted, and of a hundred answers, so many have something that
    /// nobody can read.
    pub(super) garbled: u64,
    /// Of a hundred ids of orders and executions that the exchange gives, so many are ones that it had
    /// given before it started again.
    pub(super) used_ids: u64,
    /// Of a hundred restarts of the exchange, so many number its feed again under the same name.
    pub(super) kept_names: u64,
    /// Of a hundred connections of the feed that ask for what is gone, so many are answered with
    /// something else.
    pub(super) other_sessions: u64,
    /// Of a hundred requests that the exchange refuses for now.
    pub(super) throttled_requests: u64,
    /// Of a hundred attempts to send, so many find nobody there.
    pub(super) refused_connections: u64,
    /// Of a hundred cancels, so many are declined by the exchange.
    pub(super) declined_cancels: u64,
    /// What records of orders the exchange gives.
    pub(super) records: RecordManner,
    /// Whether lines may be lost that nothing else tells: busts.
    pub(super) loses_busts: bool,
    /// Microseconds that the exchange's clock is ahead of the true time; behind, when negative.
    pub(super) exchange_clock: i64,
    /// Room for lines of the feed in front of the orders thread.
    pub(super) feed_queue: usize,
    /// Longest step of the clock between two steps, in microseconds.
    pub(super) pace_micros: u64,
    /// Times that the engines decide by.
    pub(super) engine: EngineOptions,
    /// How long a client waits.
    pub(super) reply_timeout: Duration,
    /// Whether readers and clients wait for Postgres.
    pub(super) awaits_postgres: bool,
    /// How long Postgres may need before new orders are refused.
    pub(super) postgres_stall: Duration,
    /// How much longer a client waits for Postgres.
    pub(super) postgres_patience: Duration,
    /// Whether the orders thread commits lone requests by itself.
    pub(super) commits_alone: bool,
    /// How often open orders are compared with the exchange's record.
    pub(super) cleanup_interval: Duration,
    /// How long ended orders stay in memory.
    pub(super) keep_ended: Duration,
    /// How long changes of orders are kept.
    pub(super) changes_age_micros: u64,
    /// How often the orders thread looks at what waits.
    pub(super) sweep_interval: Duration,
    /// Longest wait for an answer of the exchange.
    pub(super) request_timeout_micros: u64,
    /// Segments of the log that are kept for a full disk.
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
            (action, weight * focus.times(action).unwrap_or(times))
        });
        let weights: Vec<(Action, u64)> = weights.collect();
        let total = weights.iter().map(|(_, weight)| weight).sum();
        // A network without faults, one with some, and one that hardly works.
        let mut faults = |most: u64| match dice.below(3) {
            0 => 0,
            1 => most / 4,
            _ => most,
        };
        let (lost_requests, lost_answers) = (faults(40), faults(40));
        let (mangled_answers, refused_connections) = (faults(20), faults(30));
        let (throttled_requests, garbled) = (faults(15), faults(25));
        let (kept_names, other_sessions, used_ids) = (faults(80), faults(80), faults(80));
        let declined_cancels = faults(20);
        let clock_tolerance_micros = dice.between(0, 4) * 10_000;
        let tolerance = i64::try_from(clock_tolerance_micros).unwrap_or_default();
        let exchange_clock = [-tolerance, -tolerance / 2, 0, tolerance][dice.below(4)];
        let records = RecordManner {
            lag_micros: [0, 0, 15_000, 80_000][dice.below(4)],
            shows_as_of: dice.percent(50),
            cut_lists: [0, 0, 30][dice.below(3)],
        };
        let is_long = matches!(focus, Focus::Renumbering | Focus::OddRecords);
        let mut profile = Self {
            focus,
            records,
            loses_busts: dice.percent(30),
            steps: steps.unwrap_or_else(|| 60 << if is_long { 3 } else { dice.below(4) }),
            users: 1 + dice.below(4),
            keys: dice.below(6),
            lost_requests,
            lost_answers,
            mangled_answers,
            garbled,
            used_ids,
            kept_names,
            other_sessions,
            throttled_requests,
            refused_connections,
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
        profile
    }

    /// Sets what the focus of the seed needs, or what would hide its faults.
    fn concentrate(&mut self, dice: &mut Dice) {
        match self.focus {
            Focus::Nothing => {}
            Focus::CutLines | Focus::LostLines => {
                self.records.cut_lists = 0;
                self.cleanup_interval = NO_COMPARISON;
                self.feed_queue = 64;
            }
            Focus::Renumbering => {
                let lag_micros = [15_000, 80_000][dice.below(2)];
                self.records = RecordManner { lag_micros, shows_as_of: true, cut_lists: 0 };
                self.kept_names = 100;
                self.pace_micros = [400, 3_000][dice.below(2)];
            }
            Focus::UsedIds => self.used_ids = 80,
            Focus::LateRecords => {
                self.records.lag_micros = 80_000;
                self.lost_answers = 40;
                self.engine.submit_window_micros = 10_000;
                self.engine.unknown_span_micros = 10_000;
                self.pace_micros = 400;
            }
            Focus::CutLists => {
                self.records = RecordManner { lag_micros: 0, shows_as_of: true, cut_lists: 60 };
                self.cleanup_interval = Duration::from_millis(20);
                self.pace_micros = 3_000;
            }
            Focus::OddRecords => {
                self.records = RecordManner { lag_micros: 0, cut_lists: 0, ..self.records };
                self.garbled = 60;
            }
        }
    }

    /// The next kind of step.
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
