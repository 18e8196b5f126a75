use crate::runtime::StreamSocket;

use super::connection_id::ConnectionId;
use super::frame::Heartbeat;
use super::order_events::OrderEvents;
use super::quotas::StreamPermit;
use super::ready::Schedule;
use super::watchlist::Watchlist;

/// One open stream, and all the memory that it takes: it has no task, no buffer and no queue. Each
/// part keeps its own state; they are apart so that one can be read while another changes.
#[derive(Debug)]
pub(super) struct Connection {
    pub id: ConnectionId,
    pub socket: StreamSocket,
    pub notices: Notices,
    /// Whose it is. Dropped with the connection, which makes room for another.
    pub permit: StreamPermit,
    pub schedule: Schedule,
    pub watchlist: Watchlist,
    /// Set on a stream that wants its user's orders.
    pub orders: Option<Box<OrderEvents>>,
    /// The rest of an event that the socket took in part; mostly empty.
    pub unsent: Box<[u8]>,
}

// What an idle stream costs, but for the heap: its watchlist, with two words per symbol.
const _: () = assert!(size_of::<Connection>() <= 152);

impl Connection {
    /// Whether there is anything to send.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        self.notices.owes_any()
            || !self.unsent.is_empty()
            || self.watchlist.has_news()
            || self.has_order_news()
    }

    /// Whether there are order events to send.
    #[inline]
    pub(super) fn has_order_news(&self) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.has_news())
    }

    /// Whether the stream has no prices, only orders.
    pub(super) fn has_only_orders(&self) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.is_alone())
    }
}

/// What a stream is told beside prices and orders.
#[derive(Debug)]
pub(super) struct Notices {
    heartbeat: Heartbeat,
    /// The stream was silent for the heartbeat interval.
    owes_heartbeat: bool,
    /// The feed was lost or came back, and the stream has not been told.
    owes_feed_state: bool,
}

impl Notices {
    /// Nothing to tell yet.
    pub(super) fn new(heartbeat: Heartbeat) -> Self {
        Self { heartbeat, owes_heartbeat: false, owes_feed_state: false }
    }

    /// Whether there is anything to tell.
    #[inline]
    pub(super) fn owes_any(&self) -> bool {
        self.owes_feed_state || self.owes_heartbeat
    }

    /// The stream is to be told the state of the feed.
    pub(super) fn owe_feed_state(&mut self) {
        self.owes_feed_state = true;
    }

    /// Takes the news of the feed's state.
    pub(super) fn take_feed_state(&mut self) -> bool {
        std::mem::take(&mut self.owes_feed_state)
    }

    /// The stream's silence is to be broken.
    pub(super) fn owe_heartbeat(&mut self) {
        self.owes_heartbeat = true;
    }

    /// Takes the heartbeat that is owed. Where something else breaks the silence there is none.
    pub(super) fn take_heartbeat(&mut self, is_silent: bool) -> Option<&'static [u8]> {
        let is_owed = std::mem::take(&mut self.owes_heartbeat);
        (is_owed && is_silent).then(|| self.heartbeat.frame())
    }
}
