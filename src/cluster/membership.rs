//! The thread `node` of a member: keeps the lease, and the partitions that go with it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_postgres::Client;

use super::claim;
use super::clock::MemberClock;
use super::ended_lately::EndedLately;
use super::failures::Failures;
use super::halts::{look_at_halts, write_halts};
use super::host::{HaltsHost, Membership, PartitionHost};
use super::member::Member;
use super::ownership::Partitions;
use super::partition_map::PartitionMap;
use super::session::Session;
use super::shared_ids::tell_shared_ids;
use super::{
    FAILURE_PAUSE, LOOK_INTERVAL, MEMBER_LEASE, MEMBER_RENEWAL_INTERVAL, MOVING_LOOK_INTERVAL,
    NodeError, serves_until,
};
use crate::projection::{Connection, PostgresServer, ProjectionError, block_on, in_time};
use crate::shutdown::{Shutdown, StopReason};
use crate::sync::Receiver;
use crate::types::{MonotonicMicros, UserPartition};

/// How long a stop waits for others to take over the next users.
pub(crate) const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(10);

const DRAIN: &str = "UPDATE nodes SET is_draining = true WHERE epoch = $1";

/// The two steps of a member's stop.
#[derive(Debug, Clone)]
pub struct Stops {
    /// Asks for the first one: others take over the users while this node still passes requests on.
    pub hand_over: Shutdown,
    /// Then the process stops.
    pub shutdown: Shutdown,
}

impl Member {
    /// Where other nodes reach it.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.identity.peer_address
    }

    /// Keeps the lease and shares the users with the other members, until a stop is requested. What is
    /// halted here goes to the others when `halts_changed` says so.
    ///
    /// # Errors
    /// Another process has become this node, or has taken over its users. Failures of Postgres are
    /// retried.
    pub fn run_as_member<H: PartitionHost + HaltsHost>(
        self,
        membership: Membership<H>,
        halts_changed: Receiver<()>,
        stops: &Stops,
    ) -> Result<(), NodeError> {
        block_on(async { Ok(self.share(membership, halts_changed, stops).await) })?
    }

    async fn share<H: PartitionHost + HaltsHost>(
        mut self,
        membership: Membership<H>,
        mut halts_changed: Receiver<()>,
        stops: &Stops,
    ) -> Result<(), NodeError> {
        while self.epoch.is_none() && !stops.shutdown.is_requested() {
            match self.connect_and_join().await {
                Err(NodeError::Postgres(error)) => {
                    self.note_failure(&error);
                    sleep(FAILURE_PAUSE).await;
                }
                joined => joined?,
            }
            if stops.hand_over.is_requested() {
                stops.shutdown.request(StopReason::Requested);
            }
        }
        let Some(epoch) = self.epoch else { return Ok(()) };
        self.failures.end();
        let (map, server) = (membership.map.clone(), self.server.clone());
        let (comes, came) = mpsc::unbounded_channel();
        let ended_lately = EndedLately::new(&membership, server.clone(), came);
        let metrics = self.metrics.clone();
        let mut partitions = Partitions::new(
            &membership,
            (server.clone(), epoch),
            metrics,
            comes,
            stops.shutdown.clone(),
        );
        let host = &membership.host;
        let feed_lease = self.feed_lease.take();
        let told = (&map, &membership.clock, host);
        let lease = self.keep_lease(epoch, told, &stops.shutdown);
        let halts = write_halts(&server, (host, &mut halts_changed), &stops.shutdown);
        let shared_ids = tell_shared_ids(&server, (&map, host), &stops.shutdown);
        let feed = async {
            if let Some(feed_lease) = feed_lease {
                feed_lease.keep().await;
            }
        };
        let shared = async {
            tokio::select! {
                ended = end_all(partitions.keep(stops), stops) => ended,
                never = async { ended_lately.keep().await; std::future::pending().await } => never,
            }
        };
        let (kept, shared, (), (), ()) =
            tokio::join!(end_all(lease, stops), shared, feed, halts, shared_ids);
        kept.and(shared)?;
        if partitions.is_empty() {
            // Nobody has to wait for its end.
            self.give_back(epoch).await?;
        }
        Ok(())
    }

    async fn keep_lease<H: HaltsHost>(
        &mut self,
        epoch: i64,
        told: (&PartitionMap, &MemberClock, &H),
        shutdown: &Shutdown,
    ) -> Result<(), NodeError> {
        while !shutdown.is_requested() {
            match self.renew_over_one_connection(epoch, told, shutdown).await {
                Err(NodeError::Postgres(error)) => self.note_failure(&error),
                ended => return ended,
            }
            sleep(FAILURE_PAUSE).await;
        }
        Ok(())
    }

    async fn renew_over_one_connection<H: HaltsHost>(
        &mut self,
        epoch: i64,
        (map, clock, host): (&PartitionMap, &MemberClock, &H),
        shutdown: &Shutdown,
    ) -> Result<(), NodeError> {
        let connection = Connection::open_within(MEMBER_LEASE, &self.server).await?;
        let mut unreadable = String::new();
        while !shutdown.is_requested() {
            let asked = MonotonicMicros::now();
            let renewal = self.renew(&connection.client, epoch, MEMBER_LEASE);
            // An answer that comes later is worth nothing.
            let renewed = tokio::time::timeout(MEMBER_LEASE, renewal).await;
            let Ok(renewed) = renewed else { continue_elsewhere(&self.server)? };
            let Some(reading) = renewed? else { return Err(NodeError::Forgotten) };
            self.metrics.clock_ahead.set(reading.ahead_micros);
            clock.note(reading);
            if map.has_lapsed() {
                // Others may have taken over meanwhile. From the renewal on nobody can, so what is
                // still ours after it stays ours.
                map.note_lapse();
                self.check_owned(&connection.client, epoch, &map.served()).await?;
            }
            let (client, server) = (&connection.client, &self.server);
            look_at_halts(client, server, host, &mut unreadable).await?;
            map.serve_until(serves_until(asked));
            self.failures.end();
            let renewed = Instant::now();
            loop {
                sleep(LOOK_INTERVAL).await;
                if shutdown.is_requested() || renewed.elapsed() >= MEMBER_RENEWAL_INTERVAL {
                    break;
                }
                look_at_halts(client, server, host, &mut unreadable).await?;
            }
        }
        Ok(())
    }

    /// Checks that all of these partitions are this epoch's.
    async fn check_owned(
        &self,
        client: &Client,
        epoch: i64,
        partitions: &[UserPartition],
    ) -> Result<(), NodeError> {
        let owned = claim::owned(client, &self.server, epoch).await?;
        match claim::first_lost(partitions, &owned) {
            Some(lost) => Err(NodeError::Fenced { partition: lost.get() }),
            None => Ok(()),
        }
    }

    async fn give_back(&self, epoch: i64) -> Result<(), NodeError> {
        let connection = Connection::open(&self.server).await?;
        self.renew(&connection.client, epoch, Duration::ZERO).await?;
        Ok(())
    }
}

/// The connection is given up.
fn continue_elsewhere<T>(server: &PostgresServer) -> Result<T, NodeError> {
    let (server, seconds) = (server.to_string(), MEMBER_LEASE.as_secs());
    Err(ProjectionError::Silent { server, seconds }.into())
}

/// If one part fails, the other one ends too.
async fn end_all(
    part: impl Future<Output = Result<(), NodeError>>,
    stops: &Stops,
) -> Result<(), NodeError> {
    let ended = part.await;
    if let Err(error) = &ended {
        let (thread, error) = ("node".to_owned(), error.to_string());
        stops.shutdown.request(StopReason::ThreadEnded { thread, error });
    }
    ended
}

impl<H: PartitionHost + HaltsHost> Partitions<'_, H> {
    /// Takes and hands over partitions until a stop.
    async fn keep(&mut self, stops: &Stops) -> Result<(), NodeError> {
        let mut failures = Failures::default();
        let mut drain = None;
        while !stops.shutdown.is_requested() {
            match self.keep_over_one_connection(stops, &mut drain, &mut failures).await {
                Err(error @ NodeError::Postgres(_)) => {
                    if failures.note_beside_lease(&error, self.map()) {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(error, "the nodes cannot be looked at");
                    }
                }
                // The orders thread ends only with the process.
                Err(NodeError::Ending) => return Ok(()),
                ended => return ended,
            }
            if Drain::note(&mut drain, stops, None) {
                stops.shutdown.request(StopReason::Requested);
                return Ok(());
            }
            sleep(FAILURE_PAUSE).await;
        }
        Ok(())
    }

    async fn keep_over_one_connection(
        &mut self,
        stops: &Stops,
        drain: &mut Option<Drain>,
        failures: &mut Failures,
    ) -> Result<(), NodeError> {
        let session = Session::open(self.server()).await?;
        let client = &session.connection.client;
        let mut is_told = false;
        while !stops.shutdown.is_requested() {
            if stops.hand_over.is_requested() && !is_told {
                let epoch = self.epoch();
                let told = in_time(self.server(), client.execute(DRAIN, &[&epoch])).await?;
                told.map_err(ProjectionError::of(self.server(), "note that this node stops"))?;
                is_told = true;
            }
            let standing = self.tick(&session).await?;
            failures.end();
            let is_free = is_told && standing.is_some_and(|standing| standing.is_free);
            if Drain::note(drain, stops, standing.map(|standing| standing.owned)) || is_free {
                stops.shutdown.request(StopReason::Requested);
                return Ok(());
            }
            let is_moving = standing.is_some_and(|standing| standing.is_moving);
            sleep(if is_moving { MOVING_LOOK_INTERVAL } else { LOOK_INTERVAL }).await;
        }
        Ok(())
    }
}

/// A stop, while the users are handed over.
struct Drain {
    /// How many partitions this node owns still, and since when.
    owned: usize,
    since: Instant,
}

impl Drain {
    /// Takes note of how many partitions are left, if that is known. Returns whether a stop was
    /// requested and others have taken none for too long.
    fn note(drain: &mut Option<Self>, stops: &Stops, owned: Option<usize>) -> bool {
        if !stops.hand_over.is_requested() {
            return false;
        }
        let now = Instant::now();
        let drain = drain.get_or_insert(Self { owned: usize::MAX, since: now });
        if let Some(owned) = owned.filter(|owned| *owned != drain.owned) {
            *drain = Self { owned, since: now };
        }
        drain.since.elapsed() >= HAND_OVER_TIMEOUT
    }
}
