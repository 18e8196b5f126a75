//! Deposits and withdrawals. An id moves cash of its user once.
//!
//! The store has the ids of before this process, and the engine those of its own run and of the end
//! of the log that the start replayed. So an id that was used is in one of the two.

use std::sync::Arc;

use super::engines::Engines;
use super::outbox::{Effect, Outbox};
use super::partition::{Engine, Turn};
use crate::money::{Account, Refusal};
use crate::order::{CashMoved, CashMovementKind, CashTerms, Event, OperatorAct};
use crate::types::{CashMovementId, TimestampMicros, UserId};

/// An operator's request to move cash of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveCash {
    pub user: UserId,
    pub id: CashMovementId,
    /// A deposit or a withdrawal.
    pub terms: CashTerms,
    pub act: OperatorAct,
    /// What the store has under this id.
    pub stored: Option<CashTerms>,
}

/// Outcome of a request to move cash.
#[derive(Debug, Clone, PartialEq)]
pub enum CashReply {
    /// Recorded: the account after it.
    Moved(Arc<Account>),
    /// The id did the same before: the account as it is now.
    Repeated(Arc<Account>),
    /// The id stands for something else.
    Conflict(CashTerms),
    /// Nothing was recorded: the account does not have it, or the amount is not allowed.
    Refused(Refusal),
    /// Nothing was recorded: this node keeps no accounts.
    NoAccounts,
    /// Whether it was recorded is unknown: the engine ended meanwhile. Never returned by the engine.
    OutcomeUnknown,
    /// Nothing was recorded: the disk is full. Never returned by the engine.
    NoRoom,
    /// Nothing was recorded: what the store said about the id is out of date. Never returned by the
    /// engine.
    CheckAgain,
    /// Nothing was recorded. Never returned by the engine.
    Unavailable,
}

impl Engines {
    /// Takes an operator's request to move cash.
    pub fn move_cash(
        &mut self,
        now: TimestampMicros,
        request: MoveCash,
        out: &mut Outbox,
    ) -> CashReply {
        let partition = request.user.partition();
        self.turn(now, partition, out, |engine, turn| engine.move_cash(request, turn))
    }

    /// The cash movements whose ids the engines keep.
    pub fn kept_cash_ids(&self) -> impl Iterator<Item = (&UserId, &str)> {
        self.partitions().iter().flat_map(|engine| engine.accounts.cash_ids())
    }

    /// Drops the id of a cash movement, which the store has.
    pub fn forget_cash_id(&mut self, user: &UserId, id: &str) {
        self.engine_mut(user.partition()).accounts.forget_cash_id(user, id);
    }
}

impl Engine {
    fn move_cash(&mut self, request: MoveCash, turn: &mut Turn<'_>) -> CashReply {
        let MoveCash { user, id, terms, act, stored } = request;
        if !self.accounts.are_kept() {
            return CashReply::NoAccounts;
        }
        if let Some(first) = stored.or_else(|| self.accounts.cash_terms(&user, id.as_str())) {
            let account = self.accounts.snapshot(&user).unwrap_or_default();
            let is_same = first == terms;
            return if is_same { CashReply::Repeated(account) } else { CashReply::Conflict(first) };
        }
        let opening = self.opening(&user, turn);
        let opened = || opening.as_ref().map(|opening| Account::opened_with(opening.cents));
        let account = self.accounts.get(&user).cloned().or_else(opened);
        if let Err(refusal) = try_move(account.unwrap_or_default(), terms) {
            return CashReply::Refused(refusal);
        }
        let user = self.accounts.name_of(&user).cloned().unwrap_or(user);
        let moved = CashMoved {
            user: user.clone(),
            id: id.into(),
            at: turn.now,
            cents: terms.cents,
            kind: terms.kind,
            by: Some(act.by),
            reason: act.reason,
        };
        for moved in opening.into_iter().chain([moved]) {
            self.accounts.move_cash(&moved);
            turn.out.events.push(Event::CashMoved(Box::new(moved)));
        }
        let Some(account) = self.accounts.snapshot(&user) else {
            unreachable!("{user} has an account, as cash has moved");
        };
        let event = turn.out.events.len() - 1;
        let shown = Arc::clone(&account);
        turn.out.effects.push(Effect::PublishAccount { user, account: shown, event });
        CashReply::Moved(account)
    }
}

fn try_move(mut account: Account, terms: CashTerms) -> Result<(), Refusal> {
    match terms.kind {
        CashMovementKind::Deposit => account.deposit(terms.cents).map(drop),
        CashMovementKind::Withdrawal => account.withdraw(terms.cents).map(drop),
        CashMovementKind::Opening => unreachable!("no operator asks for an opening balance"),
    }
}
