//! Orders whose rows of `order_events` are not one for each version.

use std::ops::RangeInclusive;

use super::ProjectionError;
use super::compare::within;
use super::read;
use super::session::Session;
use super::values::Timestamp;
use crate::types::{OrderId, TimestampMicros};

/// An order and the versions that `order_events` has of it, where they are not all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct EventGap {
    /// Whose order.
    pub user: String,
    /// Which order.
    pub order_id: OrderId,
    /// What its row in `orders` says, if it has one.
    pub order: Option<GapOrder>,
    /// The versions in `order_events`, rising; one may be there twice.
    pub versions: Vec<i64>,
}

/// What a row of `orders` says about the events that there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GapOrder {
    /// Its version.
    pub version: i64,
    /// The version that it was copied with, where it was: earlier events may be missing; otherwise 0.
    pub copied_version: i64,
    /// When it was recorded.
    pub created_at: TimestampMicros,
    /// When it last changed.
    pub updated_at: TimestampMicros,
}

impl EventGap {
    /// Whether what is missing may be: it happened before the order was copied here, or before the day from
    /// which on events are kept.
    pub fn may_be(&self, kept_from: TimestampMicros) -> bool {
        let Some(order) = self.order else { return false };
        let is_rising = self.versions.windows(2).all(|pair| pair.first() < pair.last());
        if !is_rising || self.versions.last().is_some_and(|last| *last > order.version) {
            return false;
        }
        let behind = self.versions.iter().filter(|version| **version > order.copied_version);
        let count = i64::try_from(behind.count()).unwrap_or(i64::MAX);
        if count == order.version - order.copied_version {
            return true;
        }
        if order.created_at >= kept_from {
            return false;
        }
        // Its beginning is gone. What is left of it goes on to its end.
        match self.versions.iter().find(|version| **version > order.copied_version) {
            Some(first) => count == order.version - first + 1,
            None => order.updated_at < kept_from,
        }
    }
}

/// From when on events are kept; the beginning of time where they all are.
pub(super) fn kept_from(session: &Session) -> Result<TimestampMicros, ProjectionError> {
    let rows = session.rows("SELECT kept_from FROM order_events_kept", &[])?;
    Ok(rows.first().map_or(TimestampMicros::new(0), |row| row.get::<_, Timestamp>(0).0))
}

/// Visits the orders of these partitions whose rows of `order_events` are not one for each version from 1
/// to that of their row in `orders`, but for those that may be so.
pub(super) fn each<E: From<ProjectionError>>(
    session: &Session,
    partitions: &RangeInclusive<u8>,
    mut visit: impl FnMut(EventGap) -> Result<(), E>,
) -> Result<(), E> {
    let kept_from = kept_from(session)?;
    let question = format!(
        "SELECT coalesce(o.user_id, e.user_id), order_id, o.version, coalesce(o.copied_version, 0), \
            o.created_at, o.updated_at, coalesce(e.versions, '{{}}') \
         FROM (SELECT user_id, order_id, version, copied_version, created_at, updated_at FROM orders \
            WHERE {within}) o \
         FULL JOIN (SELECT order_id, min(user_id) AS user_id, \
            array_agg(version ORDER BY version) AS versions, count(*) AS rows, \
            count(DISTINCT version) AS different \
            FROM order_events \
            WHERE at >= coalesce((SELECT kept_from FROM order_events_kept), '-infinity') \
                AND {within} GROUP BY order_id) e USING (order_id) \
         WHERE o.version IS NULL OR e.rows IS NULL OR e.versions[1] <> 1 \
            OR e.versions[e.rows] <> o.version OR e.rows <> o.version OR e.different <> o.version",
        within = within("order_id", partitions)
    );
    session.each_row(&question, |row| {
        let order = row.get::<_, Option<i64>>(2).map(|version| GapOrder {
            version,
            copied_version: row.get(3),
            created_at: row.get::<_, Timestamp>(4).0,
            updated_at: row.get::<_, Timestamp>(5).0,
        });
        let (user, versions) = (row.get(0), row.get(6));
        let gap = EventGap { user, order_id: read::order_id(row, 1), order, versions };
        if gap.may_be(kept_from) { Ok(()) } else { visit(gap) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::test_events::created;

    fn gap(copied_version: i64, versions: &[i64]) -> EventGap {
        let order = GapOrder {
            version: 5,
            copied_version,
            created_at: TimestampMicros::new(10),
            updated_at: TimestampMicros::new(50),
        };
        EventGap {
            user: "alice".into(),
            order_id: created(1).order_id,
            order: Some(order),
            versions: versions.to_vec(),
        }
    }

    #[test]
    fn only_versions_from_before_the_copy_may_be_missing() {
        let never = TimestampMicros::new(0);
        for versions in [&[4, 5][..], &[1, 4, 5], &[2, 3, 4, 5]] {
            assert!(gap(3, versions).may_be(never), "{versions:?}");
        }
        for versions in [&[5][..], &[4], &[1, 2, 3], &[1, 2, 3, 5], &[4, 5, 5], &[4, 5, 6], &[]] {
            assert!(!gap(3, versions).may_be(never), "{versions:?}");
        }
        assert!(gap(5, &[]).may_be(never), "nothing has happened since");
        assert!(!gap(0, &[2, 3, 4, 5]).may_be(never), "it was not copied");
        assert!(!EventGap { order: None, ..gap(5, &[]) }.may_be(never));
    }

    #[test]
    fn days_that_are_not_kept_may_be_missing_at_the_beginning() {
        let later = TimestampMicros::new(40);
        for versions in [&[5][..], &[3, 4, 5], &[1, 2, 3, 4, 5]] {
            assert!(gap(0, versions).may_be(later), "{versions:?}");
        }
        for versions in [&[3, 5][..], &[3, 4], &[5, 5], &[]] {
            assert!(!gap(0, versions).may_be(later), "{versions:?}");
        }
        assert!(gap(0, &[]).may_be(TimestampMicros::new(51)), "all of it was before");
        assert!(!gap(0, &[5]).may_be(TimestampMicros::new(10)), "it came on the first day kept");
    }
}
