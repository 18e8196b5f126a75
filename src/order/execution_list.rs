//! The executions of one order, as its user sees them.

use std::collections::HashMap;

use serde::Serialize;

use super::executions::Execution;
use super::fill::Fill;
use super::tracked::TrackedOrder;
use crate::types::{ExecutionId, PriceCents, Shares, TimestampMicros};

/// One execution of an order. What is not known of it is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedExecution {
    pub execution_id: ExecutionId,
    pub num_shares: Option<Shares>,
    pub price_in_cents: Option<PriceCents>,
    /// Time of the trade at the exchange.
    pub timestamp: Option<TimestampMicros>,
    /// It does not count: the exchange has taken it back.
    pub busted: bool,
}

/// The executions of an order, in the sequence in which the `noted` ones, with their times, were noted;
/// before these those that were not, by id.
pub fn list_executions(tracked: &TrackedOrder, noted: Vec<Fill>) -> Vec<ListedExecution> {
    let mut noted: HashMap<ExecutionId, (usize, Fill)> = noted
        .into_iter()
        .enumerate()
        .map(|(place, fill)| (fill.execution_id.clone(), (place, fill)))
        .collect();
    let mut listed: Vec<(Option<usize>, ListedExecution)> = tracked
        .executions()
        .iter()
        .map(|(id, execution)| {
            let (place, fill) = noted.remove(id).unzip();
            (place, listed(id, execution, fill.as_ref()))
        })
        .collect();
    listed.sort_by(|(one, a), (other, b)| (one, &a.execution_id).cmp(&(other, &b.execution_id)));
    listed.into_iter().map(|(_, execution)| execution).collect()
}

fn listed(id: &ExecutionId, execution: Execution, noted: Option<&Fill>) -> ListedExecution {
    let counted = execution.counted();
    ListedExecution {
        execution_id: id.clone(),
        num_shares: counted.map(|(shares, _)| shares).or(noted.map(|fill| fill.num_shares)),
        price_in_cents: counted.map(|(_, price)| price).or(noted.map(|fill| fill.price)),
        timestamp: noted.map(|fill| fill.executed_at),
        busted: counted.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Change, Changed, Created};
    use crate::types::{OrderId, Side, Symbol, TimeInForce, UserId};

    #[test]
    fn executions_are_listed_as_noted_and_busts_are_marked() {
        let at = TimestampMicros::new(1);
        let order_id = OrderId::from_u128(1 << 80);
        let mut tracked = TrackedOrder::new(&Created {
            order_id,
            user: UserId::new("u").unwrap(),
            client_order_id: None,
            symbol: Symbol::new("IBM").unwrap(),
            side: Side::Buy,
            limit_price: None,
            time_in_force: TimeInForce::Day,
            num_shares: 100,
            created_at: at,
            submit_before: at,
            reservation: crate::money::Reservation::Nothing,
        });
        let fill = |name: &str, number: u64| Fill {
            execution_id: ExecutionId::new(name).unwrap(),
            price: PriceCents::new(7).unwrap(),
            num_shares: number,
            executed_at: TimestampMicros::new(number),
        };
        let fills = [fill("d", 1), fill("b", 2), fill("c", 3), fill("a", 4)];
        let bust = |name: &str| Change::Busted { execution_id: ExecutionId::new(name).unwrap() };
        for change in fills.iter().cloned().map(Change::Filled).chain([bust("b"), bust("never")]) {
            tracked.apply(&Changed { order_id, at, change });
        }
        // The first one was not noted, by an earlier version.
        let listed = list_executions(&tracked, fills[1..].to_vec());
        let row = |listed: &ListedExecution| {
            let ListedExecution { execution_id, num_shares, timestamp, busted, .. } = listed;
            let at = timestamp.map(TimestampMicros::micros);
            (execution_id.to_string(), *num_shares, at, *busted)
        };
        let rows: Vec<_> = listed.iter().map(row).collect();
        assert_eq!(
            rows,
            [
                ("d".to_owned(), Some(1), None, false),
                ("never".to_owned(), None, None, true),
                ("b".to_owned(), Some(2), Some(2), true),
                ("c".to_owned(), Some(3), Some(3), false),
                ("a".to_owned(), Some(4), Some(4), false),
            ]
        );
        let text = serde_json::to_string(&listed[2]).unwrap();
        assert_eq!(
            text,
            r#"{"executionId":"b","numShares":2,"priceInCents":7,"timestamp":2,"busted":true}"#
        );
    }
}
