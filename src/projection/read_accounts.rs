//! Reads accounts from Postgres.

use std::collections::{BTreeSet, HashMap};

use tokio_postgres::{Client, Row};

use super::read::RowError;
use super::values::Text;
use super::{PostgresServer, ProjectionError, cell};
use crate::money::Account;
use crate::types::{Symbol, UserId};

/// The columns that [`account`] reads: those of `accounts a`, and its positions as arrays.
pub(super) const ACCOUNT_COLUMNS: &str = "\
    a.user_id, a.version, a.cash_cents, a.reserved_cents, a.deposited_cents, \
    y.symbols, y.shares, y.reserved, y.costs, y.profits";
pub(super) const ACCOUNT_COLUMN_COUNT: usize = 10;
/// Their join with the positions of the user.
pub(super) const WITH_POSITIONS: &str = "\
    LEFT JOIN LATERAL ( \
        SELECT array_agg(p.symbol) AS symbols, array_agg(p.shares) AS shares, \
            array_agg(p.reserved_shares) AS reserved, array_agg(p.cost_cents) AS costs, \
            array_agg(p.profit_cents) AS profits \
        FROM positions p WHERE p.user_id = a.user_id \
    ) y ON true";

fn texts(users: &BTreeSet<UserId>) -> Vec<Text> {
    users.iter().map(|user| Text::new(user.as_str())).collect()
}

/// The accounts of these users. Missing ones are left out.
pub(super) async fn of_users(
    client: &Client,
    server: &PostgresServer,
    users: &BTreeSet<UserId>,
) -> Result<HashMap<UserId, Account>, ProjectionError> {
    let query = format!(
        "SELECT {ACCOUNT_COLUMNS} FROM unnest($1::text[]) AS wanted (user_id) \
         JOIN accounts a USING (user_id) {WITH_POSITIONS}"
    );
    let rows = client.query(&query, &[&texts(users)]).await;
    let rows = rows.map_err(ProjectionError::of(server, "read accounts"))?;
    rows.iter().map(|row| account(server, row)).collect()
}

/// The symbols of which these users have positions.
pub(super) async fn symbols_of(
    client: &Client,
    server: &PostgresServer,
    users: &BTreeSet<UserId>,
) -> Result<HashMap<UserId, Vec<Symbol>>, ProjectionError> {
    const QUERY: &str = "SELECT p.user_id, p.symbol FROM unnest($1::text[]) AS wanted (user_id) \
        JOIN positions p USING (user_id)";
    let rows = client.query(QUERY, &[&texts(users)]).await;
    let rows = rows.map_err(ProjectionError::of(server, "read positions"))?;
    let mut symbols: HashMap<UserId, Vec<Symbol>> = HashMap::new();
    for row in &rows {
        let place = || -> Result<(UserId, Symbol), RowError> {
            Ok((UserId::new(row.try_get(0)?)?, Symbol::new(row.try_get(1)?)?))
        };
        // What is no symbol is no position of ours.
        if let Ok((user, symbol)) = place() {
            symbols.entry(user).or_default().push(symbol);
        }
    }
    Ok(symbols)
}

/// The account in a row with [`ACCOUNT_COLUMNS`].
pub(super) fn account(
    server: &PostgresServer,
    row: &Row,
) -> Result<(UserId, Account), ProjectionError> {
    parsed(row).map_err(|source| {
        let user = row.try_get::<_, &str>(0).unwrap_or("?").to_owned();
        ProjectionError::Account { server: server.to_string(), user, source }
    })
}

/// As [`account`], with the reason why a row is none.
pub(super) fn parsed(row: &Row) -> Result<(UserId, Account), RowError> {
    let user = UserId::new(row.try_get(0)?)?;
    let cents = [row.try_get(2)?, row.try_get(3)?, row.try_get(4)?];
    let symbols: Vec<&str> = row.try_get::<_, Option<_>>(5)?.unwrap_or_default();
    let amounts = |column: usize| -> Result<Vec<i64>, RowError> {
        Ok(row.try_get::<_, Option<_>>(column)?.unwrap_or_default())
    };
    let each = symbols.into_iter().zip(amounts(6)?).zip(amounts(7)?);
    let each = each.zip(amounts(8)?).zip(amounts(9)?);
    let holdings = each.map(|((((symbol, shares), reserved), cost), profit)| {
        Ok((Symbol::new(symbol)?, [shares, reserved, cost, profit]))
    });
    let holdings = holdings.collect::<Result<Vec<_>, RowError>>()?;
    let account = Account::from_amounts(cell::number(row, 1)?, cents, holdings.into_iter())?;
    Ok((user, account))
}
