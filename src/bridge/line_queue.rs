//! Order lines on their way into the stream: kept until Redis has them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, Pipeline, RedisError};

use super::line_message::LineMessage;
use super::message::encode;
use super::names::{LINE, LINES};
use super::stream_id::{EntryId, newest_entry};
use crate::exchange::PublishedLine;
use crate::sync::Receiver;

/// Most lines of one request.
const MAX_BATCH_LINES: usize = 1_024;
/// About how many entries the stream keeps: a minute of 2,000 a second. A reader that was away for
/// longer notices, and has its orders reconciled.
const KEPT_ENTRIES: u64 = 131_072;

/// How long a stream of a later epoch must have stood still before it counts as one that nobody writes. A
/// holder that lives writes each second.
const STANDS_STILL: Duration = Duration::from_secs(3);

/// The lines that Redis does not have yet.
pub(super) struct LineQueue {
    lines: Receiver<PublishedLine>,
    /// Taken from the queue, and sent, if at all, without an answer yet.
    taken: VecDeque<PublishedLine>,
    /// The newest entry of the stream, if it is of a later epoch than ours, and since when.
    ahead: Option<(EntryId, Instant)>,
}

impl LineQueue {
    pub(super) fn new(lines: Receiver<PublishedLine>) -> Self {
        Self { lines, taken: VecDeque::new(), ahead: None }
    }

    /// Whether there are lines to send.
    pub(super) fn is_empty(&self) -> bool {
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
    pub(super) fn keep_epoch(&mut self, epoch: u64) {
        while self.taken.len() < MAX_BATCH_LINES
            && let Some(line) = self.lines.try_recv()
        {
            self.taken.push_back(line);
        }
        self.taken.retain(|line| line.epoch == epoch);
    }

    /// A connection begins: what Redis already has is not sent again.
    pub(super) async fn connect(
        &mut self,
        epoch: u64,
        mut connection: MultiplexedConnection,
    ) -> Result<(), RedisError> {
        let Some(newest) = newest_entry(&mut connection).await? else { return Ok(()) };
        if newest.epoch > epoch {
            let now = Instant::now();
            let (seen, since) = *self.ahead.get_or_insert((newest, now));
            if seen != newest || now.saturating_duration_since(since) < STANDS_STILL {
                if seen != newest {
                    self.ahead = Some((newest, now));
                }
                return Err((ErrorKind::Client, "the lines of orders have a later epoch").into());
            }
            // Nobody writes it, and Postgres has given us the lease: it was set back. Readers begin anew.
            tracing::warn!(
                epoch,
                found = newest.epoch,
                "the stream of order lines has a later epoch than the lease of the feed: it begins anew"
            );
            return redis::cmd("DEL").arg(LINES).query_async(&mut connection).await;
        }
        self.ahead = None;
        if newest.epoch == epoch {
            self.taken.retain(|line| line.number > newest.number);
        }
        Ok(())
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
        commands(self.taken.iter()).query_async::<()>(&mut connection).await?;
        self.taken.clear();
        Ok(count)
    }
}

fn commands<'a>(lines: impl Iterator<Item = &'a PublishedLine>) -> Pipeline {
    let mut commands = Pipeline::new();
    for line in lines {
        let id = EntryId { epoch: line.epoch, number: line.number };
        let text = encode(&LineMessage::of(line));
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
        PublishedLine { epoch, number, session: "s".into(), heard: None, message }
    }

    #[test]
    fn entries_have_the_epoch_and_the_number_as_their_id() {
        let bytes = commands([line(7, 1), line(7, 2)].iter()).get_packed_pipeline();
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
        let mut queue = LineQueue::new(receiver);
        assert!(!queue.is_empty());
        queue.keep_epoch(7);
        assert_eq!(queue.taken.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 2]);
    }
}
