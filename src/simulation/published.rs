//! The exchange's published feed, in sessions with names, in numberings that restart under the same
//! name, and under names that change.

use compact_str::{CompactString, format_compact};

use crate::exchange::wire::{FeedLine, FeedLineType};
use crate::types::OrderId;

/// The first sequence of a session follows this one. Restarted numberings begin lower, by more than
/// a seed has lines, so that no reader can take them for the lines it was to resume from: a feed
/// that has overtaken the old numbering unread cannot be told apart.
const FIRST_BASE: u64 = 60_000;
const BASE_STEP: u64 = 20_000;

/// A line of the feed.
#[derive(Debug, Clone)]
pub(super) struct PublishedLine {
    pub(super) line: FeedLine,
    /// The order that it is about, whatever ids it carries.
    pub(super) order: Option<OrderId>,
    /// Only the feed has it: no query shows it, so a lost one is lost for good. This feed loses
    /// others only.
    pub(super) only_on_feed: bool,
    /// It may have come so garbled that its order was unknown, or junk came in its place: the
    /// position passes it, and a query makes up for it.
    pub(super) is_unsure: bool,
    /// Of its content only the order may have been readable: the order keeps that as a case until
    /// its record makes up for it.
    pub(super) is_unread: bool,
    /// A record of its order, queried after the line, may have been unreadable: the order keeps
    /// that as a case until a readable one makes up for the line.
    pub(super) is_record_unread: bool,
    /// The running process has taken it from the feed, so nothing else is to make up for it.
    pub(super) is_taken: bool,
}

/// The feed as the exchange keeps it.
pub(super) struct Published {
    sessions: u64,
    session: CompactString,
    /// Counts the numberings; a connection belongs to one.
    numbering: u32,
    /// Whether the numbering has restarted under its name.
    has_restarted_numbering: bool,
    /// Whether the process can tell that it has.
    is_restart_known: bool,
    /// The sequence before the first line.
    base: u64,
    lines: Vec<PublishedLine>,
    /// The oldest sequence kept.
    first_kept: u64,
}

impl Published {
    pub(super) fn new() -> Self {
        Self {
            sessions: 1,
            session: format_compact!("1"),
            numbering: 1,
            has_restarted_numbering: false,
            is_restart_known: false,
            base: FIRST_BASE,
            lines: Vec::new(),
            first_kept: FIRST_BASE + 1,
        }
    }

    /// Adds a line and numbers it.
    pub(super) fn push(&mut self, mut line: FeedLine, order: Option<OrderId>, only_on_feed: bool) {
        line.sequence = self.last() + 1;
        self.lines.push(PublishedLine {
            line,
            order,
            only_on_feed,
            is_unsure: false,
            is_unread: false,
            is_record_unread: false,
            is_taken: false,
        });
    }

    /// Begins another session: the lines of the old one are gone.
    pub(super) fn begin_session(&mut self) {
        self.rename();
        self.has_restarted_numbering = false;
        self.is_restart_known = false;
        self.begin_numbering(FIRST_BASE);
    }

    /// Restarts the numbering under the same name. False if it cannot restart again.
    pub(super) fn restart_numbering(&mut self) -> bool {
        let Some(base) = self.base.checked_sub(BASE_STEP) else { return false };
        self.has_restarted_numbering = true;
        self.begin_numbering(base);
        true
    }

    /// Renames the session; its numbering continues.
    pub(super) fn rename(&mut self) {
        self.sessions += 1;
        self.session = format_compact!("{}", self.sessions);
    }

    fn begin_numbering(&mut self, base: u64) {
        self.numbering += 1;
        self.base = base;
        self.lines.clear();
        self.first_kept = base + 1;
    }

    /// The name of the session.
    pub(super) fn session(&self) -> CompactString {
        self.session.clone()
    }

    pub(super) const fn numbering(&self) -> u32 {
        self.numbering
    }

    pub(super) const fn has_restarted_numbering(&self) -> bool {
        self.has_restarted_numbering
    }

    pub(super) const fn is_restart_known(&self) -> bool {
        self.is_restart_known
    }

    /// Notes whether the process can tell that the numbering has restarted under its name.
    pub(super) const fn set_restart_known(&mut self, is_known: bool) {
        self.is_restart_known = is_known;
    }

    /// The last sequence.
    pub(super) fn last(&self) -> u64 {
        self.base + self.lines.len() as u64
    }

    /// The oldest sequence kept.
    pub(super) const fn first_kept(&self) -> u64 {
        self.first_kept
    }

    /// Forgets the lines before an index: a reader that asks for them learns that they are gone.
    pub(super) fn forget_before(&mut self, place: usize) {
        self.first_kept = self.first_kept.max(self.base + place as u64 + 1);
    }

    /// Whether a reader may begin at a sequence.
    pub(super) fn keeps(&self, sequence: u64) -> bool {
        (self.first_kept..=self.last() + 1).contains(&sequence)
    }

    /// All lines of this numbering.
    pub(super) fn lines(&self) -> &[PublishedLine] {
        &self.lines
    }

    /// The line with a sequence.
    pub(super) fn at(&self, sequence: u64) -> Option<&PublishedLine> {
        let place = usize::try_from(sequence.checked_sub(self.base + 1)?).ok()?;
        self.lines.get(place)
    }

    /// Marks a line whose content may not have come.
    pub(super) fn mark_unsure(&mut self, sequence: u64) {
        if let Some(line) = self.at_mut(sequence) {
            line.is_unsure = true;
        }
    }

    /// Marks a line where only the order may have been readable.
    pub(super) fn mark_unread(&mut self, sequence: u64) {
        if let Some(line) = self.at_mut(sequence) {
            line.is_unread = true;
        }
    }

    /// Marks the lines so far of an order whose record may come unreadable.
    pub(super) fn mark_record_unread(&mut self, order_id: OrderId) {
        for line in self.lines.iter_mut().filter(|line| line.order == Some(order_id)) {
            line.is_record_unread = true;
        }
    }

    /// Marks a line that the running process has taken.
    pub(super) fn mark_taken(&mut self, sequence: u64) {
        if let Some(line) = self.at_mut(sequence) {
            line.is_taken = true;
        }
    }

    /// Another process starts, which has taken no line.
    pub(super) fn forget_taken(&mut self) {
        for line in &mut self.lines {
            line.is_taken = false;
        }
    }

    fn at_mut(&mut self, sequence: u64) -> Option<&mut PublishedLine> {
        let place = usize::try_from(sequence.checked_sub(self.base + 1)?).ok()?;
        self.lines.get_mut(place)
    }

    /// A heartbeat.
    pub(super) fn beat(&self, timestamp: crate::types::TimestampMicros) -> FeedLine {
        FeedLine {
            sequence: self.last(),
            line_type: FeedLineType::Heartbeat,
            execution_id: None,
            symbol: None,
            price_in_cents: None,
            num_shares: None,
            order_id: None,
            volume: true,
            timestamp,
        }
    }
}
