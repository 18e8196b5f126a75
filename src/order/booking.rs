//! Where orders and money meet: what a change of an order does to the account of its user.

use super::change::Changed;
use super::tracked::{Applied, ExecutionEffect, TrackedOrder};
use crate::money::{Account, Booked, Held, Movement, Overflow, Trade};
use crate::types::ExecutionId;

/// What a change that was applied to an order does to its account. Whoever applies the change books
/// this before the next change of any order of the user.
#[derive(Debug)]
#[must_use = "an account follows its orders"]
pub struct MoneyEffect {
    /// What the order reserves before and after.
    held: (Held, Held),
    /// The execution that counted until now.
    voided: Option<(Trade, Booked)>,
    /// The execution that counts from now on.
    counted: Option<(ExecutionId, Trade)>,
}

/// What a change has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Booking {
    pub applied: Applied,
    pub entry: Entry,
}

/// What was booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub movement: Movement,
    /// Amounts beyond what an account holds, which no real order has: the account did not take them.
    pub is_beyond_account: bool,
}

/// Applies a change to an order and books what it does to the account of its user, both live and in
/// a replay.
pub fn book(order: &mut TrackedOrder, account: &mut Account, changed: &Changed) -> Booking {
    let (applied, effect) = apply(order, changed);
    Booking { applied, entry: effect.book(order, account) }
}

/// Applies a change to an order; says what it does to the account of its user.
pub fn apply(order: &mut TrackedOrder, changed: &Changed) -> (Applied, MoneyEffect) {
    let before = order.held();
    let effect = order.effect_of(&changed.change);
    let voided = effect.as_ref().and_then(|effect| order.booked_trade(effect.execution_id()));
    let applied = order.apply(changed);
    let held = (before, order.held());
    if !applied.recorded {
        assert_eq!(held.0, held.1, "a change that is not recorded reserves and releases nothing");
        return (applied, MoneyEffect { held, voided: None, counted: None });
    }
    let counted = match effect {
        Some(ExecutionEffect::Counts(fill)) => {
            let trade = order.trade(fill.num_shares, fill.price);
            Some((fill.execution_id, trade))
        }
        Some(ExecutionEffect::Void { .. }) | None => None,
    };
    (applied, MoneyEffect { held, voided, counted })
}

/// Creates an order as far as its account is concerned: what it reserves.
pub fn created(order: &TrackedOrder) -> MoneyEffect {
    MoneyEffect { held: (Held::Nothing, order.held()), voided: None, counted: None }
}

/// Counts the executions of an order of before there were accounts, in the order of their ids.
pub fn bring_forward(order: &TrackedOrder, account: &mut Account) {
    let counted = order.executions().iter().filter_map(|(id, execution)| {
        let (num_shares, price) = execution.counted()?;
        Some((id, order.trade(num_shares, price)))
    });
    let mut counted: Vec<_> = counted.collect();
    counted.sort_unstable_by_key(|(id, _)| *id);
    for (_, trade) in counted {
        // Beyond an account is no real execution.
        let _moved = account.bring_forward(&trade);
    }
}

impl MoneyEffect {
    /// Whether it moves nothing, so that no account is needed.
    pub fn is_nothing(&self) -> bool {
        self.voided.is_none() && self.counted.is_none() && self.held.0 == self.held.1
    }

    /// Books it, and keeps with the execution what that did.
    ///
    /// An amount beyond what an account holds is no reason to lose what the exchange says: the order
    /// has it, and the account stays without that execution, as does its bust.
    pub fn book(self, order: &mut TrackedOrder, account: &mut Account) -> Entry {
        let Self { held, voided, counted } = self;
        let voided = voided.as_ref().map(|(trade, booked)| (trade, *booked));
        let done = match (voided, &counted) {
            (None, None) => account.change_held(held).map(|movement| (None, movement)),
            (Some(voided), None) => {
                account.bust_execution(voided, held).map(|movement| (None, movement))
            }
            (None, Some((_, trade))) => keep(account.apply_execution(trade, held)),
            (Some(voided), Some((_, by))) => keep(account.replace_execution(voided, by, held)),
        };
        let is_beyond_account = done.is_err();
        let (booked, movement) = done.unwrap_or_else(|Overflow| {
            // What is reserved follows the order in any case.
            let without = voided.map(|voided| account.bust_execution(voided, held));
            let movement = match without {
                Some(Ok(movement)) => movement,
                Some(Err(Overflow)) | None => account.change_held(held).unwrap_or_default(),
            };
            (None, movement)
        });
        if let Some((execution_id, _)) = &counted {
            order.set_booked(execution_id, booked);
        }
        Entry { movement, is_beyond_account }
    }
}

fn keep(
    booked: Result<(Booked, Movement), Overflow>,
) -> Result<(Option<Booked>, Movement), Overflow> {
    booked.map(|(booked, movement)| (Some(booked), movement))
}

#[cfg(test)]
#[path = "booking_tests.rs"]
mod tests;
