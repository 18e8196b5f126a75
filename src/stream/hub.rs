//! The hub of a shard: it keeps the parts that its streams need and has them work together. The
//! files in `hub/` build on this one, and on each other only from the top down:
//!
//! | file | what |
//! |---|---|
//! | `slice.rs` | one turn of the shard, over the two below |
//! | `intake.rs` | what comes in: ticks, the feed's state, changed orders |
//! | `pass.rs` | what goes out: one send per stream with news |
//! | `requests.rs` | what others ask for: to open, change and end streams |

mod intake;
mod pass;
mod requests;
mod slice;

#[cfg(test)]
mod every_tests;
#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::market::{MarketReader, ShardWatch};

use super::composer::Composer;
use super::connections::Connections;
use super::deadlines::Deadlines;
use super::driver_waker::DriverWaker;
use super::feed::Feed;
use super::limits::StreamLimits;
use super::metrics::StreamMetrics;
use super::order_source::OrderSource;
use super::order_streams::OrderStreams;
use super::prices::Prices;
use super::ready::ReadyQueue;
use super::subscriptions::Subscriptions;
use super::window::Window;

/// What a hub needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another slice, as soon as others had their turn.
    Slice,
    /// Nothing for this long, unless [`Hub::has_urgent_work`].
    Rest(Duration),
    /// Nothing until there is news.
    Sleep,
}

/// What sets one hub apart from another.
pub struct HubOptions {
    /// Number of the node, where it shares users with others.
    pub node: Option<u16>,
    /// Number of the shard.
    pub shard: u16,
    /// Limits of its streams.
    pub limits: StreamLimits,
    /// Counters of its streams.
    pub metrics: StreamMetrics,
    /// Where order events come from.
    pub orders: Box<dyn OrderSource>,
}

/// The streams of one shard. Single-threaded; [`drive`](super::drive) runs it in slices.
pub struct Hub {
    node: Option<u16>,
    shard: u16,
    limits: StreamLimits,
    metrics: StreamMetrics,
    feed: Feed,
    prices: Prices,
    subscriptions: Subscriptions,
    orders: OrderStreams,
    connections: Connections,
    ready: ReadyQueue,
    composer: Composer,
    deadlines: Deadlines,
    window: Window,
    driver: DriverWaker,
}

impl Hub {
    /// A shard without streams.
    ///
    /// # Errors
    /// The system has no descriptor left for the poll set.
    pub fn new(
        market: MarketReader,
        watch: Arc<ShardWatch>,
        options: HubOptions,
    ) -> io::Result<Self> {
        let HubOptions { node, shard, limits, metrics, orders } = options;
        Ok(Self {
            node,
            shard,
            limits,
            feed: Feed::new(market),
            prices: Prices::new(limits.kept_prints),
            subscriptions: Subscriptions::new(Arc::clone(&watch)),
            orders: OrderStreams::new(orders),
            connections: Connections::new()?,
            ready: ReadyQueue::new(metrics.paced.clone()),
            composer: Composer::default(),
            deadlines: Deadlines::new(),
            window: Window::new(limits.window),
            driver: DriverWaker::new(watch),
            metrics,
        })
    }

    /// How many streams are open.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether no stream is open.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Whether a slice would find something to do.
    pub fn has_work(&self) -> bool {
        self.has_urgent_work() || self.feed.has_ticks()
    }

    /// Whether there is something to do that does not wait for a rest to end: a new stream, another
    /// state of the feed, changed orders.
    pub fn has_urgent_work(&self) -> bool {
        !self.ready.is_empty() || self.feed.has_other_state() || self.orders.has_changed()
    }

    /// Wakes this task when there is urgent work during a rest.
    pub(super) fn wake_from_rest(&mut self, waker: &Waker) {
        self.driver.rest(waker);
    }

    /// Ends a stream and forgets everything about it.
    fn close(&mut self, key: u32) {
        let Some(mut connection) = self.connections.remove(key) else {
            unreachable!("only an open stream is closed")
        };
        debug_assert!(self.subscriptions.mirror(&connection), "a stream's symbols know it");
        let wants_every = connection.watchlist.wants_every();
        for subscription in connection.watchlist.take_subscriptions() {
            self.subscriptions.unwatch(
                subscription,
                wants_every,
                &mut self.connections,
                &mut self.prices,
            );
        }
        if let Some(orders) = &connection.orders {
            self.orders.unwatch(key, orders.user());
        }
        self.note_open();
    }

    fn note_open(&self) {
        let Ok(open) = i64::try_from(self.connections.len()) else {
            unreachable!("keys of streams have 32 bits")
        };
        self.metrics.open.set(open);
    }
}
