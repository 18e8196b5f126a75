//! Finds orders whose rows in `order_events` are not one for each version.

use std::ops::RangeInclusive;

use super::ProjectionError;
use super::cell;
use super::read;
use super::session::{Session, in_partitions};
use super::values::Timestamp;
use crate::types::{OrderId, TimestampMicros};

/// An order that lacks rows in `order_events`, or has too many.
#[derive(Debug, Clone, PartialEq)]
pub struct EventGap {
    /// The user.
    pub user: String,
    /// The order.
    pub order_id: OrderId,
    /// Its row in `orders`, if there is one.
    pub order: Option<GapOrder>,
    /// The versions in `order_events`, ascending; one may be there twice.
    pub versions: Vec<i64>,
}

/// What a row of `orders` says about the events that it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GapOrder {
    /// Its version.
    pub version: i64,
    /// The version that it was copied with, so that earlier events may be missing; 0 if it was not
    /// copied.
    pub copied_version: i64,
    /// When it was created; `None` if its row says something else than a time.
    pub created_at: Option<TimestampMicros>,
    /// When it last changed; as above.
    pub updated_at: Option<TimestampMicros>,
}

impl EventGap {
    /// Whether the gap is legitimate: the missing events are from before the order was copied, or
    /// from before the first day that events are kept of.
    pub fn is_legitimate(&self, kept_from: TimestampMicros) -> bool {
        let Some(order) = self.order else { return false };
        let is_rising = self.versions.windows(2).all(|pair| pair.first() < pair.last());
        if !is_rising || self.versions.last().is_some_and(|last| *last > order.version) {
            return false;
        }
        let later = self.versions.iter().filter(|version| **version > order.copied_version);
        let count = i64::try_from(later.count()).unwrap_or(i64::MAX);
        if count == order.version - order.copied_version {
            return true;
        }
        if order.created_at.is_none_or(|created_at| created_at >= kept_from) {
            return false;
        }
        // Its beginning is gone; the rest must be without a gap.
        match self.versions.iter().find(|version| **version > order.copied_version) {
            Some(first) => count == order.version - first + 1,
            None => order.updated_at.is_some_and(|updated_at| updated_at < kept_from),
        }
    }
}

/// From when on events are kept; 0 if all are. There were none before 1970.
pub(super) fn kept_from(session: &Session) -> Result<TimestampMicros, ProjectionError> {
    let question = "SELECT greatest(kept_from, timestamptz '1970-01-01 00:00+00') AS kept_from \
         FROM order_events_kept";
    let rows = session.rows(question, &[])?;
    let kept_from = rows.first().map(|row| cell::value::<Timestamp>(row, 0)).transpose();
    let kept_from =
        kept_from.map_err(|error| error.within(&session.server, "order_events_kept"))?;
    Ok(kept_from.map_or(TimestampMicros::new(0), |at| at.0))
}

/// Visits the orders in these partitions whose rows in `order_events` are not one for each version
/// from 1 to that of their row in `orders`, except for legitimate gaps.
pub(super) fn each<E: From<ProjectionError>>(
    session: &Session,
    partitions: &RangeInclusive<u8>,
    mut visit: impl FnMut(EventGap) -> Result<(), E>,
) -> Result<(), E> {
    let kept_from = kept_from(session)?;
    let query = format!(
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
        within = in_partitions("order_id", partitions)
    );
    session.each_row(&query, |row| {
        // Who compares the row itself says what is wrong with its times.
        let moment = |column| cell::value::<Timestamp>(row, column).ok().map(|at| at.0);
        let order = row.get::<_, Option<i64>>(2).map(|version| GapOrder {
            version,
            copied_version: row.get(3),
            created_at: moment(4),
            updated_at: moment(5),
        });
        let (user, versions) = (row.get(0), row.get(6));
        let gap = EventGap { user, order_id: read::order_id(row, 1), order, versions };
        if gap.is_legitimate(kept_from) { Ok(()) } else { visit(gap) }
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
            created_at: Some(TimestampMicros::new(10)),
            updated_at: Some(TimestampMicros::new(50)),
        };
        EventGap {
            user: "alice".into(),
            order_id: created(1).order_id,
            order: Some(order),
            versions: versions.to_vec(),
        }
    }

    #[test]
    fn only_versions_before_the_copy_may_be_missing() {
        let never = TimestampMicros::new(0);
        for versions in [&[4, 5][..], &[1, 4, 5], &[2, 3, 4, 5]] {
            assert!(gap(3, versions).is_legitimate(never), "{versions:?}");
        }
        for versions in [&[5][..], &[4], &[1, 2, 3], &[1, 2, 3, 5], &[4, 5, 5], &[4, 5, 6], &[]] {
            assert!(!gap(3, versions).is_legitimate(never), "{versions:?}");
        }
        assert!(gap(5, &[]).is_legitimate(never), "nothing happened since");
        assert!(!gap(0, &[2, 3, 4, 5]).is_legitimate(never), "it was not copied");
        assert!(!EventGap { order: None, ..gap(5, &[]) }.is_legitimate(never));
    }

    #[test]
    fn days_that_are_not_kept_may_be_missing_at_the_start() {
        let later = TimestampMicros::new(40);
        for versions in [&[5][..], &[3, 4, 5], &[1, 2, 3, 4, 5]] {
            assert!(gap(0, versions).is_legitimate(later), "{versions:?}");
        }
        for versions in [&[3, 5][..], &[3, 4], &[5, 5], &[]] {
            assert!(!gap(0, versions).is_legitimate(later), "{versions:?}");
        }
        assert!(gap(0, &[]).is_legitimate(TimestampMicros::new(51)), "all of it was earlier");
        assert!(
            !gap(0, &[5]).is_legitimate(TimestampMicros::new(10)),
            "it was created on the first kept day"
        );
        let mut timeless = gap(0, &[3, 4, 5]);
        timeless.order = timeless.order.map(|order| GapOrder { created_at: None, ..order });
        assert!(!timeless.is_legitimate(later), "nobody knows when it was created");
    }
}
