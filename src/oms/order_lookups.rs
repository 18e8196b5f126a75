//! Looks up orders in the store for the orders thread.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use super::answers::{Answer, OrderLookup, SessionQueues};
use super::order_store::{OrderStore, PostgresStore};
use crate::index::{Index, IndexError, IndexReaders};
use crate::order::TrackedOrder;
use crate::projection::{PostgresRead, PostgresReadError};
use crate::runtime::sleep;

/// Pause before a busy or failed store is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Looks up orders that are not in memory, one after the other, because the exchange reports on
/// them or is to be queried about them. The feed position waits for lookups that belong to a gap,
/// so an order that the store has but cannot read is reported as missing.
pub(super) async fn run_order_lookups(store: OrderStore, queues: Rc<SessionQueues>) {
    loop {
        poll_fn(|context| queues.lookups.poll_some(context)).await;
        // Woken for nothing.
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
async fn look_up(store: &OrderStore, lookup: &OrderLookup) -> Option<Option<TrackedOrder>> {
    match store {
        OrderStore::Local(readers) => look_up_locally(readers, lookup).await,
        OrderStore::Postgres(postgres) => look_up_in_postgres(postgres, lookup).await,
    }
}

async fn look_up_in_postgres(
    store: &PostgresStore,
    lookup: &OrderLookup,
) -> Option<Option<TrackedOrder>> {
    let answer = match lookup {
        OrderLookup::ByExternalId(id) => store.reads().by_external_id(id).await,
        OrderLookup::ByOrderId(order_id) => store.reads().by_order_id(*order_id).await,
    };
    match answer {
        // An order of another node's user is not known here.
        Ok(PostgresRead { position, found }) => Some(found.filter(|_| store.is_own(position))),
        Err(PostgresReadError::Unreadable(_)) => Some(None),
        Err(PostgresReadError::Busy | PostgresReadError::Unavailable) => None,
    }
}

async fn look_up_locally(
    readers: &IndexReaders,
    lookup: &OrderLookup,
) -> Option<Option<TrackedOrder>> {
    let cloned = lookup.clone();
    // Too busy, or the process is ending: asked again.
    let answer = readers.ask(move |index| look_up_in(index, &cloned)).ok()?;
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
