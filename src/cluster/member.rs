//! The membership of this process: joins, renews the lease, and gives it back.

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::clock::{ClockReading, POSTGRES_CLOCK};
use super::failures::Failures;
use super::feed_lease::{FeedLease, NodeEpoch};
use super::identity::{Common, NodeIdentity};
use super::join::{NodeRow, Verdict, judge};
use super::metrics::NodeMetrics;
use super::{FIRST_MEMBER_LEASE, LEASE, NodeError, NodeId, RENEWAL_INTERVAL, host_of};
use crate::exchange::FeedRole;
use crate::projection::{Connection, PostgresServer, ProjectionError, block_on, in_time, within};
use crate::shutdown::Shutdown;
use crate::types::{Clock, MonotonicMicros};

/// Pause between two looks at a lease that may be renewed.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// How soon a stop is noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Rows of our number or our log.
const LOOK: &str = "\
    SELECT node_id, epoch, log_id, home, (extract(epoch FROM lease_until) * 1000000)::bigint, \
        greatest(extract(epoch FROM lease_until - clock_timestamp()), 0)::double precision \
    FROM nodes WHERE node_id = $1 OR log_id = $2";

/// One process joins at a time: what it has looked at stays as it is. Any number that no other program
/// uses in the same database.
const JOINING_LOCK: &str = "BEGIN; SELECT pg_advisory_xact_lock(7813577484066710390)";

/// Nodes that run and share users although this one does not, or the other way round.
const MIXED: &str = "\
    SELECT node_id, home FROM nodes \
    WHERE lease_until > clock_timestamp() AND is_member <> $1 AND node_id <> $2 LIMIT 1";

/// Nodes that share users and have something else where all must have the same. Those of an earlier version
/// do not say what they have.
const UNLIKE: &str = "\
    SELECT node_id, home, exchange, exchange <> $2 FROM nodes \
    WHERE lease_until > clock_timestamp() AND is_member AND node_id <> $1 \
        AND (exchange <> $2 OR keys <> $3) ORDER BY node_id LIMIT 1";

/// The epoch is beyond all others in any table, also after a restore.
const JOIN: &str = "\
    WITH known AS ( \
        SELECT greatest((SELECT max(epoch) FROM nodes), (SELECT max(epoch) FROM projection), 0) \
            AS epoch \
    ), next AS ( \
        SELECT setval('node_epochs', greatest(nextval('node_epochs'), known.epoch + 1)) AS epoch \
        FROM known \
    ) \
    INSERT INTO nodes (node_id, epoch, log_id, home, version, started_at, lease_until, \
        peer_address, is_member, exchange, keys) \
    SELECT $1, next.epoch, $2, $3, $4, clock_timestamp(), \
        clock_timestamp() + make_interval(secs => $5), $6, $7, $8, $9 FROM next \
    ON CONFLICT (node_id) DO UPDATE SET epoch = excluded.epoch, log_id = excluded.log_id, \
        home = excluded.home, version = excluded.version, started_at = excluded.started_at, \
        lease_until = excluded.lease_until, peer_address = excluded.peer_address, \
        is_member = excluded.is_member, is_draining = false, exchange = excluded.exchange, \
        keys = excluded.keys, has_exchange = false \
    RETURNING epoch";

/// After a server alone that has not begun them. Nobody waits for a lock if there is nothing to do.
const BEGIN_ACCOUNTS: &str = "\
    SELECT begin_accounts() \
    WHERE EXISTS (SELECT FROM projection WHERE is_current AND NOT keeps_accounts)";
/// All executions are read, once.
const BEGIN_ACCOUNTS_TIMEOUT: Duration = Duration::from_secs(600);

const RENEW: &str = "\
    UPDATE nodes SET lease_until = clock_timestamp() + make_interval(secs => $3) \
    WHERE node_id = $1 AND epoch = $2 \
    RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// A process that is a node, or will be. Run [`run`](Self::run) on a thread `node`.
pub struct Member {
    pub(super) server: PostgresServer,
    pub(super) identity: NodeIdentity,
    pub(super) metrics: NodeMetrics,
    /// The epoch of this process, once it has joined.
    pub(super) epoch: Option<i64>,
    /// The same, for its leases.
    pub(super) epoch_of_leases: NodeEpoch,
    pub(super) feed_lease: Option<FeedLease>,
    /// Of its lease.
    pub(super) failures: Failures,
}

impl Member {
    /// Joins, or later if Postgres cannot be reached yet or refuses. Waits for the end of a lease that somebody
    /// else may hold.
    ///
    /// # Errors
    /// Another process is this node, or runs with a copy of this data directory.
    pub fn join(
        server: PostgresServer,
        identity: NodeIdentity,
        metrics: NodeMetrics,
    ) -> Result<Self, NodeError> {
        let mut member = Self {
            server,
            identity,
            metrics,
            epoch: None,
            epoch_of_leases: NodeEpoch::default(),
            feed_lease: None,
            failures: Failures::default(),
        };
        match block_on(async { Ok(member.connect_and_join().await) })? {
            Ok(()) => Ok(member),
            Err(NodeError::Postgres(error)) if error.may_pass() || error.is_refusal() => {
                member.note_failure(&error);
                Ok(member)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn connect_and_join(&mut self) -> Result<(), NodeError> {
        let connection = Connection::open(&self.server).await?;
        self.join_over(&connection.client).await
    }

    async fn join_over(&mut self, client: &Client) -> Result<(), NodeError> {
        let mut before = None;
        loop {
            self.run_in_time(client, JOINING_LOCK).await?;
            let verdict = self.look_and_judge(client, &mut before).await;
            if let Ok(Verdict::Join) = verdict {
                let joined = self.join_within(client).await;
                self.run_in_time(client, if joined.is_ok() { "COMMIT" } else { "ROLLBACK" })
                    .await?;
                self.begin_epoch(joined?);
                return Ok(());
            }
            self.run_in_time(client, "ROLLBACK").await?;
            if let Verdict::Wait(longest) = verdict? {
                tracing::info!(
                    node = self.identity.node_id,
                    "another process may be running as this node: waiting for its lease to end"
                );
                sleep(longest.min(LOOK_PAUSE)).await;
            }
        }
    }

    async fn look_and_judge(
        &self,
        client: &Client,
        before: &mut Option<Vec<NodeRow>>,
    ) -> Result<Verdict, NodeError> {
        let rows = self.look(client).await?;
        let verdict = judge(&self.identity, &rows, before.as_deref())?;
        before.get_or_insert(rows);
        Ok(verdict)
    }

    async fn join_within(&self, client: &Client) -> Result<i64, NodeError> {
        let NodeIdentity { node_id, log_id, home, peer_address, common } = &self.identity;
        let is_member = peer_address.is_some();
        let mixed = in_time(&self.server, client.query(MIXED, &[&is_member, node_id])).await?;
        if let Some(row) = self.ok(mixed)?.first() {
            let host = host_of(row.get(1));
            return Err(NodeError::Mixed { node_id: row.get(0), host, is_member: !is_member });
        }
        let Common { exchange, keys } = common;
        let unlike = async { client.query(UNLIKE, &[node_id, exchange, keys]).await };
        let unlike = in_time(&self.server, unlike).await?;
        if let Some(row) = self.ok(unlike)?.first() {
            return Err(common.unlike(row.get(0), host_of(row.get(1)), (row.get(2), row.get(3))));
        }
        if is_member {
            self.check_clock(client).await?;
            let begun = client.execute(BEGIN_ACCOUNTS, &[]);
            let begun = within(BEGIN_ACCOUNTS_TIMEOUT, &self.server, begun).await?;
            self.ok(begun)?;
        }
        let (home, version, lease) =
            (home.to_string(), env!("CARGO_PKG_VERSION"), self.first_lease().as_secs_f64());
        let address = peer_address.map(|address| address.to_string());
        let parameters: [&(dyn ToSql + Sync); 9] =
            [node_id, log_id, &home, &version, &lease, &address, &is_member, exchange, keys];
        let joined = in_time(&self.server, client.query_one(JOIN, &parameters)).await?;
        Ok(self.ok(joined)?.get(0))
    }

    /// Compares this machine's clock with that of Postgres.
    async fn check_clock(&self, client: &Client) -> Result<(), NodeError> {
        let asked = Clock.moment();
        let answer = in_time(&self.server, client.query_one(POSTGRES_CLOCK, &[])).await?;
        let reading = ClockReading::of(asked, MonotonicMicros::now(), self.ok(answer)?.get(0));
        self.metrics.clock_ahead.set(reading.ahead_micros);
        if reading.is_beyond_limit() { Err(NodeError::ClockApart(reading)) } else { Ok(()) }
    }

    /// The commit of this epoch is confirmed. One whose answer was lost holds the lock until it is
    /// decided, so a later attempt of this process comes after it, with a higher epoch.
    fn begin_epoch(&mut self, epoch: i64) {
        tracing::info!(node = self.identity.node_id, epoch, "joined");
        self.epoch = Some(epoch);
        self.epoch_of_leases.set(epoch);
        self.metrics.epoch.set(epoch);
    }

    async fn run_in_time(&self, client: &Client, statements: &str) -> Result<(), NodeError> {
        let done = in_time(&self.server, client.batch_execute(statements)).await?;
        Ok(self.ok(done)?)
    }

    /// How long its first lease is.
    fn first_lease(&self) -> Duration {
        if self.identity.peer_address.is_some() { FIRST_MEMBER_LEASE } else { LEASE }
    }

    async fn look(&self, client: &Client) -> Result<Vec<NodeRow>, NodeError> {
        let NodeIdentity { node_id, log_id, .. } = &self.identity;
        let rows = in_time(&self.server, client.query(LOOK, &[node_id, log_id])).await?;
        let row = |row: &tokio_postgres::Row| NodeRow {
            node_id: row.get(0),
            epoch: row.get(1),
            log_id: row.get(2),
            home: row.get(3),
            lease_until_micros: row.get(4),
            lease_left: Duration::try_from_secs_f64(row.get(5)).unwrap_or(Duration::MAX),
        };
        Ok(self.ok(rows)?.iter().map(row).collect())
    }

    /// Takes part in the lease of the exchange's feed until the stop, and says in `role` who has it.
    pub fn share_feed(&mut self, role: FeedRole, shutdown: Shutdown) {
        let node = (self.identity.node_id, self.epoch_of_leases.clone());
        let says = (role, self.metrics.clone());
        self.feed_lease = Some(FeedLease::new(self.server.clone(), node, says, shutdown));
    }

    /// Renews the lease until a stop is requested, then gives it back.
    ///
    /// # Errors
    /// Another process has become this node. Failures of Postgres are retried.
    pub fn run(mut self, shutdown: &Shutdown) -> Result<(), NodeError> {
        let feed_lease = self.feed_lease.take();
        block_on(async {
            let mut kept = pin!(self.keep(shutdown));
            let Some(feed_lease) = feed_lease else { return Ok(kept.await) };
            Ok(tokio::select! {
                ended = &mut kept => ended,
                () = feed_lease.keep() => kept.await,
            })
        })?
    }

    async fn keep(&mut self, shutdown: &Shutdown) -> Result<(), NodeError> {
        while !shutdown.is_requested() {
            let error = match self.keep_over_one_connection(shutdown).await {
                Ok(()) => return Ok(()),
                Err(NodeError::Postgres(error)) => error,
                Err(error) => return Err(error),
            };
            self.note_failure(&error);
            pause(RENEWAL_INTERVAL, shutdown).await;
        }
        Ok(())
    }

    /// It has not joined yet, or its lease was not renewed.
    pub(super) fn note_failure(&mut self, error: &ProjectionError) {
        self.metrics.failed_renewals.inc();
        if !self.failures.note(error, error.is_absence()) {
            return;
        }
        let error: &dyn std::error::Error = error;
        match self.epoch {
            None => tracing::warn!(error, "this node joins the others once Postgres lets it"),
            Some(_) => tracing::warn!(error, "the node's lease in Postgres cannot be renewed"),
        }
    }

    async fn keep_over_one_connection(&mut self, shutdown: &Shutdown) -> Result<(), NodeError> {
        let connection = Connection::open(&self.server).await?;
        let client = &connection.client;
        while !shutdown.is_requested() {
            match self.epoch {
                Some(epoch) if self.renew(client, epoch, LEASE).await?.is_some() => {}
                Some(_) | None => self.join_over(client).await?,
            }
            self.failures.end();
            pause(RENEWAL_INTERVAL, shutdown).await;
        }
        if let Some(epoch) = self.epoch {
            self.renew(client, epoch, Duration::ZERO).await?;
        }
        Ok(())
    }

    /// Renews the lease, and compares the clocks by that. None if Postgres does not know of the lease: it was
    /// restored from a backup.
    pub(super) async fn renew(
        &self,
        client: &Client,
        epoch: i64,
        lease: Duration,
    ) -> Result<Option<ClockReading>, NodeError> {
        let node_id = self.identity.node_id;
        let lease = lease.as_secs_f64();
        let parameters: [&(dyn ToSql + Sync); 3] = [&node_id, &epoch, &lease];
        let asked = Clock.moment();
        let renewed = in_time(&self.server, client.query_opt(RENEW, &parameters)).await?;
        if let Some(row) = self.ok(renewed)? {
            return Ok(Some(ClockReading::of(asked, MonotonicMicros::now(), row.get(0))));
        }
        let rows = self.look(client).await?;
        let found = rows.iter().find(|row| row.node_id == node_id).map_or(0, |row| row.epoch);
        if found > epoch {
            return Err(NodeError::Superseded { node_id, found, ours: epoch });
        }
        Ok(None)
    }

    fn ok<T>(&self, answer: Result<T, tokio_postgres::Error>) -> Result<T, ProjectionError> {
        answer.map_err(ProjectionError::of(&self.server, "keep its nodes"))
    }
}

impl Common {
    /// What is unlike another node: its exchange, if that is `true`, or else its keys.
    fn unlike(
        &self,
        node_id: NodeId,
        host: String,
        (theirs, is_exchange): (Option<String>, Option<bool>),
    ) -> NodeError {
        match (theirs, &self.exchange) {
            (Some(theirs), Some(ours)) if is_exchange == Some(true) => {
                NodeError::OtherExchange { node_id, host, theirs, ours: ours.clone() }
            }
            _ => NodeError::OtherKeys { node_id, host },
        }
    }
}

/// Waits, but not beyond a stop.
async fn pause(wait: Duration, shutdown: &Shutdown) {
    let until = Instant::now() + wait;
    while !shutdown.is_requested() && Instant::now() < until {
        sleep(POLL_INTERVAL).await;
    }
}
