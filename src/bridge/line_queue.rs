//! Order lines on their way into the stream: kept until Redis has them.

use std::collections::VecDeque;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, Pipeline, RedisError};

use super::line_message::LineMessage;
use super::message::encode;
use super::names::{LINE, LINES};
use super::stream_id::{Entry, EntryId, newest_entry};
use crate::exchange::PublishedLine;
use crate::sync::Receiver;
use crate::types::MonotonicMicros;

/// Most lines of one request.
const MAX_BATCH_LINES: usize = 1_024;
/// About how many entries the stream keeps: a minute of 2,000 a second. A reader that was away for
/// longer notices, and has its orders reconciled.
const KEPT_ENTRIES: u64 = 131_072;

/// How long a stream of a later epoch must have stood still before it counts as one that nobody writes. A
/// holder that lives writes each second.
const STANDS_STILL: Duration = Duration::from_secs(3);

/// The lines that Redis does not have yet.
pub(crate) struct LineQueue {
    lines: Receiver<PublishedLine>,
    /// Taken from the queue, and sent, if at all, without an answer yet.
    taken: VecDeque<PublishedLine>,
    /// The newest entry of the stream, if it is another's and of no earlier epoch than ours, and since when.
    ahead: Option<(EntryId, MonotonicMicros)>,
    /// The last epoch of which entries were sent, or may have been.
    sent_in: u64,
    /// Tells the entries of this process from those of others.
    writer: u64,
}

/// What the stream is to this queue when a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It goes on with our lines.
    Ours,
    /// A later epoch writes it, or another process in ours.
    Later,
    /// The same, and nobody writes it: the lease was set back. It is to begin anew.
    Abandoned,
}

impl LineQueue {
    /// The queue of a process that no other has the number `writer` of.
    pub(crate) fn new(lines: Receiver<PublishedLine>, writer: u64) -> Self {
        Self { lines, taken: VecDeque::new(), ahead: None, sent_in: 0, writer }
    }

    /// Whether there are lines to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.lines.is_empty()
    }

    /// Wakes this task when there are lines.
    pub(super) fn poll_some(&mut self, context: &mut std::task::Context<'_>) -> bool {
        if !self.taken.is_empty() {
            return true;
        }
        match self.lines.poll_recv(context) {
            std::task::Poll::Ready(Some(line)) => {
                self.taken.push_back(line);
                true
            }
            _ => false,
        }
    }

    /// Forgets the lines of other epochs: their followers have been told of a new one.
    pub(crate) fn keep_epoch(&mut self, epoch: u64) {
        while self.taken.len() < MAX_BATCH_LINES
            && let Some(line) = self.lines.try_recv()
        {
            self.taken.push_back(line);
        }
        self.taken.retain(|line| line.epoch == epoch);
    }

    /// A connection begins, and this is the newest entry of the stream: what Redis already has is not
    /// sent again.
    pub(crate) fn find(
        &mut self,
        epoch: u64,
        newest: Option<EntryId>,
        now: MonotonicMicros,
    ) -> Found {
        let Some(newest) = newest else { return Found::Ours };
        let is_of_another = newest.epoch == epoch && self.sent_in != epoch;
        if newest.epoch > epoch || is_of_another {
            let (seen, since) = *self.ahead.get_or_insert((newest, now));
            if seen != newest {
                self.ahead = Some((newest, now));
                return Found::Later;
            }
            let stands_still = now.saturating_since(since) >= STANDS_STILL;
            return if stands_still { Found::Abandoned } else { Found::Later };
        }
        self.ahead = None;
        if newest.epoch == epoch {
            self.taken.retain(|line| line.number > newest.number);
        }
        Found::Ours
    }

    /// A connection begins.
    pub(super) async fn connect(
        &mut self,
        epoch: u64,
        mut connection: MultiplexedConnection,
    ) -> Result<(), RedisError> {
        let newest = newest_entry(&mut connection).await?;
        match self.find(epoch, newest, MonotonicMicros::now()) {
            Found::Ours => Ok(()),
            Found::Later => {
                Err((ErrorKind::Client, "the lines of orders have a later epoch").into())
            }
            Found::Abandoned => {
                // Nobody writes it, and Postgres has given us the lease: it was set back. Readers
                // begin anew.
                tracing::warn!(
                    epoch,
                    found = newest.map(|newest| newest.epoch),
                    "the lease of the feed was set back behind the stream of order lines: it begins anew"
                );
                redis::cmd("DEL").arg(LINES).query_async(&mut connection).await
            }
        }
    }

    /// The entries to be added to the stream.
    pub(crate) fn entries(&mut self) -> impl Iterator<Item = Entry> {
        self.sent_in = self.taken.back().map_or(self.sent_in, |line| line.epoch);
        self.taken.iter().map(|line| {
            let id = EntryId { epoch: line.epoch, number: line.number };
            (id, encode(&LineMessage::of(line, self.writer)))
        })
    }

    /// Redis has them.
    pub(crate) fn sent(&mut self) {
        self.taken.clear();
    }

    /// Sends what there is, in one request.
    pub(super) async fn send(
        &mut self,
        epoch: u64,
        mut connection: MultiplexedConnection,
    ) -> Result<usize, RedisError> {
        self.keep_epoch(epoch);
        let count = self.taken.len();
        if count == 0 {
            return Ok(0);
        }
        commands(self.entries()).query_async::<()>(&mut connection).await?;
        self.sent();
        Ok(count)
    }
}

fn commands(entries: impl Iterator<Item = Entry>) -> Pipeline {
    let mut commands = Pipeline::new();
    for (id, text) in entries {
        let command = commands.cmd("XADD").arg(LINES).arg("MAXLEN").arg("~").arg(KEPT_ENTRIES);
        command.arg(id.to_string()).arg(LINE).arg(text).ignore();
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::OrderFeedMessage;
    use crate::sync::mailbox;

    fn line(epoch: u64, number: u64) -> PublishedLine {
        let message = OrderFeedMessage::Position { sequence: number };
        PublishedLine { epoch, number, session: "s".into(), numbering: 0, heard: None, message }
    }

    #[test]
    fn entries_have_the_epoch_and_the_number_as_their_id() {
        let (sender, receiver) = mailbox(8);
        let mut queue = LineQueue::new(receiver, 1);
        for line in [line(7, 1), line(7, 2)] {
            sender.try_send(line).unwrap();
        }
        queue.keep_epoch(7);
        let bytes = commands(queue.entries()).get_packed_pipeline();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("\r\n7-1\r\n") && text.contains("\r\n7-2\r\n"), "{text}");
        assert_eq!(text.matches("XADD").count(), 2);
    }

    #[test]
    fn lines_of_an_earlier_epoch_are_not_sent() {
        let (sender, receiver) = mailbox(8);
        for line in [line(6, 9), line(7, 1), line(7, 2)] {
            sender.try_send(line).unwrap();
        }
        let mut queue = LineQueue::new(receiver, 1);
        assert!(!queue.is_empty());
        queue.keep_epoch(7);
        assert_eq!(queue.taken.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_stream_of_a_later_epoch_is_left_alone_unless_it_stands_still() {
        let (sender, receiver) = mailbox(8);
        let mut queue = LineQueue::new(receiver, 1);
        for number in 1..=3 {
            sender.try_send(line(7, number)).unwrap();
        }
        queue.keep_epoch(7);
        let at = MonotonicMicros::new;
        let entry = |epoch, number| Some(EntryId { epoch, number });
        assert_eq!(queue.find(7, entry(8, 1), at(0)), Found::Later);
        assert_eq!(queue.find(7, entry(8, 2), at(3_000_000)), Found::Later, "somebody writes it");
        assert_eq!(queue.find(7, entry(8, 2), at(6_000_000)), Found::Abandoned);
        queue.entries().for_each(drop);
        assert_eq!(queue.find(7, entry(7, 2), at(6_000_000)), Found::Ours);
        let ids: Vec<_> = queue.entries().map(|(id, _)| id.number).collect();
        assert_eq!(ids, [3], "Redis has the others");
    }

    #[test]
    fn lines_of_another_process_in_our_epoch_are_not_taken_for_ours() {
        let (sender, receiver) = mailbox(8);
        let mut queue = LineQueue::new(receiver, 1);
        for number in 1..=3 {
            sender.try_send(line(7, number)).unwrap();
        }
        queue.keep_epoch(7);
        let at = MonotonicMicros::new;
        let newest = Some(EntryId { epoch: 7, number: 2 });
        assert_eq!(queue.find(7, newest, at(0)), Found::Later, "it may not know yet");
        assert_eq!(queue.find(7, newest, at(3_000_000)), Found::Abandoned);
        let ids: Vec<_> = queue.entries().map(|(id, _)| id.number).collect();
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!(queue.find(7, newest, at(3_000_001)), Found::Ours, "they were sent since");
    }
}
