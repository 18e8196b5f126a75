//! What the exchange has published on its feed, and how it numbers that: in sessions with names of
//! their own, in numberings that begin again under the same name, under names that change.

use compact_str::{CompactString, format_compact};

use crate::exchange::wire::{FeedLine, FeedLineType};
use crate::types::OrderId;

/// The first sequence of a session follows on this. Sequences that begin again do so further below
/// than a seed has lines, so that no reader can take them for those that it was to go on from: where
/// a numbering has overtaken the old one unread, no feed shows it.
const FIRST_BASE: u64 = 60_000;
const BASE_STEP: u64 = 20_000;

/// A line of the feed.
#[derive(Debug, Clone)]
pub(super) struct PublishedLine {
    pub(super) line: FeedLine,
    /// The order that it is about, whatever ids it carries.
    pub(super) order: Option<OrderId>,
    /// No query brings what it says: a feed that loses it has lost it for good. This feed loses
    /// only others.
    pub(super) only_here: bool,
    /// It may have come so that nobody could say whose it is, or something else in its place: the
    /// position passes it, and a query makes up for it.
    pub(super) is_unsure: bool,
    /// It may have come so that nobody could read more of it than which order it is about: the order keeps
    /// it until its record makes up for it.
    pub(super) is_unread: bool,
}

/// The feed as the exchange keeps it.
pub(super) struct Published {
    sessions: u64,
    session: CompactString,
    /// Counts the numberings: a connection is one to a numbering.
    numbering: u32,
    /// Whether the numbering has begun again under its name.
    is_again: bool,
    /// The sequence before the first line.
    base: u64,
    lines: Vec<PublishedLine>,
    /// The first sequence that is still kept.
    first_kept: u64,
}

impl Published {
    pub(super) fn new() -> Self {
        Self {
            sessions: 1,
            session: format_compact!("1"),
            numbering: 1,
            is_again: false,
            base: FIRST_BASE,
            lines: Vec::new(),
            first_kept: FIRST_BASE + 1,
        }
    }

    /// Adds a line, and gives it its sequence.
    pub(super) fn push(&mut self, mut line: FeedLine, order: Option<OrderId>, only_here: bool) {
        line.sequence = self.last() + 1;
        self.lines.push(PublishedLine {
            line,
            order,
            only_here,
            is_unsure: false,
            is_unread: false,
        });
    }

    /// Another session begins: the lines of the old one are gone.
    pub(super) fn begin_session(&mut self) {
        self.rename();
        self.is_again = false;
        self.begin_numbering(FIRST_BASE);
    }

    /// The sequences begin again under the same name. False when that would be once too often.
    pub(super) fn begin_again(&mut self) -> bool {
        let Some(base) = self.base.checked_sub(BASE_STEP) else { return false };
        self.is_again = true;
        self.begin_numbering(base);
        true
    }

    /// The session has another name from now on, and its numbering goes on.
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

    pub(super) const fn is_again(&self) -> bool {
        self.is_again
    }

    /// The last sequence.
    pub(super) fn last(&self) -> u64 {
        self.base + self.lines.len() as u64
    }

    /// The first sequence that is kept.
    pub(super) const fn first_kept(&self) -> u64 {
        self.first_kept
    }

    /// Forgets the lines before one: who asks for them is told that they are gone.
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

    /// What a line says may not have come.
    pub(super) fn doubt(&mut self, sequence: u64) {
        if let Some(line) = self.at_mut(sequence) {
            line.is_unsure = true;
        }
    }

    /// Of what a line says only the order may have come.
    pub(super) fn note_unread(&mut self, sequence: u64) {
        if let Some(line) = self.at_mut(sequence) {
            line.is_unread = true;
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
