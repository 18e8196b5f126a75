//! What a composed send is made of, and what becomes of it when the kernel takes only a part.

use super::connection::Connection;

/// What a stretch of composed bytes is, so that what was not sent can be owed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// The rest of something that was begun: must be finished as it is.
    Begun,
    /// The state of the feed.
    Feed,
    /// The price of the subscription in this slot.
    Price(u16),
    /// An `id:` block.
    Id,
}

/// A stretch of composed bytes, up to `end`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub end: usize,
    pub content: Content,
}

/// Owes again what the kernel did not take: the rest of the segment that it cut stays as bytes,
/// whole segments behind it go back to being news, so that their next sending has newer values.
/// Returns how many prices were taken.
pub(super) fn take_back(
    connection: &mut Connection,
    bytes: &[u8],
    segments: &[Segment],
    sent: usize,
) -> u64 {
    let mut begin = 0;
    let mut prices = 0;
    for &Segment { end, content } in segments {
        if sent >= end {
            prices += u64::from(matches!(content, Content::Price(_)));
        } else if sent > begin || content == Content::Begun {
            connection.unsent = bytes.get(sent.max(begin)..end).unwrap_or_default().to_vec();
        } else {
            match content {
                Content::Price(slot) => connection.dirty.insert(slot),
                Content::Feed => connection.tell_feed = true,
                Content::Id => connection.id_due_ms = 0,
                Content::Begun => {}
            }
        }
        begin = end;
    }
    prices
}
