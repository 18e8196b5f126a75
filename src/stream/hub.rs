use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::market::{Directory, MarketReader, SessionOrdinal, ShardWatch};
use crate::runtime::{Interest, PollSet};
use crate::types::{MAX_SYMBOLS, SymbolIndex, UserId};

use super::connection::{Connection, Subscription};
use super::deadlines::{ConnectionId, Wheel};
use super::dirty_set::DirtySet;
use super::frame_cache::FrameCache;
use super::history::History;
use super::limits::StreamLimits;
use super::metrics::StreamMetrics;
use super::order_events::{OrderCursor, OrderQuestion};
use super::order_feed::OrderSource;
use super::segment::Segment;
use super::subscribers::{Subscriber, Subscribers};
use super::window::Window;

/// What a hub wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another slice, as soon as others had their turn.
    Slice,
    /// Nothing for so long, unless [`Hub::has_urgent_work`].
    Rest(Duration),
    /// Nothing until there is news.
    Sleep,
}

/// What makes one hub different from another.
pub struct HubOptions {
    /// Number of the shard.
    pub shard: u16,
    /// What bounds its streams.
    pub limits: StreamLimits,
    /// What they did.
    pub metrics: StreamMetrics,
    /// Where order events come from.
    pub orders: Box<dyn OrderSource>,
}

/// One shard's streams. Single-threaded; driven in slices by [`super::drive`].
pub struct Hub {
    /// Number of the shard.
    pub(super) shard: u16,
    pub(super) market: MarketReader,
    pub(super) directory: Arc<Directory>,
    pub(super) watch: Arc<ShardWatch>,
    pub(super) limits: StreamLimits,
    pub(super) metrics: StreamMetrics,
    pub(super) connections: Slab<Connection>,
    pub(super) frames: FrameCache,
    /// Connections with news and room, in the order in which they are served.
    pub(super) ready: VecDeque<u32>,
    pub(super) scratch: Vec<u8>,
    pub(super) segments: Vec<Segment>,
    /// The last event of what is composed carries an id; it begins with this on a stream of both
    /// prices and orders.
    pub(super) has_id: bool,
    pub(super) id_prefix: Vec<u8>,
    pub(super) known_cents: Vec<i64>,
    pub(super) feed_up: bool,
    pub(super) ordinal: SessionOrdinal,
    pub(super) sequence: u64,
    /// The session's name as ids carry it; `None` until ticks of it have come.
    pub(super) session: Option<compact_str::CompactString>,
    /// Ticks were overwritten unread since the last one that was taken.
    pub(super) is_lapped: bool,
    pub(super) stalls: Wheel,
    pub(super) paces: Wheel,
    pub(super) heartbeats: Wheel,
    pub(super) now_ms: u64,
    pub(super) next_generation: u32,
    /// Who wants the newest price of each symbol.
    pub(super) latest: Subscribers,
    /// Who wants every print of each symbol.
    pub(super) every: Subscribers,
    pub(super) history: History,
    pub(super) changed: DirtySet,
    pub(super) printed: DirtySet,
    pub(super) polls: PollSet,
    /// Wakes the driver from its rest.
    pub(super) rest_waker: Option<Waker>,
    pub(super) orders: Box<dyn OrderSource>,
    /// The streams that want a user's orders.
    pub(super) order_streams: HashMap<UserId, Vec<u32>>,
    /// Where the stream that is composed for was before its order events.
    pub(super) orders_before: Option<OrderCursor>,
    pub(super) questions: VecDeque<OrderQuestion>,
    pub(super) question_waker: Option<Waker>,
    window: Window,
    started: Instant,
    interests: Vec<Interest>,
}

impl Hub {
    /// The streams of a shard: none so far.
    ///
    /// # Errors
    /// The system has no descriptor left for the poll set.
    pub fn new(
        market: MarketReader,
        watch: Arc<ShardWatch>,
        options: HubOptions,
    ) -> io::Result<Self> {
        let HubOptions { shard, limits, metrics, orders } = options;
        let feed_up = market.status.is_up();
        Ok(Self {
            shard,
            directory: market.directory.load(),
            market,
            watch,
            limits,
            metrics,
            connections: Slab::new(),
            frames: FrameCache::new(),
            ready: VecDeque::new(),
            scratch: Vec::new(),
            segments: Vec::new(),
            has_id: false,
            id_prefix: Vec::new(),
            known_cents: vec![0; MAX_SYMBOLS],
            feed_up,
            ordinal: 0,
            sequence: 0,
            session: None,
            is_lapped: false,
            // Horizons of 65 s, 2 s and 65 s; whatever lies beyond is looked at early and set again.
            stalls: Wheel::new(256, 256),
            paces: Wheel::new(1, 2_048),
            heartbeats: Wheel::new(256, 256),
            started: Instant::now(),
            now_ms: 0,
            // So that an id that another process gave names no stream of this one.
            next_generation: rand::random(),
            latest: Subscribers::new(),
            every: Subscribers::new(),
            history: History::new(limits.kept_prints),
            changed: DirtySet::new(),
            printed: DirtySet::new(),
            polls: PollSet::new()?,
            rest_waker: None,
            orders,
            order_streams: HashMap::new(),
            orders_before: None,
            questions: VecDeque::new(),
            question_waker: None,
            window: Window::new(limits.window),
            interests: Vec::new(),
        })
    }

    /// Open streams.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether no stream is open.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Whether a slice would find something to do.
    pub fn has_work(&self) -> bool {
        self.has_urgent_work() || self.market.ring.has_next()
    }

    /// Whether there is something to do that waits for no window: a new stream, the feed's state.
    pub fn has_urgent_work(&self) -> bool {
        !self.ready.is_empty()
            || self.feed_up != self.market.status.is_up()
            || self.orders.has_changed()
    }

    /// Lets the driver look again, whether it sleeps or rests.
    pub(super) fn wake_driver(&mut self) {
        self.watch.wakeup.wake();
        if let Some(waker) = self.rest_waker.take() {
            waker.wake();
        }
    }

    /// Wakes this task when there is urgent work during a rest.
    pub(super) fn wake_from_rest(&mut self, waker: &Waker) {
        self.rest_waker.clone_from(&Some(waker.clone()));
    }

    /// Does what there is to do for at most one slice.
    pub fn run_slice(&mut self) -> Next {
        let now = self.read_clock();
        self.directory = self.market.directory.load();
        let more_events = self.look_at_sockets();
        self.take_feed_state();
        self.take_order_news();
        if self.window.is_open(now) {
            self.take_ticks();
            if self.spread_changes() {
                self.window.begin_pass(now);
            }
        }
        self.take_deadlines();
        self.send_ready();
        if more_events || !self.ready.is_empty() {
            return Next::Slice;
        }
        let now = Instant::now();
        self.window.end_pass(now);
        match self.window.rest(now) {
            Some(rest) => Next::Rest(rest),
            None if self.market.ring.has_next() => Next::Slice,
            None => Next::Sleep,
        }
    }

    pub(super) fn read_clock(&mut self) -> Instant {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.started);
        self.now_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        now
    }

    /// Who watches a symbol, in the way in which the connection does.
    pub(super) fn subscribers_mut(&mut self, every: bool) -> &mut Subscribers {
        if every { &mut self.every } else { &mut self.latest }
    }

    /// Closes a stream and forgets all that was kept for it.
    pub(super) fn close(&mut self, key: usize) {
        let Some(mut connection) = self.connections.try_remove(key) else { return };
        for subscription in std::mem::take(&mut connection.subscriptions) {
            self.unwatch(subscription, connection.every.is_some());
        }
        if let (Some(orders), Ok(key)) = (connection.orders.take(), u32::try_from(key)) {
            self.unwatch_orders(key, &orders.user);
        }
        self.metrics.open.set(i64::try_from(self.connections.len()).unwrap_or(i64::MAX));
    }

    /// Takes a subscription out of the symbol's list.
    pub(super) fn unwatch(&mut self, subscription: Subscription, every: bool) {
        let Subscription { symbol, place } = subscription;
        if let Some(Subscriber { key, slot }) = self.subscribers_mut(every).remove(symbol, place)
            && let Some(other) = self.connections.get_mut(key as usize)
            && let Some(theirs) = other.subscriptions.get_mut(usize::from(slot))
        {
            theirs.place = place;
        }
        let (latest, every) = (self.latest.of(symbol).is_empty(), self.every.of(symbol).is_empty());
        if every {
            self.history.forget(symbol);
        }
        if latest && every {
            self.watch.set_watched(symbol, false);
            self.frames.forget(symbol);
        }
    }

    /// Puts a connection with news into the queue, unless it waits for room or for its pace.
    pub(super) fn enqueue(&mut self, key: u32) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        if connection.queued || connection.blocked || connection.paced {
            return;
        }
        if connection.interval_ms > 0 && connection.next_prices_ms() > self.now_ms {
            connection.paced = true;
            self.metrics.paced.inc();
            let id = ConnectionId { key, generation: connection.generation };
            self.paces.set(connection.next_prices_ms(), id);
        } else {
            connection.queued = true;
            self.ready.push_back(key);
        }
    }

    fn look_at_sockets(&mut self) -> bool {
        let mut interests = std::mem::take(&mut self.interests);
        let more = match self.polls.look(&mut interests) {
            Ok(more) => more,
            Err(error) => {
                tracing::error!(%error, "cannot look at the stream sockets");
                false
            }
        };
        for interest in interests.drain(..) {
            let ConnectionId { key, generation } = ConnectionId::from_token(interest.token);
            let Some(connection) = self.connections.get_mut(key as usize) else { continue };
            if connection.generation != generation {
                continue;
            }
            let talks = interest.readable && !connection.socket.takes_only_line_ends();
            if interest.ended || talks {
                self.metrics.closed_by_client.inc();
                self.close(key as usize);
            } else if interest.writable && connection.blocked {
                connection.blocked = false;
                self.enqueue(key);
            }
        }
        self.interests = interests;
        more
    }

    /// The connection that this names, while it lives.
    pub(super) fn find(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections
            .get_mut(id.key as usize)
            .filter(|connection| connection.generation == id.generation)
    }
}

/// Every symbol that has an index.
pub(super) fn symbols_of(directory: &Directory) -> impl Iterator<Item = SymbolIndex> + use<> {
    (0..directory.len()).filter_map(SymbolIndex::new)
}
