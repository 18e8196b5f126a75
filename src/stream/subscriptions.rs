//! Who watches what on a shard, as the streams, the symbols and the feed thread know it.

use std::sync::Arc;

use crate::market::{LastValueTable, ShardWatch};
use crate::types::SymbolIndex;

use super::connection::Connection;
use super::connections::Connections;
use super::prices::Prices;
use super::subscribers::{Subscriber, Subscribers};
use super::watchlist::Subscription;

/// The subscriptions of all streams of a shard. Each stands twice: in the watchlist of its stream and
/// among the subscribers of its symbol, and each of these knows where the other is.
#[derive(Debug)]
pub(super) struct Subscriptions {
    /// Who wants the newest price of each symbol.
    latest: Subscribers,
    /// Who wants every print of each symbol.
    every: Subscribers,
    /// Tells the feed thread which symbols are worth a wake-up.
    watch: Arc<ShardWatch>,
}

impl Subscriptions {
    /// Nobody watches anything.
    pub(super) fn new(watch: Arc<ShardWatch>) -> Self {
        Self { latest: Subscribers::new(), every: Subscribers::new(), watch }
    }

    /// Who wants the newest price of a symbol.
    #[inline]
    pub(super) fn latest_of(&self, symbol: SymbolIndex) -> &[Subscriber] {
        self.latest.of(symbol)
    }

    /// Who wants every print of a symbol.
    #[inline]
    pub(super) fn every_of(&self, symbol: SymbolIndex) -> &[Subscriber] {
        self.every.of(symbol)
    }

    fn side_mut(&mut self, wants_every: bool) -> &mut Subscribers {
        if wants_every { &mut self.every } else { &mut self.latest }
    }

    /// Adds a symbol to a stream's watchlist, and returns its slot there.
    pub(super) fn subscribe(
        &mut self,
        connection: &mut Connection,
        symbol: SymbolIndex,
        prices: &mut Prices,
        table: &LastValueTable,
    ) -> u16 {
        let is_first_of_latest = self.latest.of(symbol).is_empty();
        // Watch first, then read the price: one that changes in between wakes this shard.
        if is_first_of_latest && self.every.of(symbol).is_empty() {
            self.watch.set_watched(symbol, true);
        }
        if is_first_of_latest {
            prices.begin(symbol, table);
        }
        let Connection { id, watchlist, .. } = connection;
        let slot = watchlist.next_slot();
        let place =
            self.side_mut(watchlist.wants_every()).add(symbol, Subscriber { key: id.key, slot });
        watchlist.push(Subscription { symbol, place }, prices.history());
        assert!(watchlist.symbol(slot) == symbol, "a symbol knows its slots");
        assert!(self.watch.is_watched(symbol), "the feed thread knows what is watched");
        slot
    }

    /// Removes the symbol in a slot of a stream's watchlist. The last one of the list moves to that
    /// slot, and is returned if there is one.
    pub(super) fn unsubscribe(
        &mut self,
        connections: &mut Connections,
        key: u32,
        slot: u16,
        prices: &mut Prices,
    ) -> Option<SymbolIndex> {
        let connection = connections.listed_mut(key);
        debug_assert!(self.mirror(connection), "a stream's symbols know it");
        let watchlist = &mut connection.watchlist;
        let wants_every = watchlist.wants_every();
        let (removed, moved) = watchlist.remove(slot);
        if let Some(moved) = moved {
            let moved_to = Subscriber { key, slot };
            self.side_mut(wants_every).replace(moved.symbol, moved.place, moved_to);
        }
        self.unwatch(removed, wants_every, connections, prices);
        moved.map(|moved| moved.symbol)
    }

    /// Takes a subscription that its watchlist no longer has out of its symbol's list.
    pub(super) fn unwatch(
        &mut self,
        Subscription { symbol, place }: Subscription,
        wants_every: bool,
        connections: &mut Connections,
        prices: &mut Prices,
    ) {
        if let Some(Subscriber { key, slot }) = self.side_mut(wants_every).remove(symbol, place) {
            connections.listed_mut(key).watchlist.set_place(slot, symbol, place);
        }
        let has_latest = !self.latest.of(symbol).is_empty();
        let has_every = !self.every.of(symbol).is_empty();
        if !has_every {
            prices.forget_prints(symbol);
        }
        if !has_latest && !has_every {
            self.watch.set_watched(symbol, false);
            prices.forget(symbol);
        }
        assert!(
            self.watch.is_watched(symbol) == (has_latest || has_every),
            "the feed thread knows what is watched"
        );
    }

    /// Whether each symbol of a stream has the stream among its subscribers, in the same slot.
    pub(super) fn mirror(&self, connection: &Connection) -> bool {
        let Connection { id, watchlist, .. } = connection;
        let side = if watchlist.wants_every() { &self.every } else { &self.latest };
        watchlist.subscriptions().iter().zip(0..).all(|(&Subscription { symbol, place }, slot)| {
            side.of(symbol).get(place as usize) == Some(&Subscriber { key: id.key, slot })
        })
    }
}
