//! The order management system: the `orders` thread drives the engines, the log and the sessions
//! with the exchange.
//!
//! Every decision of the engines takes the same path: events are appended to the log in order, and
//! effects wait until all events so far are durable. Then readers see the new state, and after that
//! clients are answered and the exchange is told. Readers never see what a crash could take back.
//!
//! # With `--commit postgres`
//!
//! Readers see an order, and clients are answered, once Postgres has what the log has. What is sent
//! to the exchange waits for the log alone: while Postgres is away orders still get there, above
//! all cancels. So does the confirmation of the lines that the exchange posts.
//!
//! - After the reply timeout a client is answered with the order as it is shown, without an outcome;
//!   if it is not shown yet, after some more time, that the outcome is unknown. Repeating the request
//!   with the same key gets the same answer until Postgres has the order.
//! - New orders are refused, without a record, while Postgres takes longer than a limit for what waits
//!   for it, or too much waits. Lines of the exchange, and at last cancels, are refused only when the
//!   effects of open orders have filled memory.
//! - After a restart nobody may read before Postgres has all that was recovered; cancels are taken.
//! - The index waits for what memory shows, and so for Postgres. Postgres asks the index for the owner
//!   of an order that changes long after it was created; it never needs what it does not have itself.

mod account_events;
mod admission;
mod alert_log;
mod alert_words;
pub(crate) mod answers;
mod awaited_postgres;
pub(crate) mod batches;
mod cash_ids;
mod circuit;
mod clock_watch;
mod commit_gate;
pub(crate) mod driver;
mod ended;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod halts;
mod kill_switch;
mod kill_switch_file;
pub(crate) mod limits;
mod local_queue;
mod mass_cancel;
mod metrics;
mod operator;
mod options;
mod order_changes;
mod order_commands;
mod order_events;
pub(crate) mod order_lookups;
mod order_pages;
mod order_service;
mod order_store;
mod order_watch;
mod partitions;
mod postgres_side;
pub(crate) mod publisher;
mod query_planner;
mod reads;
mod reconciler;
pub(crate) mod recover;
mod replies;
mod run;
mod sessions;
mod shared_halts;
pub(crate) mod slice;
mod stages;
pub(crate) mod submit_queue;
mod throttle;
mod translate;
mod unreadable;
mod views;
mod webhook;

pub use crate::engine::{CancelReply, CancelScope, CreateOrder, CreateReply, HaltScope};
pub use circuit::ExchangeReachability;
pub use error::OmsError;
pub use halts::{
    HaltChange, Halts, MAX_HALT_TEXT_BYTES, MAX_HALTED_SYMBOLS, MAX_HALTED_USERS, TooManyHalts,
};
pub use kill_switch::{Changing, KillSwitch};
pub use kill_switch_file::KillSwitchError;
pub use limits::{FEED_QUEUE_CAPACITY, OmsLimits};
pub use mass_cancel::MassCancelled;
pub use metrics::OmsMetrics;
pub use operator::{ListedCase, MAX_LISTED_CASES, Quarantine};
pub use options::OmsOptions;
pub use order_changes::{ChangeId, Changes, ChangesSince, NoChangeId, OrderChanges};
pub use order_commands::{CommandReceivers, OrderCommands, Overloaded, order_commands};
pub use order_events::OrderEventFeed;
pub use order_pages::OrderPage;
pub use order_service::OrderService;
pub use order_store::{OrderStore, PostgresStore, StoreUnavailable};
pub use order_watch::{OrderWatch, OrderWatchers};
pub use partitions::PartitionCommand;
pub use postgres_side::PostgresSide;
pub use publisher::{ReusedIds, ShownUpTo, StoredUpTo};
pub use recover::{Recovered, recover};
pub use run::{OrdersThread, run};
pub use shared_halts::{HaltsDraft, HaltsLook};
pub use stages::OrderStages;
pub use views::{CommittedViews, UserView};
pub use webhook::LinesDurable;

#[cfg(test)]
mod circuit_tests;
#[cfg(test)]
mod cleanup_tests;
#[cfg(test)]
mod fairness_tests;
#[cfg(test)]
mod fake_exchange;
#[cfg(test)]
mod halt_tests;
#[cfg(test)]
mod postgres_tests;
#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod test_node;
#[cfg(test)]
mod waker_tests;
#[cfg(test)]
mod webhook_tests;
