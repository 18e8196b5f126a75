//! Claims partitions in Postgres: from then on no earlier owner can write them.

use tokio_postgres::{Client, Row, Statement};

use super::NodeError;
use crate::projection::{PostgresServer, ProjectionError, in_time};
use crate::types::UserPartition;
use crate::wal::{LogId, Lsn};

/// Locks the rows of partitions. Those that a transaction of their owner, or of another claimant, has
/// locked are left out: nobody waits for a commit that hangs.
const LOCK_PARTITIONS: &str = "\
    SELECT user_partition FROM projection \
    WHERE is_current AND user_partition = ANY ($1) \
    ORDER BY user_partition FOR UPDATE SKIP LOCKED";

/// Of locked partitions those that the claimant may have while its own lease runs: its own, those handed
/// over to it, and those whose owner has no lease, or one that is over. It keeps the leases of the owners
/// as they are until the claim is committed, and passes over one that is being renewed.
const FREE: &str = "\
    WITH leases AS MATERIALIZED ( \
        SELECT epoch, lease_until FROM nodes WHERE is_member AND epoch IN ( \
            SELECT epoch FROM projection WHERE is_current AND user_partition = ANY ($1)) \
        FOR SHARE SKIP LOCKED) \
    SELECT p.user_partition FROM projection p \
    WHERE p.is_current AND p.user_partition = ANY ($1) \
        AND EXISTS (SELECT FROM nodes WHERE epoch = $2 AND lease_until > clock_timestamp()) \
        AND (p.epoch = $2 OR p.handed_to = $2 \
            OR NOT EXISTS (SELECT FROM nodes n WHERE n.epoch = p.epoch AND n.is_member) \
            OR EXISTS (SELECT FROM leases l \
                WHERE l.epoch = p.epoch AND l.lease_until < clock_timestamp())) \
    ORDER BY p.user_partition";

/// Owns partitions that nobody has ever written. Of two that try, the first one has them.
const OWN_NEVER_WRITTEN: &str = "\
    INSERT INTO projection \
        (user_partition, epoch, log_id, lsn, is_current, updated_at, keeps_accounts) \
    SELECT number, $2, $3, $4, true, now(), true FROM unnest($1::smallint[]) AS number \
    WHERE EXISTS (SELECT FROM nodes WHERE epoch = $2 AND lease_until > clock_timestamp()) \
        AND NOT EXISTS (SELECT FROM projection WHERE is_current AND user_partition = number) \
    ON CONFLICT DO NOTHING RETURNING user_partition";

const FENCE: &str = "\
    UPDATE projection SET is_current = false, handed_to = NULL \
    WHERE is_current AND user_partition = ANY ($1)";

const OWN: &str = "\
    INSERT INTO projection \
        (user_partition, epoch, log_id, lsn, is_current, updated_at, keeps_accounts) \
    SELECT number, $2, $3, $4, true, now(), true FROM unnest($1::smallint[]) AS number \
    ON CONFLICT (user_partition, epoch) DO UPDATE SET log_id = excluded.log_id, \
        lsn = excluded.lsn, is_current = true, updated_at = excluded.updated_at, handed_to = NULL, \
        keeps_accounts = true";

const OWNED: &str = "SELECT user_partition FROM projection WHERE is_current AND epoch = $1";

/// Who claims.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimant {
    pub(super) epoch: i64,
    pub(super) log_id: LogId,
    /// Its log has nothing of the partitions after this position yet.
    pub(super) position: Lsn,
}

/// The first of the partitions that a process holds which its epoch does not own: another one does.
pub(crate) fn first_lost(held: &[UserPartition], owned: &[UserPartition]) -> Option<UserPartition> {
    held.iter().find(|held| !owned.contains(held)).copied()
}

/// The partitions that an epoch owns.
pub(super) async fn owned(
    client: &Client,
    server: &PostgresServer,
    epoch: i64,
) -> Result<Vec<UserPartition>, NodeError> {
    let rows = in_time(server, client.query(OWNED, &[&epoch])).await?;
    let rows = rows.map_err(ProjectionError::of(server, "say who has which users"))?;
    let number = |row: &tokio_postgres::Row| u8::try_from(row.get::<_, i16>(0)).ok();
    Ok(rows.iter().filter_map(number).filter_map(UserPartition::new).collect())
}

/// The statements of a claim, prepared on a connection.
#[derive(Debug)]
pub(super) struct Claims {
    lock: Statement,
    free: Statement,
    fence: Statement,
    own: Statement,
    own_never_written: Statement,
}

impl Claims {
    pub(super) async fn prepare(
        client: &Client,
        server: &PostgresServer,
    ) -> Result<Self, ProjectionError> {
        let prepared = in_time(server, async {
            tokio::try_join!(
                client.prepare(LOCK_PARTITIONS),
                client.prepare(FREE),
                client.prepare(FENCE),
                client.prepare(OWN),
                client.prepare(OWN_NEVER_WRITTEN),
            )
        });
        let prepared = prepared.await?.map_err(ProjectionError::of(server, "prepare a claim"));
        prepared.map(|(lock, free, fence, own, own_never_written)| Self {
            lock,
            free,
            fence,
            own,
            own_never_written,
        })
    }

    /// Claims those of these partitions that are free. After an error the connection must be given up:
    /// it may be in a transaction.
    pub(super) async fn claim(
        &self,
        client: &Client,
        server: &PostgresServer,
        claimant: Claimant,
        partitions: &[UserPartition],
    ) -> Result<Vec<UserPartition>, NodeError> {
        let claimed = in_time(server, self.claim_within(client, claimant, partitions)).await?;
        Ok(claimed.map_err(ProjectionError::of(server, "give users away"))?)
    }

    async fn claim_within(
        &self,
        client: &Client,
        Claimant { epoch, log_id, position }: Claimant,
        partitions: &[UserPartition],
    ) -> Result<Vec<UserPartition>, tokio_postgres::Error> {
        let number_of = |row: &Row| row.get::<_, i16>(0);
        let wanted: Vec<i16> = partitions.iter().map(|number| number.get().into()).collect();
        // What is joined is sent at once and done in this order.
        let ((), locked) = tokio::try_join!(biased;
            client.batch_execute("BEGIN"),
            async { client.query(&self.lock, &[&wanted]).await },
        )?;
        let locked: Vec<i16> = locked.iter().map(number_of).collect();
        // A statement sees what was committed before it: the leases as they are now.
        let free = client.query(&self.free, &[&locked, &epoch]).await?;
        let mut numbers: Vec<i16> = free.iter().map(number_of).collect();
        let log_id = log_id.0.cast_signed();
        let lsn = i64::try_from(position.0).unwrap_or(i64::MAX);
        let (_, _, never_written, ()) = tokio::try_join!(biased;
            async { client.execute(&self.fence, &[&numbers]).await },
            async { client.execute(&self.own, &[&numbers, &epoch, &log_id, &lsn]).await },
            async {
                let wanted = &wanted;
                client.query(&self.own_never_written, &[wanted, &epoch, &log_id, &lsn]).await
            },
            client.batch_execute("COMMIT"),
        )?;
        numbers.extend(never_written.iter().map(number_of));
        let partition = |number: &i16| u8::try_from(*number).ok().and_then(UserPartition::new);
        Ok(numbers.iter().filter_map(partition).collect())
    }
}
