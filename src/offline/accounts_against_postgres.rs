//! Compares the accounts of index and log with those of one Postgres server.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::OfflineError;
use super::accounts::ReplayedAccounts;
use super::against_postgres::{LOCAL_RECORDS, ServerComparison};
use super::report::DifferenceReport;
use crate::index::Index;
use crate::money::Account;
use crate::types::{Symbol, UserId, UserPartition};

impl ServerComparison {
    /// Compares all accounts of a group of partitions. The log has been replayed to its end.
    pub(super) fn accounts(
        &self,
        group: &RangeInclusive<u8>,
        replayed: &ReplayedAccounts,
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        if !replayed.are_kept || !self.server_rows.keeps_accounts()? {
            return Ok(());
        }
        for partition in group.clone().filter_map(UserPartition::new) {
            let expected = replayed.of_partition(partition)?;
            let mut found = self.server_rows.accounts(partition)?;
            let mut users: Vec<&UserId> = expected.keys().collect();
            users.sort_unstable();
            for user in users {
                let Some(account) = expected.get(user) else { continue };
                let found = found.remove(user.as_str());
                // The missing records were reported once.
                if replayed.is_ahead(user) {
                    continue;
                }
                let fields = match &found {
                    None => vec![("account".to_owned(), "it".to_owned(), "none".to_owned())],
                    Some(Err(why)) => {
                        vec![(
                            "account".to_owned(),
                            "it".to_owned(),
                            format!("an invalid one: {why}"),
                        )]
                    }
                    Some(Ok(found)) => different(account, found),
                };
                self.report(user, fields, report)?;
            }
            for user in found.into_keys().filter_map(|name| UserId::new(&name).ok()) {
                if !replayed.is_ahead(&user) {
                    let extra = ("account".to_owned(), "none".to_owned(), "it".to_owned());
                    self.report(&user, vec![extra], report)?;
                }
            }
        }
        Ok(())
    }

    /// Reports the lines of the trial balance that are wrong, and that accounts are not kept.
    pub(super) fn trial_balance(
        &self,
        index: &Index,
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        if !self.server_rows.keeps_accounts()? {
            if index.keeps_accounts()? && self.reached >= index.position() {
                report.line(&format_args!(
                    "accounts do not follow in {}: run `longbow backfill`",
                    self.name
                ))?;
            }
            return Ok(());
        }
        for wrong in self.server_rows.wrong_balances()? {
            report.line(&format_args!(
                "trial balance of {}: {}: accounts come to {}, the ledger to {}",
                self.name, wrong.ledger_account, wrong.in_accounts, wrong.in_ledger
            ))?;
        }
        Ok(())
    }

    fn report(
        &self,
        user: &UserId,
        fields: Vec<(String, String, String)>,
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        for (field, expected, found) in fields {
            report.add_account(user);
            report.line(&format_args!(
                "account of user {user}: {field}: {LOCAL_RECORDS} has {expected}, {} has {found}",
                self.name
            ))?;
        }
        Ok(())
    }
}

/// The amounts in which two accounts differ: name, and both values.
fn different(one: &Account, other: &Account) -> Vec<(String, String, String)> {
    let mut fields = Vec::new();
    let mut compare = |name: String, one: i64, other: i64| {
        if one != other {
            fields.push((name, one.to_string(), other.to_string()));
        }
    };
    compare("cash_cents".into(), one.cash_cents(), other.cash_cents());
    compare("reserved_cents".into(), one.reserved_cents(), other.reserved_cents());
    compare("deposited_cents".into(), one.deposited_cents(), other.deposited_cents());
    let symbols = one.holdings().chain(other.holdings()).map(|(symbol, _)| symbol);
    let symbols: BTreeSet<Symbol> = symbols.collect();
    for symbol in symbols {
        let (one, other) = (one.holding(symbol).amounts(), other.holding(symbol).amounts());
        let names = ["shares", "reserved_shares", "cost_cents", "profit_cents"];
        for ((name, one), other) in names.into_iter().zip(one).zip(other) {
            compare(format!("{name} of {symbol}"), one, other);
        }
    }
    let version = |account: &Account| account.version().cast_signed();
    compare("version".into(), version(one), version(other));
    fields
}
