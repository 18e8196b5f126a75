//! Claims partitions in Postgres: from then on no earlier owner can write them.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::NodeError;
use crate::projection::{PostgresServer, ProjectionError, in_time};
use crate::types::UserPartition;
use crate::wal::{LogId, Lsn};

/// Locks the rows of partitions. Those that a transaction of their owner, or of another claimant, has
/// locked are left out: nobody waits for a commit that hangs.
const LOCK_PARTITIONS: &str = "\
    SELECT user_partition, epoch FROM projection \
    WHERE is_current AND user_partition = ANY ($1) \
    ORDER BY user_partition FOR UPDATE SKIP LOCKED";

/// Keeps the leases of these owners as they are until the claim is committed. One that is being renewed
/// is left out, so it counts as renewed.
const LOCK_LEASES: &str = "\
    SELECT epoch FROM nodes WHERE is_member AND epoch = ANY ($1) FOR SHARE SKIP LOCKED";

/// Of locked partitions those that the claimant may have while its own lease runs: its own, those handed
/// over to it, and those whose owner has no lease, or one that is over and that was locked.
const FREE: &str = "\
    SELECT p.user_partition FROM projection p \
    LEFT JOIN nodes n ON n.epoch = p.epoch AND n.is_member \
    WHERE p.is_current AND p.user_partition = ANY ($1) \
        AND EXISTS (SELECT FROM nodes WHERE epoch = $2 AND lease_until > clock_timestamp()) \
        AND (p.epoch = $2 OR p.handed_to = $2 OR n.node_id IS NULL \
            OR (n.epoch = ANY ($3) AND n.lease_until < clock_timestamp())) \
    ORDER BY p.user_partition";

/// Owns partitions that nobody has ever written. Of two that try, the first one has them.
const OWN_NEVER_WRITTEN: &str = "\
    INSERT INTO projection (user_partition, epoch, log_id, lsn, is_current, updated_at) \
    SELECT number, $2, $3, $4, true, now() FROM unnest($1::smallint[]) AS number \
    WHERE EXISTS (SELECT FROM nodes WHERE epoch = $2 AND lease_until > clock_timestamp()) \
        AND NOT EXISTS (SELECT FROM projection WHERE is_current AND user_partition = number) \
    ON CONFLICT DO NOTHING RETURNING user_partition";

const FENCE: &str = "\
    UPDATE projection SET is_current = false, handed_to = NULL \
    WHERE is_current AND user_partition = ANY ($1)";

const OWN: &str = "\
    INSERT INTO projection (user_partition, epoch, log_id, lsn, is_current, updated_at) \
    SELECT number, $2, $3, $4, true, now() FROM unnest($1::smallint[]) AS number \
    ON CONFLICT (user_partition, epoch) DO UPDATE SET log_id = excluded.log_id, \
        lsn = excluded.lsn, is_current = true, updated_at = excluded.updated_at, handed_to = NULL";

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

/// Claims those of these partitions that are free. After an error the connection must be given up: it
/// may be in a transaction.
pub(super) async fn claim(
    client: &Client,
    server: &PostgresServer,
    claimant: Claimant,
    partitions: &[UserPartition],
) -> Result<Vec<UserPartition>, NodeError> {
    let claimed = in_time(server, claim_within(client, claimant, partitions)).await?;
    Ok(claimed.map_err(ProjectionError::of(server, "give users away"))?)
}

async fn claim_within(
    client: &Client,
    Claimant { epoch, log_id, position }: Claimant,
    partitions: &[UserPartition],
) -> Result<Vec<UserPartition>, tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    let wanted: Vec<i16> = partitions.iter().map(|number| number.get().into()).collect();
    let locked = client.query(LOCK_PARTITIONS, &[&wanted]).await?;
    let owners: BTreeSet<i64> = locked.iter().map(|row| row.get(1)).collect();
    let owners = Vec::from_iter(owners);
    let locked: Vec<i16> = locked.iter().map(|row| row.get(0)).collect();
    let leases = client.query(LOCK_LEASES, &[&owners]).await?;
    let leases: Vec<i64> = leases.iter().map(|row| row.get(0)).collect();
    // Each statement sees what was committed before it, so this one sees the last renewals.
    let free = client.query(FREE, &[&locked, &epoch, &leases]).await?;
    let mut numbers: Vec<i16> = free.iter().map(|row| row.get(0)).collect();
    let (log_id, lsn) = (log_id.0.cast_signed(), i64::try_from(position.0).unwrap_or(i64::MAX));
    client.execute(FENCE, &[&numbers]).await?;
    client.execute(OWN, &[&numbers, &epoch, &log_id, &lsn]).await?;
    let never = client.query(OWN_NEVER_WRITTEN, &[&wanted, &epoch, &log_id, &lsn]).await?;
    numbers.extend(never.iter().map(|row| row.get::<_, i16>(0)));
    client.batch_execute("COMMIT").await?;
    let partition = |number: &i16| u8::try_from(*number).ok().and_then(UserPartition::new);
    Ok(numbers.iter().filter_map(partition).collect())
}
