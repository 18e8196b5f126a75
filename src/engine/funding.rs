//! Whether the account of a user pays for a new order, and what the order reserves of it.

use super::inputs::{AccountMode, AccountRules, CreateOrder};
use super::outbox::CreateReply;
use super::partition::{Engine, Turn};
use crate::money::{Account, Reservation, collar_price};
use crate::order::{CashMoved, CashMovementKind, Event};
use crate::types::{Side, UserId};

/// Names the opening balance among the cash movements of a user.
pub const OPENING_ID: &str = "opening";

/// What a new order takes from its account.
pub(super) struct Funding {
    /// The balance that the account begins with, if it does with this order.
    opening: Option<CashMoved>,
    pub(super) reservation: Reservation,
}

impl Engine {
    /// What a new order takes from its account, or the reply to one that nothing pays for. Changes
    /// nothing.
    pub(super) fn fund(
        &self,
        request: &CreateOrder,
        turn: &Turn<'_>,
    ) -> Result<Funding, CreateReply> {
        let rules = &turn.options.accounts;
        match rules.mode {
            AccountMode::Cash if self.accounts.are_kept() => {}
            AccountMode::Cash | AccountMode::Unchecked => {
                return Ok(Funding { opening: None, reservation: Reservation::Nothing });
            }
        }
        let opening = self.opening(&request.user, turn);
        let known = self.accounts.get(&request.user);
        let fresh = opening.as_ref().map(|opening| Account::opened_with(opening.cents));
        let nothing = Account::default();
        let account = known.or(fresh.as_ref()).unwrap_or(&nothing);
        let (checked, reservation) = match (request.side, request.limit_price) {
            (Side::Sell, _) => {
                let checked = account.check_sell(request.symbol, request.num_shares);
                (checked, Reservation::Shares)
            }
            (Side::Buy, limit) => {
                let collar = |last| collar_price(last, rules.collar_percent);
                let price = limit.or(request.last_price.map(collar));
                let price = price.ok_or(CreateReply::PriceUnavailable)?;
                (account.check_buy(request.num_shares, price), Reservation::Cash(price))
            }
        };
        match checked {
            Ok(_held) => Ok(Funding { opening, reservation }),
            Err(refusal) => Err(CreateReply::Unfunded(refusal)),
        }
    }

    /// The opening balance of a user who has no account yet.
    pub(super) fn opening(&self, user: &UserId, turn: &Turn<'_>) -> Option<CashMoved> {
        let AccountRules { mode, opening_cents: cents, .. } = turn.options.accounts;
        let is_due = mode == AccountMode::Cash && cents > 0 && self.accounts.get(user).is_none();
        is_due.then(|| CashMoved {
            user: user.clone(),
            id: OPENING_ID.into(),
            at: turn.now,
            cents,
            kind: CashMovementKind::Opening,
            by: None,
            reason: "opening balance".into(),
        })
    }

    /// Records the opening balance of an account that begins, ahead of its order.
    pub(super) fn open_account(&mut self, funding: &mut Funding, turn: &mut Turn<'_>) {
        if let Some(opening) = funding.opening.take() {
            self.accounts.move_cash(&opening);
            turn.out.events.push(Event::CashMoved(Box::new(opening)));
        }
    }
}
