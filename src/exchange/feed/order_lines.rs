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
    /// The session that the orders thread was told last, and how often its numbering had restarted.
    told: Option<(CompactString, u32)>,
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
    /// How often its numbering has restarted.
    numbering: u32,
    /// The newest heartbeat.
    heard: Option<TimestampMicros>,
}

impl OrderLines {
    pub(crate) fn new(orders: Sender<OrderFeedMessage>) -> Self {
        Self { orders, published: None, told: None }
    }

    /// Publishes what follows, too.
    pub(crate) fn publish(&mut self, lines: Sender<PublishedLine>) {
        self.published = Some(Published {
            lines,
            epoch: 0,
            number: 0,
            session: CompactString::default(),
            numbering: 0,
            heard: None,
        });
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

    /// The numbering of the session has restarted so often.
    pub(super) fn note_numbering(&mut self, numbering: u32) {
        if let Some(published) = &mut self.published {
            published.numbering = numbering;
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
        let Some(published) = &self.published else { return self.orders.try_send(message) };
        self.send_to_orders(message.clone(), published.numbering)?;
        if let Some(published) = &mut self.published {
            published.send(message);
        }
        Ok(())
    }

    /// Sends a message that was published by another process, in this numbering of its session.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn try_send_followed(
        &mut self,
        message: OrderFeedMessage,
        numbering: u32,
    ) -> Result<(), Refused<OrderFeedMessage>> {
        self.send_to_orders(message, numbering)
    }

    /// An orders thread that missed the restart of a numbering is told of it by the next message that
    /// names the session: the place alone does not tell, since nodes that read in turn go back to lines
    /// that others have had.
    fn send_to_orders(
        &mut self,
        message: OrderFeedMessage,
        numbering: u32,
    ) -> Result<(), Refused<OrderFeedMessage>> {
        let message = match (message, &self.told) {
            (OrderFeedMessage::Session { session, sequence }, Some((told, before)))
                if session == *told && numbering != *before =>
            {
                OrderFeedMessage::Renumbered { session, sequence }
            }
            (message, _) => message,
        };
        let named = message.session().cloned();
        self.orders.try_send(message)?;
        if let Some(session) = named {
            self.told = Some((session, numbering));
        }
        Ok(())
    }
}

impl Published {
    fn send(&mut self, message: OrderFeedMessage) {
        if let Some(session) = message.session() {
            self.session = session.clone();
        }
        self.number += 1;
        let heard = match &message {
            OrderFeedMessage::Position { .. } => self.heard.take(),
            _ => None,
        };
        // If there is no room the number is missing.
        let _noticed_by_followers = self.lines.try_send(PublishedLine {
            epoch: self.epoch,
            number: self.number,
            session: self.session.clone(),
            numbering: self.numbering,
            heard,
            message,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::mailbox;

    fn session(sequence: u64) -> OrderFeedMessage {
        OrderFeedMessage::Session { session: "s".into(), sequence }
    }

    fn renumbered(sequence: u64) -> OrderFeedMessage {
        OrderFeedMessage::Renumbered { session: "s".into(), sequence }
    }

    #[test]
    fn a_numbering_that_restarted_unseen_is_told_once_and_a_place_further_back_is_none() {
        let (sender, mut receiver) = mailbox(64);
        let (published, mut lines) = mailbox(64);
        let mut orders = OrderLines::new(sender);
        orders.publish(published);
        let mut told = |orders: &mut OrderLines, message, numbering| {
            orders.try_send_followed(message, numbering).unwrap();
            receiver.try_recv().unwrap()
        };
        assert_eq!(told(&mut orders, session(900), 0), session(900));
        assert_eq!(told(&mut orders, session(899), 0), session(899));
        assert_eq!(told(&mut orders, session(3), 1), renumbered(3));
        assert_eq!(told(&mut orders, session(5), 1), session(5));
        // This process reads the feed, whose numbering has restarted once more meanwhile.
        orders.begin_epoch(7);
        orders.note_numbering(2);
        orders.try_send(session(1)).unwrap();
        assert_eq!(receiver.try_recv(), Some(renumbered(1)));
        let line = lines.try_recv().unwrap();
        assert_eq!((line.message, line.numbering), (session(1), 2));
    }
}
