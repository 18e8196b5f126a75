//! Entry point of requests about orders, for any thread.

use std::sync::Arc;
use std::time::Instant;

use super::limits::MAX_UNSTORED_EVENTS;
use super::order_changes::OrderChanges;
use super::order_commands::OrderCommands;
use super::order_pages::OrderPage;
use super::order_store::{OrderStore, StoreUnavailable};
use super::reads::OrderReads;
use crate::engine::{CancelReply, CashReply, CreateOrder, CreateReply, MoveCash, cancel_answer};
use crate::index::{Activities, ActivityRequest};
use crate::money::{Account, TrialBalance};
use crate::order::{CashTerms, ListedExecution, OperatorAct, Order, PageRequest};
use crate::types::{CashMovementId, ClientOrderId, OrderId, UserId};
use crate::wal::Lsn;

/// How often a create checks its key at most. Orders that end and leave memory between the check and
/// the decision make it unsure.
const KEY_CHECKS: u32 = 3;
/// How often the store is asked about the id of a cash movement: memory may forget it meanwhile.
const MAX_ID_CHECKS: usize = 3;

/// Routes requests about orders, from any thread: creates and cancels to the orders thread, reads
/// to what it has committed, in memory or in the store.
#[derive(Debug, Clone)]
pub struct OrderService {
    commands: OrderCommands,
    reads: OrderReads,
    changes: OrderChanges,
}

impl OrderService {
    /// A service in front of the orders thread that takes these commands, and of the store that
    /// follows its log.
    pub fn new(commands: OrderCommands, store: impl Into<OrderStore>) -> Self {
        let reads = OrderReads::new(commands.views().clone(), store);
        let changes = OrderChanges::new(reads.clone());
        Self { commands, reads, changes }
    }

    /// Records an order and answers once its outcome is known, or after the reply timeout. An
    /// idempotency key names its order for good.
    pub async fn create(&self, request: CreateOrder) -> CreateReply {
        self.create_since(Instant::now(), request).await
    }

    /// The same for a handler that started at `arrived`, from which the order's latency is
    /// measured.
    pub async fn create_since(&self, arrived: Instant, request: CreateOrder) -> CreateReply {
        let order_id = request.order_id;
        let reply = self.create_unmeasured(arrived, request).await;
        if matches!(reply, CreateReply::Accepted(_) | CreateReply::Rejected(_)) {
            self.commands.stages().answered(order_id, arrived);
        }
        reply
    }

    async fn create_unmeasured(&self, arrived: Instant, request: CreateOrder) -> CreateReply {
        for _ in 1..KEY_CHECKS {
            match self.create_once(arrived, request.clone()).await {
                CreateReply::KeyUnsure => {}
                reply => return reply,
            }
        }
        self.create_once(arrived, request).await
    }

    async fn create_once(&self, arrived: Instant, request: CreateOrder) -> CreateReply {
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
        // Ignored for an order without a key.
        let key_checked_at = checked.map(|checked| checked.position).unwrap_or_default();
        match self.commands.create_since(arrived, request, key_checked_at) {
            // If the sender is gone, the process is ending and the order may be recorded.
            Ok(reply) => reply.await.unwrap_or(CreateReply::OutcomeUnknown),
            Err(_overloaded) => CreateReply::Unavailable,
        }
    }

    /// Cancels an order and answers once the outcome is known, or after the reply timeout.
    pub async fn cancel(&self, user: UserId, order_id: OrderId) -> CancelReply {
        let Ok(reply) = self.commands.cancel(user.clone(), order_id) else {
            return CancelReply::Unavailable;
        };
        match reply.await.unwrap_or(CancelReply::OutcomeUnknown) {
            CancelReply::NotFound => self.cancel_of_stored(&user, order_id).await,
            reply => reply,
        }
    }

    /// For an order that is not in the orders thread's memory: it has ended, or does not exist.
    async fn cancel_of_stored(&self, user: &UserId, order_id: OrderId) -> CancelReply {
        match self.reads.order(user, order_id).await {
            Ok(None) => CancelReply::NotFound,
            // Open orders are in memory, so this one was loaded a moment ago.
            Ok(Some(order)) => cancel_answer(&order).unwrap_or(CancelReply::Pending(order)),
            Err(StoreUnavailable) => CancelReply::Unavailable,
        }
    }

    /// A user's order, as committed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn order(
        &self,
        user: &UserId,
        order_id: OrderId,
    ) -> Result<Option<Arc<Order>>, StoreUnavailable> {
        self.reads.order(user, order_id).await
    }

    /// The executions of a user's order, as they were noted. `None` for another user's order, too. May wait
    /// for the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn executions(
        &self,
        user: &UserId,
        order_id: OrderId,
    ) -> Result<Option<Vec<ListedExecution>>, StoreUnavailable> {
        self.reads.executions(user, order_id).await
    }

    /// The order that a user's idempotency key names. May wait for the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn by_key(
        &self,
        user: &UserId,
        key: &ClientOrderId,
    ) -> Result<Option<Arc<Order>>, StoreUnavailable> {
        self.reads.by_key_as_shown(user, key).await
    }

    /// A user's account, as committed; an empty one for a user who has never had money.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn account(&self, user: &UserId) -> Result<Arc<Account>, StoreUnavailable> {
        self.reads.account(user).await
    }

    /// Moves cash of a user, once for each id. Answered when it is durable.
    pub async fn move_cash(
        &self,
        user: UserId,
        id: CashMovementId,
        (terms, act): (CashTerms, OperatorAct),
    ) -> CashReply {
        for _ in 0..MAX_ID_CHECKS {
            let Ok((checked_at, stored)) = self.reads.cash_terms(&user, &id).await else {
                return CashReply::Unavailable;
            };
            let (user, id, act) = (user.clone(), id.clone(), act.clone());
            let request = MoveCash { user, id, terms, act, stored };
            let Ok(reply) = self.commands.move_cash(request, checked_at) else {
                return CashReply::Unavailable;
            };
            match reply.await {
                Ok(CashReply::CheckAgain) => {}
                Ok(reply) => return reply,
                // The process is ending.
                Err(_gone) => return CashReply::OutcomeUnknown,
            }
        }
        CashReply::Unavailable
    }

    /// Some of what happened to a user's orders and cash. There may be few or none although there is more:
    /// what one call looks at is bounded.
    ///
    /// # Errors
    /// The store cannot be read, or is Postgres, which has no activities yet.
    pub async fn activities(
        &self,
        user: &UserId,
        request: &ActivityRequest,
    ) -> Result<Activities, StoreUnavailable> {
        self.reads.activities(user, request).await
    }

    /// The sums of all accounts, and the last record of the log that they include.
    ///
    /// # Errors
    /// The store cannot be read, or is Postgres, which has no accounts yet.
    pub async fn trial_balance(&self) -> Result<(Lsn, TrialBalance), StoreUnavailable> {
        self.reads.trial_balance().await
    }

    /// The next of a user's orders that a request selects. There may be few or none of them although there
    /// are more: what one call looks at is bounded.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn page(
        &self,
        user: &UserId,
        request: &PageRequest,
    ) -> Result<OrderPage, StoreUnavailable> {
        self.reads.page(user, request).await
    }

    /// Changes of users' orders, for streams.
    pub fn changes(&self) -> &OrderChanges {
        &self.changes
    }

    /// Commands to the orders thread that are not a user's request.
    pub fn commands(&self) -> &OrderCommands {
        &self.commands
    }

    /// Whether orders may be read. With `--commit postgres` not before Postgres has all that the
    /// start recovered: until then reads fail and no order streams begin.
    pub fn is_readable(&self) -> bool {
        self.reads.are_readable()
    }

    /// What is wrong with the store, if anything: it no longer follows the log, or lags so far
    /// behind `committed` that new orders are refused.
    pub fn store_trouble(&self, committed: Lsn) -> Option<String> {
        let index = self.reads.store().index();
        // The store may have come further since the caller asked the log.
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
