//! Changing what an open stream watches.

use std::collections::HashMap;

use crate::types::{SymbolIndex, UserId};

use super::hub::Hub;
use super::limits::MAX_SYMBOLS_PER_STREAM;
use super::stream_id::StreamId;

/// A validated wish to change a stream's symbols.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionChange {
    /// Symbols more, each sent its newest price; those that the stream has already stay as they are.
    pub add: Vec<SymbolIndex>,
    /// Symbols less; those that it does not have are passed over.
    pub remove: Vec<SymbolIndex>,
}

/// Why a stream was not changed. Nothing of the change was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotChanged {
    /// There is no such stream, or it is somebody else's.
    #[error("there is no such stream")]
    Unknown,
    /// It would have too many symbols.
    #[error("the stream would have {symbols} symbols, and {MAX_SYMBOLS_PER_STREAM} are allowed")]
    TooMany {
        /// How many it would have.
        symbols: usize,
    },
}

impl Hub {
    /// Changes the symbols of a user's stream. What was composed for it before may still arrive.
    ///
    /// # Errors
    /// There is no such stream of this user on this shard, or it would have too many symbols.
    pub fn change(
        &mut self,
        id: StreamId,
        user: &UserId,
        change: &SubscriptionChange,
    ) -> Result<(), NotChanged> {
        let key = id.connection.key;
        let connection = self
            .find(id.connection)
            .filter(|connection| connection.permit.is_of(user))
            .ok_or(NotChanged::Unknown)?;
        let mut slots: HashMap<SymbolIndex, usize> =
            connection.subscriptions.iter().map(|of| of.symbol).zip(0..).collect();
        let removed = change.remove.iter().filter(|symbol| slots.contains_key(symbol)).count();
        let added = change.add.iter().filter(|symbol| !slots.contains_key(symbol)).count();
        let symbols = slots.len() - removed + added;
        if symbols > MAX_SYMBOLS_PER_STREAM {
            return Err(NotChanged::TooMany { symbols });
        }
        for symbol in &change.remove {
            let Some(slot) = slots.remove(symbol) else { continue };
            if let Some(moved) = self.unsubscribe(key, slot) {
                slots.insert(moved, slot);
            }
        }
        for symbol in &change.add {
            if slots.insert(*symbol, usize::MAX).is_none() {
                self.subscribe(key, *symbol, None);
            }
        }
        self.metrics.subscription_changes.inc();
        self.enqueue(key);
        self.wake_driver();
        Ok(())
    }

    /// Takes a subscription away. The last one takes its slot: returned, if there is one.
    fn unsubscribe(&mut self, key: u32, slot: usize) -> Option<SymbolIndex> {
        let connection = self.connections.get_mut(key as usize)?;
        let (last, at) =
            (connection.subscriptions.len().checked_sub(1)?, u16::try_from(slot).ok()?);
        if slot > last {
            return None;
        }
        let subscription = connection.subscriptions.swap_remove(slot);
        connection.dirty.swap_remove(at, last);
        if let Some(every) = &mut connection.every {
            every.unsubscribe(at);
        }
        let is_every = connection.every.is_some();
        let moved = connection.subscriptions.get(slot).copied();
        if let Some(moved) = moved {
            self.subscribers_mut(is_every).set_slot(moved.symbol, moved.place, at);
        }
        self.unwatch(subscription, is_every);
        moved.map(|moved| moved.symbol)
    }
}
