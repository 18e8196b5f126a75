//! The lease of the exchange's feed: of all nodes one reads it. Each tries to take the lease whenever
//! it is over, and its holder renews it.
//!
//! A holder that drains, or whose prices Redis does not take, *offers* the lease: it goes on reading, and
//! renews the lease as one that is over just now. Whoever is better placed takes it at once. The others
//! wait for longer than the holder leaves it alone, so they take it only from a holder that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::NodeId;
use super::failures::Failures;
use super::metrics::NodeMetrics;
use crate::exchange::FeedRole;
use crate::projection::{Connection, PostgresServer, ProjectionError};
use crate::shutdown::Shutdown;
use crate::types::MonotonicMicros;

/// How long the lease is held without a word of its holder, by the clock of Postgres.
pub(crate) const FEED_LEASE: Duration = Duration::from_secs(1);
/// How often its holder renews it, and the longest pause between two looks of the others.
pub(crate) const FEED_RENEWAL_INTERVAL: Duration = Duration::from_millis(250);
/// The holder stops so long before the lease may be taken by another: what it has begun to send is
/// there by then.
const MARGIN: Duration = Duration::from_millis(150);
/// Pause of a process that may not take it now.
const BARRED_PAUSE: Duration = Duration::from_millis(100);
/// Pause after the end of a lease, so that the next look finds it over.
const AFTER_END: Duration = Duration::from_millis(3);
/// Longest wait for an answer, and for a connection. An answer after that is too late anyway.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const _: () =
    assert!(FEED_RENEWAL_INTERVAL.as_millis() * 3 < (FEED_LEASE.as_millis() - MARGIN.as_millis()));

/// After a connection was lost, so long nobody takes a lease that is over: it may be over because its
/// holder has lost Postgres too, and goes on.
const RETURN_GRACE: Duration = Duration::from_secs(2);

/// How long a holder goes on that Redis takes nothing from, before it offers the lease.
pub(crate) const REDIS_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two offers: how long a holder may go on beside the next one.
const OFFER_INTERVAL: Duration = Duration::from_millis(100);
/// How long the lease must be over for one that is not better placed than a holder that offers it.
pub(crate) const HESITATION: Duration = Duration::from_millis(1_500);
const _: () =
    assert!(HESITATION.as_millis() > OFFER_INTERVAL.as_millis() + ANSWER_TIMEOUT.as_millis());
/// So long a process that has lost the lease by an offer, since Redis took nothing from it, is not better
/// placed than others: Redis may answer it, and take nothing.
pub(crate) const STAYS_OUT: Duration = Duration::from_secs(600);

/// Takes or renews the lease: as the holder of this epoch, or because it has been over for so long. Only a
/// node whose own lease holds may. One that drains offers it.
const TAKE: &str = "\
    INSERT INTO leases (name, node_id, epoch, lease_until) \
    SELECT 'feed', node_id, 1, clock_timestamp() + make_interval(secs => \
            CASE WHEN is_draining THEN 0 ELSE $4::double precision END) FROM nodes \
        WHERE node_id = $1 AND epoch = $2 AND lease_until > clock_timestamp() \
    ON CONFLICT (name) DO UPDATE SET node_id = excluded.node_id, \
        epoch = leases.epoch + CASE WHEN leases.node_id = $1 AND leases.epoch = $3 THEN 0 ELSE 1 END, \
        lease_until = excluded.lease_until \
        WHERE leases.node_id = $1 AND leases.epoch = $3 OR $5 AND leases.lease_until <= \
            clock_timestamp() - make_interval(secs => CASE WHEN \
                (SELECT nodes.is_draining FROM nodes WHERE nodes.node_id = $1) \
                THEN $7::double precision ELSE $6::double precision END) \
    RETURNING epoch, lease_until <= clock_timestamp(), \
        (SELECT nodes.is_draining FROM nodes WHERE nodes.node_id = $1)";

/// How long somebody has it, whether that is the holder of this epoch, who it is, and whether this node
/// drains.
const LOOK: &str = "\
    SELECT extract(epoch FROM lease_until - clock_timestamp())::double precision, \
        node_id = $1 AND epoch = $2, node_id, \
        (SELECT nodes.is_draining FROM nodes WHERE nodes.node_id = $1) \
    FROM leases WHERE name = 'feed'";

/// Names those that share these tables: the database cluster, the database in it, and the schema.
const DEPLOYMENT: &str = "\
    SELECT concat_ws('/', system_identifier, \
        (SELECT oid FROM pg_database WHERE datname = current_database()), current_schema()) \
    FROM pg_control_system()";

const GIVE_BACK: &str = "\
    UPDATE leases SET lease_until = clock_timestamp() \
    WHERE name = 'feed' AND node_id = $1 AND epoch = $2";

/// The epoch of this process as a node, for its leases; 0 before it has joined.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeEpoch(Arc<AtomicI64>);

impl NodeEpoch {
    pub(super) fn set(&self, epoch: i64) {
        self.0.store(epoch, Ordering::Relaxed);
    }

    fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|epoch| *epoch != 0)
    }
}

/// This node's part in the lease of the feed. Runs beside the node's own lease.
pub struct FeedLease {
    server: PostgresServer,
    node_id: NodeId,
    node_epoch: NodeEpoch,
    role: FeedRole,
    metrics: NodeMetrics,
    /// Until when it takes part. While the streams of this node drain, they go on showing prices.
    shutdown: Shutdown,
    /// The epoch of the lease that this process took last; 0 before the first.
    epoch: i64,
    /// When a lost connection to Postgres came back.
    returned: Option<MonotonicMicros>,
    /// It offers the lease, as Redis takes nothing from it.
    offers: bool,
    /// When another took what this process had offered for that.
    lost: Option<MonotonicMicros>,
}

/// What a look at the lease has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It is ours with this epoch.
    Ours(i64),
    /// The same, and everybody may take it.
    Offered(i64),
    /// It was ours, is over, and nobody else has taken it.
    Lapsed,
    /// Another has it for so long.
    Others(Duration),
    /// This process may not take it: it is no node yet, or its own lease is over.
    Barred,
}

/// The time until the next look.
fn pause_after(look: Look) -> Duration {
    match look {
        Look::Ours(_) => FEED_RENEWAL_INTERVAL,
        Look::Offered(_) => OFFER_INTERVAL,
        Look::Barred | Look::Lapsed => BARRED_PAUSE,
        Look::Others(left) => (left + AFTER_END).min(FEED_RENEWAL_INTERVAL),
    }
}

/// Until when the lease is certainly ours, if it was taken by a statement that was sent then.
pub(crate) fn ours_until(sent: MonotonicMicros) -> MonotonicMicros {
    sent.saturating_add(FEED_LEASE - MARGIN)
}

/// Whether a lease that is over may be taken, if a lost connection came back then.
pub(crate) fn is_grace_over(returned: Option<MonotonicMicros>, now: MonotonicMicros) -> bool {
    returned.is_none_or(|returned| now >= returned.saturating_add(RETURN_GRACE))
}

/// Whether the holder offers the lease, as Redis takes nothing from it.
pub(crate) fn is_to_be_offered(role: &FeedRole, now: MonotonicMicros) -> bool {
    role.redis_fails_for(now) >= REDIS_PATIENCE
}

/// How long the lease must be over before a process takes it that has lost it by an offer then.
pub(crate) fn hesitation(
    role: &FeedRole,
    lost: Option<MonotonicMicros>,
    now: MonotonicMicros,
) -> Duration {
    let stays_out = lost.is_some_and(|lost| now < lost.saturating_add(STAYS_OUT));
    if role.reaches_redis(now) && !stays_out { Duration::ZERO } else { HESITATION }
}

impl FeedLease {
    /// Tells `role` who reads the feed, until the stop.
    pub(super) fn new(
        server: PostgresServer,
        (node_id, node_epoch): (NodeId, NodeEpoch),
        (role, metrics): (FeedRole, NodeMetrics),
        shutdown: Shutdown,
    ) -> Self {
        Self {
            server,
            node_id,
            node_epoch,
            role,
            metrics,
            shutdown,
            epoch: 0,
            returned: None,
            offers: false,
            lost: None,
        }
    }

    /// Takes and renews the lease until the stop, then gives it back. Failures of Postgres are retried.
    pub(super) async fn keep(mut self) {
        let mut failures = Failures::default();
        let mut was_connected = false;
        while !self.shutdown.is_requested() {
            let kept = self.keep_over_one_connection(&mut was_connected, &mut failures).await;
            let Err(error) = kept else { return };
            self.show_role();
            if failures.note(&error, error.is_absence()) {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the lease of the feed cannot be renewed in Postgres");
            }
            sleep(FEED_RENEWAL_INTERVAL).await;
        }
    }

    async fn keep_over_one_connection(
        &mut self,
        was_connected: &mut bool,
        failures: &mut Failures,
    ) -> Result<(), ProjectionError> {
        let connection = Connection::open_within(CONNECT_TIMEOUT, &self.server).await?;
        if std::mem::replace(was_connected, true) {
            self.returned = Some(MonotonicMicros::now());
        }
        self.note_deployment(&connection.client).await?;
        while !self.shutdown.is_requested() {
            let sent = MonotonicMicros::now();
            let look = self.look(&connection.client).await?;
            failures.end();
            self.note(look, sent);
            sleep(pause_after(look)).await;
        }
        let was_leading = self.role.leading_epoch().is_some();
        self.role.step_down();
        if was_leading {
            let parameters: [&(dyn ToSql + Sync); 2] = [&self.node_id, &self.epoch];
            let given = connection.client.execute(GIVE_BACK, &parameters);
            let given = self.in_time(ANSWER_TIMEOUT, given).await?;
            given.map_err(ProjectionError::of(&self.server, "give the lease of the feed back"))?;
        }
        Ok(())
    }

    /// Finds out whose Redis it must be.
    async fn note_deployment(&self, client: &Client) -> Result<(), ProjectionError> {
        if self.role.deployment().is_some() {
            return Ok(());
        }
        let named = self.in_time(ANSWER_TIMEOUT, client.query_one(DEPLOYMENT, &[])).await?;
        let named = named.map_err(ProjectionError::of(&self.server, "name itself"));
        match named {
            Ok(row) => self.role.note_deployment(row.get(0)),
            Err(error) if error.is_refusal() => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    error,
                    "whether Redis belongs to another deployment cannot be found out"
                );
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn look(&mut self, client: &Client) -> Result<Look, ProjectionError> {
        let Some(node_epoch) = self.node_epoch.get() else { return Ok(Look::Barred) };
        let now = MonotonicMicros::now();
        self.note_offer(is_to_be_offered(&self.role, now));
        let failed = || ProjectionError::of(&self.server, "take the lease of the feed");
        let seconds = if self.offers { 0.0 } else { FEED_LEASE.as_secs_f64() };
        let may_take_over = is_grace_over(self.returned, now);
        let hesitation = hesitation(&self.role, self.lost, now).as_secs_f64();
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &self.node_id,
            &node_epoch,
            &self.epoch,
            &seconds,
            &may_take_over,
            &hesitation,
            &HESITATION.as_secs_f64(),
        ];
        let taken = self.in_time(ANSWER_TIMEOUT, client.query_opt(TAKE, &parameters)).await?;
        if let Some(row) = taken.map_err(failed())? {
            let epoch = row.get(0);
            self.note_draining(row.get(2));
            return Ok(if row.get(1) { Look::Offered(epoch) } else { Look::Ours(epoch) });
        }
        let parameters: [&(dyn ToSql + Sync); 2] = [&self.node_id, &self.epoch];
        let found = self.in_time(ANSWER_TIMEOUT, client.query_opt(LOOK, &parameters)).await?;
        let Some(row) = found.map_err(failed())? else { return Ok(Look::Barred) };
        self.note_draining(row.get(3));
        if row.get(1) {
            return Ok(Look::Lapsed);
        }
        let left: f64 = row.get(0);
        // One that offers the lease goes on.
        let has_it = left > -HESITATION.as_secs_f64();
        self.role.note_holder(has_it.then(|| row.get(2)));
        let left = Duration::try_from_secs_f64(left.max(0.0)).unwrap_or(FEED_LEASE);
        Ok(if left.is_zero() { Look::Barred } else { Look::Others(left) })
    }

    /// `None`: Postgres does not know this node.
    fn note_draining(&self, is_draining: Option<bool>) {
        self.role.note_draining(is_draining.unwrap_or(false));
    }

    fn note_offer(&mut self, offers: bool) {
        if std::mem::replace(&mut self.offers, offers) != offers && offers {
            tracing::warn!(
                node = self.node_id,
                "Redis takes nothing from this node, which goes on reading the exchange's feed, and leaves \
                 it to another one as soon as there is one that Redis answers"
            );
        }
    }

    fn note(&mut self, look: Look, sent: MonotonicMicros) {
        let was_leading = self.role.leading_epoch().is_some();
        match look {
            Look::Ours(epoch) | Look::Offered(epoch) => {
                let Ok(number) = u64::try_from(epoch) else {
                    unreachable!("a constraint of the table keeps epochs above 0")
                };
                if self.epoch != epoch || !was_leading {
                    tracing::info!(
                        node = self.node_id,
                        epoch,
                        "this node reads the exchange's feed"
                    );
                }
                self.epoch = epoch;
                self.role.note_holder(None);
                self.role.lead(number, ours_until(sent));
            }
            // The own lease of this node is renewed first.
            Look::Lapsed => {}
            Look::Others(_) | Look::Barred => {
                if self.offers && matches!(look, Look::Others(_)) {
                    self.lost = Some(sent);
                }
                if was_leading {
                    tracing::warn!(node = self.node_id, "another node reads the exchange's feed");
                }
                self.role.step_down();
            }
        }
        self.show_role();
    }

    fn show_role(&self) {
        self.metrics.leads_feed.set(i64::from(self.role.leading_epoch().is_some()));
    }

    async fn in_time<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = T>,
    ) -> Result<T, ProjectionError> {
        timeout(limit, answer).await.map_err(|_| ProjectionError::Silent {
            server: self.server.to_string(),
            seconds: limit.as_secs(),
        })
    }
}

impl Drop for FeedLease {
    fn drop(&mut self) {
        self.role.step_down();
        self.metrics.leads_feed.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_look_comes_in_time_to_renew_and_as_soon_as_the_lease_of_another_is_over() {
        let ms = Duration::from_millis;
        assert_eq!(pause_after(Look::Ours(1)), FEED_RENEWAL_INTERVAL);
        assert!(pause_after(Look::Offered(1)) < HESITATION);
        assert_eq!(pause_after(Look::Others(ms(900))), FEED_RENEWAL_INTERVAL);
        assert_eq!(pause_after(Look::Others(ms(20))), ms(20) + AFTER_END);
        assert_eq!(pause_after(Look::Barred), BARRED_PAUSE);
    }

    #[test]
    fn a_holder_without_redis_offers_the_lease_to_those_that_reach_it() {
        let (role, at) = (FeedRole::follower(), |s: u64| MonotonicMicros::new(s * 1_000_000));
        role.redis_fails(at(10));
        assert!(!is_to_be_offered(&role, at(11)) && is_to_be_offered(&role, at(12)));
        role.redis_takes();
        assert!(!is_to_be_offered(&role, at(12)));
        assert_eq!(hesitation(&role, None, at(20)), HESITATION);
        role.hears_redis(at(20), at(1_000));
        assert_eq!(hesitation(&role, None, at(23)), Duration::ZERO);
        // Redis answers, and took nothing.
        assert_eq!(hesitation(&role, Some(at(22)), at(23)), HESITATION);
        assert_eq!(
            hesitation(&role, Some(at(22)), at(22).saturating_add(STAYS_OUT)),
            Duration::ZERO
        );
    }

    #[test]
    fn the_lease_is_ours_for_less_time_than_postgres_gives() {
        let sent = MonotonicMicros::new(1_000_000);
        let until = ours_until(sent);
        assert!(until.saturating_since(sent) + MARGIN <= FEED_LEASE);
    }
}
