//! User partitions on hold: they wait for an operator while the others of their server continue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{Owner, PostgresServer, ProjectionError, read};
use crate::types::{OrderId, UserPartition};

/// How often held partitions are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The partitions, each with the order that stopped it.
#[derive(Debug, Default)]
pub(super) struct Held {
    orders: BTreeMap<UserPartition, OrderId>,
    checked_at: Option<Instant>,
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

    /// The partitions of a server that are not on hold.
    pub(super) fn others(&self, server: &PostgresServer) -> BTreeSet<UserPartition> {
        let all = server.partitions().filter_map(UserPartition::new);
        all.filter(|partition| !self.orders.contains_key(partition)).collect()
    }

    /// Puts the partition of an order on hold, unless it is the last one left. Returns whether it
    /// did.
    pub(super) fn hold(&mut self, order_id: OrderId, server: &PostgresServer) -> bool {
        let partition = order_id.partition();
        let others = self.others(server);
        if !others.contains(&partition) || others.len() == 1 {
            return false;
        }
        self.checked_at = Some(Instant::now());
        self.orders.insert(partition, order_id);
        true
    }

    /// Whether it is time to check them again.
    pub(super) fn is_due(&self) -> bool {
        !self.is_empty() && self.checked_at.is_none_or(|at| at.elapsed() >= CHECK_INTERVAL)
    }

    /// Releases the partitions whose order is there, is valid, and has no version that the log does
    /// not have. Returns whether any was released.
    pub(super) async fn release(
        &mut self,
        client: &Client,
        server: &PostgresServer,
        owner_of: impl Fn(OrderId) -> Option<Owner>,
    ) -> Result<bool, ProjectionError> {
        self.checked_at = Some(Instant::now());
        let before = self.orders.len();
        for (partition, order_id) in self.orders.clone() {
            // A version that is not known yet is checked again later.
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
    fn the_last_partition_of_a_server_is_not_put_on_hold() {
        let servers: PostgresServers =
            "0-0=postgres://a@one/x,1-63=postgres://a@two/x".parse().unwrap();
        let (one, two) = (servers.iter().next().unwrap(), servers.iter().nth(1).unwrap());
        let order = |partition| OrderId::new(1, 0, UserPartition::new(partition).unwrap());
        let mut none = Held::default();
        assert!(!none.hold(order(0), one) && none.is_empty(), "no partition would be left");
        let mut held = Held::default();
        assert!(held.hold(order(7), two) && !held.hold(order(7), two));
        assert!(held.others(two).len() == 62 && held.len() == 1 && !held.is_due());
    }
}
