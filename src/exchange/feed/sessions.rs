//! The sessions of a feed and their numberings: how one begins, goes on after a reconnect, or starts
//! again under its own name.

use std::time::Instant;

use compact_str::CompactString;

use super::super::feed_types::OrderFeedMessage;
use super::super::wire::FeedSession;
use super::following::shown_name;
use super::{Ended, Feed, MAX_SESSIONS_PER_CONNECTION};
use crate::market::MAX_SEQUENCE;
use crate::types::quoted;

/// Longest session name. It becomes part of the event ids of price streams.
const MAX_SESSION_BYTES: usize = 64;

impl Feed {
    /// Takes the session line: the first of a connection, or a new session in the middle of one.
    pub(super) fn take_session(
        &mut self,
        asked: Option<&(CompactString, u64)>,
        FeedSession { session, sequence }: FeedSession,
    ) -> Result<(), Ended> {
        check_session(&session)?;
        check_sequence(sequence)?;
        let going_on = asked.filter(|(asked, _)| *asked == session).map(|(_, from)| *from);
        if let Some((asked, _)) = asked.filter(|_| going_on.is_none()) {
            self.metrics.other_sessions.inc();
            tracing::error!(%asked, %session, "the feed has another session than the requested one");
        }
        let is_known = self.session.as_ref() == Some(&session);
        // The first sequence expected. A session line below it means that the numbering restarted.
        let read = going_on.or_else(|| is_known.then_some(self.last_read + 1)).or_else(|| {
            let before = self.previous.as_ref().filter(|(of, _)| *of == session);
            before.map(|(_, last)| last + 1)
        });
        if read.is_some_and(|read| sequence + 1 < read) {
            let may_repeat = is_known && going_on.is_some();
            if !(may_repeat && self.numbering.remembers(sequence + 1)) {
                return self.renumber(session, sequence);
            }
            // More than was asked for, or the numbering restarted: the lines tell, since those that
            // were taken are remembered.
            tracing::info!(%session, sequence, "the feed begins with lines that were taken before");
        }
        let before = going_on.map_or(sequence, |from| from.saturating_sub(1));
        tracing::info!(%session, sequence = before, "the feed is up");
        if is_known && going_on.is_some() {
            self.follow(session, before);
            self.numbering.connect(sequence.min(before));
            return match self.announce(before) {
                true => Ok(()),
                false => Err(Ended::Unexpected("the orders queue is full".into())),
            };
        }
        self.count_begun()?;
        let last = self.session.as_ref().or(self.previous.as_ref().map(|(session, _)| session));
        if last.is_some_and(|last| *last != session) {
            self.renumberings = 0;
            self.symbols.begin_numbering(&mut self.market);
        }
        let message = |session, sequence| OrderFeedMessage::Session { session, sequence };
        self.begin(session, before, message)
    }

    /// The numbering restarted under the session's own name and goes on from `sequence`. Everything
    /// downstream sees a new session.
    pub(super) fn renumber(&mut self, session: CompactString, sequence: u64) -> Result<(), Ended> {
        self.count_begun()?;
        self.metrics.renumberings.inc();
        self.renumberings += 1;
        let last_read = self.last_read;
        if let Some(count) = self.renumber_log.note(self.received) {
            tracing::error!(
                %session, sequence, last_read, count,
                "the feed's numbering restarted under the same session; reconciling all orders"
            );
        }
        self.previous = None;
        self.symbols.begin_numbering(&mut self.market);
        let message = |session, sequence| OrderFeedMessage::Renumbered { session, sequence };
        self.begin(session, sequence, message)
    }

    /// Counts a session or numbering that is about to begin.
    fn count_begun(&mut self) -> Result<(), Ended> {
        if self.begun == MAX_SESSIONS_PER_CONNECTION {
            return Err(Ended::TooManySessions);
        }
        self.begun += 1;
        Ok(())
    }

    /// Begins a session whose lines follow `before`, and sends `message` to the orders thread.
    fn begin(
        &mut self,
        session: CompactString,
        before: u64,
        message: impl FnOnce(CompactString, u64) -> OrderFeedMessage,
    ) -> Result<(), Ended> {
        let counted = self.previous.take().filter(|(of, _)| *of == session).map(|(_, last)| last);
        self.last_sequence = before.max(counted.unwrap_or(0));
        if counted.is_none() {
            self.orders_from = 0;
        }
        let name = shown_name(&session, self.renumberings);
        self.market.begin_session(&name, self.last_sequence + 1);
        self.numbering.begin();
        let handed_over = before.max(self.orders_from.saturating_sub(1));
        let message = message(session.clone(), handed_over);
        self.must_reconcile_all = false;
        self.begin_candles(&session, before);
        self.follow(session, before);
        // At once: what follows can be read again from here.
        (self.checkpointed, self.next_checkpoint) = (None, Instant::now());
        self.put_checkpoint();
        if self.orders.try_send(message).is_err() {
            // The session stays unset, so the next connection sends it again.
            self.session = None;
            return Err(Ended::Unexpected("the orders queue is full".into()));
        }
        self.must_announce = false;
        Ok(())
    }

    /// Lines of a session follow `before`.
    fn follow(&mut self, session: CompactString, before: u64) {
        // Lines still to be read again follow now, or belong to another session.
        self.reread_from = None;
        (self.last_read, self.unnumbered) = (before, 0);
        self.numbering.connect(before);
        self.orders.note_numbering(self.renumberings);
        self.session = Some(session);
        self.market.set_up(true);
        self.metrics.up.set(1);
    }
}

/// The session name is sent to clients inside a line of an SSE stream, so nothing in it may end a
/// line.
fn check_session(session: &str) -> Result<(), Ended> {
    let printable = session.bytes().all(|byte| byte.is_ascii_graphic());
    if session.is_empty() || session.len() > MAX_SESSION_BYTES || !printable {
        let given = quoted(session);
        return Err(Ended::Unexpected(format!(
            "the feed session {given} is not 1 to {MAX_SESSION_BYTES} printable ASCII characters without spaces"
        )));
    }
    Ok(())
}

/// The next sequence must be valid as well.
fn check_sequence(sequence: u64) -> Result<(), Ended> {
    if sequence < MAX_SEQUENCE {
        Ok(())
    } else {
        Err(Ended::Unexpected(format!("the feed sequence {sequence} is not below {MAX_SEQUENCE}")))
    }
}
