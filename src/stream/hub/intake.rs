use crate::market::Tick;

use super::Hub;
use crate::stream::connection::Connection;
use crate::stream::feed::Discontinuity;
use crate::stream::order_source::ChangedUsers;
use crate::stream::subscribers::Subscriber;

impl Hub {
    /// Tells every stream of prices when the feed is lost or comes back.
    pub(super) fn take_feed_state(&mut self) {
        if !self.feed.take_state() {
            return;
        }
        for connection in self.connections.iter_mut() {
            if !connection.has_only_orders() {
                connection.notices.owe_feed_state();
                self.ready.enqueue(connection.id, &mut connection.schedule, &mut self.deadlines);
            }
        }
    }

    /// Queues the streams of users whose orders have changed.
    pub(super) fn take_order_changes(&mut self) {
        let Self { orders, connections, ready, .. } = self;
        let mut note = |key| {
            let Connection { id, schedule, orders, .. } = connections.listed_mut(key);
            let Some(events) = orders else {
                unreachable!("a stream that is known for its user's orders has order events")
            };
            events.note_change();
            // Order events do not wait for `maxRate`.
            ready.enqueue_at_once(*id, schedule);
        };
        while let Some(changed) = orders.next_changed() {
            match changed {
                ChangedUsers::One(user) => orders.of(&user).iter().copied().for_each(&mut note),
                ChangedUsers::Any => orders.all().for_each(&mut note),
            }
        }
    }

    /// Reads all ticks that there are.
    pub(super) fn take_ticks(&mut self) {
        let mut ticks = 0;
        loop {
            match self.feed.next_tick() {
                Ok(Some(tick)) => {
                    ticks += 1;
                    self.take_tick(&tick);
                }
                Ok(None) => break,
                Err(lagged) => {
                    self.metrics.lapped_ticks.inc_by(lagged.missed);
                    self.compare_all_watched();
                }
            }
        }
        if ticks > 0 {
            self.metrics.ticks.inc_by(ticks);
        }
    }

    fn take_tick(&mut self, tick: &Tick) {
        if let Some(discontinuity) = self.feed.advance(tick) {
            self.restart_every(discontinuity);
        }
        if !self.subscriptions.latest_of(tick.symbol).is_empty() {
            self.prices.note(tick.symbol, tick.price_cents);
        }
        if self.subscriptions.every_of(tick.symbol).is_empty() {
            return;
        }
        if tick.follows_gap {
            self.tell_gap_before(tick);
        } else {
            self.prices.keep(tick, self.feed.directory());
        }
    }

    /// Has the streams that want every print of a symbol go on with this one, after a gap.
    fn tell_gap_before(&mut self, tick: &Tick) {
        let Self { subscriptions, prices, connections, ready, deadlines, .. } = self;
        prices.invalidate(tick.symbol);
        for &Subscriber { key, slot } in subscriptions.every_of(tick.symbol) {
            let connection = connections.listed_mut(key);
            debug_assert!(
                connection.watchlist.symbol(slot) == tick.symbol,
                "a symbol knows its slots"
            );
            let Some(every) = connection.watchlist.every_mut() else {
                unreachable!("a subscriber of every print is a stream that wants every print")
            };
            if every.has_begun(slot) {
                // Saturating: a session's first sequence may be 0.
                every.lose_up_to(tick.sequence.saturating_sub(1));
            }
            connection.watchlist.mark(slot);
            ready.enqueue(connection.id, &mut connection.schedule, deadlines);
        }
    }

    /// Has all streams that want every print go on from the newest price: they have lost some.
    #[cold]
    fn restart_every(&mut self, discontinuity: Discontinuity) {
        for connection in self.connections.iter_mut() {
            // A stream of the newest prices loses nothing.
            let Some(every) = connection.watchlist.every_mut() else { continue };
            match discontinuity {
                Discontinuity::Lost { up_to } if every.has_begun_any() => every.lose_up_to(up_to),
                Discontinuity::Lost { .. } => {}
                Discontinuity::Session { first_sequence } => every.begin_session(first_sequence),
            }
            every.unmark_all();
            for slot in 0..connection.watchlist.next_slot() {
                let symbol = connection.watchlist.symbol(slot);
                if self.feed.table().get(symbol).has_price() {
                    connection.watchlist.mark(slot);
                }
                self.prices.invalidate(symbol);
            }
            self.ready.enqueue(connection.id, &mut connection.schedule, &mut self.deadlines);
        }
    }

    /// Ticks were overwritten unread. The last-value table has what they led to.
    #[cold]
    fn compare_all_watched(&mut self) {
        for symbol in self.feed.directory().indexes() {
            if !self.subscriptions.latest_of(symbol).is_empty() {
                let price_cents = self.feed.table().get(symbol).price_cents;
                self.prices.note(symbol, price_cents);
            }
        }
    }

    /// Marks and queues every stream that the changes concern. True when there are any.
    pub(super) fn mark_streams(&mut self) -> bool {
        let Self { subscriptions, prices, connections, ready, deadlines, .. } = self;
        let mut are_any = false;
        while let Some(symbol) = prices.pop_changed() {
            let mut merged = 0;
            for &Subscriber { key, slot } in subscriptions.latest_of(symbol) {
                let connection = connections.listed_mut(key);
                debug_assert!(
                    connection.watchlist.symbol(slot) == symbol,
                    "a symbol knows its slots"
                );
                merged += u64::from(!connection.watchlist.mark(slot));
                ready.enqueue(connection.id, &mut connection.schedule, deadlines);
                are_any = true;
            }
            if merged > 0 {
                self.metrics.merged_prices.inc_by(merged);
            }
        }
        while let Some(symbol) = prices.pop_printed() {
            for &Subscriber { key, slot } in subscriptions.every_of(symbol) {
                let connection = connections.listed_mut(key);
                debug_assert!(
                    connection.watchlist.symbol(slot) == symbol,
                    "a symbol knows its slots"
                );
                let Some(every) = connection.watchlist.every_mut() else {
                    unreachable!("a subscriber of every print is a stream that wants every print")
                };
                every.mark(slot);
                ready.enqueue(connection.id, &mut connection.schedule, deadlines);
                are_any = true;
            }
        }
        are_any
    }
}
