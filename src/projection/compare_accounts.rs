//! Reads accounts and the trial balance, to compare them with the other records.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::read_accounts::{self, ACCOUNT_COLUMNS, WITH_POSITIONS};
use super::{PostgresRecords, ProjectionError, position};
use crate::money::Account;
use crate::types::UserPartition;

/// Accounts by user, each valid or with the reason why its rows are not.
pub type FoundAccounts = HashMap<String, Result<Account, String>>;

/// A line of the trial balance that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongBalance {
    /// The ledger account, with its symbol if it has one.
    pub ledger_account: String,
    /// What accounts and positions come to.
    pub in_accounts: String,
    /// What the ledger comes to.
    pub in_ledger: String,
}

impl PostgresRecords {
    /// Whether accounts follow the orders of all partitions of the server.
    ///
    /// # Errors
    /// The server refuses.
    pub fn keeps_accounts(&self) -> Result<bool, ProjectionError> {
        let (first, last) = position::bounds(&self.0.server);
        let rows = self.0.rows(
            "SELECT bool_and(keeps_accounts) FROM projection \
             WHERE is_current AND user_partition BETWEEN $1 AND $2",
            &[&first, &last],
        )?;
        Ok(rows.first().and_then(|row| row.get(0)).unwrap_or(false))
    }

    /// The accounts of a partition.
    ///
    /// # Errors
    /// The server refuses.
    pub fn accounts(&self, partition: UserPartition) -> Result<FoundAccounts, ProjectionError> {
        let query = format!(
            "SELECT {ACCOUNT_COLUMNS} FROM accounts a {WITH_POSITIONS} WHERE a.user_partition = {}",
            partition.get()
        );
        let mut found = HashMap::new();
        self.0.each_row(&query, |row: &Row| {
            let user = row.try_get(0).unwrap_or_default();
            let account = read_accounts::parsed(row).map(|(_, account)| account);
            found.insert(user, account.map_err(|error| error.to_string()));
            Ok::<_, ProjectionError>(())
        })?;
        Ok(found)
    }

    /// The lines of the trial balance in which accounts and ledger differ.
    ///
    /// # Errors
    /// The server refuses.
    pub fn wrong_balances(&self) -> Result<Vec<WrongBalance>, ProjectionError> {
        let query = format!(
            "SELECT concat_ws(' of ', ledger_account, symbol), in_accounts::text, in_ledger::text \
             FROM {}.trial_balance WHERE difference <> 0 ORDER BY 1",
            self.0.server.schema().quoted_analysis()
        );
        let wrong = |row: &Row| WrongBalance {
            ledger_account: row.get(0),
            in_accounts: row.get(1),
            in_ledger: row.get(2),
        };
        Ok(self.0.rows(&query, &[])?.iter().map(wrong).collect())
    }
}
