//! The reader's side of the stream of order lines: turns its entries into messages for the orders
//! thread, and notices what is missing.

use compact_str::CompactString;

use super::line_message::LineMessage;
use super::stream_id::{Entry, EntryId};
use crate::exchange::OrderFeedMessage;
use crate::types::TimestampMicros;

/// How far the stream was read.
#[derive(Debug, Default)]
pub(crate) struct LineReader {
    /// The last entry; `None` before the first.
    last: Option<EntryId>,
    /// The session of the last entry, how often its numbering had restarted, and the sequence.
    position: Option<(CompactString, u32, u64)>,
    /// Entries may be missing before the next one.
    is_unsure: bool,
    /// Who has written the last entry.
    writer: u64,
    /// Entries up to this epoch say nothing new: this process has read the feed itself in it.
    led: u64,
}

/// What an entry tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Messages for the orders thread, in their order.
    pub(crate) messages: Vec<OrderFeedMessage>,
    /// The numbering of the session that they are in.
    pub(crate) numbering: u32,
    /// The exchange's time, if the entry is of a heartbeat.
    pub(super) heard: Option<TimestampMicros>,
    /// Entries before it may have been missed.
    pub(super) is_after_hole: bool,
}

impl LineReader {
    /// A reader of a process that has read the feed itself, last in this epoch.
    pub(crate) fn after_leading(epoch: u64) -> Self {
        Self { led: epoch, ..Self::default() }
    }

    /// Where reading goes on.
    pub(crate) fn last(&self) -> EntryId {
        self.last.unwrap_or(EntryId::FIRST)
    }

    /// The session, its numbering and the sequence up to which lines were handed over.
    pub(crate) fn position(&self) -> Option<&(CompactString, u32, u64)> {
        self.position.as_ref()
    }

    /// A connection begins: `newest` is the newest entry of the stream. Returns what is to be told if
    /// reading begins there, because there is nothing to go on from.
    pub(crate) fn connect(&mut self, newest: Option<Entry>) -> Option<Told> {
        match (self.last, newest) {
            (_, None) => {
                // What comes first is after a hole: the stream was emptied, or is the first.
                (self.last, self.is_unsure) = (None, true);
                None
            }
            (Some(last), Some((id, _))) if last <= id => None,
            (None, Some((id, text))) if id.epoch <= self.led => {
                // What this process has read is older here than it knows, and may be of a session that
                // has ended since. The next entry tells what was missed.
                if let Ok(read) = serde_json::from_slice::<LineMessage>(&text) {
                    self.position = Some((read.session, read.numbering, read.sequence));
                    self.writer = read.writer;
                }
                (self.last, self.is_unsure) = (Some(id), true);
                None
            }
            (_, Some(newest)) => {
                (self.last, self.is_unsure) = (None, true);
                Some(self.take(newest))
            }
        }
    }

    /// Takes the next entry.
    pub(crate) fn take(&mut self, (id, text): Entry) -> Told {
        let follows = self.last.is_some_and(|last| id.follows(last));
        self.last = Some(id);
        let Ok(read) = serde_json::from_slice::<LineMessage>(&text) else {
            // Its order is not known.
            self.is_unsure = true;
            return Told { messages: Vec::new(), numbering: 0, heard: None, is_after_hole: true };
        };
        // Two processes have written in one epoch if it was set back.
        let is_of_another = std::mem::replace(&mut self.writer, read.writer) != read.writer;
        let is_missing = !follows || is_of_another || self.is_unsure;
        let heard = read.heard();
        let (session, numbering, before) = (read.session.clone(), read.numbering, read.before());
        self.position = Some((session.clone(), numbering, read.sequence));
        self.is_unsure = false;
        let mut messages = Vec::new();
        if is_missing && !read.begins_session() {
            messages.push(OrderFeedMessage::Session { session, sequence: before });
        }
        messages.push(read.message());
        Told { messages, numbering, heard, is_after_hole: is_missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::message::encode;
    use crate::exchange::PublishedLine;

    fn entry(epoch: u64, number: u64, message: OrderFeedMessage) -> Entry {
        let line = PublishedLine {
            epoch,
            number,
            session: "s".into(),
            numbering: 2,
            heard: None,
            message,
        };
        (EntryId { epoch, number }, encode(&LineMessage::of(&line, 1)))
    }

    fn session(sequence: u64) -> OrderFeedMessage {
        OrderFeedMessage::Session { session: "s".into(), sequence }
    }

    fn position(sequence: u64) -> OrderFeedMessage {
        OrderFeedMessage::Position { sequence }
    }

    fn told(reader: &mut LineReader, entry: Entry) -> Vec<OrderFeedMessage> {
        reader.take(entry).messages
    }

    #[test]
    fn entries_in_a_row_are_handed_on_as_they_are() {
        let mut reader = LineReader::default();
        assert_eq!(reader.connect(None), None);
        assert_eq!(told(&mut reader, entry(7, 1, session(4))), [session(4)]);
        assert_eq!(told(&mut reader, entry(7, 2, position(5))), [position(5)]);
        assert_eq!(reader.position(), Some(&("s".into(), 2, 5)));
        // The connection was lost, and nothing else.
        assert_eq!(reader.connect(Some(entry(7, 3, position(6)))), None);
        assert_eq!(told(&mut reader, entry(7, 3, position(6))), [position(6)]);
    }

    #[test]
    fn a_hole_makes_orders_be_reconciled() {
        let mut reader = LineReader::default();
        let first = reader.connect(Some(entry(7, 5, position(50)))).unwrap();
        assert_eq!(
            first.messages,
            [session(50), position(50)],
            "nothing is known of what was before"
        );
        assert_eq!(told(&mut reader, entry(7, 7, position(70))), [session(70), position(70)]);
        assert_eq!(told(&mut reader, entry(8, 3, position(80))), [session(80), position(80)]);
        assert_eq!(told(&mut reader, entry(9, 1, session(90))), [session(90)]);
        assert_eq!(told(&mut reader, (EntryId { epoch: 9, number: 2 }, b"odd".to_vec())), []);
        assert_eq!(told(&mut reader, entry(9, 3, position(92))), [session(92), position(92)]);
    }

    #[test]
    fn a_stream_that_was_emptied_or_set_back_begins_again() {
        let mut reader = LineReader::default();
        reader.connect(None);
        told(&mut reader, entry(7, 1, session(4)));
        assert_eq!(reader.connect(None), None);
        assert_eq!(told(&mut reader, entry(7, 2, position(5))), [session(5), position(5)]);
        let back = reader.connect(Some(entry(3, 9, position(1)))).unwrap();
        assert_eq!(back.messages, [session(1), position(1)]);
        assert_eq!(told(&mut reader, entry(3, 10, position(2))), [position(2)]);
    }

    #[test]
    fn what_this_process_has_read_itself_is_no_news() {
        let mut reader = LineReader::after_leading(7);
        assert_eq!(reader.connect(Some(entry(7, 5, position(50)))), None);
        assert_eq!(reader.position(), Some(&("s".into(), 2, 50)));
        assert_eq!(told(&mut reader, entry(8, 1, session(40))), [session(40)]);
        // Set back: not what was read here, and nothing is known of what is missing.
        let mut reader = LineReader::after_leading(7);
        assert_eq!(reader.connect(Some(entry(7, 5, position(50)))), None);
        assert_eq!(told(&mut reader, entry(7, 6, position(51))), [session(51), position(51)]);
        // Another has read it since.
        let mut reader = LineReader::after_leading(7);
        let newest = reader.connect(Some(entry(8, 5, position(60)))).unwrap();
        assert_eq!(newest.messages, [session(60), position(60)]);
    }
}
