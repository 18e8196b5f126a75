//! All orders into a Postgres that does not have what the log no longer has.

use std::collections::BTreeMap;

use super::batch::{self, Batch, Copy};
use super::position::{self, OurLog, Positions, bounds};
use super::rows::ExecutionRow;
use super::session::Session;
use super::transaction::Statements;
use super::values::Timestamp;
use super::working_set::WorkingSet;
use super::{PostgresServer, ProjectionError};
use crate::order::{Event, Execution, FeedPosition, OrderParts, TrackedOrder};
use crate::types::{OrderId, TimestampMicros};
use crate::wal::{LogId, Lsn};

/// Orders of one transaction: their executions are a few times as many rows.
pub const COPIED_ORDERS: usize = 2_000;

/// Orders that a log has told of from their beginning, as it has left them.
#[derive(Debug, Default)]
pub struct ToldOrders(WorkingSet);

/// Says of orders that are not all told of in `order_events` that they were copied with this version.
const MARK_COPIED: &str = "\
    UPDATE orders AS o SET copied_version = o.version FROM ( \
        SELECT user_id, order_id, \
            count(e.version) FILTER (WHERE e.version > coalesce(copied_version, 0)) AS events \
        FROM orders LEFT JOIN order_events e USING (user_id, order_id) \
        GROUP BY user_id, order_id \
    ) AS told \
    WHERE told.user_id = o.user_id AND told.order_id = o.order_id \
        AND events < o.version - coalesce(o.copied_version, 0)";

/// Copies orders into one server: its rows become what the records say, whatever was there. The server's
/// position stays what it was until [`finish`](Self::finish).
#[derive(Debug)]
pub struct PostgresBackfill {
    session: Session,
    statements: Statements,
    log_id: LogId,
    epoch: i64,
    positions: Positions,
}

impl ToldOrders {
    /// Whether an event says all there is to know of an order, together with those before it.
    pub fn tells(&self, event: &Event) -> bool {
        match event {
            Event::Created(_) => true,
            Event::Changed(changed) => self.0.has(changed.order_id),
            Event::UnmatchedReport(_) | Event::FeedPosition(_) => false,
        }
    }

    /// Takes note of an order that comes into being.
    pub fn will_tell(&mut self, lsn: Lsn, event: &Event) {
        if let Event::Created(created) = event {
            self.0.insert(TrackedOrder::new(created), lsn);
        }
    }
}

impl PostgresBackfill {
    /// Begins an epoch of the server's users for a copy of all orders: whoever wrote them before no longer
    /// may.
    ///
    /// # Errors
    /// The server cannot be reached, has other tables, follows another log, or is ahead of this one.
    pub fn begin(
        server: &PostgresServer,
        log: (LogId, Lsn),
        now: TimestampMicros,
    ) -> Result<Self, ProjectionError> {
        Self::begin_at(server, log, Some(now))
    }

    /// Begins an epoch to mend some orders.
    ///
    /// # Errors
    /// As [`begin`](Self::begin), and where the server has not followed the log to its end.
    pub fn begin_repair(
        server: &PostgresServer,
        log: (LogId, Lsn),
    ) -> Result<Self, ProjectionError> {
        Self::begin_at(server, log, None)
    }

    fn begin_at(
        server: &PostgresServer,
        (log_id, committed): (LogId, Lsn),
        now: Option<TimestampMicros>,
    ) -> Result<Self, ProjectionError> {
        let mut session = Session::open(server)?;
        let client = &mut session.connection.client;
        let (epoch, positions) = session.runtime.block_on(async {
            // An operator waits for it, however long it takes.
            let patient = client.batch_execute("SET statement_timeout = 0").await;
            patient.map_err(ProjectionError::of(server, "set up the session"))?;
            let log = OurLog { log_id, committed };
            let claim = position::claim(client, server, log, None).await?;
            let (epoch, positions) = (claim.epoch, claim.positions);
            if now.is_none() && positions.least() != committed {
                let (server, found) = (server.to_string(), positions.least());
                return Err(ProjectionError::Behind { server, found, last: committed });
            }
            let Some(now) = now else { return Ok((epoch, positions)) };
            let (first, last) = bounds(server);
            client
                .execute(
                    "UPDATE projection SET orders_copied_at = $4 \
                     WHERE is_current AND epoch = $3 AND user_partition BETWEEN $1 AND $2",
                    &[&first, &last, &epoch, &Timestamp(now)],
                )
                .await
                .map_err(ProjectionError::of(server, "take note of the copy"))?;
            Ok::<_, ProjectionError>((epoch, positions))
        })?;
        Ok(Self { session, statements: Statements::default(), log_id, epoch, positions })
    }

    /// Writes events of orders that the log has told of from their beginning, and what they have made
    /// of those.
    ///
    /// # Errors
    /// The server refuses, or another process has taken over; an order that was not told of.
    pub fn events(
        &mut self,
        events: &[(Lsn, Event)],
        told: &mut ToldOrders,
    ) -> Result<(), ProjectionError> {
        let built = batch::build(self.log_id, events, &mut told.0, Lsn(u64::MAX));
        let mut batch = built.map_err(|unknown| ProjectionError::UnknownOrder {
            server: self.session.server.to_string(),
            lsn: unknown.lsn,
            order_id: unknown.order_id,
        })?;
        // What is before these events is not there yet.
        batch.last = Lsn(0);
        batch.copy = Some(Copy::Events);
        self.write(&batch)
    }

    /// Writes orders as they are. When executions were made is not known here: those that are not
    /// there yet are given the time of their order's last change.
    ///
    /// # Errors
    /// The server refuses, or another process has taken over.
    pub fn orders(&mut self, orders: &[TrackedOrder]) -> Result<(), ProjectionError> {
        self.write(&rows_of(orders))
    }

    /// Writes how far the copy goes: the server follows the log from there. Gives how many orders have
    /// versions of which neither `order_events` nor the log tells any more.
    ///
    /// # Errors
    /// As [`orders`](Self::orders).
    pub fn finish(
        mut self,
        position: Lsn,
        feed: Option<FeedPosition>,
    ) -> Result<u64, ProjectionError> {
        let Session { connection, server, runtime } = &self.session;
        let marked = runtime.block_on(connection.client.execute(MARK_COPIED, &[]));
        let marked = marked.map_err(ProjectionError::of(server, "take note of what was copied"))?;
        let feed = feed.map(|feed| (position, feed));
        self.write(&Batch { last: position, feed, ..Batch::default() })?;
        Ok(marked)
    }

    fn write(&mut self, batch: &Batch) -> Result<(), ProjectionError> {
        let Session { connection, server, runtime } = &self.session;
        let client = &connection.client;
        runtime.block_on(async {
            self.statements.make_days(client, server, batch.days.iter().copied()).await?;
            self.statements
                .write(client, server, (self.log_id, self.epoch, &self.positions), batch)
                .await
                .map(drop)
        })
    }
}

/// The rows that orders are, but for their events.
fn rows_of(orders: &[TrackedOrder]) -> Batch {
    let mut batch = Batch { copy: Some(Copy::Orders), ..Batch::default() };
    let mut external: BTreeMap<&str, (&TrackedOrder, OrderId)> = BTreeMap::new();
    for tracked in orders {
        let order = tracked.order();
        let parts = OrderParts::of_tracked(tracked);
        batch.orders.push(&parts, order.status.into_str(), tracked.cases());
        if let Some(id) = &order.external_order_id {
            external.entry(id.as_str()).or_insert((tracked, order.order_id));
        }
        for part in &parts.executions {
            let at = order.updated_at;
            let row = match part.execution {
                Execution::Counted { num_shares, price }
                | Execution::Booked { num_shares, price } => ExecutionRow {
                    was_known: true,
                    counted: Some((num_shares, price.cents(), at)),
                    recorded_at: at,
                    busted_at: None,
                    taken_back: false,
                },
                Execution::Busted | Execution::TakenBack => ExecutionRow {
                    was_known: true,
                    counted: None,
                    recorded_at: at,
                    busted_at: Some(at),
                    taken_back: part.execution == Execution::TakenBack,
                },
            };
            batch.executions.push((&order.user, order.order_id), &part.id, &row);
        }
    }
    for (id, (tracked, order_id)) in external {
        batch.external.push(id, &tracked.order().user, order_id);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Event;
    use crate::order::test_events::{accepted, busted, created, filled};

    fn order(number: u64, events: &[Event]) -> TrackedOrder {
        let mut order = TrackedOrder::new(&created(number));
        for event in events {
            let Event::Changed(changed) = event else { panic!("{event:?}") };
            assert!(order.apply(changed).recorded);
        }
        order
    }

    #[test]
    fn orders_become_the_rows_that_their_events_would_have_left() {
        let orders = [
            order(1, &[accepted(1), filled(1, "e1", 4), busted(1, "e1"), filled(1, "e2", 3)]),
            order(2, &[]),
        ];
        let batch = rows_of(&orders);
        let text = format!("{batch:?}");
        assert!(text.contains(r#"status: ["partially_filled", "pending"]"#), "{text}");
        assert!(text.contains("num_shares: [None, Some(3)]"), "{text}");
        assert!(text.contains("version: [5, 1]"), "{text}");
        assert_eq!(batch.external.len(), 1);
        assert!(batch.events.is_empty() && batch.days.is_empty(), "nothing has happened");
        assert_eq!(batch.last, Lsn(0), "and the position stays");
    }

    #[test]
    fn only_whole_stories_are_told() {
        let mut told = ToldOrders::default();
        assert!(!told.tells(&accepted(1)), "its creation is cut off");
        let born = Event::Created(created(1));
        assert!(told.tells(&born));
        told.will_tell(Lsn(1), &born);
        assert!(told.tells(&accepted(1)) && !told.tells(&accepted(2)));
    }
}
