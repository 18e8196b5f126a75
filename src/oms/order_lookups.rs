//! Looks up orders in the store for the orders thread.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use super::answers::{Answer, OrderLookup, SessionQueues};
use crate::index::{Index, IndexError, IndexReaders};
use crate::order::TrackedOrder;
use crate::runtime::sleep;

/// Pause before a busy or failed store is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Looks up orders that are not in memory, one after the other, because the exchange reports on
/// them or is to be queried about them. The feed position waits for lookups that belong to a gap,
/// so an order that the store has but cannot read is reported as missing.
pub(super) async fn run_order_lookups(store: IndexReaders, queues: Rc<SessionQueues>) {
    loop {
        poll_fn(|context| queues.lookups.poll_some(context)).await;
        let Some(id) = queues.lookups.pop() else { continue };
        let order = loop {
            match look_up(&store, &id).await {
                Some(order) => break order,
                None => sleep(RETRY_INTERVAL).await,
            }
        };
        queues.answers.push(Answer::LookedUp(id, order));
    }
}

/// `None` when the store cannot answer yet.
async fn look_up(store: &IndexReaders, lookup: &OrderLookup) -> Option<Option<TrackedOrder>> {
    let cloned = lookup.clone();
    let answer = store.ask(move |index| look_up_in(index, &cloned)).ok()?;
    match answer.await.ok()? {
        Ok(order) => Some(order),
        Err(error) => {
            tracing::error!(%error, id = %lookup, "the store could not look up an order");
            error.is_of_one_order().then_some(None)
        }
    }
}

/// The order that the store has under an id.
pub(crate) fn look_up_in(
    index: &Index,
    lookup: &OrderLookup,
) -> Result<Option<TrackedOrder>, IndexError> {
    match lookup {
        OrderLookup::ByExternalId(id) => index.by_external_id(id),
        OrderLookup::ByOrderId(order_id) => index.by_order_id(*order_id),
    }
}
