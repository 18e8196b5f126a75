//! A day's executions, for the comparison at its end.

use super::super::orders::{Execution, Order};
use super::{Venue, external_id, order_key, query_execution};
use crate::exchange::wire::{DayExecution, ExecutionsResponse};
use crate::types::{ExternalOrderId, TradeDate};

/// Most orders that one part of the list looks at.
const ORDERS_PER_PART: usize = 2_000;

impl Venue {
    /// A part of a day's executions, in the order of acceptance of their orders. `None`: nothing has
    /// this cursor.
    pub(in crate::sim_exchange) fn executions_of(
        &self,
        date: TradeDate,
        cursor: Option<&str>,
    ) -> Option<ExecutionsResponse> {
        let after = match cursor {
            None => None,
            Some(cursor) => Some(order_key(&ExternalOrderId::new(cursor).ok()?)?),
        };
        let orders = self.orders.accepted_after(after, ORDERS_PER_PART);
        let is_last = orders.len() < ORDERS_PER_PART;
        let next = orders.last().filter(|_| !is_last).and_then(|order| external_id(order.key));
        let day = date.begins()..date.ends();
        let executions = orders.iter().flat_map(|order| {
            let of_day = order.executions.iter().filter(|execution| day.contains(&execution.at));
            of_day.filter_map(|execution| listed(order, execution))
        });
        let lacks = self.orders.forgotten_until.is_some_and(|until| until >= date.begins());
        Some(ExecutionsResponse {
            executions: executions.collect(),
            next_cursor: next.map(|id| id.as_str().into()),
            complete: lacks.then_some(false),
        })
    }
}

fn listed(order: &Order, execution: &Execution) -> Option<DayExecution> {
    let made = query_execution(execution)?;
    Some(DayExecution {
        execution_id: made.execution_id,
        order_id: external_id(order.key)?,
        client_order_id: Some(order.client.to_text()),
        symbol: order.terms.symbol,
        side: order.terms.side,
        price_in_cents: made.price_in_cents,
        num_shares: made.num_shares,
        timestamp: made.timestamp,
    })
}
