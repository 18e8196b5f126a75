//! Hands partitions that move between nodes to the orders thread.

use crate::cluster::PartitionHost;
use crate::engine::EndedOrder;
use crate::oms::{OrderCommands, PartitionCommand};
use crate::order::TrackedOrder;
use crate::sync::Refused;
use crate::types::UserPartition;

/// The orders thread, as the thread `node` sees it.
#[derive(Debug)]
pub(super) struct OrdersHost(pub(super) OrderCommands);

/// Gives back what a refused command was about.
fn refused<T>(
    refused: Refused<PartitionCommand>,
    of: impl FnOnce(PartitionCommand) -> Option<T>,
) -> Refused<T> {
    let take = |command| match of(command) {
        Some(value) => value,
        None => unreachable!("a refused command comes back as it was"),
    };
    match refused {
        Refused::Full(command) => Refused::Full(take(command)),
        Refused::Closed(command) => Refused::Closed(take(command)),
    }
}

impl PartitionHost for OrdersHost {
    fn adopt(&self, orders: Vec<TrackedOrder>) -> Result<(), Refused<Vec<TrackedOrder>>> {
        let sent = self.0.move_partition(PartitionCommand::Adopt(orders));
        sent.map_err(|back| {
            refused(back, |command| match command {
                PartitionCommand::Adopt(orders) => Some(orders),
                _ => None,
            })
        })
    }

    fn serve(
        &self,
        partition: UserPartition,
    ) -> Result<oneshot::Receiver<()>, Refused<UserPartition>> {
        let (reply, served) = oneshot::channel();
        let sent = self.0.move_partition(PartitionCommand::Serve(partition, reply));
        sent.map(|()| served).map_err(|back| refused(back, |_| Some(partition)))
    }

    fn note_ended(&self, ended: Vec<EndedOrder>) -> Result<(), Refused<Vec<EndedOrder>>> {
        let sent = self.0.move_partition(PartitionCommand::Ended(ended));
        sent.map_err(|back| {
            refused(back, |command| match command {
                PartitionCommand::Ended(ended) => Some(ended),
                _ => None,
            })
        })
    }

    fn release(
        &self,
        partition: UserPartition,
    ) -> Result<oneshot::Receiver<()>, Refused<UserPartition>> {
        let (reply, released) = oneshot::channel();
        let sent = self.0.move_partition(PartitionCommand::Release(partition, reply));
        sent.map(|()| released).map_err(|back| refused(back, |_| Some(partition)))
    }
}
