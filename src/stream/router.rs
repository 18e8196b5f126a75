//! Changes of open streams, which may reach any shard, on their way to the shard that has the stream.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::poll_fn;

use crate::sync::{Receiver, Sender, mailbox};
use crate::types::UserId;

use super::hub::Hub;
use super::request::{NotChanged, SubscriptionChange};
use super::stream_id::StreamId;

/// Changes that may wait for one shard. At some microseconds each they take a few milliseconds.
const WAITING_CHANGES: usize = 1_024;

/// A change on its way to the shard that has the stream.
struct ChangeRequest {
    id: StreamId,
    user: UserId,
    change: SubscriptionChange,
    reply: oneshot::Sender<Result<(), NotChanged>>,
}

/// Routes changes of streams to their shards.
#[derive(Clone)]
pub struct StreamRouter(Arc<[Sender<ChangeRequest>]>);

/// Changes for the streams of one shard.
pub struct ChangeInbox(Receiver<ChangeRequest>);

/// Why a change has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// It was not made.
    #[error(transparent)]
    NotChanged(#[from] NotChanged),
    /// Too many changes wait for the shard, or the process is ending.
    #[error("the shard of the stream is too busy")]
    Busy,
}

/// A router to this many shards, and the inbox of each.
pub fn stream_router(shards: usize) -> (StreamRouter, Vec<ChangeInbox>) {
    assert!(u16::try_from(shards).is_ok(), "an id has 16 bits for the number of its shard");
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..shards).map(|_| mailbox(WAITING_CHANGES)).unzip();
    (StreamRouter(senders.into()), receivers.into_iter().map(ChangeInbox).collect())
}

impl StreamRouter {
    /// Changes a user's stream, whichever shard has it, and waits until the change is made.
    ///
    /// # Errors
    /// It was not made, or the shard takes no more.
    pub async fn change(
        &self,
        id: StreamId,
        user: UserId,
        change: SubscriptionChange,
    ) -> Result<(), ChangeRefused> {
        let sender = self.0.get(usize::from(id.shard)).ok_or(NotChanged::Unknown)?;
        let (reply, outcome) = oneshot::channel();
        sender
            .try_send(ChangeRequest { id, user, change, reply })
            .map_err(|_| ChangeRefused::Busy)?;
        Ok(outcome.await.map_err(|_| ChangeRefused::Busy)??)
    }
}

/// Makes the changes of a shard's streams, until the process stops.
pub async fn serve_changes(hub: Rc<RefCell<Hub>>, mut inbox: ChangeInbox) {
    while let Some(request) = poll_fn(|context| inbox.0.poll_recv(context)).await {
        let ChangeRequest { id, user, change, reply } = request;
        let outcome = hub.borrow_mut().change(id, &user, &change);
        // The client may have hung up meanwhile.
        let _ = reply.send(outcome);
    }
}

impl std::fmt::Debug for StreamRouter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StreamRouter").field("shards", &self.0.len()).finish()
    }
}

impl std::fmt::Debug for ChangeInbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ChangeInbox").finish_non_exhaustive()
    }
}
