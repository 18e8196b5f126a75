use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rand::RngExt;
use slab::Slab;

use crate::market::{Directory, MarketReader, SessionOrdinal, ShardWatch, Tick};
use crate::net::{Interest, PollSet, StreamSocket};
use crate::types::{MAX_SYMBOLS, Symbol, SymbolIndex};

use super::connection::{Connection, DirtySet, Subscription};
use super::deadlines::{ConnectionId, Wheel};
use super::frame::{Opening, ResumePoint, write_goodbye, write_opening};
use super::frame_cache::FrameCache;
use super::limits::{RETRY_MS, StreamLimits};
use super::metrics::StreamMetrics;
use super::segment::Segment;
use super::subscribers::{Subscriber, Subscribers};

/// A validated wish for a stream.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// Names the stream to its client.
    pub stream_id: String,
    /// What to watch: known, distinct, at most [`super::MAX_SYMBOLS_PER_STREAM`].
    pub symbols: Vec<(Symbol, SymbolIndex)>,
    /// Most sends a second; `None` leaves it to the server's pace.
    pub max_rate: Option<u32>,
    /// What the client already knows.
    pub resume: Option<ResumePoint>,
}

/// Why a connection did not become a stream. Its socket is closed.
#[derive(Debug, thiserror::Error)]
pub enum NotAdopted {
    /// The shard has as many streams as it may.
    #[error("this shard already has its limit of {limit} streams")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// The socket died or the system refused it.
    #[error("the socket cannot become a stream")]
    Socket(#[from] io::Error),
}

/// One shard's streams. Single-threaded; driven in slices by [`super::drive`].
pub struct Hub {
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
    pub(super) known_cents: Vec<i64>,
    pub(super) feed_up: bool,
    pub(super) ordinal: SessionOrdinal,
    pub(super) sequence: u64,
    /// The session's name as `id:` blocks carry it; `None` until ticks of it have come.
    pub(super) session: Option<compact_str::CompactString>,
    pub(super) stalls: Wheel,
    pub(super) paces: Wheel,
    started: Instant,
    pub(super) now_ms: u64,
    next_generation: u32,
    subscribers: Subscribers,
    changed: Vec<SymbolIndex>,
    is_changed: Vec<bool>,
    heartbeats: Wheel,
    polls: PollSet,
    interests: Vec<Interest>,
}

impl Hub {
    /// A shard without streams.
    ///
    /// # Errors
    /// The system has no descriptor left for the poll set.
    pub fn new(
        market: MarketReader,
        watch: Arc<ShardWatch>,
        limits: StreamLimits,
        metrics: StreamMetrics,
    ) -> io::Result<Self> {
        let feed_up = market.status.is_up();
        Ok(Self {
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
            known_cents: vec![0; MAX_SYMBOLS],
            feed_up,
            ordinal: 0,
            sequence: 0,
            session: None,
            // Horizons of 65 s, 2 s and 65 s; whatever lies beyond is looked at early and set again.
            stalls: Wheel::new(256, 256),
            paces: Wheel::new(1, 2_048),
            heartbeats: Wheel::new(256, 256),
            started: Instant::now(),
            now_ms: 0,
            next_generation: 0,
            subscribers: Subscribers::new(),
            changed: Vec::new(),
            is_changed: vec![false; MAX_SYMBOLS],
            polls: PollSet::new()?,
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

    /// Whether there is room for one more stream.
    pub fn has_room(&self) -> bool {
        self.connections.len() < self.limits.streams
    }

    /// Whether a slice would find something to do.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty()
            || self.market.ring.has_next()
            || self.feed_up != self.market.status.is_up()
    }

    /// Takes a socket over from the HTTP server: from here on the stream owns it. Its first bytes
    /// and the snapshot leave with the next slice.
    ///
    /// # Errors
    /// The shard is full or the socket is not usable; the socket is closed then.
    pub fn adopt(
        &mut self,
        descriptor: OwnedFd,
        request: &StreamRequest,
    ) -> Result<(), NotAdopted> {
        if !self.has_room() {
            return Err(NotAdopted::Full { limit: self.limits.streams });
        }
        let socket = StreamSocket::new(descriptor, self.limits.socket)?;
        self.read_clock();
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let entry = self.connections.vacant_entry();
        let Ok(key) = u32::try_from(entry.key()) else {
            return Err(NotAdopted::Full { limit: self.limits.streams });
        };
        let id = ConnectionId { key, generation };
        self.polls.add(&socket, id.to_token())?;
        let mut dirty = DirtySet::new(request.symbols.len());
        let mut subscriptions = Vec::with_capacity(request.symbols.len());
        let resumed = request.resume.as_ref().and_then(|point| resume_from(&self.market, point));
        for (slot, &(_, symbol)) in (0_u16..).zip(&request.symbols) {
            // First watch, then read: a price that changes in between wakes this shard.
            if self.subscribers.of(symbol).is_empty() {
                self.watch.set_watched(symbol, true);
                if let Some(known) = self.known_cents.get_mut(symbol.get()) {
                    *known = self.market.table.get(symbol).price_cents;
                }
                self.frames.invalidate(symbol);
            }
            let place = self.subscribers.add(symbol, Subscriber { key, slot });
            subscriptions.push(Subscription { symbol, place });
            let value = self.market.table.get(symbol);
            let is_news = resumed.is_none_or(|(ordinal, sequence)| {
                value.changed_ordinal == ordinal && value.changed_sequence > sequence
            });
            if value.has_price() && is_news {
                dirty.insert(slot);
            }
        }
        let mut unsent = Vec::new();
        let names: Vec<Symbol> = request.symbols.iter().map(|&(name, _)| name).collect();
        let opening = Opening {
            stream_id: &request.stream_id,
            symbols: &names,
            heartbeat_ms: u64::try_from(self.limits.heartbeat.as_millis()).unwrap_or(u64::MAX),
            retry_ms: rand::rng().random_range(RETRY_MS),
            reset: request.resume.is_some() && resumed.is_none(),
            feed_up: self.feed_up,
        };
        write_opening(&mut unsent, &opening);
        entry.insert(Connection {
            socket,
            generation,
            subscriptions: subscriptions.into_boxed_slice(),
            dirty,
            unsent,
            last_send_ms: self.now_ms,
            id_due_ms: 0,
            interval_ms: request.max_rate.map_or(0, |rate| 1_000 / rate.max(1)),
            queued: true,
            paced: false,
            blocked: false,
            stall_watched: false,
            tell_feed: false,
        });
        self.ready.push_back(key);
        self.heartbeats.set(self.now_ms + opening.heartbeat_ms, id);
        self.metrics.opened.inc();
        self.metrics.open.set(i64::try_from(self.connections.len()).unwrap_or(i64::MAX));
        self.watch.wakeup.wake();
        Ok(())
    }

    /// Does what there is to do for at most one slice. True when there is more.
    pub fn run_slice(&mut self) -> bool {
        self.read_clock();
        self.directory = self.market.directory.load();
        let more_events = self.look_at_sockets();
        self.take_feed_state();
        self.take_ticks();
        self.spread_changes();
        self.take_deadlines();
        self.send_ready();
        more_events || !self.ready.is_empty() || self.market.ring.has_next()
    }

    /// Tells every client that the server goes, and closes all streams.
    pub fn say_goodbye(&mut self) {
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(connection) = self.connections.get(key) else { continue };
            self.scratch.clear();
            // A frame that was cut must be ended first: it would swallow the goodbye.
            self.scratch.extend_from_slice(&connection.unsent);
            write_goodbye(&mut self.scratch, rand::rng().random_range(RETRY_MS));
            let _best_effort = connection.socket.send(&self.scratch);
            self.metrics.closed_shutdown.inc();
            self.close(key);
        }
    }

    pub(super) fn read_clock(&mut self) {
        self.now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    }

    /// Closes a stream and forgets all that was kept for it.
    pub(super) fn close(&mut self, key: usize) {
        let Some(connection) = self.connections.try_remove(key) else { return };
        for &Subscription { symbol, place } in &connection.subscriptions {
            if let Some(moved) = self.subscribers.remove(symbol, place)
                && let Some(other) = self.connections.get_mut(moved.key as usize)
                && let Some(theirs) = other.subscriptions.get_mut(usize::from(moved.slot))
            {
                theirs.place = place;
            }
            if self.subscribers.of(symbol).is_empty() {
                self.watch.set_watched(symbol, false);
                self.frames.forget(symbol);
            }
        }
        self.metrics.open.set(i64::try_from(self.connections.len()).unwrap_or(i64::MAX));
    }

    /// Puts a connection with news into the queue, unless it waits for room or for its pace.
    pub(super) fn enqueue(&mut self, key: u32) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        if connection.queued || connection.blocked || connection.paced {
            return;
        }
        if connection.interval_ms > 0 && connection.next_send_ms() > self.now_ms {
            connection.paced = true;
            let id = ConnectionId { key, generation: connection.generation };
            self.paces.set(connection.next_send_ms(), id);
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
            if interest.ended {
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

    fn take_feed_state(&mut self) {
        let up = self.market.status.is_up();
        if up == self.feed_up {
            return;
        }
        self.feed_up = up;
        let keys: Vec<u32> =
            self.connections.iter().filter_map(|(key, _)| u32::try_from(key).ok()).collect();
        for key in keys {
            if let Some(connection) = self.connections.get_mut(key as usize) {
                connection.tell_feed = true;
            }
            self.enqueue(key);
        }
    }

    fn take_ticks(&mut self) {
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
                    self.compare_all_watched();
                }
            }
        }
        if ticks > 0 {
            self.metrics.ticks.inc_by(ticks);
        }
    }

    fn take_tick(&mut self, tick: &Tick) {
        self.sequence = tick.sequence;
        if tick.ordinal != self.ordinal || self.session.is_none() {
            self.ordinal = tick.ordinal;
            let session = self.market.status.session();
            // A session that has been replaced since would name the wrong numbering.
            self.session = (self.market.status.ordinal() == tick.ordinal).then_some(session);
        }
        if !self.subscribers.of(tick.symbol).is_empty() {
            self.note_price(tick.symbol, tick.price_cents);
        }
    }

    /// Ticks were overwritten unread: the table knows what they led to.
    fn compare_all_watched(&mut self) {
        for index in (0..self.directory.len()).filter_map(SymbolIndex::new) {
            if !self.subscribers.of(index).is_empty() {
                let price_cents = self.market.table.get(index).price_cents;
                self.note_price(index, price_cents);
            }
        }
    }

    fn note_price(&mut self, symbol: SymbolIndex, price_cents: i64) {
        let Some(known) = self.known_cents.get_mut(symbol.get()) else { return };
        if *known == price_cents {
            return;
        }
        *known = price_cents;
        if let Some(is_changed) = self.is_changed.get_mut(symbol.get())
            && !std::mem::replace(is_changed, true)
        {
            self.changed.push(symbol);
        }
    }

    /// Marks everybody who watches a changed symbol. Once a slice, however often it changed.
    fn spread_changes(&mut self) {
        while let Some(symbol) = self.changed.pop() {
            if let Some(is_changed) = self.is_changed.get_mut(symbol.get()) {
                *is_changed = false;
            }
            self.frames.invalidate(symbol);
            for place in 0..self.subscribers.of(symbol).len() {
                let Some(&Subscriber { key, slot }) = self.subscribers.of(symbol).get(place) else {
                    break;
                };
                if let Some(connection) = self.connections.get_mut(key as usize) {
                    connection.dirty.insert(slot);
                }
                self.enqueue(key);
            }
        }
    }

    fn take_deadlines(&mut self) {
        while let Some(id) = self.paces.pop_due(self.now_ms) {
            if let Some(connection) = self.find(id) {
                connection.paced = false;
                if connection.has_news() {
                    self.enqueue(id.key);
                }
            }
        }
        let heartbeat_ms = u64::try_from(self.limits.heartbeat.as_millis()).unwrap_or(u64::MAX);
        while let Some(id) = self.heartbeats.pop_due(self.now_ms) {
            let now_ms = self.now_ms;
            let Some(connection) = self.find(id) else { continue };
            if now_ms >= connection.last_send_ms + heartbeat_ms {
                self.send_heartbeat(id.key);
            }
            if let Some(connection) = self.find(id) {
                let due_ms = (connection.last_send_ms + heartbeat_ms).max(now_ms + 1);
                self.heartbeats.set(due_ms, id);
            }
        }
        let stall_ms = u64::try_from(self.limits.stall.as_millis()).unwrap_or(u64::MAX);
        while let Some(id) = self.stalls.pop_due(self.now_ms) {
            let now_ms = self.now_ms;
            let Some(connection) = self.find(id) else { continue };
            if !connection.blocked {
                connection.stall_watched = false;
                continue;
            }
            let limit_ms = connection.last_send_ms + stall_ms;
            if now_ms >= limit_ms {
                self.metrics.closed_stalled.inc();
                self.close(id.key as usize);
            } else {
                self.stalls.set(limit_ms, id);
            }
        }
    }

    fn find(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections
            .get_mut(id.key as usize)
            .filter(|connection| connection.generation == id.generation)
    }
}

/// From where on a resuming client needs to be told; `None` when it must be told everything.
fn resume_from(market: &MarketReader, point: &ResumePoint) -> Option<(SessionOrdinal, u64)> {
    let ordinal = market.status.ordinal();
    let known = !point.session.is_empty()
        && market.status.session() == point.session.as_str()
        && market.status.ordinal() == ordinal
        && market.status.covers(point.sequence);
    known.then_some((ordinal, point.sequence))
}
