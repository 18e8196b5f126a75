//! Follows the log with one server: connects, writes batch after batch, and begins again after
//! whatever went wrong.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::task::yield_now;
use tokio_postgres::Client;

use super::backlog::Backlog;
use super::batch::{self, Batch};
use super::connection::{Connection, within};
use super::days::Day;
use super::error::Remedy;
use super::held::Held;
use super::intake::{Intake, Taken};
use super::pace::Pace;
use super::position::{self, OurLog, Positions};
use super::size::BatchSize;
use super::transaction::Statements;
use super::unchanged;
use super::{Owner, OwnersOf, PostgresServer, Progress, ProjectionError, ProjectionMetrics};
use super::{migrations, preflight, read};
use crate::shutdown::Shutdown;
use crate::types::{Backoff, Clock, OrderId};
use crate::wal::{LogClaim, LogHandle, Lsn, WalError};

/// Most orders in memory, of some 500 bytes each.
const MAX_WORKING_ORDERS: usize = 131_072;
/// How long to wait for a record at a time: how soon a stop is seen.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The same while orders are held back: they are not for much longer.
const HELD_LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// How often all partitions take note of the position, also those that nothing happens to: so much of
/// the log is read again after a restart.
const POSITION_INTERVAL: Duration = Duration::from_millis(250);
/// How long to wait before a server is tried again: the first time and at most.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// Longest time until a connection may write: what an earlier one has left has to end first.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time for a batch, and for what is read back for one. A server that takes longer is
/// connected to anew, and told the same again.
const BATCH_TIMEOUT: Duration = Duration::from_secs(120);
/// How long to wait for the end of the log once a stop was asked for, and for Postgres to take what
/// is left of it then. The rest is taken after the next start.
const END_PATIENCE: Duration = Duration::from_secs(30);
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// Moves one server behind the log: give it a thread `projection-N` and call [`run`](Self::run).
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
    /// The epoch that this process has begun, once it has.
    pub(super) epoch: Option<i64>,
    /// How much is written at once.
    pub(super) size: BatchSize,
    /// Partitions that an operator has to see to.
    pub(super) held: Held,
    /// Whether it is known that a session is one.
    pub(super) is_session_checked: bool,
    pub(super) migrates: bool,
    pub(super) trouble: Trouble,
}

/// What went wrong, until something went right again.
#[derive(Default)]
pub(super) struct Trouble {
    /// The last failure, in words. Each is told once, not each time that it is met.
    told: String,
    backoff: Option<Backoff>,
    /// Whether it went wrong when there was a session already: in what it was asked for.
    is_in_session: bool,
    /// While an operator is waited for.
    stopped: Option<Raised>,
}

/// What lives as long as a connection.
struct Following {
    connection: Connection,
    statements: Statements,
    epoch: i64,
    intake: Intake,
    /// Where the partitions are now, as far as is known here.
    positions: Positions,
    /// Everything up to here is committed.
    committed: Lsn,
    /// What all partitions have taken note of, and when. The log is kept from there.
    noted: Lsn,
    noted_at: Instant,
    /// Whether the log says that it is there.
    is_told: bool,
}

/// Why a connection is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is nothing more to follow.
    OfLog,
    /// Partitions that were held can go on: they are read again from where they are.
    Released,
}

impl ProjectionWorker {
    /// Follows the log until it has ended, or some time after a stop was asked for.
    ///
    /// # Errors
    /// [`ProjectionError::Superseded`], and a log that cannot be read. Whatever Postgres does is no
    /// reason to end: it is tried again.
    pub fn run(mut self, shutdown: &Shutdown) -> Result<(), ProjectionError> {
        super::block_on(async {
            if let Some(backlog) = self.backlog.take() {
                tokio::spawn(backlog.watch());
            }
            let (server, log) = (self.server.clone(), self.log.clone());
            tokio::select! {
                ended = self.follow_through_failures(shutdown) => ended,
                () = patience_after_stop(&log, shutdown) => {
                    tracing::warn!(%server, "Postgres gets the rest of the log after the next start");
                    Ok(())
                }
            }
        })
    }

    async fn follow_through_failures(
        &mut self,
        shutdown: &Shutdown,
    ) -> Result<(), ProjectionError> {
        loop {
            self.trouble.is_in_session = false;
            let error = match self.follow(shutdown).await {
                Ok(End::OfLog) => return Ok(()),
                Ok(End::Released) => continue,
                Err(error) => error,
            };
            self.metrics.failures.inc();
            if self.hold(&error) {
                continue;
            }
            let can_halve = self.trouble.is_in_session && error.may_be_size() && self.size.halve();
            if can_halve {
                self.metrics.halved_batches.inc();
            }
            let remedy = if can_halve { Remedy::Wait } else { error.remedy() };
            let words = with_causes(&error);
            let is_new = words != self.trouble.told;
            let is_operators = match remedy {
                Remedy::Stop if self.log.is_poisoned() => return Ok(()),
                Remedy::Stop => return Err(error),
                Remedy::Wait => false,
                Remedy::Operator => true,
            };
            if is_operators && is_new {
                tracing::error!(
                    error = words,
                    "Postgres does not follow the log until somebody sees to it; orders go on"
                );
            } else if is_new {
                tracing::warn!(error = words, "Postgres does not follow the log; orders go on");
            }
            self.trouble.told = words;
            let new = Backoff::new(FIRST_BACKOFF, LAST_BACKOFF);
            let backoff = self.trouble.backoff.get_or_insert(new);
            // Half of it is another thing to try, and as soon.
            let is_other = can_halve && matches!(error, ProjectionError::Refused { .. });
            let backed_off = if is_other { backoff.wait() } else { backoff.advance() };
            if !is_operators {
                self.trouble.stopped = None;
            } else if self.trouble.stopped.is_none() {
                self.trouble.stopped = Some(Raised::new(&self.metrics.stopped));
            }
            let wait = if is_operators { LAST_BACKOFF } else { backed_off };
            let is_asked = self.pause(wait, shutdown).await;
            // Who is not there at the stop is not waited for.
            if is_asked && (self.log.is_poisoned() || is_operators) {
                return Ok(());
            }
        }
    }

    /// Leaves out the users of one partition where only one of their orders is in the way. Not where replies
    /// wait for Postgres: what is answered has to be there.
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
            "Postgres does not follow the log for the users of one partition until somebody sees to it; \
             the others and orders go on"
        );
        true
    }

    /// Looks whether somebody has seen to the partitions that are held.
    async fn release(&mut self, client: &Client, written: Lsn) -> Result<bool, ProjectionError> {
        let before = self.held.len();
        let (owners, committed) = (&self.owners, self.log.committed());
        // Nobody has written these partitions since.
        let owner_of =
            |order_id| owners(&[order_id], (written, committed)).ok()?.into_iter().next()?;
        let is_any = self.held.release(client, &self.server, owner_of).await?;
        for _ in self.held.len()..before {
            self.metrics.held_partitions.dec();
        }
        Ok(is_any)
    }

    /// Something went right: what goes wrong from now on is another story.
    fn recover(&mut self, session: &mut Following) {
        self.trouble = Trouble::default();
        if !session.is_told {
            session.is_told = true;
            let Following { epoch, committed, .. } = session;
            tracing::info!(server = %self.server, epoch, through = %committed, "Postgres follows the log");
        }
    }

    /// Waits; returns early, with true, once a stop was asked for.
    async fn pause(&self, wait: Duration, shutdown: &Shutdown) -> bool {
        let until = Instant::now() + wait;
        while !shutdown.is_requested() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            tokio::time::sleep(left.min(LOOK_INTERVAL)).await;
        }
        tokio::time::sleep(FIRST_BACKOFF).await;
        true
    }

    /// One connection: from where Postgres is to the end of the log.
    async fn follow(&mut self, shutdown: &Shutdown) -> Result<End, ProjectionError> {
        let server = self.server.clone();
        let mut session = within(BEGIN_TIMEOUT, &server, self.begin()).await??;
        let _connected = Raised::new(&self.metrics.connected);
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
            let mut batch = match next.take() {
                Some(batch) => {
                    if !is_stopping {
                        self.rest().await;
                    }
                    batch
                }
                None => {
                    self.await_records(&session, is_stopping).await;
                    let may_hold_back = self.pace.is_eager() && !is_stopping;
                    let Following { connection, intake, .. } = &mut session;
                    let prepare = self.prepare(&connection.client, intake, may_hold_back);
                    within(BATCH_TIMEOUT, &server, prepare).await??
                }
            };
            let is_due = is_over || session.noted_at.elapsed() >= POSITION_INTERVAL;
            // None stand for all, and those that are held must stay where they are.
            if is_due || batch.touched.is_empty() {
                batch.notes_all = true;
                batch.touched.clear();
                if !self.held.is_empty() {
                    batch.touched = self.held.others(&server);
                }
            }
            if !batch.is_empty() || (batch.last > session.noted && is_due) {
                let write = self.write(&mut session, batch);
                next = within(BATCH_TIMEOUT, &server, write).await??;
            } else if batch.last > session.committed {
                // Nothing of these users: they have everything already.
                self.progress.reach(self.number, batch.last);
            }
            self.recover(&mut session);
            let has_all = session.intake.position() >= self.log.committed();
            if is_over && has_all && next.is_none() && !session.intake.holds_back() {
                return Ok(End::OfLog);
            }
        }
    }

    async fn begin(&mut self) -> Result<Following, ProjectionError> {
        let server = &self.server;
        let mut connection = Connection::open(server).await?;
        self.metrics.connects.inc();
        if !self.is_session_checked {
            preflight::check_session(&connection.client, server).await?;
            self.is_session_checked = true;
        }
        migrations::prepare(&mut connection.client, server, self.migrates).await?;
        let log = OurLog { log_id: self.log.log_id(), committed: self.log.committed() };
        let claim = position::claim(&mut connection.client, server, log, self.epoch).await?;
        self.epoch = Some(claim.epoch);
        let written = self.log.committed();
        let from = claim.positions.least();
        let reader = self.log.reader(from).map_err(|error| match error {
            WalError::CutOff { first, .. } => {
                ProjectionError::MissingRecords { server: server.to_string(), found: from, first }
            }
            error => ProjectionError::Log(error),
        })?;
        self.claim.advance(from);
        self.progress.reach(self.number, from);
        Ok(Following {
            connection,
            statements: Statements::default(),
            epoch: claim.epoch,
            intake: Intake::new(reader, claim.positions.clone(), written, self.held.partitions()),
            positions: claim.positions,
            committed: from,
            noted: from,
            noted_at: Instant::now(),
            is_told: false,
        })
    }

    /// Waits until there is something to write and it is time to.
    async fn await_records(&self, session: &Following, is_stopping: bool) {
        let read = session.intake.position();
        let is_holding = session.intake.holds_back();
        let interval = if is_holding { HELD_LOOK_INTERVAL } else { LOOK_INTERVAL };
        // The connection has nothing to do meanwhile.
        if self.log.wait(read, interval) <= read || is_stopping {
            return;
        }
        let full = read.0 + self.size.events() as u64;
        while let Some(wait) = self.pace.until_next() {
            if self.log.wait(Lsn(full - 1), wait.min(LOOK_INTERVAL)).0 >= full {
                break;
            }
        }
        self.rest().await;
    }

    /// Leaves Postgres, and the cores and disks that it works with, to others for a while.
    async fn rest(&self) {
        if let Some(rest) = self.pace.rest_left() {
            tokio::time::sleep(rest).await;
        }
    }

    /// Writes a batch, and meanwhile makes the next one where there is much to do.
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
        let unchanged = written?;
        let next = next?;
        let size_before = self.size.events();
        self.size.passed();
        if self.size.events() != size_before {
            self.metrics.batch_events.set(i64::try_from(self.size.events()).unwrap_or(i64::MAX));
        }
        if !unchanged.is_empty() {
            let rows = unchanged.iter().map(|(_, rows)| rows).sum();
            self.metrics.unchanged_rows.inc_by(rows);
            unchanged::tell(client, &self.server, &unchanged, &batch).await?;
        }
        let busy = began.elapsed();
        self.pace.worked(busy, self.log.committed().0 - committed_before.0);
        self.metrics.busy_seconds.inc_by(busy.as_secs_f64());
        self.metrics.transactions.inc();
        self.metrics.rows.inc_by(batch.rows() as u64);
        self.metrics.events.inc_by(batch.noted_at.len() as u64);
        let now = Clock.now();
        for at in &batch.noted_at {
            self.metrics.lag_seconds.observe(now.micros_since(*at) as f64 / 1e6);
        }
        session.committed = batch.last;
        session.positions.advance(&batch.touched, batch.last);
        if batch.notes_all {
            session.noted = batch.last;
            session.noted_at = Instant::now();
            // Those that are held stay behind.
            self.claim.advance(session.positions.least());
        }
        self.progress.reach(self.number, batch.last);
        self.metrics.position.set(self.progress.committed().0.cast_signed());
        let lag = self.log.committed().0.saturating_sub(batch.last.0);
        self.metrics.lag_records.set(lag.cast_signed());
        session.intake.working.shrink(MAX_WORKING_ORDERS, batch.last);
        Ok(next)
    }

    /// The next batch, if there is enough for a full one.
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

    /// Makes a batch of what is committed.
    async fn prepare(
        &self,
        client: &Client,
        intake: &mut Intake,
        may_hold_back: bool,
    ) -> Result<Batch, ProjectionError> {
        let taken = intake.take(&self.server, self.size.events(), may_hold_back).await?;
        self.load_missing(client, &taken, intake).await?;
        yield_now().await;
        intake.build(&self.log, &taken).map_err(|unknown| ProjectionError::UnknownOrder {
            server: self.server.to_string(),
            lsn: unknown.lsn,
            order_id: unknown.order_id,
        })
    }

    /// Reads back orders that change again long after they were written.
    async fn load_missing(
        &self,
        client: &Client,
        Taken { events, last }: &Taken,
        intake: &mut Intake,
    ) -> Result<(), ProjectionError> {
        let missing: Vec<OrderId> = batch::missing(events, &intake.working);
        if missing.is_empty() {
            return Ok(());
        }
        let before = Lsn(events.first().map_or(last.0, |(lsn, _)| lsn.0 - 1));
        let owners = (self.owners)(&missing, (before.max(intake.written()), *last))
            .map_err(ProjectionError::Owners)?;
        let owned: Vec<(Owner, OrderId)> =
            owners.into_iter().zip(missing).filter_map(|(owner, id)| Some((owner?, id))).collect();
        let versions: HashMap<OrderId, u64> =
            owned.iter().filter_map(|(owner, id)| Some((*id, owner.version?))).collect();
        let wanted: Vec<_> = owned.into_iter().map(|(owner, id)| (owner.user, id)).collect();
        let loaded = read::orders(client, &self.server, &wanted).await?;
        self.metrics.loaded_orders.inc_by(loaded.len() as u64);
        for order in &loaded {
            let Some(reached) = versions.get(&order.order().order_id) else { continue };
            if let Err(error) = read::check_version(&self.server, order, *reached) {
                if !self.pace.is_eager() {
                    return Err(error);
                }
                // Everybody's replies would wait for somebody to see to it.
                self.metrics.unchanged_rows.inc();
                tracing::error!(error = with_causes(&error), "a row in Postgres was changed");
            }
        }
        for order in loaded {
            intake.working.insert(order, before);
        }
        Ok(())
    }
}

/// Returns once a stop was asked for and there was time enough for it.
async fn patience_after_stop(log: &LogHandle, shutdown: &Shutdown) {
    let mut until: Option<Instant> = None;
    let mut is_over = false;
    while until.is_none_or(|until| Instant::now() < until) {
        if !is_over && log.is_poisoned() {
            is_over = true;
            until = Some(Instant::now() + DRAIN_PATIENCE);
        } else if until.is_none() && shutdown.is_requested() {
            until = Some(Instant::now() + END_PATIENCE);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Raises a gauge by one as long as it lives.
struct Raised(crate::metrics::Gauge);

impl Raised {
    fn new(gauge: &crate::metrics::Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    // Postgres puts details on lines of their own.
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ").replace('\n', ", ")
}
