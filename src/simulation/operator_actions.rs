//! Actions of operators, and of the exchange that posts to us.

use std::sync::Arc;

use super::exchange::SYMBOLS;
use super::garble;
use super::published::PublishedLine;
use super::trace::say;
use super::world::World;
use crate::exchange::wire::{FeedLine, FeedLineType};
use crate::oms::{CancelScope, Halts};
use crate::order::{CashMovementKind, CashTerms};
use crate::types::{CashMovementId, Symbol, UserId};

/// The newest lines, which the exchange may still post.
const NEWEST_LINES: usize = 12;

/// Ids of cash movements of a user.
const CASH_IDS: usize = 24;
/// The smallest deposit, in cents.
const CASH_STEP_CENTS: i64 = 30_000;

impl World<'_> {
    fn some_user(&mut self) -> Option<UserId> {
        self.dice.pick(&self.clients.users).cloned()
    }

    fn some_symbol(&mut self) -> Option<Symbol> {
        Symbol::new(self.dice.pick(&SYMBOLS)?).ok()
    }

    pub(super) fn mass_cancel(&mut self) -> bool {
        let scope = CancelScope {
            user: if self.dice.percent(50) { self.some_user() } else { None },
            symbol: if self.dice.percent(50) { self.some_symbol() } else { None },
        };
        let Some(node) = &self.node else { return false };
        say!(self.trace, "an operator cancels {scope:?}");
        self.others.cancel_all(node.commands(), scope, &self.durable);
        true
    }

    /// Sets a halt, or more often none: otherwise little would happen.
    pub(super) fn halt(&mut self) -> bool {
        let halts = match self.dice.below(5) {
            0 => Halts { all: true, ..Halts::default() },
            1 => Halts { users: self.some_user().into_iter().collect(), ..Halts::default() },
            2 => Halts { symbols: self.some_symbol().into_iter().collect(), ..Halts::default() },
            _ => Halts::default(),
        };
        let (all, users, symbols) = (halts.all, &halts.users, &halts.symbols);
        say!(self.trace, "an operator halts all: {all}, {users:?}, {symbols:?}");
        self.machine.kill_switch.put_in_force(Arc::new(halts));
        true
    }

    /// Moves cash under one of a few ids, which stands for one movement nearly always.
    pub(super) fn move_cash(&mut self) -> bool {
        let number = self.dice.below(CASH_IDS);
        let (Some(user), Ok(id)) = (self.some_user(), CashMovementId::new(&format!("c{number}")))
        else {
            return false;
        };
        let is_other = self.dice.percent(10);
        // Withdrawals are large, so that they meet what open orders reserve.
        let (kind, step) = match number % 3 {
            0 => (CashMovementKind::Withdrawal, 5 * CASH_STEP_CENTS),
            _ => (CashMovementKind::Deposit, CASH_STEP_CENTS),
        };
        let steps = match number % 4 {
            0 => 3,
            1 => 2,
            _ => 1,
        };
        let cents = step * steps + i64::from(is_other);
        let Some(node) = &self.node else { return false };
        let terms = CashTerms { kind, cents };
        say!(self.trace, "an operator moves cash of {user} under {id}: {terms:?}");
        self.others.move_cash(&node.service, (user, id, terms));
        true
    }

    /// The exchange posts some of its newest lines, in any order.
    pub(super) fn post_lines(&mut self) -> bool {
        let newest = self.exchange.feed().lines().iter().rev().take(NEWEST_LINES);
        let newest: Vec<PublishedLine> = newest
            .filter(|published| published.line.order_id.is_some())
            // Incomplete lines come only by the feed.
            .filter(|PublishedLine { line, .. }| {
                line.symbol.is_some() || line.line_type != FeedLineType::Trade
            })
            .cloned()
            .collect();
        let (Some(node), false) = (&self.node, newest.is_empty()) else { return false };
        let count = self.dice.below(4) + 1;
        let posted: Vec<PublishedLine> =
            (0..count).filter_map(|_| self.dice.pick(&newest).cloned()).collect();
        let lines: Vec<FeedLine> = posted.iter().map(|posted| posted.line.clone()).collect();
        let sequences: Vec<u64> = lines.iter().map(|line| line.sequence).collect();
        say!(self.trace, "the exchange posts lines {sequences:?}");
        let chance = if self.is_calm { 0 } else { self.profile.garbled };
        let session = self.exchange.feed().session();
        let (read, honest) = garble::posted(&session, &lines, (chance, &mut self.dice));
        for unreadable in &read.lines.unreadable {
            say!(self.trace, "  one of them as {:?}", unreadable.text);
            self.trace.count("posted lines that cannot be read");
        }
        // Readable lines are confirmed, whatever is beside them.
        let honest = honest.into_iter().map(|place| posted[place].clone()).collect();
        self.others.post(node.commands(), honest, read);
        true
    }
}
