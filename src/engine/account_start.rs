//! How accounts begin: from a record of the log on, all users have one.

use super::engines::Engines;
use super::outbox::Outbox;
use crate::money::Account;
use crate::order::{AccountAdopted, AccountSource, AccountsBegun, Event};
use crate::types::{UserId, UserPartition};

impl Engines {
    /// Whether the log has no accounts yet and may have them from the start on. Where other nodes
    /// have other users, it has none.
    pub fn lacks_accounts(&self) -> bool {
        !self.options.shares_users && !self.keeps_accounts()
    }

    /// Whether accounts follow the orders.
    pub fn keeps_accounts(&self) -> bool {
        let are_kept = self.partitions().iter().filter(|engine| engine.accounts.are_kept()).count();
        assert!(
            are_kept == 0 || are_kept == self.partitions().len(),
            "accounts begin in all partitions at once"
        );
        are_kept > 0
    }

    /// The account of a user, durable or not; `None` if they have never had money.
    pub fn account(&self, user: &UserId) -> Option<&Account> {
        self.engine(user.partition()).accounts.get(user)
    }

    /// Number of accounts whose available cash or shares are negative.
    pub fn overdrawn_accounts(&self) -> usize {
        self.partitions().iter().map(|engine| engine.accounts.overdrawn()).sum()
    }

    /// All accounts in memory, in no particular order.
    pub fn accounts(&self) -> impl Iterator<Item = (&UserId, &Account)> {
        self.partitions().iter().flat_map(|engine| engine.accounts.iter())
    }

    /// Takes what the orders of before come to, in recovery. The start records it.
    pub fn bring_accounts(&mut self, accounts: Vec<(UserId, Account)>) {
        assert!(self.lacks_accounts(), "accounts begin once");
        self.accounts_to_begin = Some(accounts);
    }

    /// Records the accounts that recovery has brought. After a crash in between it is done again:
    /// an account that is recorded replaces any before it.
    pub(super) fn begin_accounts(&mut self, out: &mut Outbox) {
        let Some(accounts) = self.accounts_to_begin.take() else { return };
        let at = self.now;
        for (user, account) in accounts {
            self.put_account(user.clone(), account.clone());
            let source = AccountSource::Orders;
            let adopted = AccountAdopted { user, at, source, account };
            out.events.push(Event::AccountAdopted(Box::new(adopted)));
        }
        out.events.push(Event::AccountsBegun(AccountsBegun { at }));
        self.accounts_have_begun();
    }

    /// From here on accounts follow the orders.
    pub fn accounts_have_begun(&mut self) {
        assert!(!self.options.shares_users, "accounts are kept by a node that has all users");
        for number in 0..=u8::MAX {
            let Some(partition) = UserPartition::new(number) else { break };
            self.engine_mut(partition).accounts.begin();
        }
    }

    fn put_account(&mut self, user: UserId, account: Account) {
        self.engine_mut(user.partition()).accounts.put(user, account);
    }
}
