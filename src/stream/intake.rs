//! What a shard takes from the market, and whom it concerns.

use crate::market::Tick;
use crate::types::SymbolIndex;

use super::every::EveryPrint;
use super::frame::write_print;
use super::hub::{Hub, symbols_of};
use super::subscribers::Subscriber;

impl Hub {
    /// Tells every stream when the feed is lost, or back.
    pub(super) fn take_feed_state(&mut self) {
        let up = self.market.status.is_up();
        if up == self.feed_up {
            return;
        }
        self.feed_up = up;
        let keys: Vec<u32> =
            self.connections.iter().filter_map(|(key, _)| u32::try_from(key).ok()).collect();
        for key in keys {
            let Some(connection) = self.connections.get_mut(key as usize) else { continue };
            if connection.orders.as_ref().is_none_or(|orders| !orders.is_alone()) {
                connection.tell_feed = true;
                self.enqueue(key);
            }
        }
    }

    /// Takes all that the ring has.
    pub(super) fn take_ticks(&mut self) {
        let mut ticks = 0;
        loop {
            match self.market.ring.try_next() {
                Ok(Some(words)) => {
                    ticks += 1;
                    if let Some(tick) = Tick::from_words(&words) {
                        self.take_tick(&tick);
                    }
                }
                Ok(None) => break,
                Err(lagged) => {
                    self.metrics.lapped_ticks.inc_by(lagged.missed);
                    self.is_lapped = true;
                    self.compare_all_watched();
                }
            }
        }
        if ticks > 0 {
            self.metrics.ticks.inc_by(ticks);
        }
    }

    fn take_tick(&mut self, tick: &Tick) {
        if std::mem::take(&mut self.is_lapped) {
            let lost_up_to = tick.sequence.saturating_sub(1);
            self.restart_every(|every| every.lose_up_to(lost_up_to));
        }
        if tick.ordinal != self.ordinal || self.session.is_none() {
            if self.ordinal != 0 && tick.ordinal != self.ordinal {
                self.restart_every(|every| every.begin_session(tick.sequence));
            }
            self.ordinal = tick.ordinal;
            let session = self.market.status.session();
            // A session that has been replaced since would name the wrong numbering.
            self.session = (self.market.status.ordinal() == tick.ordinal).then_some(session);
        }
        self.sequence = tick.sequence;
        if !self.latest.of(tick.symbol).is_empty() {
            self.note_price(tick.symbol, tick.price_cents);
        }
        if !self.every.of(tick.symbol).is_empty() {
            self.keep_print(tick);
        }
    }

    /// Lets all streams that want every print go on from the newest, as they have lost some.
    fn restart_every(&mut self, lose: impl Fn(&mut EveryPrint)) {
        let keys: Vec<u32> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.every.is_some())
            .filter_map(|(key, _)| u32::try_from(key).ok())
            .collect();
        for key in keys {
            let Some(connection) = self.connections.get_mut(key as usize) else { continue };
            let Some(every) = &mut connection.every else { continue };
            lose(every);
            every.prints.clear();
            for (slot, subscription) in (0_u16..).zip(&connection.subscriptions) {
                if self.market.table.get(subscription.symbol).has_price() {
                    connection.dirty.insert(slot);
                }
                self.frames.invalidate(subscription.symbol);
            }
            self.enqueue(key);
        }
    }

    /// Ticks were overwritten unread: the table knows what they led to.
    fn compare_all_watched(&mut self) {
        for index in symbols_of(&self.directory) {
            if !self.latest.of(index).is_empty() {
                let price_cents = self.market.table.get(index).price_cents;
                self.note_price(index, price_cents);
            }
        }
    }

    fn note_price(&mut self, symbol: SymbolIndex, price_cents: i64) {
        let Some(known) = self.known_cents.get_mut(symbol.get()) else { return };
        if *known != price_cents {
            *known = price_cents;
            self.changed.insert(symbol);
        }
    }

    fn keep_print(&mut self, tick: &Tick) {
        let Some(listing) = self.directory.listing(tick.symbol) else { return };
        self.scratch.clear();
        write_print(&mut self.scratch, &listing.symbol, tick.price_cents, tick.timestamp);
        self.history.push(tick.symbol, &self.scratch);
        self.printed.insert(tick.symbol);
    }

    /// Marks everybody whom the changes concern, once however often a symbol changed. True when
    /// there was anybody.
    pub(super) fn spread_changes(&mut self) -> bool {
        let mut concerns_anybody = false;
        while let Some(symbol) = self.changed.pop() {
            self.frames.invalidate(symbol);
            let mut merged = 0;
            for place in 0..self.latest.of(symbol).len() {
                let Some(&Subscriber { key, slot }) = self.latest.of(symbol).get(place) else {
                    break;
                };
                if let Some(connection) = self.connections.get_mut(key as usize) {
                    merged += u64::from(!connection.dirty.insert(slot));
                }
                self.enqueue(key);
                concerns_anybody = true;
            }
            if merged > 0 {
                self.metrics.merged_prices.inc_by(merged);
            }
        }
        while let Some(symbol) = self.printed.pop() {
            // A snapshot of the symbol is as new as its prints.
            self.frames.invalidate(symbol);
            for place in 0..self.every.of(symbol).len() {
                let Some(&Subscriber { key, slot }) = self.every.of(symbol).get(place) else {
                    break;
                };
                if let Some(every) =
                    self.connections.get_mut(key as usize).and_then(|c| c.every.as_mut())
                {
                    every.prints.insert(slot);
                }
                self.enqueue(key);
                concerns_anybody = true;
            }
        }
        concerns_anybody
    }
}
