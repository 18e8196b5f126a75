//! Money of users in Postgres: the settings of cash accounts, fills, and what must hold.

use std::path::Path;

use serde_json::{Value, json};

use super::postgres::Database;
use super::{Server, api};

/// Settings with which orders need money, and every user has some.
pub(crate) const CASH: [&str; 4] =
    ["--account-mode", "cash", "--opening-balance-cents", "1000000000000"];

/// A limit order that the market fills at once.
pub(crate) fn at_once(position: &str, shares: u64) -> Value {
    let cents = if position == "buy" { 1_000_000 } else { 1 };
    json!({"position": position, "symbol": "IBM", "numShares": shares, "priceInCents": cents})
}

/// Trades until the order is filled.
pub(crate) fn fill(client: &api::Client, position: &str, shares: u64) -> Value {
    let order = client.post("/order", &at_once(position, shares));
    assert!(matches!(order.status, 201 | 202), "{}", order.text);
    client.await_status(order.order()["orderId"].as_str().expect("an id"), "filled")
}

/// Each account in Postgres is what its user sees, and the books balance. Postgres has caught up.
pub(crate) fn assert_books(server: &Server, data: &Path, database: &Database, users: &[&str]) {
    for user in users {
        let client = server.user(data, user);
        let (shown, rows) =
            (client.get("/account").body, |query: &str| database.rows(&query.replace('$', user)));
        let account =
            rows("SELECT cash_cents, reserved_cents, version FROM accounts WHERE user_id = '$'");
        let expected = json!({
            "cash_cents": shown["cashInCents"],
            "reserved_cents": shown["reservedCashInCents"],
            "version": shown["version"],
        });
        assert_eq!(account, [expected], "{user}: {shown}");
        let positions = rows(
            "SELECT symbol, num_shares AS shares, realized_profit_cents::bigint AS profit, \
             cost_cents FROM analysis.positions WHERE num_shares <> 0 AND user_id = '$' ORDER BY symbol",
        );
        let shown = client.get("/positions").body;
        let shown: Vec<Value> = shown["positions"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|position| {
                json!({
                    "symbol": position["symbol"],
                    "shares": position["shares"],
                    "profit": position["realizedProfitInCents"],
                    "cost_cents": position["costInCents"],
                })
            })
            .collect();
        assert_eq!(positions, shown, "{user}");
    }
    assert_balanced(database);
}

/// The trial balance: accounts and ledger agree, and sum to zero.
pub(crate) fn assert_balanced(database: &Database) {
    let wrong = database.rows("SELECT * FROM analysis.trial_balance WHERE difference <> 0");
    assert!(wrong.is_empty(), "{wrong:?}");
    let sums = "SELECT sum(in_accounts)::bigint FROM analysis.trial_balance WHERE symbol IS NULL";
    assert_eq!(database.number(sums), 0);
}

/// What each user has is what the executions that count have bought and sold. Holds at any moment: both
/// are written by the same transactions.
pub(crate) fn assert_money_is_of_executions(database: &Database) {
    let wrong = database.rows(
        "SELECT * FROM ( \
            SELECT user_id, e.symbol, \
                sum(CASE position WHEN 'buy' THEN 1 ELSE -1 END * e.num_shares) AS traded, \
                sum(CASE position WHEN 'buy' THEN 1 ELSE -1 END * e.num_shares * price_cents) AS paid \
            FROM executions AS e JOIN orders USING (user_id, order_id) \
            WHERE busted_at IS NULL AND NOT e.taken_back GROUP BY user_id, e.symbol \
         ) AS executed \
         FULL JOIN positions USING (user_id, symbol) \
         WHERE coalesce(traded, 0) <> coalesce(shares, 0) \
            OR coalesce(paid, 0) <> coalesce(cost_cents - profit_cents, 0)",
    );
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_balanced(database);
}
