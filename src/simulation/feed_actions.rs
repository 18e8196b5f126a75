//! Actions of the feed and its sessions.

use compact_str::CompactString;

use super::exchange::Exchange;
use super::feed::{FeedLink, OddAnswer};
use super::focus::Focus;
use super::garble;
use super::published::PublishedLine;
use super::trace::say;
use super::world::World;
use crate::exchange::wire::FeedLineType;

/// Trades that a restarted exchange continues with.
const PRINTS_AT_ONCE: usize = 12;

/// Sessions.
impl World<'_> {
    /// Whether nothing that the exchange said before its restart is still on its way to the
    /// process: an id is reused much later than that.
    pub(super) fn is_quiet_about_ids(&self) -> bool {
        let feed = self.exchange.feed();
        let is_current = |(session, sequence): (&CompactString, u64)| {
            *session == feed.session() && sequence <= feed.last()
        };
        self.others.waiting_count() == 0
            && self.node.as_ref().is_some_and(|node| {
                let engines = &node.driver().engines;
                engines.unmatched_reports() == 0 && engines.feed_position().is_some_and(is_current)
            })
    }

    /// Whether every line that only the feed has is durable here.
    fn has_all_feed_only_lines(&self) -> bool {
        let lines = self.exchange.feed().lines();
        lines
            .iter()
            .filter(|line| line.only_on_feed)
            .all(|line| self.durable.has(line, &self.exchange))
    }

    /// A restart removes the lines of the old session, so those that only the feed has must have
    /// come.
    pub(super) fn restart_exchange(&mut self) -> bool {
        if !self.has_all_feed_only_lines() && !self.exchange.loses_busts {
            return false;
        }
        let keeps_name = self.dice.percent(self.profile.kept_names);
        say!(self.trace, "the exchange starts again, under the same name: {keeps_name}");
        self.trace.count("restarts of the exchange");
        self.exchange.restart(keeps_name);
        if self.exchange.feed().has_restarted_numbering() {
            self.trace.count("numberings that begin again");
        }
        if self.profile.focus == Focus::Renumbering {
            self.resume_at_once();
        }
        true
    }

    /// Reads the feed again at once, and fills orders that slightly older records show as open.
    fn resume_at_once(&mut self) {
        // One read to learn that the old lines are gone, one to resume after them.
        for _ in 0..2 {
            self.feed_lines();
        }
        for _ in 0..PRINTS_AT_ONCE {
            self.print();
        }
        self.feed_lines();
    }

    /// Renames the session; records keep the old name for a while. The connection continues, or
    /// breaks. A reader that asks for the old name learns that it is gone, so the lines that only
    /// the feed has must have come.
    pub(super) fn rename_session(&mut self) -> bool {
        if !self.has_all_feed_only_lines() && !self.exchange.loses_busts {
            return false;
        }
        let millis = self.dice.between(0, 120);
        self.exchange.rename_session(self.clock.micros() + millis * 1_000);
        let name = self.exchange.feed().session();
        say!(self.trace, "the session is {name} now, to records in {millis} ms");
        self.trace.count("sessions with another name");
        if self.dice.percent(50) {
            self.feed_cut();
        }
        true
    }
}

/// The feed.
impl World<'_> {
    pub(super) fn feed_lines(&mut self) -> bool {
        let count = self.dice.between(1, 6);
        let is_odd = !self.is_calm && self.dice.percent(self.profile.other_sessions);
        let answer = match self.dice.below(2) {
            _ if !is_odd => OddAnswer::Gone,
            0 => OddAnswer::FromEnd,
            _ => OddAnswer::FromBeginning,
        };
        self.on_feed(None, |feed, exchange| feed.bring(exchange, count, answer))
    }

    pub(super) fn feed_beat(&mut self) -> bool {
        let timestamp = self.clock.exchange();
        self.on_feed(None, |feed, exchange| feed.beat(exchange, timestamp))
    }

    pub(super) fn feed_cut(&mut self) -> bool {
        self.on_feed(Some("cuts of the feed"), |feed, _| feed.cut())
    }

    pub(super) fn feed_again(&mut self) -> bool {
        let back = self.dice.between(0, 12);
        self.on_feed(Some("repeated lines"), |feed, exchange| feed.repeat(exchange, back))
    }

    pub(super) fn feed_gap(&mut self) -> bool {
        let count = self.dice.between(1, 4);
        self.lose_lines(count)
    }

    fn lose_lines(&mut self, count: u64) -> bool {
        let Some(node) = &mut self.node else { return false };
        let (engines, durable, exchange) = (&node.driver.engines, &self.durable, &self.exchange);
        // Lines that queries make up for. A lost bust is found when an open order is queried, if
        // the voided execution was counted.
        let may_be_lost = |published: &PublishedLine| {
            let line = &published.line;
            let (Some(order_id), Some(execution)) = (published.order, &line.execution_id) else {
                return !published.only_on_feed;
            };
            let is_open = engines.order(order_id).is_some_and(|order| order.is_open());
            let is_counted = durable.counted(order_id).any(|(id, _)| id == execution);
            let is_bust = line.line_type == FeedLineType::Bust;
            !published.only_on_feed || (is_bust && exchange.loses_busts && is_open && is_counted)
        };
        let has_lost = node.feed.lose(exchange, count, may_be_lost);
        self.after_feed(has_lost, Some("gaps of the feed"))
    }

    /// Garbles a line, if a query makes up for it.
    pub(super) fn feed_garble(&mut self) -> bool {
        let (node, dice, exchange) = (&mut self.node, &mut self.dice, &self.exchange);
        let Some(node) = node else { return false };
        let only_orders = self.profile.focus.is_about_lines_of_orders();
        let may_be_lost = |published: &PublishedLine| {
            !published.only_on_feed && (!only_orders || published.order.is_some())
        };
        let is_cut = self.profile.focus == Focus::CutLines;
        let garble = if is_cut { garble::cut_order } else { garble::line };
        let has_garbled =
            node.feed.garble(exchange, may_be_lost, |published| garble(&published.line, dice));
        self.after_feed(has_garbled, Some("lines that cannot be read"))
    }

    /// Brings something that is not a line, beside the next line or instead of it.
    pub(super) fn feed_junk(&mut self) -> bool {
        let is_idle = self.profile.focus.is_about_lines_of_orders()
            && !self.node.as_ref().is_some_and(|node| node.feed.is_before_order(&self.exchange));
        if is_idle {
            return false;
        }
        let junk = match self.profile.focus {
            Focus::LostLines => garble::print_without_number(),
            _ => garble::junk(&mut self.dice),
        };
        let has_come = self
            .on_feed(Some("junk between lines"), |feed, exchange| feed.bring_junk(exchange, junk));
        if has_come && self.dice.percent(30) {
            self.lose_lines(1);
        }
        has_come
    }

    pub(super) fn feed_swap(&mut self) -> bool {
        self.on_feed(Some("swapped lines"), |feed, exchange| feed.swap(exchange))
    }

    /// The exchange does not keep lines forever.
    pub(super) fn feed_forget(&mut self) -> bool {
        let count = self.exchange.feed().lines().len();
        let (true, Some(place)) = (self.has_all_feed_only_lines(), self.dice.place(count)) else {
            return false;
        };
        say!(self.trace, "the exchange forgets the lines before {}", place + 1);
        self.trace.count("forgotten lines");
        self.exchange.feed_mut().forget_before(place);
        true
    }

    /// Acts on the feed. False if that was not possible.
    fn on_feed(
        &mut self,
        counted: Option<&'static str>,
        act: impl FnOnce(&mut FeedLink, &Exchange) -> bool,
    ) -> bool {
        let Some(node) = &mut self.node else { return false };
        node.feed.at(self.clock.ours().monotonic);
        let has_acted = act(&mut node.feed, &self.exchange);
        self.after_feed(has_acted, counted)
    }

    fn after_feed(&mut self, has_acted: bool, counted: Option<&'static str>) -> bool {
        let Some(node) = &mut self.node else { return false };
        for note in node.feed.notes.drain(..) {
            say!(self.trace, "{note}");
        }
        if std::mem::take(&mut node.feed.saw_restart) {
            self.exchange.feed_mut().set_restart_known(true);
        }
        for sequence in node.feed.unsure.drain(..) {
            self.exchange.feed_mut().mark_unsure(sequence);
        }
        for sequence in node.feed.unread.drain(..) {
            self.exchange.feed_mut().mark_unread(sequence);
        }
        for sequence in node.feed.taken.drain(..) {
            self.exchange.feed_mut().mark_taken(sequence);
        }
        if let (true, Some(what)) = (has_acted, counted) {
            self.trace.count(what);
        }
        has_acted
    }
}
