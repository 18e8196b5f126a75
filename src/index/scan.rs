//! A scan of every order of the index at one moment, in bounded steps.

use super::store::{ScanOrder, Space, View};
use super::{Index, IndexError, accounts, keys, node};
use crate::money::Account;
use crate::order::{TrackedOrder, decode_stored};
use crate::types::{OrderId, USER_PARTITIONS, UserId, UserPartition};
use crate::wal::Lsn;

/// Past all keys of `open`, which begin with a partition.
#[expect(clippy::cast_possible_truncation, reason = "64 partitions")]
const END_OF_OPEN: &[u8] = &[USER_PARTITIONS as u8];
/// Past all keys of `ended`, which have 16 bytes.
const END_OF_ENDED: &[u8] = &[u8::MAX; 17];

/// All orders of an index at one moment: open ones by partition and id, then ended ones by id.
pub struct OrderScan {
    view: Box<dyn View>,
    position: Lsn,
    /// The space being read and the key to resume at; `None` after the last order.
    next: Option<(Space, Vec<u8>)>,
}

impl Index {
    /// Begins a scan of all orders at this moment, unaffected by later writes. It holds the store
    /// open.
    ///
    /// # Errors
    /// Read errors.
    pub fn scan_orders(&self) -> Result<OrderScan, IndexError> {
        let view = self.view()?;
        let position = node::meta(&*view)?.map_or(Lsn(0), |meta| meta.position);
        Ok(OrderScan { view, position, next: Some((Space::Open, Vec::new())) })
    }

    /// Bytes on disk of all orders and their lookup keys, approximately.
    ///
    /// # Errors
    /// The store is being reopened.
    pub fn order_bytes(&self) -> Result<u64, IndexError> {
        let store = self.store()?;
        let spaces = [Space::Open, Space::Ended, Space::History, Space::Keys, Space::External];
        spaces.into_iter().map(|space| store.disk_bytes(space)).sum()
    }
}

impl OrderScan {
    /// The position of the index when the scan began.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// Whether accounts followed the orders when the scan began.
    ///
    /// # Errors
    /// Read errors.
    pub fn keeps_accounts(&self) -> Result<bool, IndexError> {
        accounts::are_kept(&*self.view)
    }

    /// Visits the accounts of a partition, as they were when the scan began.
    ///
    /// # Errors
    /// Read errors.
    pub fn load_accounts(
        &self,
        partition: UserPartition,
        visit: &mut dyn FnMut(UserId, Account),
    ) -> Result<(), IndexError> {
        accounts::load(&*self.view, partition, visit)
    }

    /// The next wanted orders, at most `most`; empty after the last one. Unwanted orders are not
    /// even decoded.
    ///
    /// # Errors
    /// Read errors.
    pub fn next_orders(
        &mut self,
        most: usize,
        is_wanted: impl Fn(OrderId) -> bool,
    ) -> Result<Vec<TrackedOrder>, IndexError> {
        let mut orders = Vec::new();
        while orders.len() < most
            && let Some((space, from)) = self.next.take()
        {
            let (end, after) = match space {
                Space::Open => (END_OF_OPEN, Some((Space::Ended, Vec::new()))),
                _ => (END_OF_ENDED, None),
            };
            let mut resume_at = None;
            self.view.scan(space, (&from, end), ScanOrder::Ascending, &mut |key, value| {
                if orders.len() == most {
                    resume_at = Some(key.to_vec());
                    return Ok(false);
                }
                if is_wanted(keys::order_id_at_end(key)?) {
                    orders.push(decode_stored(value)?);
                }
                Ok(true)
            })?;
            self.next = match resume_at {
                Some(key) => Some((space, key)),
                None => after,
            };
        }
        Ok(orders)
    }
}

impl std::fmt::Debug for OrderScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OrderScan")
            .field("position", &self.position)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::IndexWriter;
    use super::super::test_log::{AGES, LOG, long_log, take_until};
    use super::*;
    use crate::order::OrderParts;
    use crate::testing::MemoryStore;

    #[test]
    fn a_scan_sees_each_order_once_as_of_its_start() {
        let log = long_log();
        let index = Index::in_memory(&MemoryStore::new(), AGES).unwrap();
        let mut writer = IndexWriter::new(index.clone(), LOG).unwrap();
        let half = log.events.len() / 2;
        take_until(&mut writer, &log.events, half);
        writer.commit().unwrap();
        let mut scan = index.scan_orders().unwrap();
        take_until(&mut writer, &log.events, log.events.len());
        writer.commit().unwrap();

        let mut model = super::super::test_log::Model::default();
        model.replay(&log.events[..half]);
        let is_odd = |id: OrderId| id.as_u128() % 2 == 1;
        for (most, wanted) in [(7, &(|_| true) as &dyn Fn(OrderId) -> bool), (1, &is_odd)] {
            let mut found = BTreeMap::new();
            loop {
                let orders = scan.next_orders(most, wanted).unwrap();
                assert!(orders.len() <= most);
                if orders.is_empty() {
                    break;
                }
                for order in orders {
                    let id = order.order().order_id;
                    assert!(found.insert(id, OrderParts::of_tracked(&order)).is_none(), "{id}");
                }
            }
            assert_eq!(scan.position(), Lsn(model.events.len() as u64));
            let expected = model.orders.iter().filter(|(id, _)| wanted(**id));
            let expected = expected.map(|(id, order)| (*id, OrderParts::of_tracked(order)));
            assert_eq!(found, expected.collect());
            model = super::super::test_log::Model::default();
            model.replay(&log.events);
            scan = index.scan_orders().unwrap();
        }
    }
}
