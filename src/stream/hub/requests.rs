use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rand::RngExt;

use crate::runtime::StreamSocket;
use crate::types::{Symbol, SymbolIndex, UserId};

use super::Hub;
use crate::stream::connection::{Connection, Notices};
use crate::stream::connection_id::ConnectionId;
use crate::stream::deadlines::heartbeat_due_ms;
use crate::stream::every::EveryPrint;
use crate::stream::feed::FeedPosition;
use crate::stream::frame::{
    ID_SEPARATOR, Opening, is_beginning, write_goodbye, write_opening, write_order_opening,
    write_point,
};
use crate::stream::goodbye::Goodbyes;
use crate::stream::limits::{MAX_SYMBOLS_PER_STREAM, RETRY_MS};
use crate::stream::order_events::{OrderEvents, StoreQuery, StoreReply};
use crate::stream::ready::Schedule;
use crate::stream::request::{
    Mode, NotAdopted, NotChanged, OrderWish, StreamRequest, SubscriptionChange,
};
use crate::stream::stream_id::StreamId;
use crate::stream::watchlist::Watchlist;

impl Hub {
    /// Takes a socket over from the HTTP server: from now on it belongs to the stream. The first
    /// bytes and the snapshot are sent with the next slice.
    ///
    /// # Errors
    /// The socket is not usable, or the shard is full. The socket is closed then.
    pub fn adopt(&mut self, descriptor: OwnedFd, request: StreamRequest) -> Result<(), NotAdopted> {
        assert!(
            request.symbols.len() <= MAX_SYMBOLS_PER_STREAM,
            "a request for a stream was validated"
        );
        assert!(
            !request.symbols.is_empty() || request.orders.is_some(),
            "a stream has prices, orders, or both"
        );
        assert!(
            request.orders.as_ref().is_none_or(|wish| request.permit.is_of(&wish.user)),
            "a stream's orders are those of the user whose permit it has"
        );
        let socket = StreamSocket::new(descriptor, self.limits.socket)?;
        self.deadlines.read_clock();
        let id = self.connections.admit(&socket)?;
        let resumed = request.resume.as_ref().and_then(|point| self.feed.resume_from(point));
        let unsent = self.opening(id, &request, resumed);
        let every = (request.mode == Mode::Every).then(|| self.every_print_since(resumed));
        let StreamRequest { permit, symbols, max_rate, heartbeat, resume, orders, .. } = request;
        let wanted = symbols.len();
        let orders = orders.map(|OrderWish { user, from, with_account }| {
            // On a stream of both, ids begin with the position in the feed.
            let mut id_prefix = Vec::new();
            if !symbols.is_empty() {
                if let (Some(point), Some(_)) = (&resume, resumed) {
                    write_point(&mut id_prefix, &point.session, point.sequence);
                }
                id_prefix.push(ID_SEPARATOR);
            }
            Box::new(OrderEvents::new(user, from, id_prefix).with_account(with_account))
        });
        if let Some(orders) = &orders {
            self.orders.watch(id.key, orders.user());
        }
        let connection = self.connections.insert(Connection {
            id,
            socket,
            notices: Notices::new(heartbeat),
            permit,
            schedule: Schedule::new(self.deadlines.now_ms(), max_rate),
            watchlist: Watchlist::new(symbols.len(), every),
            orders,
            unsent,
        });
        self.ready.enqueue_at_once(id, &mut connection.schedule);
        // The rest of the feed has all that a client lacks who is further than this shard.
        let is_ahead = connection.watchlist.wants_every()
            && resumed.is_some_and(|resumed| resumed >= self.feed.position());
        for (_, symbol) in symbols {
            let table = self.feed.table();
            let slot = self.subscriptions.subscribe(connection, symbol, &mut self.prices, table);
            if resumed.is_none() {
                connection.watchlist.begin_with_next(slot);
            }
            let value = table.get(symbol);
            let is_news = resumed.is_none_or(|FeedPosition { ordinal, sequence }| {
                value.changed_ordinal == ordinal && value.changed_sequence > sequence
            });
            if value.has_price() && is_news && !is_ahead {
                connection.watchlist.mark(slot);
            }
        }
        assert!(
            connection.watchlist.subscriptions().len() == wanted,
            "a stream watches what was asked for"
        );
        debug_assert!(self.subscriptions.mirror(connection), "a stream's symbols know it");
        let heartbeat_ms = self.limits.heartbeat_ms();
        let due_ms = heartbeat_due_ms(id, connection.schedule.last_send_ms(), heartbeat_ms);
        self.deadlines.set_heartbeat(due_ms, id);
        self.metrics.opened.inc();
        self.note_open();
        self.driver.wake();
        Ok(())
    }

    /// The first bytes of a stream.
    fn opening(
        &self,
        id: ConnectionId,
        request: &StreamRequest,
        resumed: Option<FeedPosition>,
    ) -> Box<[u8]> {
        let reset = request.resume.is_some() && resumed.is_none();
        self.metrics.resumed.inc_by(u64::from(resumed.is_some()));
        self.metrics.resets.inc_by(u64::from(reset));
        let heartbeat_ms = self.limits.heartbeat_ms();
        let retry_ms = rand::rng().random_range(RETRY_MS);
        let mut out = Vec::new();
        if request.orders.is_some() && request.symbols.is_empty() {
            write_order_opening(&mut out, self.node, heartbeat_ms, retry_ms);
        } else {
            let symbols: Vec<Symbol> = request.symbols.iter().map(|&(name, _)| name).collect();
            let opening = Opening {
                node: self.node,
                stream_id: &StreamId { node: self.node, shard: self.shard, connection: id }
                    .to_string(),
                symbols: &symbols,
                heartbeat_ms,
                retry_ms,
                reset,
                feed_up: self.feed.is_up(),
            };
            write_opening(&mut out, &opening);
        }
        assert!(is_beginning(&out), "a stream begins with the head of a response");
        out.into()
    }

    /// The state of a new stream that wants every print. One that resumes has lost what this shard
    /// has read since.
    fn every_print_since(&self, resumed: Option<FeedPosition>) -> Box<EveryPrint> {
        let position = self.feed.position();
        let Some(resumed) = resumed else {
            let newest = self.feed.newest_sequence();
            return Box::new(EveryPrint::new(newest, FeedPosition::default()));
        };
        let mut every = EveryPrint::new(resumed.sequence, resumed);
        if resumed < position {
            every.lose_up_to(position.sequence);
        }
        Box::new(every)
    }

    /// Changes the symbols of a user's stream. What was composed for it before may still arrive.
    ///
    /// # Errors
    /// This user has no such stream on this shard, or it would have too many symbols.
    pub fn change(
        &mut self,
        id: StreamId,
        user: &UserId,
        change: &SubscriptionChange,
    ) -> Result<(), NotChanged> {
        if id.node != self.node {
            return Err(NotChanged::Unknown);
        }
        let Self { connections, subscriptions, prices, feed, .. } = self;
        let (id, table) = (id.connection, feed.table());
        let connection = connections
            .find(id)
            .filter(|connection| connection.permit.is_of(user))
            .ok_or(NotChanged::Unknown)?;
        let watched = connection.watchlist.subscriptions();
        let mut slots: HashMap<SymbolIndex, u16> =
            watched.iter().map(|subscription| subscription.symbol).zip(0..).collect();
        assert!(slots.len() == watched.len(), "a stream watches a symbol once");
        let removed = change.remove.iter().filter(|symbol| slots.contains_key(symbol)).count();
        let added = change.add.iter().filter(|symbol| !slots.contains_key(symbol)).count();
        let symbols = slots.len() - removed + added;
        if symbols > MAX_SYMBOLS_PER_STREAM {
            return Err(NotChanged::TooMany { symbols });
        }
        for symbol in &change.remove {
            // Symbols that the stream does not have are passed over.
            let Some(slot) = slots.remove(symbol) else { continue };
            if let Some(moved) = subscriptions.unsubscribe(connections, id.key, slot, prices) {
                slots.insert(moved, slot);
            }
        }
        let Some(connection) = connections.find(id) else {
            unreachable!("a change of its symbols ends no stream")
        };
        for &symbol in &change.add {
            if slots.contains_key(&symbol) {
                continue;
            }
            let slot = subscriptions.subscribe(connection, symbol, prices, table);
            slots.insert(symbol, slot);
            connection.watchlist.begin_with_next(slot);
            if table.get(symbol).has_price() {
                connection.watchlist.mark(slot);
            }
        }
        assert!(
            connection.watchlist.subscriptions().len() == symbols,
            "a change names each symbol once, so it leads to as many as were counted"
        );
        debug_assert!(subscriptions.mirror(connection), "a stream's symbols know it");
        self.metrics.subscription_changes.inc();
        self.ready.enqueue(id, &mut connection.schedule, &mut self.deadlines);
        self.driver.wake();
        Ok(())
    }

    /// The next query for the store.
    pub fn poll_store_query(&mut self, context: &Context<'_>) -> Poll<StoreQuery> {
        self.orders.poll_store_query(context)
    }

    /// Takes the answer to a query.
    pub fn answer(&mut self, query: &StoreQuery, answer: StoreReply) {
        // The stream may have been closed meanwhile.
        let Some(connection) = self.connections.find(query.stream) else { return };
        let Some(events) = &mut connection.orders else {
            unreachable!("a stream that asked about orders has order events")
        };
        assert!(events.user() == &query.user, "a stream asks about the orders of its user");
        events.take_answer(&query.after, answer);
        self.ready.enqueue_at_once(connection.id, &mut connection.schedule);
        self.driver.wake();
    }

    /// Spreads the ends of all streams over the drain time, or has them all at once.
    pub(in crate::stream) fn plan_goodbyes(&self, in_peace: bool) -> Goodbyes {
        Goodbyes::new(self.len(), if in_peace { self.limits.drain } else { Duration::ZERO })
    }

    /// Says goodbye to the clients whose turn it is, and closes their streams.
    pub(in crate::stream) fn say_goodbyes(&mut self, goodbyes: &mut Goodbyes) {
        let due = goodbyes.due(Instant::now());
        let ids: Vec<ConnectionId> =
            self.connections.iter().map(|connection| connection.id).take(due).collect();
        let left = self.len() - ids.len();
        for id in ids {
            self.say_goodbye(id);
            self.metrics.closed_shutdown.inc();
        }
        assert!(self.len() == left, "each goodbye ends one stream");
    }

    /// Ends the streams with orders of users whom another node has from now on, each with a goodbye:
    /// what changes there is not heard of here.
    pub fn end_orders_of(&mut self, is_elsewhere: impl Fn(&UserId) -> bool) {
        let gone = |connection: &Connection| {
            connection.orders.as_ref().is_some_and(|orders| is_elsewhere(orders.user()))
        };
        let ids: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|connection| gone(connection))
            .map(|connection| connection.id)
            .collect();
        let left = self.len() - ids.len();
        for id in ids {
            self.say_goodbye(id);
            self.metrics.closed_moved.inc();
        }
        assert!(self.len() == left, "each goodbye ends one stream");
    }

    fn say_goodbye(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.find(id) else {
            unreachable!("a goodbye ends no other stream")
        };
        // An event that was cut must be completed first: it would swallow the goodbye.
        let mut bytes = connection.unsent.to_vec();
        write_goodbye(&mut bytes, rand::rng().random_range(RETRY_MS));
        let _best_effort = connection.socket.send(&bytes);
        self.close(id.key);
    }
}
