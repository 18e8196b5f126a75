//! What a composed send is made of, and what becomes of it when the kernel takes only a part.

use super::connection::Connection;
use super::every::Gap;
use super::history::{History, PrintNumber};
use super::order_events::OrderCursor;

/// What a stretch of composed bytes is, so that what was not sent can be owed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// The rest of something that was begun: must be finished as it is.
    Begun,
    /// The state of the feed.
    Feed,
    /// Word of a new session.
    Reset,
    /// Word of lost prints.
    Gap(Gap),
    /// The price of the subscription in this slot.
    Price(u16),
    /// Prints of the subscription in this slot, one after the other from this one on.
    Prints { slot: u16, count: u16, first: PrintNumber },
    /// Order events.
    Orders,
    /// What breaks the silence.
    Heartbeat,
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
    /// Where the stream was before its order events, if it has some in there.
    pub orders_before: Option<OrderCursor>,
    /// The last event carries the id of the whole.
    pub has_id: bool,
}

/// What of a send the kernel took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub prices: u64,
    pub gaps: u64,
    pub heartbeats: u64,
    /// The event with the id has left, or its rest is what leaves next.
    pub id: bool,
}

/// Owes again what the kernel did not take: the rest of the event that it cut stays as bytes,
/// whole events behind it go back to being news, so that their next sending has newer values.
pub(super) fn take_back(
    connection: &mut Connection,
    history: &History,
    Composed { bytes, segments, orders_before, has_id }: Composed<'_>,
    sent: usize,
) -> Taken {
    let mut begin = 0;
    let mut taken = Taken { id: has_id, ..Taken::default() };
    for &Segment { end, content } in segments {
        // Of the last one: that of the others says nothing.
        taken.id = has_id && (sent > begin || content == Content::Begun);
        if sent >= end {
            match content {
                Content::Price(_) => taken.prices += 1,
                Content::Prints { count, .. } => taken.prices += u64::from(count),
                Content::Gap(_) => taken.gaps += 1,
                Content::Heartbeat => taken.heartbeats += 1,
                Content::Begun | Content::Feed | Content::Reset | Content::Orders => {}
            }
        } else if let Content::Prints { slot, count, first } = content {
            let cut = Cut { bytes, begin, end, sent };
            let left = take_back_prints(connection, history, (slot, count, first), cut);
            taken.id &= left == u64::from(count);
            taken.prices += left;
        } else if sent > begin || content == Content::Begun {
            // Begun is as good as sent: its rest is the first to go.
            taken.prices += u64::from(matches!(content, Content::Price(_)));
            connection.unsent = bytes.get(sent.max(begin)..end).unwrap_or_default().to_vec();
        } else {
            owe_again(connection, content, orders_before);
        }
        begin = end;
    }
    taken
}

fn owe_again(connection: &mut Connection, content: Content, orders_before: Option<OrderCursor>) {
    match content {
        Content::Price(slot) => {
            connection.dirty.insert(slot);
        }
        Content::Feed => connection.tell_feed = true,
        Content::Heartbeat => connection.owes_heartbeat = true,
        Content::Reset | Content::Gap(_) => {
            if let Some(every) = &mut connection.every {
                match content {
                    Content::Gap(gap) => every.gap = Some(gap),
                    _ => every.reset = true,
                }
            }
        }
        Content::Orders => {
            if let (Some(orders), Some(place)) = (&mut connection.orders, orders_before) {
                orders.return_to(place);
            }
        }
        Content::Begun | Content::Prints { .. } => {}
    }
}

/// Where a send was cut, within a segment that begins before or behind that.
struct Cut<'a> {
    bytes: &'a [u8],
    begin: usize,
    end: usize,
    sent: usize,
}

/// The stream goes back to the first print that did not leave whole; one that was begun stays as
/// bytes. Returns how many left, begun ones too.
fn take_back_prints(
    connection: &mut Connection,
    history: &History,
    (slot, count, first): (u16, u16, PrintNumber),
    Cut { bytes, begin, end: end_of_all, sent }: Cut<'_>,
) -> u64 {
    let Some(&subscription) = connection.subscriptions.get(usize::from(slot)) else { return 0 };
    let (mut at, mut left) = (begin, 0);
    let mut number = first;
    for place in 1..=count {
        let Some(frame) = history.frame(subscription.symbol, number) else { break };
        // The last one may have an id in it.
        let end = if place == count { end_of_all } else { at + frame.len() };
        if sent <= at {
            break;
        }
        if sent < end {
            connection.unsent = bytes.get(sent..end).unwrap_or_default().to_vec();
        }
        left += 1;
        number = number.wrapping_add(1);
        at = end;
    }
    if let Some(every) = &mut connection.every {
        every.stand_at(slot, number);
        if history.frame(subscription.symbol, number).is_some() {
            every.prints.insert(slot);
        }
    }
    left
}
