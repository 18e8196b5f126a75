//! The positions of a server in the log, and the right to advance them.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use tokio_postgres::{Client, GenericClient, Transaction};

use super::account_rows::KeptAccounts;
use super::cell::CellError;
use super::ownership::HeldPartitions;
use super::values::bigint;
use super::{Ownership, PostgresServer, ProjectionError, cell};
use crate::types::UserPartition;
use crate::wal::{LogId, Lsn};

/// Reads and locks the current rows. A writer locks its rows with its first statement, so what an
/// earlier connection was committing is included. If that connection had not yet begun its
/// transaction, one of the two finds the rows advanced: either that connection, or the next batch
/// here, which then fails and is retried from the new positions.
const CURRENT: &str = "\
    SELECT epoch, log_id, lsn, keeps_accounts, user_partition FROM projection \
    WHERE is_current AND user_partition BETWEEN $1 AND $2 \
    ORDER BY user_partition FOR UPDATE";

const NEW_EPOCH: &str = "\
    INSERT INTO projection \
        (user_partition, epoch, log_id, lsn, is_current, updated_at, keeps_accounts) \
    SELECT number::smallint, $3::bigint, $4::bigint, coalesce(max(lsn), $5::bigint), true, now(), \
        coalesce((SELECT keeps_accounts FROM projection AS before \
            WHERE before.user_partition = number ORDER BY epoch DESC LIMIT 1), false) \
    FROM generate_series($1::smallint::integer, $2::smallint::integer) AS number \
    LEFT JOIN projection ON user_partition = number AND log_id = $4::bigint \
    GROUP BY number";

/// Advances rows of an epoch from the positions that the writer knows. Fails with [`SUPERSEDED`] if
/// the epoch is not the newest.
pub(super) const ADVANCE: &str = "SELECT advance_projection($1, $2, $3, $4, $5)";

/// The SQLSTATE of a write by an older epoch.
pub(super) const SUPERSEDED: &str = "LB001";

#[derive(Debug, Clone, Copy)]
pub(super) struct OurLog {
    pub(super) log_id: LogId,
    pub(super) committed: Lsn,
}

/// The right to write: an epoch and the positions it begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) epoch: i64,
    pub(super) positions: Positions,
    /// The partitions whose accounts follow the orders.
    pub(super) kept: KeptAccounts,
}

/// Another epoch has taken a partition that this process held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost;

/// The position of each partition of a server: the tables have exactly what the log up to there
/// makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Positions {
    first: u8,
    /// By partition, from `first` on. [`ELSEWHERE`] for one that another node writes.
    reached: Vec<Lsn>,
}

/// The position of a partition that another node writes: nothing of it is for us.
const ELSEWHERE: Lsn = Lsn(u64::MAX);

impl Positions {
    /// Those of the partitions that this epoch owns and does not give away, from what Postgres says that
    /// it owns. `held` before Postgres was asked.
    ///
    /// # Errors
    /// [`Lost`]: what was decided about that partition since will never be in Postgres, and is not to be
    /// passed over as another node's.
    pub(crate) fn of_owner(
        partitions: RangeInclusive<u8>,
        owned: &[(UserPartition, Lsn)],
        (ownership, held): (&Ownership, HeldPartitions),
    ) -> Result<Self, Lost> {
        let numbers: Vec<UserPartition> = owned.iter().map(|(partition, _)| *partition).collect();
        if ownership.lost(held, &numbers).is_some() {
            return Err(Lost);
        }
        let first = *partitions.start();
        let mut reached = vec![ELSEWHERE; partitions.count()];
        for (partition, lsn) in owned {
            let index = partition.get().checked_sub(first).map(usize::from);
            if let Some(place) = index.and_then(|index| reached.get_mut(index))
                && !ownership.gives_away(*partition)
            {
                *place = *lsn;
            }
        }
        Ok(Self { first, reached })
    }

    /// The numbers and positions of these partitions, or of all if the set is empty.
    pub(crate) fn of(&self, touched: &BTreeSet<UserPartition>) -> (Vec<i16>, Vec<i64>) {
        let all = (self.first..).zip(&self.reached);
        let is_ours = |reached: &Lsn| *reached != ELSEWHERE;
        let wanted =
            all.filter(|(partition, reached)| is_among(touched, *partition) && is_ours(reached));
        wanted.map(|(partition, reached)| (i16::from(partition), bigint(reached.0))).unzip()
    }

    /// Advances these partitions, or all if the set is empty.
    pub(crate) fn advance(&mut self, touched: &BTreeSet<UserPartition>, last: Lsn) {
        for (partition, reached) in (self.first..).zip(&mut self.reached) {
            if is_among(touched, partition) {
                *reached = (*reached).max(last);
            }
        }
    }

    /// Other partitions are ours than before: those that have come begin where they are in Postgres.
    pub(crate) fn own(&mut self, owned: &Self) {
        for (reached, found) in self.reached.iter_mut().zip(&owned.reached) {
            if *found == ELSEWHERE || *reached == ELSEWHERE {
                *reached = *found;
            }
        }
    }

    /// The lowest position: the log is followed from there.
    pub(crate) fn least(&self) -> Lsn {
        self.reached.iter().copied().min().unwrap_or_default()
    }

    /// The lowest position of these partitions.
    pub(crate) fn least_of(&self, partitions: &BTreeSet<UserPartition>) -> Option<Lsn> {
        let all = (self.first..).zip(&self.reached);
        let held = all.filter(|(partition, _)| {
            UserPartition::new(*partition).is_some_and(|partition| partitions.contains(&partition))
        });
        held.map(|(_, reached)| *reached).min()
    }

    /// Whether a record of a partition of this server is in the tables.
    pub(crate) fn have(&self, partition: UserPartition, lsn: Lsn) -> bool {
        let index = usize::from(partition.get()).checked_sub(self.first.into());
        index.and_then(|index| self.reached.get(index)).is_some_and(|reached| lsn <= *reached)
    }
}

/// Whether a partition is in the set; an empty set stands for all.
fn is_among(touched: &BTreeSet<UserPartition>, partition: u8) -> bool {
    touched.is_empty()
        || UserPartition::new(partition).is_some_and(|partition| touched.contains(&partition))
}

/// The first and last partition of a server, as parameters.
pub(super) fn bounds(server: &PostgresServer) -> (i16, i16) {
    let (first, last) = server.partitions().into_inner();
    (first.into(), last.into())
}

/// Takes over the users of a server, or resumes `ours`, an epoch that this process began.
pub(super) async fn claim(
    client: &mut Client,
    server: &PostgresServer,
    log: OurLog,
    ours: Option<i64>,
) -> Result<Claim, ProjectionError> {
    let refused = |error| ProjectionError::of(server, "report its positions")(error);
    let mut transaction = client.transaction().await.map_err(refused)?;
    let claim = claim_within(&mut transaction, server, log, ours).await?;
    transaction.commit().await.map_err(refused)?;
    Ok(claim)
}

async fn claim_within(
    transaction: &mut Transaction<'_>,
    server: &PostgresServer,
    log: OurLog,
    ours: Option<i64>,
) -> Result<Claim, ProjectionError> {
    let refused = |error| ProjectionError::of(server, "report its positions")(error);
    let odd = |error: CellError| error.within(server, "projection");
    let (first, last) = bounds(server);
    let rows = transaction.query(CURRENT, &[&first, &last]).await.map_err(refused)?;
    let mut newest = 0;
    let mut reached = Vec::new();
    let mut kept = KeptAccounts::default();
    for row in &rows {
        let number = u8::try_from(cell::value::<i16>(row, 4).map_err(odd)?);
        if cell::value::<bool>(row, 3).map_err(odd)?
            && let Some(partition) = number.ok().and_then(UserPartition::new)
        {
            kept.add(partition);
        }
        let epoch: i64 = cell::value(row, 0).map_err(odd)?;
        let found = LogId(cell::value::<i64>(row, 1).map_err(odd)?.cast_unsigned());
        let lsn = Lsn(cell::number(row, 2).map_err(odd)?);
        if found != log.log_id {
            return Err(ProjectionError::OtherLog {
                server: server.to_string(),
                found,
                ours: log.log_id,
            });
        }
        newest = newest.max(epoch);
        reached.push(lsn);
        if lsn > log.committed {
            let last = log.committed;
            return Err(ProjectionError::AheadOfLog {
                server: server.to_string(),
                found: lsn,
                last,
            });
        }
    }
    if let Some(ours) = ours
        && newest > ours
    {
        return Err(ProjectionError::Superseded {
            server: server.to_string(),
            found: newest,
            ours,
        });
    }
    let is_whole = rows.len() == server.partitions().count();
    let epoch = match ours.filter(|&ours| is_whole && newest == ours) {
        Some(ours) => ours,
        None => begin_epoch(transaction, server, log.log_id, Lsn(0)).await?,
    };
    if !is_whole {
        // Includes the partitions that are new to this server.
        let rows = transaction.query(CURRENT, &[&first, &last]).await.map_err(refused)?;
        let lsns: Result<_, CellError> =
            rows.iter().map(|row| cell::number(row, 2).map(Lsn)).collect();
        reached = lsns.map_err(odd)?;
    }
    let positions = Positions { first: *server.partitions().start(), reached };
    Ok(Claim { epoch, positions, kept })
}

/// The partitions that an epoch owns and does not give away, where other nodes own the others.
pub(super) async fn owned(
    client: &Client,
    server: &PostgresServer,
    (epoch, ownership): (i64, &Ownership),
) -> Result<Positions, ProjectionError> {
    let odd = |error: CellError| error.within(server, "projection");
    let (first, last) = bounds(server);
    let held = ownership.held();
    let rows = client
        .query(
            "SELECT user_partition, lsn FROM projection \
             WHERE is_current AND epoch = $3 AND user_partition BETWEEN $1 AND $2",
            &[&first, &last, &epoch],
        )
        .await
        .map_err(ProjectionError::of(server, "report its positions"))?;
    let mut owned = Vec::with_capacity(rows.len());
    for row in &rows {
        let number: i16 = cell::value(row, 0).map_err(odd)?;
        let lsn = Lsn(cell::number(row, 1).map_err(odd)?);
        let partition = u8::try_from(number).ok().and_then(UserPartition::new);
        owned.extend(partition.map(|partition| (partition, lsn)));
    }
    match Positions::of_owner(server.partitions(), &owned, (ownership, held)) {
        Ok(positions) => Ok(positions),
        Err(Lost) => {
            let found = newest_epoch(client, server).await?;
            Err(ProjectionError::Superseded { server: server.to_string(), found, ours: epoch })
        }
    }
}

/// Begins an epoch for these users; older writers are fenced off. Partitions that did not follow
/// this log begin after `start`.
pub(super) async fn begin_epoch(
    transaction: &impl GenericClient,
    server: &PostgresServer,
    log_id: LogId,
    start: Lsn,
) -> Result<i64, ProjectionError> {
    let refused = |error| ProjectionError::of(server, "begin an epoch")(error);
    let (first, last) = bounds(server);
    let epoch = newest_epoch(transaction, server).await? + 1;
    transaction
        .execute(
            "UPDATE projection SET is_current = false \
             WHERE is_current AND user_partition BETWEEN $1 AND $2",
            &[&first, &last],
        )
        .await
        .map_err(refused)?;
    let log_id = log_id.0.cast_signed();
    transaction
        .execute(NEW_EPOCH, &[&first, &last, &epoch, &log_id, &bigint(start.0)])
        .await
        .map_err(refused)?;
    Ok(epoch)
}

/// The newest epoch of these users; 0 before the first.
pub(super) async fn newest_epoch(
    client: &impl GenericClient,
    server: &PostgresServer,
) -> Result<i64, ProjectionError> {
    let (first, last) = bounds(server);
    let newest = client
        .query_one(
            "SELECT coalesce(max(epoch), 0) FROM projection WHERE user_partition BETWEEN $1 AND $2",
            &[&first, &last],
        )
        .await;
    Ok(newest.map_err(ProjectionError::of(server, "report its newest epoch"))?.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_its_own_position() {
        let positions = Positions { first: 32, reached: vec![Lsn(7), Lsn(9)] };
        let has = |partition, lsn| positions.have(UserPartition::new(partition).unwrap(), Lsn(lsn));
        assert_eq!(positions.least(), Lsn(7));
        assert!(has(32, 7) && !has(32, 8) && has(33, 9) && !has(33, 10));
        assert!(!has(31, 1) && !has(34, 1), "they are another server's");
    }

    #[test]
    fn what_another_node_writes_is_not_for_us() {
        let mut positions = Positions { first: 32, reached: vec![Lsn(7), ELSEWHERE] };
        let theirs = UserPartition::new(33).unwrap();
        assert!(positions.have(theirs, Lsn(1)), "nothing of it is to be written");
        assert_eq!(positions.of(&BTreeSet::new()), (vec![32], vec![7]));
        assert_eq!(positions.of(&BTreeSet::from([theirs])), (vec![], vec![]));
        positions.advance(&BTreeSet::new(), Lsn(9));
        assert_eq!((positions.least(), positions.have(theirs, Lsn(99))), (Lsn(9), true));
        positions.own(&Positions { first: 32, reached: vec![ELSEWHERE, Lsn(20)] });
        assert_eq!(positions.of(&BTreeSet::new()), (vec![33], vec![20]), "it has come");
        positions.own(&Positions { first: 32, reached: vec![ELSEWHERE, Lsn(19)] });
        assert_eq!(positions.least(), Lsn(20), "never back");
    }

    #[test]
    fn a_partition_that_another_epoch_has_taken_is_not_passed_over() {
        let ownership = Ownership::default();
        let [first, last] = [0, 1].map(|number| UserPartition::new(number).unwrap());
        ownership.take(&[first, last]);
        let held = ownership.held();
        let read = |owned: &[_]| Positions::of_owner(0..=1, owned, (&ownership, held));
        let all = read(&[(first, Lsn(3)), (last, Lsn(4))]).unwrap();
        assert_eq!(all.of(&BTreeSet::new()), (vec![0, 1], vec![3, 4]));
        assert_eq!(read(&[(first, Lsn(3))]), Err(Lost));
        ownership.give_away(&[last]);
        let left = read(&[(first, Lsn(3)), (last, Lsn(4))]).unwrap();
        assert_eq!(left.of(&BTreeSet::new()), (vec![0], vec![3]));
    }

    #[test]
    fn only_touched_partitions_advance_or_all_if_none_is_named() {
        let mut positions = Positions { first: 32, reached: vec![Lsn(7), Lsn(9)] };
        let second = BTreeSet::from([UserPartition::new(33).unwrap()]);
        assert_eq!(positions.of(&second), (vec![33], vec![9]));
        positions.advance(&second, Lsn(12));
        assert_eq!(positions.of(&BTreeSet::new()), (vec![32, 33], vec![7, 12]));
        positions.advance(&BTreeSet::new(), Lsn(11));
        assert_eq!(positions.of(&BTreeSet::new()), (vec![32, 33], vec![11, 12]), "never back");
    }
}
