//! The thread `projection-N`: follows the log with one server. Connects, writes batch after batch,
//! and reconnects after failures.

mod connected;
mod following;
mod loading;

use std::time::{Duration, Instant};

use tokio::task::yield_now;
use tokio_postgres::Client;

use super::backlog::Backlog;
use super::batch::Batch;
use super::connection::within;
use super::days::Day;
use super::error::Remedy;
use super::held::Held;
use super::intake::Intake;
use super::pace::Pace;
use super::rows::ExternalRows;
use super::shared_ids::SharedIdNotes;
use super::size::BatchSize;
use super::transaction::Written;
use super::unchanged;
use super::{
    OwnersOf, Ownership, PostgresServer, Progress, ProjectionError, ProjectionMetrics,
    effect_of_absence,
};
use crate::shutdown::Shutdown;
use crate::types::{Backoff, Clock, UserPartition};
use crate::wal::{LogClaim, LogHandle, Lsn};
use connected::{Connected, IS_THERE_TIMEOUT, Raised};
use following::Following;

/// Most orders in memory, at some 500 bytes each.
const MAX_WORKING_ORDERS: usize = 131_072;
/// Most accounts in memory, at some 600 bytes each.
const MAX_WORKING_ACCOUNTS: usize = 131_072;
/// Longest wait for a record: how soon a stop is noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The same while orders are held back, which is never for long.
const HELD_BACK_POLL_INTERVAL: Duration = Duration::from_millis(1);
/// How often the positions of all partitions advance, including those without events: the log is
/// read again from there after a restart.
const POSITION_INTERVAL: Duration = Duration::from_millis(250);
/// Pause before a server is retried: at first and at most.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// Longest time to set up a connection: an earlier one's transaction has to end first.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a server without work is asked whether it is there.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait after a stop for the end of the log, and for Postgres to take the rest of it.
/// What is left is written after the next start.
const END_TIMEOUT: Duration = Duration::from_secs(30);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Follows the log with one server. Run [`run`](Self::run) on a thread `projection-N`.
pub struct ProjectionWorker {
    pub(super) number: usize,
    pub(super) server: PostgresServer,
    pub(super) log: LogHandle,
    pub(super) claim: LogClaim,
    pub(super) owners: OwnersOf,
    pub(super) pace: Pace,
    pub(super) backlog: Option<Backlog>,
    pub(super) progress: Progress,
    pub(super) metrics: ProjectionMetrics,
    /// The epoch of this process, once it has begun one.
    pub(super) epoch: Option<i64>,
    /// Where other nodes write other partitions: which ones are ours.
    pub(super) ownership: Option<Ownership>,
    pub(super) size: BatchSize,
    /// Orders with exchange ids that were there already, of which the other nodes have not been told.
    pub(super) sharing: ExternalRows,
    /// Partitions that wait for an operator.
    pub(super) held: Held,
    /// Whether a pooler was ruled out.
    pub(super) is_session_checked: bool,
    /// Whether it was said that accounts do not follow.
    pub(super) has_told_of_accounts: bool,
    pub(super) migrates: bool,
    pub(super) trouble: Trouble,
}

/// The current failure; reset by a success.
#[derive(Default)]
pub(super) struct Trouble {
    /// The last logged failure. Each failure is logged once, not on each retry.
    logged: String,
    backoff: Option<Backoff>,
    /// Whether it happened in an open session, so that the batch may be the cause.
    is_in_session: bool,
    /// Raised while waiting for an operator.
    stopped: Option<Raised>,
}

/// Why a connection ends without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The log has ended.
    OfLog,
    /// Held partitions were released: their records are read again from their positions.
    Released,
}

impl ProjectionWorker {
    /// Follows the log until it ends, or for some time after a stop was requested.
    ///
    /// # Errors
    /// [`ProjectionError::Superseded`], and a log that cannot be read. Failures of Postgres are
    /// retried.
    pub fn run(mut self, shutdown: &Shutdown) -> Result<(), ProjectionError> {
        super::block_on(async {
            if let Some(backlog) = self.backlog.take() {
                tokio::spawn(backlog.watch());
            }
            let (server, log) = (self.server.clone(), self.log.clone());
            tokio::select! {
                ended = self.follow_with_retries(shutdown) => ended,
                () = stop_timeout(&log, shutdown) => {
                    tracing::warn!(%server, "the rest of the log will be written to Postgres after the next start");
                    Ok(())
                }
            }
        })
    }

    async fn follow_with_retries(&mut self, shutdown: &Shutdown) -> Result<(), ProjectionError> {
        loop {
            self.trouble.is_in_session = false;
            let error = match self.follow(shutdown).await {
                Ok(End::OfLog) => return Ok(()),
                Ok(End::Released) => continue,
                Err(error) => error,
            };
            self.metrics.failures.inc();
            self.progress.set_away(self.number, error.is_absence());
            if self.hold(&error) {
                continue;
            }
            let can_halve = self.trouble.is_in_session && error.may_be_size() && self.size.halve();
            if can_halve {
                self.metrics.halved_batches.inc();
            }
            let remedy = if can_halve { Remedy::Wait } else { error.remedy() };
            let message = with_causes(&error);
            let is_new = message != self.trouble.logged;
            let needs_operator = match remedy {
                Remedy::Stop if self.log.is_poisoned() => return Ok(()),
                Remedy::Stop => return Err(error),
                Remedy::Wait => false,
                Remedy::Operator => true,
            };
            // Ahead of the line, whose reader may look at once.
            if !needs_operator {
                self.trouble.stopped = None;
            } else if self.trouble.stopped.is_none() {
                self.trouble.stopped = Some(Raised::new(&self.metrics.stopped));
            }
            let effect = effect_of_absence(self.pace.is_eager());
            if needs_operator && is_new {
                tracing::error!(
                    error = message,
                    "Postgres is on hold until an operator fixes this; {effect}"
                );
            } else if is_new {
                tracing::warn!(error = message, "Postgres is not following the log; {effect}");
            }
            self.trouble.logged = message;
            let new = Backoff::new(FIRST_BACKOFF, LAST_BACKOFF);
            let backoff = self.trouble.backoff.get_or_insert(new);
            // Half a batch is a different attempt: the pause does not grow.
            let is_different = can_halve && matches!(error, ProjectionError::Refused { .. });
            let backed_off = if is_different { backoff.wait() } else { backoff.advance() };
            let wait = if needs_operator { LAST_BACKOFF } else { backed_off };
            let is_stopping = self.pause(wait, shutdown).await;
            // A stop does not wait for a server that an operator has to fix.
            if is_stopping && (self.log.is_poisoned() || needs_operator) {
                return Ok(());
            }
        }
    }

    /// Puts the partition of a single bad order on hold. Not if replies wait for Postgres: every
    /// answered order must be there.
    fn hold(&mut self, error: &ProjectionError) -> bool {
        let Some(order_id) = error.order_id().filter(|_| !self.pace.is_eager()) else {
            return false;
        };
        if !self.held.hold(order_id, &self.server) {
            return false;
        }
        self.metrics.held_partitions.inc();
        tracing::error!(
            error = with_causes(error),
            partition = order_id.partition().get(),
            "Postgres is on hold for the users of one partition until an operator fixes this; \
             other partitions and orders continue"
        );
        true
    }

    /// Releases held partitions that an operator has fixed.
    async fn release(&mut self, client: &Client, written: Lsn) -> Result<bool, ProjectionError> {
        let before = self.held.len();
        let (owners, committed) = (&self.owners, self.log.committed());
        // These partitions have not been written since.
        let owner_of =
            |order_id| owners(&[order_id], (written, committed)).ok()?.into_iter().next()?;
        let is_any = self.held.release(client, &self.server, owner_of).await?;
        for _ in self.held.len()..before {
            self.metrics.held_partitions.dec();
        }
        Ok(is_any)
    }

    /// A success: the next failure is logged as a new one.
    fn recover(&mut self, session: &mut Following) {
        self.trouble = Trouble::default();
        if !session.is_logged {
            session.is_logged = true;
            let Following { epoch, committed, .. } = session;
            tracing::info!(server = %self.server, epoch, through = %committed, "Postgres follows the log");
        }
    }

    /// Waits; returns early, with true, if a stop was requested.
    async fn pause(&self, wait: Duration, shutdown: &Shutdown) -> bool {
        let until = Instant::now() + wait;
        while !shutdown.is_requested() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            tokio::time::sleep(left.min(POLL_INTERVAL)).await;
        }
        tokio::time::sleep(FIRST_BACKOFF).await;
        true
    }

    /// One connection: from the position of Postgres to the end of the log.
    async fn follow(&mut self, shutdown: &Shutdown) -> Result<End, ProjectionError> {
        let server = self.server.clone();
        let mut session = within(BEGIN_TIMEOUT, &server, self.begin()).await??;
        let mut connected = Connected::new(&self.metrics.connected);
        self.progress.set_away(self.number, false);
        self.trouble.is_in_session = true;
        self.metrics.batch_events.set(i64::try_from(self.size.events()).unwrap_or(i64::MAX));
        let mut next: Option<Batch> = None;
        loop {
            let is_over = self.log.is_poisoned();
            let is_stopping = is_over || shutdown.is_requested();
            if self.held.is_due() {
                let (client, written) = (&session.connection.client, session.intake.written());
                if self.release(client, written).await? {
                    return Ok(End::Released);
                }
            }
            self.follow_ownership(&mut session).await?;
            self.note_shared_ids(&mut session).await?;
            let mut batch = match next.take() {
                Some(batch) => {
                    if !is_stopping {
                        self.pause_for_others().await;
                    }
                    batch
                }
                None => {
                    self.check_idle(&mut session).await?;
                    self.await_records(&session, is_stopping).await;
                    // The exchange waits where another node may take over.
                    let may_hold_back =
                        self.pace.is_eager() && !is_stopping && self.ownership.is_none();
                    let Following { connection, intake, .. } = &mut session;
                    let prepare = self.prepare(&connection.client, intake, may_hold_back);
                    connected.follow(&server, prepare).await?
                }
            };
            let is_due = is_over || session.all_advanced_at.elapsed() >= POSITION_INTERVAL;
            // An empty set would stand for all partitions, and held ones must not advance.
            if is_due || batch.touched.is_empty() || batch.money.begins {
                batch.advances_all = true;
                batch.touched.clear();
                if !self.held.is_empty() {
                    batch.touched = self.held.others(&server);
                }
            }
            // A start has begun accounts before it decides about orders.
            if batch.is_new && !batch.events.is_empty() {
                self.tell_of_accounts(&session);
            }
            if !batch.is_empty() || (batch.last > session.all_advanced_to && is_due) {
                let write = self.write(&mut session, batch);
                next = connected.follow(&server, write).await?;
            } else if batch.last > session.committed {
                // No records of these users: they are up to date.
                self.progress.reach(self.number, batch.last);
            }
            self.recover(&mut session);
            let has_all = session.intake.position() >= self.log.committed();
            if is_over && has_all && next.is_none() && !session.intake.holds_back() {
                return Ok(End::OfLog);
            }
        }
    }

    /// Says once that accounts do not follow: the log began them before Postgres could take them, or a copy
    /// was cut short.
    fn tell_of_accounts(&mut self, session: &Following) {
        let kept = session.intake.accounts.kept;
        let mut partitions = self.server.partitions().filter_map(UserPartition::new);
        if !self.has_told_of_accounts && !partitions.all(|partition| kept.has(partition)) {
            self.has_told_of_accounts = true;
            tracing::error!(
                server = %self.server,
                "accounts do not follow in Postgres: stop the server and run `longbow backfill --postgres ...`"
            );
        }
    }

    /// Makes sure that a server which has had nothing to do for a while is there.
    async fn check_idle(&self, session: &mut Following) -> Result<(), ProjectionError> {
        if session.answered_at.elapsed() < IDLE_CHECK_INTERVAL {
            return Ok(());
        }
        let asked = session.connection.client.batch_execute("");
        let answered = within(IS_THERE_TIMEOUT, &self.server, asked).await?;
        answered.map_err(ProjectionError::of(&self.server, "answer"))?;
        session.answered_at = Instant::now();
        Ok(())
    }

    /// Waits until there is something to write and the pace allows it.
    async fn await_records(&self, session: &Following, is_stopping: bool) {
        let read = session.intake.position();
        let is_holding = session.intake.holds_back();
        let interval = if is_holding { HELD_BACK_POLL_INTERVAL } else { POLL_INTERVAL };
        // The connection is idle meanwhile, so blocking is fine.
        if self.log.wait(read, interval) <= read || is_stopping {
            return;
        }
        let full = read.0 + self.size.events() as u64;
        while let Some(wait) = self.pace.until_next() {
            if self.log.wait(Lsn(full - 1), wait.min(POLL_INTERVAL)).0 >= full {
                break;
            }
        }
        self.pause_for_others().await;
    }

    /// Leaves cores and disks to others for a while.
    async fn pause_for_others(&self) {
        if let Some(pause) = self.pace.pause_left() {
            tokio::time::sleep(pause).await;
        }
    }

    /// Writes a batch; with enough records prepares the next one meanwhile.
    async fn write(
        &mut self,
        session: &mut Following,
        batch: Batch,
    ) -> Result<Option<Batch>, ProjectionError> {
        let client = &session.connection.client;
        let today = Day::of(Clock.now());
        let days = batch.days.iter().copied().chain([today]);
        session.statements.make_days(client, &self.server, days).await?;
        let began = Instant::now();
        let committed_before = self.log.committed();
        let names = (self.log.log_id(), session.epoch, &session.positions);
        let write = session.statements.write(client, &self.server, names, &batch);
        let (written, next) =
            tokio::join!(biased; write, self.prepare_ahead(client, &mut session.intake));
        let Written { unchanged, shares_ids } = written?;
        let next = next?;
        let size_before = self.size.events();
        self.size.passed();
        if self.size.events() != size_before {
            self.metrics.batch_events.set(i64::try_from(self.size.events()).unwrap_or(i64::MAX));
        }
        if !unchanged.is_empty() {
            let rows = unchanged.iter().map(|(_, rows)| rows).sum();
            self.metrics.unchanged_rows.inc_by(rows);
            unchanged::log(client, &self.server, &unchanged, &batch).await?;
        }
        let busy = began.elapsed();
        self.pace.worked(busy, self.log.committed().0 - committed_before.0);
        self.metrics.busy_seconds.inc_by(busy.as_secs_f64());
        self.metrics.transactions.inc();
        self.metrics.rows.inc_by(batch.rows() as u64);
        self.metrics.events.inc_by(batch.recorded_at.len() as u64);
        let now = Clock.now();
        for at in &batch.recorded_at {
            self.metrics.lag_seconds.observe(now.micros_since(*at) as f64 / 1e6);
        }
        session.answered_at = Instant::now();
        session.committed = batch.last;
        session.positions.advance(&batch.touched, batch.last);
        if batch.advances_all {
            session.all_advanced_to = batch.last;
            session.all_advanced_at = Instant::now();
            // Held partitions stay where they are.
            self.claim.advance(session.positions.least().min(batch.last));
        }
        self.progress.reach(self.number, batch.last);
        if shares_ids && self.ownership.is_some() {
            self.sharing.append(batch.external);
            self.note_shared_ids(session).await?;
        }
        self.metrics.position.set(self.progress.committed().0.cast_signed());
        let lag = self.log.committed().0.saturating_sub(self.progress.slowest().0);
        self.metrics.lag_records.set(lag.cast_signed());
        session.intake.working.shrink(MAX_WORKING_ORDERS, batch.last);
        session.intake.accounts.working.shrink(MAX_WORKING_ACCOUNTS, batch.last);
        Ok(next)
    }

    /// Tells the other nodes which orders share an exchange id, if that was not told yet.
    async fn note_shared_ids(&mut self, session: &mut Following) -> Result<(), ProjectionError> {
        if self.sharing.is_empty() {
            return Ok(());
        }
        let client = &session.connection.client;
        let notes = match &mut session.shared_id_notes {
            Some(notes) => notes,
            none => none.insert(SharedIdNotes::prepare(client, &self.server).await?),
        };
        notes.write(client, &self.server, &self.sharing).await?;
        self.sharing = ExternalRows::default();
        Ok(())
    }

    /// The next batch, if there are enough records for a full one.
    async fn prepare_ahead(
        &self,
        client: &Client,
        intake: &mut Intake,
    ) -> Result<Option<Batch>, ProjectionError> {
        let waiting = self.log.committed().0 - intake.position().0;
        if waiting < self.size.events() as u64 {
            return Ok(None);
        }
        self.prepare(client, intake, false).await.map(Some)
    }

    /// Builds a batch of committed records.
    async fn prepare(
        &self,
        client: &Client,
        intake: &mut Intake,
        may_hold_back: bool,
    ) -> Result<Batch, ProjectionError> {
        let taken = intake.take(&self.server, self.size.events(), may_hold_back).await?;
        self.load_missing(client, &taken, intake).await?;
        self.load_accounts(client, &taken, intake).await?;
        yield_now().await;
        intake.build(&self.log, &taken).map_err(|unknown| ProjectionError::UnknownOrder {
            server: self.server.to_string(),
            lsn: unknown.lsn,
            order_id: unknown.order_id,
        })
    }
}

/// Returns when the time after a stop is over.
async fn stop_timeout(log: &LogHandle, shutdown: &Shutdown) {
    let mut until: Option<Instant> = None;
    let mut is_over = false;
    while until.is_none_or(|until| Instant::now() < until) {
        if !is_over && log.is_poisoned() {
            is_over = true;
            until = Some(Instant::now() + DRAIN_TIMEOUT);
        } else if until.is_none() && shutdown.is_requested() {
            until = Some(Instant::now() + END_TIMEOUT);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    // Postgres puts details on separate lines.
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ").replace('\n', ", ")
}
