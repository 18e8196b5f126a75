//! Finds rows that Postgres lacks, by its own tables: each refers to others, so a row missing in
//! one is missed by another.

use super::session::Session;
use super::{ProjectionError, gaps};

/// Most order ids named per kind.
const NAMED: usize = 3;

/// A query that should find no orders, and what it means if it does.
const QUERIES: [(&str, &str); 7] = [
    (
        "orders in external_orders that are missing from orders",
        "SELECT x.order_id FROM external_orders x LEFT JOIN orders o USING (user_id, order_id) \
         WHERE o.order_id IS NULL",
    ),
    (
        "orders in executions that are missing from orders",
        "SELECT x.order_id FROM executions x LEFT JOIN orders o USING (user_id, order_id) \
         WHERE o.order_id IS NULL",
    ),
    (
        "orders in order_events that are missing from orders",
        "SELECT x.order_id FROM order_events x LEFT JOIN orders o USING (user_id, order_id) \
         WHERE o.order_id IS NULL",
    ),
    (
        "orders with a lower version than their last row in order_events",
        "SELECT o.order_id FROM orders o JOIN order_events e USING (user_id, order_id) \
         WHERE e.version > o.version",
    ),
    (
        "orders whose filled shares or value are not what their executions add up to",
        "SELECT o.order_id FROM orders o LEFT JOIN executions x \
            ON x.user_id = o.user_id AND x.order_id = o.order_id AND x.busted_at IS NULL \
         GROUP BY o.user_id, o.order_id, o.filled_shares, o.filled_value_cents \
         HAVING coalesce(sum(x.num_shares), 0) <> o.filled_shares \
            OR coalesce(sum(x.num_shares::numeric * x.price_cents), 0) <> o.filled_value_cents",
    ),
    (
        "orders whose external id is missing from external_orders",
        "SELECT o.order_id FROM orders o LEFT JOIN external_orders x USING (external_order_id) \
         WHERE o.external_order_id IS NOT NULL AND x.external_order_id IS NULL",
    ),
    (
        "orders with rows in order_events past their user partition's position in projection",
        "SELECT e.order_id FROM order_events e JOIN projection p \
            ON p.is_current AND p.user_partition = e.user_partition AND p.log_id = e.log_id \
         WHERE e.lsn > p.lsn",
    ),
];

/// What a server lacks, one sentence per kind; empty if its tables are consistent.
pub(super) fn find(session: &Session) -> Result<Vec<String>, ProjectionError> {
    let mut lacking = Vec::new();
    for (meaning, query) in QUERIES {
        let counted = format!(
            "SELECT count(*), (array_agg(order_id::text ORDER BY order_id))[1:{NAMED}] \
             FROM (SELECT DISTINCT order_id FROM ({query}) AS found) AS orders"
        );
        let rows = session.rows(&counted, &[])?;
        let Some(row) = rows.first() else { continue };
        let (count, first): (i64, Option<Vec<String>>) = (row.get(0), row.get(1));
        if count > 0 {
            lacking.push(sentence(count.unsigned_abs(), meaning, &first.unwrap_or_default()));
        }
    }
    // Orders without a row in `orders` are counted above.
    let (mut count, mut first) = (0, Vec::new());
    gaps::each(session, &session.server.partitions(), |gap| {
        if gap.order.is_some() {
            count += 1;
            if first.len() < NAMED {
                first.push(gap.order_id.to_string());
            }
        }
        Ok::<_, ProjectionError>(())
    })?;
    if count > 0 {
        lacking.push(sentence(count, "orders with versions missing from order_events", &first));
    }
    Ok(lacking)
}

fn sentence(count: u64, meaning: &str, first: &[String]) -> String {
    format!("{meaning}: {count} ({})", named(count, first))
}

fn named(count: u64, first: &[String]) -> String {
    let more = count - first.len() as u64;
    let list = first.join(", ");
    if more == 0 { list } else { format!("{list} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_orders_are_named_and_the_rest_counted() {
        let ids = |count: usize| (0..count).map(|id| format!("o{id}")).collect::<Vec<_>>();
        assert_eq!(sentence(1, "orders lost", &ids(1)), "orders lost: 1 (o0)");
        assert_eq!(sentence(9, "orders lost", &ids(3)), "orders lost: 9 (o0, o1, o2 and 6 more)");
    }
}
