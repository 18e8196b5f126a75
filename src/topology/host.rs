//! Hands what all nodes know to the orders thread: partitions that move between them, and what is halted.

use std::sync::Arc;

use crate::cluster::{HaltsHost, PartitionHost};
use crate::engine::EndedOrder;
use crate::market::SharedDirectory;
use crate::oms::{HaltsDraft, HaltsLook, OrderCommands, PartitionCommand};
use crate::order::TrackedOrder;
use crate::projection::SharedId;
use crate::sync::Refused;
use crate::types::UserPartition;

/// The orders thread, as the thread `node` sees it.
#[derive(Debug, Clone)]
pub(super) struct OrdersHost {
    pub(super) commands: OrderCommands,
    /// What the exchange lists: nothing before it has been reached.
    pub(super) directory: Arc<SharedDirectory>,
}

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
    fn has_exchange(&self) -> bool {
        !self.directory.load().is_empty()
    }

    fn has_orders(&self, partition: UserPartition) -> bool {
        self.commands.views().has_open_orders(partition)
    }

    fn adopt(&self, orders: Vec<TrackedOrder>) -> Result<(), Refused<Vec<TrackedOrder>>> {
        let sent = self.commands.move_partition(PartitionCommand::Adopt(orders));
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
        let sent = self.commands.move_partition(PartitionCommand::Serve(partition, reply));
        sent.map(|()| served).map_err(|back| refused(back, |_| Some(partition)))
    }

    fn note_ended(&self, ended: Vec<EndedOrder>) -> Result<(), Refused<Vec<EndedOrder>>> {
        let sent = self.commands.move_partition(PartitionCommand::Ended(ended));
        sent.map_err(|back| {
            refused(back, |command| match command {
                PartitionCommand::Ended(ended) => Some(ended),
                _ => None,
            })
        })
    }

    fn note_shared(&self, shared: Vec<SharedId>) -> Result<(), Refused<Vec<SharedId>>> {
        let sent = self.commands.move_partition(PartitionCommand::Shared(shared));
        sent.map_err(|back| {
            refused(back, |command| match command {
                PartitionCommand::Shared(shared) => Some(shared),
                _ => None,
            })
        })
    }

    fn release(
        &self,
        partition: UserPartition,
    ) -> Result<oneshot::Receiver<()>, Refused<UserPartition>> {
        let (reply, released) = oneshot::channel();
        let sent = self.commands.move_partition(PartitionCommand::Release(partition, reply));
        sent.map(|()| released).map_err(|back| refused(back, |_| Some(partition)))
    }
}

impl HaltsHost for OrdersHost {
    type Look = HaltsLook;
    type Draft = HaltsDraft;

    fn is_known(&self) -> bool {
        self.commands.kill_switch().is_known()
    }

    fn begin_look(&self) -> (Option<i64>, HaltsLook) {
        let look = self.commands.kill_switch().begin_look();
        (look.version, look)
    }

    fn found(&self, look: HaltsLook, version: i64, text: Option<&str>) -> Result<(), String> {
        self.commands.kill_switch().found(look, version, text)
    }

    fn draft(&self) -> Option<(i64, String, HaltsDraft)> {
        let mut draft = self.commands.kill_switch().draft()?;
        let text = std::mem::take(&mut draft.text);
        Some((draft.version, text, draft))
    }

    fn written(&self, draft: HaltsDraft, version: i64) {
        self.commands.kill_switch().written(draft, version);
    }

    fn not_written(&self, reason: String) {
        self.commands.kill_switch().not_written(reason);
    }
}
