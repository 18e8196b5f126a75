//! What open orders reserve of accounts, added up to be compared with the accounts.

use std::collections::{BTreeMap, HashMap};

use crate::money::{Account, Held};
use crate::order::Order;
use crate::types::{Symbol, UserId};

/// What the open orders of users reserve.
#[derive(Debug, Default)]
pub(super) struct Reserved(HashMap<UserId, OfUser>);

#[derive(Debug, Default, PartialEq, Eq)]
struct OfUser {
    cents: i64,
    shares: BTreeMap<Symbol, i64>,
}

impl Reserved {
    /// Adds what an order reserves.
    pub(super) fn add(&mut self, order: &Order) {
        let held = order.funds().held().unwrap_or(Held::Nothing);
        if held == Held::Nothing {
            return;
        }
        let of_user = self.0.entry(order.user.clone()).or_default();
        match held {
            Held::Nothing => {}
            Held::Cash(cents) => of_user.cents = of_user.cents.saturating_add(cents),
            Held::Shares(symbol, shares) => {
                let reserved = of_user.shares.entry(symbol).or_default();
                *reserved = reserved.saturating_add(shares);
            }
        }
    }

    /// Whether an account reserves what its orders do. Each account is asked about once.
    pub(super) fn take_if_equal(&mut self, user: &UserId, account: &Account) -> bool {
        let mut of_user = self.0.remove(user).unwrap_or_default();
        of_user.shares.retain(|_, shares| *shares != 0);
        let holdings = account.holdings().map(|(symbol, held)| (symbol, held.reserved_shares()));
        let shares = holdings.filter(|(_, shares)| *shares != 0).collect();
        of_user == OfUser { cents: account.reserved_cents(), shares }
    }

    /// A user whose orders reserve something, and whose account nobody asked about.
    pub(super) fn left(&self) -> Option<&UserId> {
        let has_some = |of: &OfUser| *of != OfUser::default();
        self.0.iter().filter(|(_, of)| has_some(of)).map(|(user, _)| user).min()
    }
}
