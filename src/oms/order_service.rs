use std::sync::Arc;
use std::time::Instant;

use super::limits::MAX_UNSTORED_EVENTS;
use super::order_changes::OrderChanges;
use super::order_commands::OrderCommands;
use super::reads::{OrderPage, OrderReads, PageRequest, StoreUnavailable};
use crate::engine::{CancelReply, CreateOrder, CreateReply, cancel_answer};
use crate::index::IndexReaders;
use crate::order::Order;
use crate::types::{OrderId, UserId};
use crate::wal::Lsn;

/// Where requests about orders go, from any thread: new ones and cancels to the orders thread,
/// questions to what it has committed, in memory or in the store.
#[derive(Debug, Clone)]
pub struct OrderService {
    commands: OrderCommands,
    reads: OrderReads,
    changes: OrderChanges,
}

impl OrderService {
    /// Over the orders thread that takes these commands and the store that follows its log.
    pub fn new(commands: OrderCommands, store: IndexReaders) -> Self {
        let reads = OrderReads::new(commands.views().clone(), store);
        let changes = OrderChanges::new(reads.clone());
        Self { commands, reads, changes }
    }

    /// Records an order and answers once its outcome is known, or is not known in time. A key that
    /// named an order long ago still names it.
    pub async fn create(&self, request: CreateOrder) -> CreateReply {
        self.create_since(Instant::now(), request).await
    }

    /// The same on behalf of a handler that began at `arrived`, which counts as the order's time.
    pub async fn create_since(&self, arrived: Instant, request: CreateOrder) -> CreateReply {
        let order_id = request.order_id;
        let reply = self.create_unmeasured(arrived, request).await;
        if matches!(reply, CreateReply::Accepted(_) | CreateReply::Rejected(_)) {
            self.commands.stages().answered(order_id, arrived);
        }
        reply
    }

    async fn create_unmeasured(&self, arrived: Instant, request: CreateOrder) -> CreateReply {
        let checked = match &request.client_order_id {
            None => None,
            Some(key) => match self.reads.by_key(&request.user, key).await {
                Ok(found) => Some(found),
                Err(StoreUnavailable) => return CreateReply::Unavailable,
            },
        };
        if let Some(first) = checked.as_ref().and_then(|checked| checked.order.as_ref()) {
            return request.repeat_of(Arc::clone(first));
        }
        let key_checked_at = checked.map(|checked| checked.position).unwrap_or_default();
        match self.commands.create_since(arrived, request, key_checked_at) {
            // A sender that is gone: the process is ending, and it may be recorded.
            Ok(reply) => reply.await.unwrap_or(CreateReply::OutcomeUnknown),
            Err(_overloaded) => CreateReply::Unavailable,
        }
    }

    /// Cancels an order and answers once the outcome is known, or is not known in time.
    pub async fn cancel(&self, user: UserId, order_id: OrderId) -> CancelReply {
        let Ok(reply) = self.commands.cancel(user.clone(), order_id) else {
            return CancelReply::Unavailable;
        };
        match reply.await.unwrap_or(CancelReply::OutcomeUnknown) {
            CancelReply::NotFound => self.cancel_of_stored(&user, order_id).await,
            reply => reply,
        }
    }

    /// The orders thread does not have it in memory: it has ended, or never was.
    async fn cancel_of_stored(&self, user: &UserId, order_id: OrderId) -> CancelReply {
        match self.reads.order(user, order_id).await {
            Ok(None) => CancelReply::NotFound,
            // Open ones are in memory: it came back just now.
            Ok(Some(order)) => cancel_answer(&order).unwrap_or(CancelReply::Pending(order)),
            Err(StoreUnavailable) => CancelReply::Unavailable,
        }
    }

    /// A user's order as it is committed.
    ///
    /// # Errors
    /// The store cannot say.
    pub async fn order(
        &self,
        user: &UserId,
        order_id: OrderId,
    ) -> Result<Option<Arc<Order>>, StoreUnavailable> {
        self.reads.order(user, order_id).await
    }

    /// A page of a user's orders, newest first.
    ///
    /// # Errors
    /// The store cannot say.
    pub async fn page(
        &self,
        user: &UserId,
        request: &PageRequest,
    ) -> Result<OrderPage, StoreUnavailable> {
        self.reads.page(user, request).await
    }

    /// What has changed of a user's orders, for streams.
    pub fn changes(&self) -> &OrderChanges {
        &self.changes
    }

    /// The way to the orders thread, for all that is not a user's request.
    pub fn commands(&self) -> &OrderCommands {
        &self.commands
    }

    /// Whether orders may be read. Not at a start with `--commit postgres` before Postgres has all
    /// that was recovered: until then reads fail, and no streams of orders may begin.
    pub fn is_readable(&self) -> bool {
        self.reads.are_readable()
    }

    /// What is wrong with the store, if anything: it does not follow the log, or is so far behind
    /// what is `committed` there that new orders are refused.
    pub fn store_trouble(&self, committed: Lsn) -> Option<String> {
        let index = self.reads.index();
        let unstored = committed.0.saturating_sub(index.durable_position().0);
        index.trouble().or_else(|| {
            (unstored >= MAX_UNSTORED_EVENTS).then(|| {
                format!(
                    "the store is {unstored} records behind the log: new orders are refused from \
                     {MAX_UNSTORED_EVENTS} on"
                )
            })
        })
    }
}
