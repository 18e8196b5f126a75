//! How a connection becomes a stream.

use std::io;
use std::os::fd::OwnedFd;

use rand::RngExt;

use crate::market::{MarketReader, SessionOrdinal};
use crate::runtime::StreamSocket;
use crate::types::{Symbol, SymbolIndex, UserId};

use super::connection::{Connection, DirtySet, Subscription};
use super::deadlines::ConnectionId;
use super::every::EveryPrint;
use super::frame::{
    Heartbeat, ID_SEPARATOR, Opening, ResumePoint, write_opening, write_order_opening, write_point,
};
use super::hub::Hub;
use super::limits::RETRY_MS;
use super::order_events::{OrderEvents, OrdersFrom};
use super::quotas::StreamPermit;
use super::stream_id::StreamId;
use super::subscribers::Subscriber;
use super::timers::heartbeat_due_ms;

/// Which prices a stream is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Mode {
    /// The newest, as soon as the client can take it.
    #[default]
    Latest,
    /// Each one, or word of a gap.
    Every,
}

/// A validated wish for a stream.
#[derive(Debug)]
pub struct StreamRequest {
    /// Whose it is, and room for it.
    pub permit: StreamPermit,
    /// What to watch: known, distinct, at most [`super::MAX_SYMBOLS_PER_STREAM`].
    pub symbols: Vec<(Symbol, SymbolIndex)>,
    /// Which of their prices.
    pub mode: Mode,
    /// Most sends a second; `None` leaves it to the server's pace.
    pub max_rate: Option<u32>,
    /// What breaks its silence.
    pub heartbeat: Heartbeat,
    /// What the client already knows of prices.
    pub resume: Option<ResumePoint>,
    /// Its user's orders, where it wants them too. A stream without symbols has nothing else.
    pub orders: Option<OrderWish>,
}

/// A wish for the orders of a stream's user.
#[derive(Debug)]
pub struct OrderWish {
    /// The user.
    pub user: UserId,
    /// Where they begin.
    pub from: OrdersFrom,
}

/// Why a connection did not become a stream. Its socket is closed.
#[derive(Debug, thiserror::Error)]
pub enum NotAdopted {
    /// No place has a number left.
    #[error("this shard has a stream in each of its places")]
    Full,
    /// The socket died or the system refused it.
    #[error("the socket cannot become a stream")]
    Socket(#[from] io::Error),
}

impl Hub {
    /// Takes a socket over from the HTTP server: from here on the stream owns it. Its first bytes
    /// and the snapshot leave with the next slice.
    ///
    /// # Errors
    /// The socket is not usable, or no place is left; the socket is closed then.
    pub fn adopt(&mut self, descriptor: OwnedFd, request: StreamRequest) -> Result<(), NotAdopted> {
        let socket = StreamSocket::new(descriptor, self.limits.socket)?;
        self.read_clock();
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let place = self.connections.vacant_key();
        let id =
            ConnectionId { key: u32::try_from(place).map_err(|_| NotAdopted::Full)?, generation };
        self.polls.add(&socket, id.to_token())?;
        let resumed = request.resume.as_ref().and_then(|point| resume_from(&self.market, point));
        let reset = request.resume.is_some() && resumed.is_none();
        self.metrics.resumed.inc_by(u64::from(resumed.is_some()));
        self.metrics.resets.inc_by(u64::from(reset));
        let orders = request.orders.map(|wish| {
            // On a stream of both, ids begin with the place in the feed.
            let mut id_prefix = Vec::new();
            if !request.symbols.is_empty() {
                if let (Some(point), Some(_)) = (&request.resume, resumed) {
                    write_point(&mut id_prefix, &point.session, point.sequence);
                }
                id_prefix.push(ID_SEPARATOR);
            }
            Box::new(OrderEvents::new(wish.user, wish.from, id_prefix))
        });
        let is_only_orders = orders.as_ref().is_some_and(|orders| orders.is_alone());
        let retry_ms = rand::rng().random_range(RETRY_MS);
        let mut unsent = Vec::new();
        if is_only_orders {
            write_order_opening(&mut unsent, self.limits.heartbeat_ms(), retry_ms);
        } else {
            let names: Vec<Symbol> = request.symbols.iter().map(|&(name, _)| name).collect();
            let opening = Opening {
                stream_id: &StreamId { shard: self.shard, connection: id }.to_string(),
                symbols: &names,
                heartbeat_ms: self.limits.heartbeat_ms(),
                retry_ms,
                reset,
                feed_up: self.feed_up,
            };
            write_opening(&mut unsent, &opening);
        }
        let every = (request.mode == Mode::Every).then(|| self.every_print_since(resumed));
        let connection = Connection {
            socket,
            generation,
            permit: request.permit,
            subscriptions: Vec::with_capacity(request.symbols.len()),
            dirty: DirtySet::new(request.symbols.len()),
            every,
            orders,
            unsent,
            last_send_ms: self.now_ms,
            last_prices_ms: 0,
            id_due_ms: 0,
            interval_ms: request.max_rate.map_or(0, |rate| 1_000 / rate.max(1)),
            turn: 0,
            queued: true,
            paced: false,
            blocked: false,
            stall_watched: false,
            tell_feed: false,
            heartbeat: request.heartbeat,
            owes_heartbeat: false,
        };
        self.heartbeats.set(heartbeat_due_ms(&connection, self.limits.heartbeat_ms()), id);
        let user = connection.orders.as_ref().map(|orders| orders.user.clone());
        self.connections.insert(connection);
        self.ready.push_back(id.key);
        if let Some(user) = user {
            self.watch_orders(id.key, &user);
        }
        for (_, symbol) in request.symbols {
            self.subscribe(id.key, symbol, resumed);
        }
        self.metrics.opened.inc();
        self.metrics.open.set(i64::try_from(self.connections.len()).unwrap_or(i64::MAX));
        self.wake_driver();
        Ok(())
    }

    /// What a stream needs for every print. One that resumes has missed what came meanwhile.
    fn every_print_since(&self, resumed: Option<(SessionOrdinal, u64)>) -> Box<EveryPrint> {
        let known_up_to = match resumed {
            Some((ordinal, sequence)) if ordinal == self.ordinal => sequence.min(self.sequence),
            Some(_) | None => self.sequence,
        };
        let mut every = EveryPrint::new(known_up_to);
        every.lose_up_to(self.sequence);
        Box::new(every)
    }

    /// Adds a symbol to a connection, with its newest price unless that is known from before.
    pub(super) fn subscribe(
        &mut self,
        key: u32,
        symbol: SymbolIndex,
        resumed: Option<(SessionOrdinal, u64)>,
    ) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let Ok(slot) = u16::try_from(connection.subscriptions.len()) else { return };
        let is_watched = |every: &super::subscribers::Subscribers| !every.of(symbol).is_empty();
        // First watch, then read: a price that changes in between wakes this shard.
        if !is_watched(&self.latest) && !is_watched(&self.every) {
            self.watch.set_watched(symbol, true);
        }
        if !is_watched(&self.latest) {
            if let Some(known) = self.known_cents.get_mut(symbol.get()) {
                *known = self.market.table.get(symbol).price_cents;
            }
            self.frames.invalidate(symbol);
        }
        let subscribers =
            if connection.every.is_some() { &mut self.every } else { &mut self.latest };
        let place = subscribers.add(symbol, Subscriber { key, slot });
        connection.subscriptions.push(Subscription { symbol, place });
        connection.dirty.grow(connection.subscriptions.len());
        if let Some(every) = &mut connection.every {
            every.subscribe(symbol, &self.history);
        }
        let value = self.market.table.get(symbol);
        let is_news = resumed.is_none_or(|(ordinal, sequence)| {
            value.changed_ordinal == ordinal && value.changed_sequence > sequence
        });
        if value.has_price() && is_news {
            connection.dirty.insert(slot);
        }
    }
}

/// From where on a resuming client needs to be told; `None` when it must be told everything.
fn resume_from(market: &MarketReader, point: &ResumePoint) -> Option<(SessionOrdinal, u64)> {
    if point.session.is_empty() {
        return None;
    }
    let ordinal = market.status.covers(&point.session, point.sequence)?;
    Some((ordinal, point.sequence))
}
