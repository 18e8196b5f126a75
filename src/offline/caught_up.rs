//! Waits until Postgres has what the log of a running server had when a comparison began. A server
//! that follows has it within moments; one that is on hold, or was stopped by a failure, never.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{OfflineError, OfflineOptions};
use crate::projection::{PartitionPosition, PostgresRecords, PostgresServer};
use crate::types::USER_PARTITIONS;
use crate::wal::{self, Lsn, WalError, WalOptions};

/// How often the positions are read again.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long a partition may stand still before it counts as behind. Longer than a server takes to
/// try again after a failure of Postgres.
const STILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long partitions that move are waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const _: () = assert!(STILL_TIMEOUT.as_secs() < LONGEST_WAIT.as_secs());

/// A position by user partition.
type Reached = BTreeMap<u8, Lsn>;

/// The tables of one server at one moment.
pub(super) struct Snapshot {
    pub(super) server_rows: PostgresRecords,
    pub(super) positions: Vec<PartitionPosition>,
    /// What the server should have had by now.
    pub(super) behind: Vec<Behind>,
}

/// Neighbouring user partitions that lack records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Behind {
    pub(super) first: u8,
    pub(super) last: u8,
    /// They have everything up to here.
    pub(super) reached: Lsn,
    /// The last record of the log when the comparison began.
    pub(super) end: Lsn,
    /// Records of these partitions that are missing.
    pub(super) missing: u64,
}

impl Snapshot {
    /// The tables now.
    pub(super) fn now(server: &PostgresServer) -> Result<Self, OfflineError> {
        let server_rows = PostgresRecords::open(server)?;
        let positions = server_rows.positions()?;
        Ok(Self { server_rows, positions, behind: Vec::new() })
    }

    /// The tables once they have what the log of a running server has now, or no longer move.
    pub(super) fn caught_up(
        options: &OfflineOptions,
        server: &PostgresServer,
    ) -> Result<Self, OfflineError> {
        let mut snapshot = Self::now(server)?;
        let is_whole = snapshot.positions.len() == server.partitions().count();
        // Otherwise the comparison says what is wrong.
        if !is_whole {
            return Ok(snapshot);
        }
        let Some(goal) = Goal::of(options, &snapshot.positions)? else { return Ok(snapshot) };
        let mut patience = Patience::new(Instant::now());
        while patience.is_left(&goal.wanted, &by_partition(&snapshot.positions), Instant::now()) {
            std::thread::sleep(POLL_INTERVAL);
            snapshot.server_rows.renew()?;
            snapshot.positions = snapshot.server_rows.positions()?;
        }
        snapshot.behind = goal.behind(&by_partition(&snapshot.positions))?;
        Ok(snapshot)
    }
}

fn by_partition(positions: &[PartitionPosition]) -> Reached {
    let partition = |of: i16| u8::try_from(of).unwrap_or(u8::MAX);
    positions.iter().map(|position| (partition(position.partition), position.lsn)).collect()
}

/// What the log had when the comparison began.
struct Goal {
    directory: PathBuf,
    /// The last record of each partition, as far as Postgres may lack it.
    wanted: Reached,
    /// The oldest and the last record.
    first: Lsn,
    end: Lsn,
}

impl Goal {
    /// `None` if Postgres follows another log, or is ahead of this one.
    fn of(
        options: &OfflineOptions,
        positions: &[PartitionPosition],
    ) -> Result<Option<Self>, OfflineError> {
        let directory = options.data_dir.wal();
        let log_start = wal::log_start(&WalOptions::new(directory.clone()))?;
        if positions.iter().any(|position| Some(position.log_id) != log_start.log_id) {
            return Ok(None);
        }
        let first = log_start.first_lsn;
        let reached = by_partition(positions);
        let cut = Lsn(first.0.saturating_sub(1));
        let wanted = reached.iter().filter(|(_, lsn)| **lsn < cut);
        let wanted = wanted.map(|(partition, _)| (*partition, cut)).collect();
        let goal = Self { directory, wanted: Reached::new(), first, end: cut };
        let least = reached.values().copied().min().unwrap_or_default();
        let (mut wanted, mut end): (Reached, Lsn) = (wanted, cut.max(least));
        let visited = goal.each_record(least, &mut |lsn, partition| {
            end = lsn;
            if reached.get(&partition).is_some_and(|reached| *reached < lsn) {
                wanted.insert(partition, lsn);
            }
        });
        match visited {
            Err(OfflineError::Log(WalError::LostTail { .. })) => Ok(None),
            visited => visited.map(|()| Some(Self { wanted, end, ..goal })),
        }
    }

    /// Visits the records of user partitions after a position, or all if that was cut off.
    fn each_record(&self, after: Lsn, visit: &mut dyn FnMut(Lsn, u8)) -> Result<(), OfflineError> {
        let mut visit_after = |after: Option<Lsn>| {
            wal::inspect(&self.directory, after, &mut |record| {
                if usize::from(record.partition) < USER_PARTITIONS {
                    visit(record.lsn, record.partition);
                }
                Ok(())
            })
        };
        let is_cut = after.0.saturating_add(1) < self.first.0;
        let visited = match visit_after((!is_cut).then_some(after)) {
            Err(WalError::CutOff { .. }) => visit_after(None),
            visited => visited,
        };
        Ok(visited?)
    }

    /// The partitions that lack something.
    fn behind(&self, reached: &Reached) -> Result<Vec<Behind>, OfflineError> {
        let lacking = lacking(&self.wanted, reached);
        let Some(least) = lacking.values().copied().min() else { return Ok(Vec::new()) };
        let mut missing: BTreeMap<u8, u64> = BTreeMap::new();
        self.each_record(least, &mut |lsn, partition| {
            if lsn <= self.end && lacking.get(&partition).is_some_and(|reached| *reached < lsn) {
                *missing.entry(partition).or_default() += 1;
            }
        })?;
        Ok(groups(&lacking, &missing, self.end))
    }
}

/// The partitions that have not reached what is wanted of them, and what they have reached.
fn lacking(wanted: &Reached, reached: &Reached) -> Reached {
    let lacking = |(partition, wanted): (&u8, &Lsn)| {
        let reached = reached.get(partition).copied().unwrap_or_default();
        (reached < *wanted).then_some((*partition, reached))
    };
    wanted.iter().filter_map(lacking).collect()
}

/// Puts neighbours at the same position together. A partition between two of them that lacks
/// nothing has no records there.
fn groups(lacking: &Reached, missing: &BTreeMap<u8, u64>, end: Lsn) -> Vec<Behind> {
    let mut groups: Vec<Behind> = Vec::new();
    for (&partition, &reached) in lacking {
        let missing = missing.get(&partition).copied().unwrap_or_default();
        match groups.last_mut() {
            Some(group) if group.reached == reached && group.last + 1 == partition => {
                group.last = partition;
                group.missing += missing;
            }
            Some(_) | None => {
                groups.push(Behind { first: partition, last: partition, reached, end, missing });
            }
        }
    }
    groups
}

/// How long partitions are waited for: as long as they move, within limits.
struct Patience {
    began_at: Instant,
    seen: Reached,
    /// When each partition last came nearer to what is wanted of it.
    moved_at: BTreeMap<u8, Instant>,
}

impl Patience {
    fn new(now: Instant) -> Self {
        Self { began_at: now, seen: Reached::new(), moved_at: BTreeMap::new() }
    }

    /// Whether to wait on for what is wanted.
    fn is_left(&mut self, wanted: &Reached, reached: &Reached, now: Instant) -> bool {
        let highest = |of: &Reached| of.values().copied().max().unwrap_or_default();
        let (before, highest) = (highest(&self.seen), highest(reached));
        let mut is_any_moving = false;
        for partition in lacking(wanted, reached).keys() {
            let has_moved = self.seen.get(partition) != reached.get(partition);
            // The log is read in its order: what has not been reached by any may still come.
            let is_ahead = wanted.get(partition).is_some_and(|wanted| highest < *wanted);
            let since = self.moved_at.entry(*partition).or_insert(now);
            if has_moved || (is_ahead && highest > before) {
                *since = now;
            }
            is_any_moving |= now.duration_since(*since) < STILL_TIMEOUT;
        }
        self.seen.clone_from(reached);
        is_any_moving && now.duration_since(self.began_at) < LONGEST_WAIT
    }
}

impl std::fmt::Display for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { first, last, reached, end, missing } = self;
        if first == last {
            write!(f, "is behind for user partition {first}")?;
        } else {
            write!(f, "is behind for user partitions {first} to {last}")?;
        }
        let (records, are) = if *missing == 1 { ("record", "is") } else { ("records", "are") };
        write!(
            f,
            ": it has everything up to record {reached}, the log had record {end} when the \
             comparison began, {missing} {records} of these users {are} missing"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(positions: &[(u8, u64)]) -> Reached {
        positions.iter().map(|(partition, lsn)| (*partition, Lsn(*lsn))).collect()
    }

    #[test]
    fn neighbours_at_one_position_are_one_line() {
        let wanted = at(&[(0, 9), (1, 8), (2, 7), (5, 9)]);
        let lacking = lacking(&wanted, &at(&[(0, 3), (1, 3), (2, 7), (5, 3), (6, 3)]));
        let missing = BTreeMap::from([(0, 2), (1, 1), (5, 1)]);
        let lines: Vec<String> =
            groups(&lacking, &missing, Lsn(9)).iter().map(ToString::to_string).collect();
        let expected = [
            "is behind for user partitions 0 to 1: it has everything up to record 3, the log had \
             record 9 when the comparison began, 3 records of these users are missing",
            "is behind for user partition 5: it has everything up to record 3, the log had record \
             9 when the comparison began, 1 record of these users is missing",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn partitions_are_waited_for_while_they_move() {
        let start = Instant::now();
        let wanted = at(&[(0, 900), (1, 50)]);
        let mut patience = Patience::new(start);
        let mut wait = |second: u64, positions: &[(u8, u64)]| {
            patience.is_left(&wanted, &at(positions), start + Duration::from_secs(second))
        };
        assert!(wait(0, &[(0, 10), (1, 10), (2, 10)]));
        assert!(wait(9, &[(0, 10), (1, 10), (2, 10)]));
        assert!(wait(11, &[(0, 10), (1, 10), (2, 40)]), "others are read first");
        assert!(!wait(22, &[(0, 10), (1, 10), (2, 40)]), "nothing moves any more");
        assert!(wait(23, &[(0, 10), (1, 50), (2, 60)]));
        assert!(!wait(24, &[(0, 900), (1, 50), (2, 60)]), "all is there");
    }

    #[test]
    fn a_partition_on_hold_is_given_up_while_others_move_and_all_in_the_end() {
        let start = Instant::now();
        let waited = |wanted: &Reached, position: &dyn Fn(u64) -> Reached| {
            let mut patience = Patience::new(start);
            let is_over = |second: &u64| {
                !patience.is_left(wanted, &position(*second), start + Duration::from_secs(*second))
            };
            (0..1_000).find(is_over)
        };
        let on_hold = waited(&at(&[(0, 20)]), &|second| at(&[(0, 10), (1, 30 + second)]));
        assert_eq!(on_hold, Some(STILL_TIMEOUT.as_secs()));
        let endless = waited(&at(&[(0, u64::MAX)]), &|second| at(&[(0, second)]));
        assert_eq!(endless, Some(LONGEST_WAIT.as_secs()));
    }
}
