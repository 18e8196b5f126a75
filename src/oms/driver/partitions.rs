//! Partitions that come from other nodes and go to them.

use std::time::Duration;

use super::Driver;
use crate::engine::EndedOrder;
use crate::oms::partitions::{Going, PartitionCommand};
use crate::order::TrackedOrder;
use crate::projection::SharedId;
use crate::types::{Moment, OrderId};

/// How long a partition waits, once it takes no requests, for answers to the earlier ones. Clients
/// that have none by then are answered without an outcome.
const STOP_PATIENCE: Duration = Duration::from_millis(300);

impl Driver {
    /// Takes the next step of a move.
    pub(in crate::oms) fn move_partition(&mut self, now: Moment, command: PartitionCommand) {
        assert!(self.outbox.is_empty(), "what was decided before is in the gate");
        match command {
            PartitionCommand::Adopt(orders) => {
                let partition = |order: &TrackedOrder| order.order().order_id.partition();
                assert!(
                    orders.iter().all(|order| !self.partitions.has(partition(order))),
                    "orders are adopted before their partition is served"
                );
                self.engines.adopt(now.wall, orders, &mut self.outbox);
                self.admit_decided();
            }
            PartitionCommand::Serve(partition, reply) => {
                // Everything about its orders waits for this, so that they are seen first.
                let last = self.gate.last_event();
                self.publisher.views().note_coming(partition, last);
                self.engines.adopted(now.wall, partition, &mut self.outbox);
                self.admit_decided();
                self.partitions.comes(partition, last, reply);
            }
            PartitionCommand::Ended(ended) => {
                // Those of a partition that has gone again are another node's.
                let here = |ended: &EndedOrder| self.partitions.has(ended.order_id.partition());
                let ended = ended.into_iter().filter(here).collect();
                self.engines.adopt_ended(now.wall, ended);
            }
            PartitionCommand::Shared(shared) => {
                let partitions = &self.partitions;
                let here = |order_id: OrderId| partitions.has(order_id.partition());
                for SharedId { id, orders } in shared {
                    let sharing = (&id, orders.as_slice());
                    self.engines.id_is_shared(now.wall, sharing, here, &mut self.outbox);
                }
                self.admit_decided();
            }
            PartitionCommand::Release(partition, reply) => {
                let give_up = now.monotonic.saturating_add(STOP_PATIENCE);
                self.partitions.stop(partition, give_up, reply);
            }
        }
    }

    /// Drops the partitions that have stopped.
    pub(super) fn drop_stopped(&mut self, now: Moment) {
        if !self.partitions.is_stopping() {
            return;
        }
        let engines = &self.engines;
        let stopped = self
            .partitions
            .take_stopped(now.monotonic, |partition| engines.has_underway(partition));
        for (partition, reply) in stopped {
            assert!(!self.partitions.has(partition), "a partition that has stopped has gone");
            let users = self.engines.drop_partition(partition, &mut self.outbox);
            self.admit_decided();
            let last = self.gate.last_event();
            self.partitions.goes(Going { last, users, reply });
        }
    }

    /// Serves partitions whose orders readers see, and hides those that are gone.
    pub(super) fn end_moves(&mut self, shown: crate::wal::Lsn) {
        for Going { users, reply, .. } in self.partitions.reach(shown) {
            for user in &users {
                self.publisher.views().drop_user(user);
            }
            // A node that is being stopped no longer waits.
            let _gone = reply.send(());
        }
    }
}
