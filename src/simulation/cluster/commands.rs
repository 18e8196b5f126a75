//! The commands by which the thread `node` of a member moves partitions.

use crate::cluster::PartitionMap;
use crate::oms::{OrderCommands, PartitionCommand};
use crate::projection::Ownership;
use crate::sync::Refused;
use crate::testing::FaultyDisk;
use crate::wal::LogHandle;

/// Orders in a command, so few that most moves take several.
const ORDERS_AT_ONCE: usize = 2;

/// What the thread `node` shares with the others of its process.
pub(super) struct Shared {
    pub(super) epoch: i64,
    pub(super) map: PartitionMap,
    pub(super) ownership: Ownership,
    pub(super) log: LogHandle<FaultyDisk>,
    pub(super) commands: OrderCommands,
}

/// Commands about a few each, the last of which comes first.
pub(super) fn in_parts<T>(
    all: Vec<T>,
    command: impl Fn(Vec<T>) -> PartitionCommand,
) -> Vec<PartitionCommand> {
    let (mut commands, mut all) = (Vec::new(), all.into_iter());
    loop {
        let some: Vec<T> = all.by_ref().take(ORDERS_AT_ONCE).collect();
        if some.is_empty() {
            commands.reverse();
            return commands;
        }
        commands.push(command(some));
    }
}

/// Sends commands from the end, as far as the orders thread has room.
pub(super) fn send(commands: &mut Vec<PartitionCommand>, shared: &Shared) {
    while let Some(command) = commands.pop() {
        if let Err(Refused::Full(back) | Refused::Closed(back)) =
            shared.commands.move_partition(command)
        {
            commands.push(back);
            return;
        }
    }
}
