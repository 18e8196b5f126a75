//! The feed thread of one of several processes: it reads the exchange's feed while it has the lease
//! for that, and otherwise takes prices and order lines that another process has read.

use std::time::Instant;

use compact_str::{CompactString, format_compact};

use super::super::feed_role::FeedRole;
use super::super::feed_types::{OrderFeedMessage, PublishedLine};
use super::Feed;
use super::connection::Resume;
use crate::market::{HandedSymbol, MarketWriter};
use crate::sync::{Refused, Sender};
use crate::types::{MonotonicMicros, TimestampMicros};

/// How far another process has read the feed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandedPositions {
    /// The session as its streams name it, the first sequence that they can resume from, and the last one
    /// whose prices are known.
    pub prices: Option<(CompactString, u64, u64)>,
    /// The session as the exchange names it, how often its numbering has restarted, and the last sequence
    /// whose order line was handed over.
    pub lines: Option<(CompactString, u32, u64)>,
}

/// Separates a session's name from the number of its renumbering.
const RENUMBERING: char = '~';

/// The name of a session under which streams see it.
pub(super) fn shown_name(session: &CompactString, renumberings: u32) -> CompactString {
    match renumberings {
        0 => session.clone(),
        // Event ids sent earlier must not be mistaken for ids of this numbering.
        times => format_compact!("{session}{RENUMBERING}{times}"),
    }
}

/// The session that is shown under this name, and how often its numbering restarted.
fn session_of(shown: &str) -> (CompactString, u32) {
    let split = shown.rsplit_once(RENUMBERING);
    let split = split.and_then(|(session, times)| Some((session, times.parse().ok()?)));
    let (session, renumberings) = split.unwrap_or((shown, 0));
    (session.into(), renumberings)
}

impl Feed {
    /// Publishes order lines to other processes while this one leads. What an earlier process knew of
    /// the market counts only if no other process knows better.
    pub fn share(&mut self, role: FeedRole, lines: Sender<PublishedLine>) {
        self.role = role;
        self.orders.publish(lines);
    }

    /// Goes on from where another process stood. `symbols` is what it knew of the market, up to its
    /// position.
    pub fn take_over(&mut self, from: &HandedPositions, symbols: Vec<HandedSymbol>) {
        let HandedPositions { prices, lines } = from;
        let Some((shown, first, last)) = prices else { return };
        self.previous = None;
        self.options.resume = None;
        self.follow_session(shown, *first);
        self.market.take_over(symbols);
        let (session, renumberings) = session_of(shown);
        let is_same = |(of, numbering, _): &&(CompactString, u32, u64)| {
            (of, *numbering) == (&session, renumberings)
        };
        let handed = lines.as_ref().filter(is_same).map(|(.., last)| *last);
        let from = handed.map_or(*last, |handed| handed.min(*last));
        (self.renumberings, self.last_sequence, self.last_read) = (renumberings, *last, from);
        self.orders_from = handed.map_or(0, |handed| handed + 1);
        self.reread_from = None;
        self.numbering.begin();
        self.session = Some(session);
        self.market.end_batch(*last);
    }

    /// Reads the exchange's feed for as long as this process leads with this epoch, or until a stop.
    pub fn lead(&mut self, epoch: u64) {
        let resume = self.begin_leading(epoch);
        self.read_while_leading(resume);
        self.put_checkpoint();
    }

    /// Where to go on reading.
    fn begin_leading(&mut self, epoch: u64) -> Resume {
        self.orders.begin_epoch(epoch);
        self.epoch = epoch;
        // Followers, and our own orders thread, may have missed what the one before has not handed on.
        self.must_announce = true;
        let resume = self.session.clone().map(|session| (session, self.next_sequence()));
        self.role.begin(epoch);
        resume.or_else(|| self.options.resume.take())
    }

    /// Prices come from another process from now on. What an earlier process knew is older.
    pub fn begin_following(&mut self) {
        self.market.forget_saved();
        (self.previous, self.options.resume) = (None, None);
        self.set_up(false);
    }

    /// The market, to be written with prices from another process.
    pub fn market_mut(&mut self) -> &mut MarketWriter {
        &mut self.market
    }

    /// The other process follows this session. False if it is the same as before.
    pub fn follow_session(&mut self, shown: &CompactString, first_sequence: u64) -> bool {
        let status = self.market.status();
        let is_known = self.market.ordinal() != 0
            && (status.session(), status.first_sequence()) == (shown.clone(), first_sequence);
        if !is_known {
            self.market.begin_session(shown, first_sequence);
        }
        !is_known
    }

    /// Prices are followed, or not.
    pub fn set_up(&mut self, is_up: bool) {
        if self.market.status().is_up() != is_up {
            self.market.set_up(is_up);
            self.metrics.up.set(i64::from(is_up));
        }
    }

    /// Keeps the list of symbols up to date. `seen`: the newest time of the exchange.
    pub fn keep_symbols(&mut self, seen: Option<TimestampMicros>) {
        if let Some(time) = seen {
            self.symbols.note_time(time, &self.market);
        }
        self.symbols.keep_up(Instant::now(), &mut self.market, self.last_sequence);
    }

    /// Waits for the list of symbols, unless it is there.
    pub fn await_symbols(&mut self) {
        if self.market.directory().is_empty() {
            let Self { options, shutdown, .. } = self;
            let (timeout, is_stopped) = (options.request_timeout, || shutdown.is_requested());
            self.symbols.wait_for_list(&mut self.market, timeout, &is_stopped);
        }
    }

    /// Hands a line over that another process has read, in this numbering of its session.
    ///
    /// # Errors
    /// The orders thread has no room for it.
    pub fn hand_over_followed(
        &mut self,
        message: OrderFeedMessage,
        numbering: u32,
    ) -> Result<(), OrderFeedMessage> {
        match self.orders.try_send_followed(message, numbering) {
            // Closed: the orders thread has ended, and so will this one.
            Ok(()) | Err(Refused::Closed(_)) => Ok(()),
            Err(Refused::Full(message)) => Err(message),
        }
    }

    /// Another process has just heard a heartbeat with this time of the exchange.
    pub fn note_heartbeat(&mut self, time: TimestampMicros) {
        self.beats.heard(time, MonotonicMicros::now());
    }

    pub(super) fn is_leading(&self) -> bool {
        self.role.leads_in(self.epoch)
    }

    /// Tells the orders threads of all processes that lines follow, which they may not take for all.
    /// False if the queue has no room.
    pub(super) fn announce(&mut self, before: u64) -> bool {
        if !self.must_announce {
            return true;
        }
        let Some(session) = self.session.clone() else { return true };
        let sequence = before.max(self.orders_from.saturating_sub(1));
        let message = OrderFeedMessage::Session { session, sequence };
        let is_sent = self.orders.try_send(message).is_ok();
        self.must_announce = !is_sent;
        is_sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::Connection;
    use super::super::tests::feed;
    use crate::sync::{Receiver, mailbox};

    fn positions(session: &str, (prices, lines): (u64, u64)) -> HandedPositions {
        HandedPositions {
            prices: Some((session.into(), 1, prices)),
            lines: Some(("s".into(), session_of(session).1, lines)),
        }
    }

    fn read(feed: &mut Feed, from: u64, sequences: &[u64]) {
        let mut connection = Connection::new(Some(("s".into(), from)));
        let before = from - 1;
        let mut text = format!(r#"{{"type":"session","session":"s","sequence":{before}}}"#);
        for sequence in sequences {
            text += &format!(
                "\n{{\"sequence\":{sequence},\"type\":\"cancelled\",\"orderId\":\"o{sequence}\",\"timestamp\":1}}"
            );
        }
        connection.body.extend_from_slice(format!("{text}\n").as_bytes());
        feed.take_lines(&mut connection).unwrap();
        feed.end_batch().unwrap();
    }

    fn handed<T>(receiver: &mut Receiver<T>) -> Vec<T> {
        std::iter::from_fn(|| receiver.try_recv()).collect()
    }

    #[test]
    fn the_feed_is_read_from_where_the_other_process_stood() {
        let (mut feed, mut orders) = feed(64);
        let (lines, mut published) = mailbox(64);
        feed.share(FeedRole::alone(), lines);
        feed.take_over(&positions("s~2", (10, 8)), Vec::new());
        assert_eq!(feed.begin_leading(7), Some(("s".into(), 9)));
        read(&mut feed, 9, &[9, 10, 11]);
        let sequences = |messages: Vec<OrderFeedMessage>| {
            messages.iter().map(OrderFeedMessage::sequence).collect::<Vec<_>>()
        };
        let messages = handed(&mut orders);
        assert!(
            matches!(&messages[0], OrderFeedMessage::Session { session, .. } if session == "s")
        );
        assert_eq!(sequences(messages), [8, 9, 10, 11]);
        let published = handed(&mut published);
        let ids: Vec<_> = published.iter().map(|line| (line.epoch, line.number)).collect();
        assert_eq!(ids, [(7, 1), (7, 2), (7, 3), (7, 4)]);
        assert!(published.iter().all(|line| line.session == "s"));
        let status = feed.market.status();
        assert_eq!((status.session().as_str(), status.sequence()), ("s~2", 11));
    }

    #[test]
    fn lines_that_were_handed_over_are_not_handed_over_again() {
        let (mut feed, mut orders) = feed(64);
        feed.take_over(&positions("s", (5, 8)), Vec::new());
        assert_eq!(feed.begin_leading(7), Some(("s".into(), 6)));
        read(&mut feed, 6, &[6, 7, 8, 9]);
        let messages = handed(&mut orders);
        assert!(matches!(&messages[0], OrderFeedMessage::Session { sequence: 8, .. }));
        assert!(matches!(&messages[1..], [OrderFeedMessage::Line(line)] if line.sequence == 9));
    }

    #[test]
    fn a_line_that_cannot_be_published_leaves_its_number_out() {
        let (mut feed, mut orders) = feed(64);
        let (lines, mut published) = mailbox(2);
        feed.share(FeedRole::alone(), lines);
        feed.take_over(&positions("s", (1, 1)), Vec::new());
        feed.begin_leading(7);
        read(&mut feed, 2, &[2, 3, 4]);
        assert_eq!(handed(&mut orders).len(), 4);
        let numbers: Vec<_> = handed(&mut published).iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 2]);
        // Its lease was over for a moment, and nobody else had it.
        feed.begin_leading(7);
        feed.hand_over(5, OrderFeedMessage::Position { sequence: 5 }, false).unwrap();
        assert_eq!(handed(&mut published)[0].number, 5);
        feed.begin_leading(8);
        feed.hand_over(6, OrderFeedMessage::Position { sequence: 6 }, false).unwrap();
        assert_eq!(handed(&mut published)[0].number, 1);
    }

    #[test]
    fn another_session_begins_for_streams_and_the_same_one_goes_on() {
        let (mut feed, _orders) = feed(64);
        assert!(feed.follow_session(&"s".into(), 1));
        assert!(!feed.follow_session(&"s".into(), 1));
        assert!(feed.follow_session(&"s".into(), 50), "its beginning is not covered");
        assert!(feed.follow_session(&"t".into(), 1));
        assert_eq!(feed.market.ordinal(), 3);
    }

    #[test]
    fn a_shown_name_tells_the_session_and_its_renumberings() {
        let session = CompactString::from("2013-10-08");
        for times in [0, 3] {
            assert_eq!(session_of(&shown_name(&session, times)), (session.clone(), times));
        }
        assert_eq!(session_of("a~b"), ("a~b".into(), 0));
    }
}
