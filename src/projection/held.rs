//! User partitions that wait for an operator while the others of their server go on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{Owner, PostgresServer, ProjectionError, read};
use crate::types::{OrderId, UserPartition};

/// How often it is looked whether somebody has seen to them.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The partitions, each with the order that it stopped at.
#[derive(Debug, Default)]
pub(super) struct Held {
    orders: BTreeMap<UserPartition, OrderId>,
    looked_at: Option<Instant>,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.orders.len()
    }

    pub(super) fn partitions(&self) -> BTreeSet<UserPartition> {
        self.orders.keys().copied().collect()
    }

    /// The partitions of a server that are not held.
    pub(super) fn others(&self, server: &PostgresServer) -> BTreeSet<UserPartition> {
        let all = server.partitions().filter_map(UserPartition::new);
        all.filter(|partition| !self.orders.contains_key(partition)).collect()
    }

    /// Holds the partition of an order, unless none would be left to go on. Whether it did.
    pub(super) fn hold(&mut self, order_id: OrderId, server: &PostgresServer) -> bool {
        let partition = order_id.partition();
        let others = self.others(server);
        if !others.contains(&partition) || others.len() == 1 {
            return false;
        }
        self.looked_at = Some(Instant::now());
        self.orders.insert(partition, order_id);
        true
    }

    /// Whether it is time to look at them again.
    pub(super) fn is_due(&self) -> bool {
        !self.is_empty() && self.looked_at.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL)
    }

    /// Looks which of them can go on: their orders are there, can be read, and are of no version that the
    /// log does not know. Whether any can.
    pub(super) async fn release(
        &mut self,
        client: &Client,
        server: &PostgresServer,
        owner_of: impl Fn(OrderId) -> Option<Owner>,
    ) -> Result<bool, ProjectionError> {
        self.looked_at = Some(Instant::now());
        let before = self.orders.len();
        for (partition, order_id) in self.orders.clone() {
            // One whose version is not known yet is looked at again.
            let Some(Owner { user, version: Some(reached) }) = owner_of(order_id) else { continue };
            let found = read::orders(client, server, &[(user, order_id)]).await;
            let found = found.and_then(|found| match found.first() {
                Some(order) => read::check_version(server, order, reached).map(|()| true),
                None => Ok(false),
            });
            match found {
                Ok(true) => drop(self.orders.remove(&partition)),
                Ok(false) => {}
                Err(error) if error.order_id().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.orders.len() < before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projection::PostgresServers;

    #[test]
    fn the_last_partition_of_a_server_is_not_held_by_itself() {
        let servers: PostgresServers =
            "0-0=postgres://a@one/x,1-63=postgres://a@two/x".parse().unwrap();
        let (one, two) = (servers.iter().next().unwrap(), servers.iter().nth(1).unwrap());
        let order = |partition| OrderId::new(1, 0, UserPartition::new(partition).unwrap());
        let mut none = Held::default();
        assert!(!none.hold(order(0), one) && none.is_empty(), "nobody would be left to go on");
        let mut held = Held::default();
        assert!(held.hold(order(7), two) && !held.hold(order(7), two));
        assert!(held.others(two).len() == 62 && held.len() == 1 && !held.is_due());
    }
}
