//! Copies all orders into a Postgres that lacks records which the log no longer has.

use std::collections::{BTreeMap, BTreeSet};

use super::account_rows::{Accounts, MoneyRows};
use super::batch::{self, Batch, Copy};
use super::position::{self, OurLog, Positions, bounds};
use super::rows::ExecutionRow;
use super::session::Session;
use super::transaction::Statements;
use super::values::Timestamp;
use super::working_set::WorkingOrders;
use super::{PostgresServer, ProjectionError, read_accounts};
use crate::money::Account;
use crate::order::{Event, Execution, FeedPosition, OrderParts, TrackedOrder};
use crate::types::{OrderId, Symbol, TimestampMicros, UserId};
use crate::wal::{LogId, Lsn};

/// Orders in one transaction, with a few times as many executions.
pub const COPIED_ORDERS: usize = 2_000;

/// Orders whose events the log has from the first one, as it left them.
#[derive(Debug, Default)]
pub struct CoveredOrders(WorkingOrders);

/// Marks the orders that have events missing in `order_events` as copied with their version.
const MARK_COPIED: &str = "\
    UPDATE orders AS o SET copied_version = o.version FROM ( \
        SELECT user_id, order_id, \
            count(e.version) FILTER (WHERE e.version > coalesce(copied_version, 0)) AS events \
        FROM orders LEFT JOIN order_events e USING (user_id, order_id) \
        GROUP BY user_id, order_id \
    ) AS told \
    WHERE told.user_id = o.user_id AND told.order_id = o.order_id \
        AND events < o.version - coalesce(o.copied_version, 0)";

/// Copies orders into one server: its rows become equal to ours, whatever they were. The server's
/// position does not change until [`finish`](Self::finish).
#[derive(Debug)]
pub struct PostgresBackfill {
    session: Session,
    statements: Statements,
    log_id: LogId,
    epoch: i64,
    positions: Positions,
}

impl CoveredOrders {
    /// Whether the log has all events of this event's order, from the first one.
    pub fn covers(&self, event: &Event) -> bool {
        match event {
            Event::Created(_) => true,
            Event::Changed(changed) => self.0.has(&changed.order_id),
            Event::UnmatchedReport(_)
            | Event::FeedPosition(_)
            | Event::Adopted(_)
            | Event::CashMoved(_)
            | Event::AccountAdopted(_)
            | Event::AccountsBegun(_) => false,
        }
    }

    /// Adds the order that an event creates.
    pub fn note_created(&mut self, lsn: Lsn, event: &Event) {
        if let Event::Created(created) = event {
            self.0.insert(created.order_id, TrackedOrder::new(created), lsn);
        }
    }
}

impl PostgresBackfill {
    /// Begins an epoch for a copy of all orders of the server: earlier writers are fenced off.
    ///
    /// # Errors
    /// The server cannot be reached, has another schema, follows another log, or is ahead of this
    /// one.
    pub fn begin(
        server: &PostgresServer,
        log: (LogId, Lsn),
        now: TimestampMicros,
    ) -> Result<Self, ProjectionError> {
        Self::begin_at(server, log, Some(now))
    }

    /// Begins an epoch for a copy of some orders.
    ///
    /// # Errors
    /// As [`begin`](Self::begin), and if the server has not followed the log to its end.
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
            let unlimited = client.batch_execute("SET statement_timeout = 0").await;
            unlimited.map_err(ProjectionError::of(server, "set up the session"))?;
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
                    // Until all are copied no account is to follow.
                    "UPDATE projection SET orders_copied_at = $4, keeps_accounts = false \
                     WHERE is_current AND epoch = $3 AND user_partition BETWEEN $1 AND $2",
                    &[&first, &last, &epoch, &Timestamp(now)],
                )
                .await
                .map_err(ProjectionError::of(server, "record the copy"))?;
            Ok::<_, ProjectionError>((epoch, positions))
        })?;
        Ok(Self { session, statements: Statements::default(), log_id, epoch, positions })
    }

    /// Writes the events of orders that the log has from the first one, and the orders as these
    /// events left them.
    ///
    /// # Errors
    /// The server refuses, another process took over, or an event's order is not among `told`.
    pub fn events(
        &mut self,
        events: &[(Lsn, Event)],
        told: &mut CoveredOrders,
    ) -> Result<(), ProjectionError> {
        // Accounts are copied as they are.
        let working = (&mut told.0, &mut Accounts::default());
        let built = batch::build(self.log_id, events, working, Lsn(u64::MAX));
        let mut batch = built.map_err(|unknown| ProjectionError::UnknownOrder {
            server: self.session.server.to_string(),
            lsn: unknown.lsn,
            order_id: unknown.order_id,
        })?;
        // Earlier records are not there yet.
        batch.last = Lsn(0);
        batch.copy = Some(Copy::Events);
        self.write(&batch)
    }

    /// Writes orders as they are. Execution times are not known here: executions that are new to
    /// the server get the time of their order's last change.
    ///
    /// # Errors
    /// The server refuses, or another process took over.
    pub fn orders(&mut self, orders: &[TrackedOrder]) -> Result<(), ProjectionError> {
        self.write(&rows_of(orders))
    }

    /// Writes accounts as they are.
    ///
    /// # Errors
    /// As [`orders`](Self::orders).
    pub fn accounts(&mut self, accounts: &[(UserId, Account)]) -> Result<(), ProjectionError> {
        let Session { connection, server, runtime } = &self.session;
        let users = accounts.iter().map(|(user, _)| user.clone()).collect();
        let there = read_accounts::symbols_of(&connection.client, server, &users);
        let there = runtime.block_on(there)?;
        let mut money = MoneyRows { are_whole: true, ..MoneyRows::default() };
        for (user, account) in accounts {
            let known = account.holdings().map(|(symbol, _)| symbol);
            let there = there.get(user).into_iter().flatten().copied();
            let symbols: BTreeSet<Symbol> = known.chain(there).collect();
            let version = account.version();
            money.push((user, account), symbols.into_iter().map(|symbol| (symbol, version)));
        }
        self.write(&Batch { money, ..Batch::default() })
    }

    /// Enters what accounts have beyond the ledger into it.
    ///
    /// # Errors
    /// As [`orders`](Self::orders).
    pub fn bring_ledger_forward(&mut self) -> Result<(), ProjectionError> {
        let money = MoneyRows { begins: true, ..MoneyRows::default() };
        self.write(&Batch { money, ..Batch::default() })
    }

    /// Sets the position: the server follows the log from there, and so do its accounts if they were
    /// copied. Returns how many orders have
    /// versions that neither `order_events` nor the log has.
    ///
    /// # Errors
    /// As [`orders`](Self::orders).
    pub fn finish(
        mut self,
        position: Lsn,
        feed: Option<FeedPosition>,
        begins_accounts: bool,
    ) -> Result<u64, ProjectionError> {
        let Session { connection, server, runtime } = &self.session;
        let marked = runtime.block_on(connection.client.execute(MARK_COPIED, &[]));
        let marked = marked.map_err(ProjectionError::of(server, "mark what was copied"))?;
        let feed = feed.map(|feed| (position, feed));
        let money = MoneyRows { begins: begins_accounts, ..MoneyRows::default() };
        self.write(&Batch { last: position, feed, money, ..Batch::default() })?;
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

/// The rows of orders, without their events.
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
            batch.executions.push(tracked, &part.id, &row);
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
    fn orders_become_the_rows_that_their_events_would_leave() {
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
        assert!(batch.events.is_empty() && batch.days.is_empty(), "no events");
        assert_eq!(batch.last, Lsn(0), "the position does not change");
    }

    #[test]
    fn only_orders_with_all_events_are_covered() {
        let mut told = CoveredOrders::default();
        assert!(!told.covers(&accepted(1)), "its creation was cut");
        let creation = Event::Created(created(1));
        assert!(told.covers(&creation));
        told.note_created(Lsn(1), &creation);
        assert!(told.covers(&accepted(1)) && !told.covers(&accepted(2)));
    }
}
