//! The thread `day-end`: compares a day when its session has closed, and whenever an operator asks.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::comparison::{Comparison, Difference, DifferenceKind, Known};
use super::metrics::DayEndMetrics;
use super::report::{DayReport, MAX_LISTED, OfSymbol, Outcome, Settled};
use super::reports::{DayEnds, Request, Shared};
use super::totals::SymbolTotals;
use crate::engine::DayFinding;
use crate::exchange::DayPart;
use crate::exchange::wire::DayExecution;
use crate::index::{Index, IndexError};
use crate::market::TradingSession;
use crate::order::TrackedOrder;
use crate::shutdown::Shutdown;
use crate::types::{OrderId, TimestampMicros, TradeDate};

/// How often it looks whether a stop was requested or a day is due.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a comparison that failed by itself waits for the next attempt.
const RETRY: Duration = Duration::from_secs(60);
/// Executions so young are left out: they may be under way.
const UNDER_WAY_MICROS: u64 = 10_000_000;
/// How long the exchange's clock is waited for.
const CLOCK_WAIT: Duration = Duration::from_secs(20);
/// How long a report waits for what comes of its findings.
const SETTLE: Duration = Duration::from_secs(15);
/// Most executions of a day, some 150 bytes of memory each, and most parts of its list.
const MAX_EXECUTIONS: usize = 100_000_000;
const MAX_PARTS: usize = 1_000_000;
/// Findings that the orders thread takes at once.
const FINDINGS_PER_HAND: usize = 64;

/// Reads a part of the exchange's list; `None`: it offers none.
pub type ExchangeList = Box<dyn Fn(TradeDate, Option<&str>) -> io::Result<Option<DayPart>> + Send>;
/// Hands findings to the orders thread. `false`: it is ending.
pub type TakeFindings = Box<dyn Fn(Vec<DayFinding>) -> bool + Send>;

/// Where our side is read.
#[derive(Debug, Clone)]
pub struct OurRecords(pub Index);

/// What the thread goes by.
pub struct DayEndOptions {
    /// How long after the close a day is compared.
    pub delay: Duration,
    /// The exchange's time; `None` while it is not known.
    pub now: Box<dyn Fn() -> Option<TimestampMicros> + Send>,
    /// The trading sessions that the exchange tells.
    pub sessions: Box<dyn Fn() -> Vec<TradingSession> + Send>,
    pub metrics: DayEndMetrics,
}

/// The thread. Run [`run`](Self::run) on it.
pub struct DayEndThread {
    wanted: Receiver<Request>,
    shared: Arc<Shared>,
    list: ExchangeList,
    ours: OurRecords,
    take: TakeFindings,
    options: DayEndOptions,
    shutdown: Shutdown,
    /// The first day that is compared unasked, once it is known.
    first: Option<TradeDate>,
    retry_at: Option<Instant>,
}

/// Why a day could not be compared.
#[derive(Debug, thiserror::Error)]
enum DayError {
    #[error("the exchange's clock is not known yet")]
    NoClock,
    #[error("the exchange offers no list of a day's executions: hand it over as a file")]
    NotOffered,
    #[error("the exchange's list cannot be read: {0}")]
    List(#[from] io::Error),
    #[error("orders cannot be read: {0}")]
    Records(#[from] IndexError),
    #[error("the server is stopping")]
    Stopping,
    #[error("the report cannot be written: {0}")]
    Report(io::Error),
}

impl DayEndThread {
    /// The thread, and where comparisons are asked for. Reports are in `directory`.
    pub fn new(
        directory: std::path::PathBuf,
        (list, ours, take): (ExchangeList, OurRecords, TakeFindings),
        options: DayEndOptions,
        shutdown: Shutdown,
    ) -> (Self, DayEnds) {
        let (ends, wanted, shared) = DayEnds::new(directory);
        let (first, retry_at) = (None, None);
        (Self { wanted, shared, list, ours, take, options, shutdown, first, retry_at }, ends)
    }

    /// Compares until a stop is requested.
    pub fn run(mut self) {
        while !self.shutdown.is_requested() {
            match self.wanted.recv_timeout(LOOK_INTERVAL) {
                Ok(Request { date, list }) => self.compare(date, list),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(date) = self.due() {
                        self.shared.begin(date);
                        self.compare(date, None);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The day that is over and has not been compared since.
    fn due(&mut self) -> Option<TradeDate> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let now = (self.options.now)()?;
        let today = TradeDate::of(now)?;
        let first = match self.first {
            Some(first) => first,
            None => *self.first.insert(self.first_day(today)),
        };
        let sessions = (self.options.sessions)();
        [today.plus_days(-1), today].into_iter().filter(|date| *date >= first).find(|date| {
            let over = over_at(*date, now, &sessions);
            over.is_some_and(|over| {
                let delay = u64::try_from(self.options.delay.as_micros()).unwrap_or(u64::MAX);
                // Those of the close are not left out.
                let delay = delay.max(UNDER_WAY_MICROS);
                let is_time = now >= over.saturating_add_micros(delay);
                is_time && self.shared.compared_at(*date).is_none_or(|at| at < over)
            })
        })
    }

    /// The first day that is compared unasked: that of the start, and the one before if this server
    /// was there.
    fn first_day(&self, today: TradeDate) -> TradeDate {
        let before = today.plus_days(-1);
        let was_there =
            self.ours.0.orders_executed_on(before).is_ok_and(|orders| !orders.is_empty());
        if was_there { before } else { today }
    }

    fn compare(&mut self, date: TradeDate, list: Option<DayPart>) {
        self.retry_at = Some(Instant::now() + RETRY);
        let done = self.report(date, list).and_then(|report| {
            self.shared.write(&report).map_err(DayError::Report)?;
            Ok(report)
        });
        let metrics = &self.options.metrics;
        if let Ok(report) = &done {
            let found = report.difference_count + report.unreadable_count;
            metrics.differences.set(i64::try_from(found).unwrap_or(i64::MAX));
            metrics.compared.inc();
        }
        self.shared.end(date, done.as_ref().err().map(ToString::to_string));
        match done {
            Ok(report) if report.agrees => {
                self.retry_at = None;
                let executions = report.total.ours.executions;
                tracing::info!(%date, executions, "the day's executions agree with the exchange's");
            }
            Ok(report) => {
                self.retry_at = None;
                let (differences, unreadable) = (report.difference_count, report.unreadable_count);
                tracing::error!(
                    %date, differences, unreadable,
                    "the day's executions differ from the exchange's: see the report"
                );
            }
            Err(error) => match &error {
                DayError::NotOffered => tracing::info!(%date, "{error}"),
                DayError::Stopping => {}
                DayError::NoClock
                | DayError::List(_)
                | DayError::Records(_)
                | DayError::Report(_) => {
                    metrics.failures.inc();
                    tracing::warn!(%date, %error, "the day is not compared");
                }
            },
        }
    }

    fn report(&self, date: TradeDate, list: Option<DayPart>) -> Result<DayReport, DayError> {
        let compared_at = self.await_clock()?;
        let until = compared_at.micros().saturating_sub(UNDER_WAY_MICROS);
        let until = TimestampMicros::new(until).min(date.ends());
        let source = if list.is_some() { "file" } else { "exchange" };
        // A file of a day that goes on may be older than now: it has all up to its last execution.
        let last = list.as_ref().map(|part| part.executions.iter().map(|one| one.timestamp).max());
        let until = match last {
            Some(last) if compared_at < date.ends() => {
                until.min(last.unwrap_or_default().saturating_add_micros(1))
            }
            Some(_) | None => until,
        };
        let mut comparison = Comparison::new(date, until);
        let read = match list {
            Some(part) => {
                let mut read = ReadList::default();
                read.add(self.take_part(&mut comparison, part)?);
                read
            }
            None => self.read_list(date, &mut comparison)?,
        };
        let mut orders: BTreeSet<OrderId> = comparison.listed_orders().collect();
        orders.extend(self.ours.0.orders_executed_on(date)?);
        for order_id in orders {
            self.check_stop()?;
            let ours = self.ours.0.order_and_executions(order_id)?;
            comparison.compare(order_id, ours.as_ref(), read.is_complete);
        }
        let Known { symbols, differences, findings } = comparison.finish();
        for part in findings.chunks(FINDINGS_PER_HAND) {
            if !(self.take)(part.to_vec()) {
                return Err(DayError::Stopping);
            }
        }
        let mut total = SymbolTotals::default();
        for totals in symbols.values() {
            total.add(totals);
        }
        let (difference_count, unreadable_count) = (differences.len(), read.unreadable_count);
        Ok(DayReport {
            trade_date: date,
            compared_at,
            until,
            source,
            is_complete: read.is_complete,
            agrees: difference_count == 0 && unreadable_count == 0,
            total,
            symbols: symbols
                .into_iter()
                .map(|(symbol, totals)| OfSymbol { symbol, totals })
                .collect(),
            difference_count,
            differences: self.settle(differences)?,
            unreadable_count,
            unreadable: read.unreadable,
        })
    }

    /// The exchange's time. After a start it is known with the first heartbeats.
    fn await_clock(&self) -> Result<TimestampMicros, DayError> {
        let deadline = Instant::now() + CLOCK_WAIT;
        loop {
            self.check_stop()?;
            match (self.options.now)() {
                Some(now) => return Ok(now),
                None if Instant::now() >= deadline => return Err(DayError::NoClock),
                None => std::thread::sleep(LOOK_INTERVAL),
            }
        }
    }

    fn read_list(&self, date: TradeDate, into: &mut Comparison) -> Result<ReadList, DayError> {
        let (mut read, mut cursor) = (ReadList::default(), None);
        let mut seen = BTreeSet::new();
        let mut executions = 0;
        loop {
            self.check_stop()?;
            let part = (self.list)(date, cursor.as_deref())?.ok_or(DayError::NotOffered)?;
            cursor = part.next_cursor.clone();
            executions += part.executions.len();
            if executions > MAX_EXECUTIONS || seen.len() > MAX_PARTS {
                let what =
                    format!("it has more than {MAX_EXECUTIONS} executions or {MAX_PARTS} parts");
                return Err(DayError::List(io::Error::new(io::ErrorKind::InvalidData, what)));
            }
            read.add(self.take_part(into, part)?);
            match &cursor {
                None => return Ok(read),
                Some(next) if !seen.insert(next.clone()) => {
                    let what = format!("its cursor {next} comes again");
                    return Err(DayError::List(io::Error::new(io::ErrorKind::InvalidData, what)));
                }
                Some(_) => {}
            }
        }
    }

    fn take_part(&self, into: &mut Comparison, part: DayPart) -> Result<ReadList, DayError> {
        for execution in &part.executions {
            into.list(execution, self.order_of(execution)?);
        }
        let DayPart { unreadable, unreadable_count, is_complete, .. } = part;
        Ok(ReadList { unreadable_count, unreadable, is_complete })
    }

    /// Our order of an execution: by our id, else by the exchange's.
    fn order_of(&self, execution: &DayExecution) -> Result<Option<OrderId>, IndexError> {
        if let Some(id) = execution.client_order_id.as_ref().and_then(|id| id.parse().ok()) {
            return Ok(Some(id));
        }
        let found = self.ours.0.by_external_id(&execution.order_id)?;
        Ok(found.map(|tracked| tracked.order().order_id))
    }

    fn check_stop(&self) -> Result<(), DayError> {
        if self.shutdown.is_requested() { Err(DayError::Stopping) } else { Ok(()) }
    }

    /// Waits until the store shows what came of the differences, but not for long.
    fn settle(&self, mut differences: Vec<Difference>) -> Result<Vec<Settled>, DayError> {
        differences.truncate(MAX_LISTED);
        let deadline = Instant::now() + SETTLE;
        loop {
            let position = self.ours.0.position();
            let (mut settled, mut waits) = (Vec::with_capacity(differences.len()), false);
            for difference in &differences {
                let order =
                    difference.order_id.map(|id| self.ours.0.by_order_id(id)).transpose()?;
                let outcome = outcome(difference, order.flatten().as_ref());
                waits |= outcome.is_none();
                let outcome = outcome.unwrap_or(Outcome::Open);
                settled.push(Settled { difference: difference.clone(), outcome });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !waits || left.is_zero() || self.shutdown.is_requested() {
                return Ok(settled);
            }
            self.ours.0.wait_beyond(position, left.min(LOOK_INTERVAL));
        }
    }
}

/// When a day was over: after its last session, if the exchange tells them and none goes on, else at
/// its end. `None`: not yet.
fn over_at(
    date: TradeDate,
    now: TimestampMicros,
    sessions: &[TradingSession],
) -> Option<TimestampMicros> {
    let of_day = |at: TimestampMicros| TradeDate::of(at) == Some(date);
    let before = |at: TimestampMicros| TimestampMicros::new(at.micros().saturating_sub(1));
    let of_date = sessions.iter().filter(|session| of_day(before(session.close)));
    let last_close = of_date.map(|session| session.close).max();
    let is_over = |end: &TimestampMicros| *end <= now;
    last_close.filter(is_over).or(Some(date.ends()).filter(is_over))
}

/// What has come of a difference; `None`: it may still come.
fn outcome(difference: &Difference, order: Option<&TrackedOrder>) -> Option<Outcome> {
    let Some(order) = order else { return Some(Outcome::Open) };
    let id = &difference.execution_id;
    let counted = order.executions().get(id).and_then(|execution| execution.counted());
    let has_case = order.case_of(id).is_some();
    match difference.kind {
        DifferenceKind::Missing if counted.is_some() => Some(Outcome::Booked),
        DifferenceKind::Unlisted if counted.is_none() => Some(Outcome::Void),
        DifferenceKind::Missing | DifferenceKind::OtherNumbers | DifferenceKind::Unlisted => {
            has_case.then_some(Outcome::Quarantined)
        }
        DifferenceKind::OtherOrder | DifferenceKind::VoidHere | DifferenceKind::UnknownOrder => {
            Some(Outcome::Open)
        }
    }
}

/// What was read of a list.
struct ReadList {
    unreadable_count: usize,
    unreadable: Vec<String>,
    is_complete: bool,
}

impl Default for ReadList {
    fn default() -> Self {
        Self { unreadable_count: 0, unreadable: Vec::new(), is_complete: true }
    }
}

impl ReadList {
    fn add(&mut self, part: Self) {
        self.unreadable_count += part.unreadable_count;
        let room = MAX_LISTED.saturating_sub(self.unreadable.len());
        self.unreadable.extend(part.unreadable.into_iter().take(room));
        self.is_complete &= part.is_complete;
    }
}
