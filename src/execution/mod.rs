//! The `orders` thread: drives the engines, the log and the sessions with the exchange.
//!
//! Everything that the engines decide goes one way: events are appended to the log in their order,
//! and effects wait until all events so far are durable. Then readers see the new state, and after
//! that whoever asked is answered and the exchange is told. Readers never see what a crash could
//! take back.

mod answers;
mod circuit;
mod driver;
mod error;
mod gateway;
mod kill_switch;
mod limits;
mod local_queue;
mod mass_cancel;
mod metrics;
mod options;
mod recover;
mod replies;
mod run;
mod sessions;
mod translate;
mod views;
mod webhook;

pub use crate::engine::{CancelReply, CancelScope, CreateOrder, CreateReply, HaltScope};
pub use circuit::ExchangeState;
pub use error::ExecutionError;
pub use gateway::{CommandReceivers, OrderGateway, Overloaded, order_gateway};
pub use kill_switch::{
    HaltChange, Halts, KillSwitch, KillSwitchError, MAX_HALT_TEXT_BYTES, MAX_HALTED_SYMBOLS,
    MAX_HALTED_USERS,
};
pub use limits::FEED_QUEUE_CAPACITY;
pub use mass_cancel::MassCancelled;
pub use metrics::ExecutionMetrics;
pub use options::ExecutionOptions;
pub use recover::{Recovered, recover};
pub use run::{OrdersThread, run};
pub use views::{CommittedViews, UserView};
pub use webhook::WebhookReply;

#[cfg(test)]
mod circuit_tests;
#[cfg(test)]
mod fake_exchange;
#[cfg(test)]
mod halt_tests;
#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod webhook_tests;
