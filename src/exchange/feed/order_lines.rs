//! The way of order lines to the orders thread, and to the orders threads of other processes.

use compact_str::CompactString;

use super::super::feed_types::{OrderFeedMessage, PublishedLine};
use crate::sync::{Refused, Sender};
use crate::types::TimestampMicros;

/// The queue to the orders thread. What it takes is also published, where other processes follow this
/// one.
pub(crate) struct OrderLines {
    orders: Sender<OrderFeedMessage>,
    published: Option<Published>,
}

struct Published {
    lines: Sender<PublishedLine>,
    /// The epoch of the lease that this process reads the feed with.
    epoch: u64,
    /// Number of the last line in this epoch. Numbers of lines that the queue had no room for are
    /// missing, by which followers notice.
    number: u64,
    /// The session of the lines.
    session: CompactString,
    /// The newest heartbeat.
    heard: Option<TimestampMicros>,
}

impl OrderLines {
    pub(crate) fn new(orders: Sender<OrderFeedMessage>) -> Self {
        Self { orders, published: None }
    }

    /// Publishes what follows, too.
    pub(crate) fn publish(&mut self, lines: Sender<PublishedLine>) {
        let session = CompactString::default();
        self.published = Some(Published { lines, epoch: 0, number: 0, session, heard: None });
    }

    /// What follows is published under this epoch. A process that has its lease back before another took
    /// it goes on counting.
    pub(crate) fn begin_epoch(&mut self, epoch: u64) {
        if let Some(published) = &mut self.published
            && published.epoch != epoch
        {
            (published.epoch, published.number) = (epoch, 0);
        }
    }

    /// The exchange said its time with a heartbeat.
    pub(super) fn note_heard(&mut self, at: TimestampMicros) {
        if let Some(published) = &mut self.published {
            published.heard = Some(at);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.orders.is_full()
    }

    /// Sends a message to the orders thread.
    ///
    /// # Errors
    /// It has no room, or has ended. Nothing was published.
    pub(crate) fn try_send(
        &mut self,
        message: OrderFeedMessage,
    ) -> Result<(), Refused<OrderFeedMessage>> {
        let Some(published) = &mut self.published else { return self.orders.try_send(message) };
        self.orders.try_send(message.clone())?;
        published.send(message);
        Ok(())
    }

    /// Sends a message that was published by another process.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn try_send_followed(
        &self,
        message: OrderFeedMessage,
    ) -> Result<(), Refused<OrderFeedMessage>> {
        self.orders.try_send(message)
    }
}

impl Published {
    fn send(&mut self, message: OrderFeedMessage) {
        if let OrderFeedMessage::Session { session, .. }
        | OrderFeedMessage::Renumbered { session, .. } = &message
        {
            self.session = session.clone();
        }
        self.number += 1;
        let heard = match &message {
            OrderFeedMessage::Position { .. } => self.heard.take(),
            _ => None,
        };
        let (epoch, number, session) = (self.epoch, self.number, self.session.clone());
        // If there is no room the number is missing.
        let _noticed_by_followers =
            self.lines.try_send(PublishedLine { epoch, number, session, heard, message });
    }
}
