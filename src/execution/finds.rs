use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use glommio::timer::sleep;

use super::answers::{Answer, SessionQueues};
use crate::index::IndexReaders;
use crate::order::TrackedOrder;
use crate::types::ExternalOrderId;

/// Wait before a store that is busy or failed is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Looks orders up in the store that the exchange speaks of and that are not in memory, one after
/// the other: they are rare, and nobody waits for them.
pub(super) async fn run_finds(store: IndexReaders, queues: Rc<SessionQueues>) {
    loop {
        poll_fn(|context| queues.finds.poll_some(context)).await;
        let Some(id) = queues.finds.pop() else { continue };
        let order = loop {
            match find(&store, &id).await {
                Some(order) => break order,
                None => sleep(RETRY_INTERVAL).await,
            }
        };
        queues.answers.push(Answer::Found(id, order));
    }
}

/// `None` when the store could not say.
async fn find(store: &IndexReaders, id: &ExternalOrderId) -> Option<Option<TrackedOrder>> {
    let wanted = id.clone();
    let answer = store.ask(move |index| index.by_external_id(&wanted)).ok()?;
    match answer.await.ok()? {
        Ok(order) => Some(order),
        Err(error) => {
            tracing::error!(%error, %id, "the store cannot say which order the exchange means");
            None
        }
    }
}
