use std::fmt::Display;
use std::time::{Duration, Instant};

use super::partition_map::PartitionMap;
use super::{MEMBER_LEASE, NodeError};

/// Stands for all failures of a Postgres that is away.
const ABSENCE: &str = "away";

/// What has failed since all was well. A failure is logged once, until something else fails.
#[derive(Debug, Default)]
pub(super) struct Failures {
    last: String,
    since: Option<Instant>,
}

impl Failures {
    /// Takes note of a failure of one of a member's connections. Returns whether it is to be logged: not that
    /// Postgres is away, which is said of the lease, unless that goes on. `map` knows whether it does.
    pub(super) fn note_beside_lease(&mut self, error: &NodeError, map: &PartitionMap) -> bool {
        let lasts = self.since.get_or_insert_with(Instant::now).elapsed();
        let is_absence = matches!(error, NodeError::Postgres(error) if error.is_absence());
        let is_said = is_absence && !is_absence_news(lasts, map.has_lapsed());
        !is_said && self.note(error, is_absence)
    }

    /// Takes note of a failure. Returns whether it is to be logged. While Postgres is away it fails in one way or
    /// another, which is one failure.
    pub(super) fn note(&mut self, error: &dyn Display, is_absence: bool) -> bool {
        self.since.get_or_insert_with(Instant::now);
        let kind = if is_absence { ABSENCE.to_owned() } else { error.to_string() };
        let is_new = kind != self.last;
        self.last = kind;
        is_new
    }

    /// All is well: the next failure is another one.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}

/// Whether it is to be said that Postgres is away for one connection of this node, for so long.
fn is_absence_news(lasts: Duration, has_lapsed: bool) -> bool {
    lasts > MEMBER_LEASE && !has_lapsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_logged_once_a_spell() {
        let mut failures = Failures::default();
        let mut note = |error: &str, is_absence| failures.note(&error, is_absence);
        assert!(note("refused", false) && !note("refused", false));
        assert!(note("silent", true) && !note("not reached", true), "both ways to be away");
        assert!(note("refused", false));
        failures.end();
        assert!(failures.note(&"refused", false));
    }

    #[test]
    fn that_postgres_is_away_is_news_only_if_the_lease_goes_on() {
        let ms = Duration::from_millis;
        assert!(!is_absence_news(MEMBER_LEASE, false), "the lease may be about to end");
        assert!(is_absence_news(MEMBER_LEASE + ms(1), false));
        assert!(!is_absence_news(MEMBER_LEASE + ms(1), true));
    }
}
