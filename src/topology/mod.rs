//! The threads of `serve`: their names, cores and runtimes, and the queues between them. Started and
//! joined here. A few start below: `wal-prepare` by `wal`, `exchange` by the simulator, those that look
//! up and connect to the exchange by its sessions and feed, the store's workers by the store.
//!
//! | thread | core | runtime | ends when |
//! |---|---|---|---|
//! | `shard-N` | its own | glommio | a stop is requested |
//! | `orders` | its own where there are enough | glommio | the shards have ended |
//! | `feed` (with `symbols`, `checkpoint`, `candles`, `candle-history`) | any | its own loop | the shards have ended |
//! | `wal` (with `wal-prepare`) | any | its own loop | `orders` has dropped its end |
//! | `index` | any | its own loop | a stop is requested and `wal` has ended |
//! | `log-check` | any | its own loop | a stop is requested |
//! | `bridge` | any | tokio | the shards have ended |
//! | `node` | any | tokio | all of the above and below but `admin` have ended |
//! | `offline` | any | its own loop | a stop is requested |
//! | `projection-N` | any | tokio | a stop is requested and `wal` has ended |
//! | `admin` | any | glommio | all of the above have ended |
//! | `index-read-N` | any | its own loop | nobody is left who could ask it |
//! | `candle-read` | any | its own loop | nobody is left who could ask it |
//! | `postgres-read` | any | tokio | nobody is left who could ask it |
//! | `log` | any | its own loop | the process has ended |
//! | `exchange` | any | tokio, in a simulator of its own | all of the above but `log` have ended |
//! | `signals` | any | its own loop | last |
//!
//! A thread that ends without a stop request stops all others.

mod candles;
mod console;
mod day_end;
mod exchange;
mod feed;
mod host;
mod index;
mod launch;
mod link;
mod listeners;
mod log_check;
mod log_fields;
mod log_sink;
mod logging;
mod node;
mod operator_client;
mod operators;
mod placement;
mod plan;
mod postgres;
mod reconcile;
mod running;
mod serve;
mod serve_error;
mod shard;
mod signals;
mod stages;
mod system;
mod threads;
mod webhook;

pub use console::{Console, complain};
pub use exchange::run_exchange;
pub use logging::{Log, LogError};
pub use operator_client::{OperatorError, account, close_order, quarantine};
pub use postgres::servers;
pub use reconcile::{ReconcileError, reconcile};
pub use serve::serve;
pub use serve_error::{ServeError, is_wrong_setting};
pub use signals::SignalError;
pub use system::SystemError;
pub use threads::with_causes;
