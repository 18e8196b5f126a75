//! What a composed send consists of, and what becomes of the part that the kernel did not take.

use super::connection::Connection;
use super::frame::Gap;
use super::history::{History, PrintNumber};
use super::order_events::OrderProgress;

/// What a stretch of composed bytes is, so that it can be owed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// The rest of an event that was sent in part: must be finished as it is.
    Begun,
    /// The state of the feed.
    FeedState,
    /// The news of another session.
    Reset,
    /// The news of lost prints.
    Gap(Gap),
    /// The newest price of the subscription in this slot.
    Price(u16),
    /// Consecutive prints of one subscription.
    Prints(Prints),
    /// Order events.
    Orders,
    /// A heartbeat.
    Heartbeat,
}

/// `count` consecutive prints, from `first` on, of the subscription in `slot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prints {
    pub slot: u16,
    pub count: u16,
    pub first: PrintNumber,
}

/// A stretch of composed bytes, up to `end`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub end: usize,
    pub content: Content,
}

/// A composed send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Composed<'a> {
    pub bytes: &'a [u8],
    pub segments: &'a [Segment],
    /// How far the stream was before the order events in the send, if there are any.
    pub orders_before: Option<&'a OrderProgress>,
    /// The last event carries an id, which covers the whole send.
    pub has_id: bool,
}

/// How much of a send the kernel took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub prices: u64,
    pub gaps: u64,
    pub heartbeats: u64,
    /// The event with the id was sent, or its rest is what is sent next.
    pub id: bool,
}

/// Owes again what the kernel did not take. The rest of the event that was cut is kept as bytes;
/// whole events after it become news again, so that they carry newer values when they are sent.
pub(super) fn take_back(
    connection: &mut Connection,
    history: &History,
    Composed { bytes, segments, orders_before, has_id }: Composed<'_>,
    sent: usize,
) -> Taken {
    assert!(sent <= bytes.len(), "the kernel takes no more than it was offered");
    let is_whole = segments.last().is_some_and(|last| last.end == bytes.len());
    assert!(is_whole, "the segments make up the send");
    let mut begin = 0;
    let mut taken = Taken { id: has_id, ..Taken::default() };
    for &Segment { end, content } in segments {
        debug_assert!(begin <= end, "segments follow each other");
        // The id is in the last segment, whose value stays.
        taken.id = has_id && (sent > begin || content == Content::Begun);
        if sent >= end {
            match content {
                Content::Price(_) => taken.prices += 1,
                Content::Prints(Prints { count, .. }) => taken.prices += u64::from(count),
                Content::Gap(_) => taken.gaps += 1,
                Content::Heartbeat => taken.heartbeats += 1,
                Content::Begun | Content::FeedState | Content::Reset | Content::Orders => {}
            }
        } else if let Content::Prints(prints) = content {
            let cut = Cut { bytes, begin, end, sent };
            let left = take_back_prints(connection, history, prints, cut);
            taken.id &= left == prints.count;
            taken.prices += u64::from(left);
        } else if sent > begin || content == Content::Begun {
            // The rest of a begun event is sent first, so it counts as sent.
            taken.prices += u64::from(matches!(content, Content::Price(_)));
            connection.unsent = rest(bytes, sent.max(begin), end);
        } else {
            owe_again(connection, content, orders_before);
        }
        begin = end;
    }
    debug_assert!(sent == bytes.len() || connection.has_news(), "what was not taken is owed again");
    taken
}

#[expect(clippy::indexing_slicing, reason = "segments lie within the send, one after the other")]
fn rest(bytes: &[u8], from: usize, end: usize) -> Box<[u8]> {
    bytes[from..end].into()
}

fn owe_again(connection: &mut Connection, content: Content, orders_before: Option<&OrderProgress>) {
    let Connection { notices, watchlist, orders, .. } = connection;
    match (content, watchlist.every_mut(), orders, orders_before) {
        (Content::Price(slot), ..) => {
            watchlist.mark(slot);
        }
        (Content::FeedState, ..) => notices.owe_feed_state(),
        (Content::Heartbeat, ..) => notices.owe_heartbeat(),
        (Content::Reset, Some(every), ..) => every.owe_reset(),
        (Content::Gap(gap), Some(every), ..) => every.owe_gap(gap),
        (Content::Orders, _, Some(orders), Some(before)) => orders.return_to(before.clone()),
        (Content::Reset | Content::Gap(_), None, ..) => {
            unreachable!("only a stream that wants every print is told what it lost")
        }
        (Content::Orders, ..) => unreachable!("order events were composed from the stream's own"),
        (Content::Begun | Content::Prints(_), ..) => {
            unreachable!("what was begun stays as bytes, prints are taken back one by one")
        }
    }
}

/// Where a send was cut, seen from a segment that it did not contain whole.
struct Cut<'a> {
    bytes: &'a [u8],
    begin: usize,
    end: usize,
    sent: usize,
}

/// Moves the stream back to the first print that was not begun. The rest of one that was begun is
/// kept as bytes. Returns how many were sent, including the begun one.
fn take_back_prints(
    connection: &mut Connection,
    history: &History,
    Prints { slot, count, first }: Prints,
    Cut { bytes, begin, end: end_of_all, sent }: Cut<'_>,
) -> u16 {
    let symbol = connection.watchlist.symbol(slot);
    let (mut at, mut left) = (begin, 0);
    let mut number = first;
    while left < count && sent > at {
        let Some(frame) = history.frame(symbol, number) else {
            unreachable!("a print that was just composed is still in the history")
        };
        // The last one may have an id in it.
        let end = if left + 1 == count { end_of_all } else { at + frame.len() };
        if sent < end {
            connection.unsent = rest(bytes, sent, end);
        }
        left += 1;
        number = number.wrapping_add(1);
        at = end;
    }
    let Some(every) = connection.watchlist.every_mut() else {
        unreachable!("only a stream that wants every print is sent prints")
    };
    assert!(left == count || history.frame(symbol, number).is_some(), "what was composed is kept");
    every.stand_at(slot, number);
    if history.frame(symbol, number).is_some() {
        every.mark(slot);
    }
    left
}
