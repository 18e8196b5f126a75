//! Longbow, a brokerage engine: live prices to any number of clients over Server-Sent Events, and
//! durable orders to an external exchange. This page is the map of the crate.
//!
//! # The two data paths
//!
//! **Prices**: the exchange's feed -> [`exchange::feed`] (the only writer) -> last-value table and
//! ring ([`market`], built on [`sync`]) -> each shard's hub ([`stream`]) -> one send per client.
//! Prices conflate: a client has a set of changed symbols, never a queue of prices. A client that
//! wants every print has positions in a bounded history that all streams of a shard share.
//!
//! **Orders**: a request ([`http`]) -> the orders thread ([`oms`]) -> an engine decides
//! ([`engine`], over the transition table of [`order`]) -> the log ([`wal`]), durable -> the
//! exchange ([`exchange`]) -> the log again, durable -> committed views, and only then the reply.
//! The store on disk ([`index`]) and, if configured, Postgres ([`projection`]) follow the log.
//!
//! # Folders, from the ground up
//!
//! | layer | folder | what it is |
//! |---|---|---|
//! | 0 | [`types`] | ids, cents, shares, time: the words of the domain |
//! | 1 | [`sync`] | ring, seqlock, mailbox, wake-up, watermark: the lock-free hand-offs that loom checks |
//! | 1 | [`metrics`], [`shutdown`] | the counters behind `/metrics`; the one stop request |
//! | 1 | [`data_dir`] | every path below the data directory |
//! | 1 | [`runtime`] | executors, timers and sockets: what tasks run on, and the only home of glommio |
//! | 1 | [`web`] | the page at `/` |
//! | 1 | [`money`] | pure: cash, reservations and holdings of users |
//! | 2 | [`market`] | pure: symbols, last values, ticks, who watches what |
//! | 2 | [`order`] | pure: an order, its events, its one transition table |
//! | 3 | [`engine`] | pure: one state machine per user partition, inputs in, events and effects out |
//! | 3 | [`wal`] | the write-ahead log: segments, group commit, recovery |
//! | 4 | [`index`] | all orders on disk, moved forward from the log, so that the log can be cut |
//! | 4 | [`exchange`] | wire format, order sessions, the feed reader |
//! | 4 | [`stream`] | one shard's price streams: raw sockets, dirty sets, frames |
//! | 4 | [`projection`] | Postgres, moved forward from the log: orders, executions, audit log |
//! | 5 | [`oms`] | the orders thread: drives engines, log and order sessions |
//! | 5 | [`bridge`] | prices and order lines between nodes and for other programs, by way of Redis |
//! | 5 | [`cluster`] | the nodes of a deployment, as Postgres knows them |
//! | 5 | [`day_end`] | every execution of a day, compared with the exchange's list |
//! | 5 | [`offline`] | verify, restore, repair and backfill: compares and copies log, store and Postgres; verify also beside a running server |
//! | 5 | [`sim_exchange`] | a real server that plays the exchange, and misbehaves on request |
//! | 6 | [`http`] | accept, hyper, authentication, routes, problem documents |
//! | 5 | `testing` | disk and store in memory, log and feed driven by hand: in no build of the product, so tests of any layer use it |
//! | 6 | `simulation` | the whole order system from a seed, for tests (feature `simulation`) |
//! | 7 | [`config`] | the command line and the configuration file |
//! | 8 | [`topology`] | the threads of `serve`: name, core, queues; start, stop, join |
//! | 8 | `fuzzing` | the fuzz targets, for tests |
//!
//! A folder imports only folders of lower layers. A test enforces this, and keeps glommio, hyper,
//! tokio, axum, jsonwebtoken, clap, fjall, tokio-postgres and refinery within the folders that own
//! them.
//!
//! # Threads
//!
//! | thread | runtime | owns | input |
//! |---|---|---|---|
//! | `shard-N` | glommio, pinned | its accept queue, its HTTP connections, its streams | ring, last-value table, reply slots; a bounded mailbox with changes of its streams |
//! | `feed` | its own loop; tokio while it follows another node | the market-data connection; writes ring and table | the exchange's feed; Redis |
//! | `symbols` | its own loop | reads the exchange's list of symbols for `feed` | requests in one slot |
//! | `checkpoint` | its own loop | the file of the day's figures | a slot for the newest checkpoint, from `feed` |
//! | `candles` | its own loop | the database of candles | a ring of events, from `feed` |
//! | `candle-read` | its own loop | reads candles for threads that must not wait | a bounded channel |
//! | `candle-history` | its own loop | asks the exchange for missing candles | bounded channels, from and to `candles` |
//! | `day-end` | its own loop | compares a day's executions with the exchange's list | requests of operators; the close |
//! | `orders` | glommio, pinned if a core is left | the 64 engines, the order sessions | bounded mailboxes from shards and feed; progress of the log |
//! | `wal` | its own loop | the log's files; a lone request is written by `orders` itself | two batch buffers that take turns |
//! | `wal-prepare` | its own loop | the next segment, zero-filled ahead of its use | a bounded channel |
//! | `log-check` | its own loop | reads, once, the records that a start skips | nothing |
//! | `index` | its own loop | the embedded store, which follows the log; cuts the log | progress of the log |
//! | `index-read-N` | its own loop | reads the store for threads that must not wait | a bounded channel |
//! | `projection-N` | tokio | one Postgres server, which follows the log | progress of the log |
//! | `postgres-read` | tokio | reads of orders in Postgres, for a member of a cluster | a bounded channel |
//! | `bridge` | tokio | the connection to Redis, with `--redis` | ring, last-value table |
//! | `node` | tokio | this node's leases in Postgres; which users it takes and hands over; what operators have halted on any node | time; a wake-up when they halt something here |
//! | `offline` | its own loop | the socket that shows a running server's orders to `longbow verify` | that socket |
//! | `admin` | glommio | the operators' listener, until everything else has ended | reply slots |
//! | `log` | its own loop | standard error, so that a slow or closed reader blocks nobody | a bounded buffer that counts lost lines |
//! | `exchange` | tokio | the simulated exchange, with `--exchange sim` | TCP only, like any exchange |
//! | `signals` | its own loop | SIGINT, SIGTERM, SIGHUP | the system |
//!
//! Short-lived threads resolve names (`resolver`) and connect (`dial`); the store has workers. A
//! thread that ends unasked ends the process: half an engine is worse than a restart.
//!
//! # Invariants
//!
//! 1. No order is known to the exchange before it is durable here, and no client hears of an acceptance
//!    before that is durable. A failed write or sync is never retried: the log is poisoned, the process
//!    ends, and the next start finds out what is on disk.
//! 2. An order is submitted once; again only if the exchange answered that it did nothing (`429`). An
//!    unknown outcome is resolved by asking. After its deadline the exchange refuses the order, so an
//!    order that two queries do not find becomes `failed`, and is queried again later.
//! 3. An execution counts once per order, however often and by whatever way it arrives, and is taken
//!    back only by evidence: a bust, a record that proves itself, or an operator.
//! 4. What a reader can see is durable, and its version never goes back.
//! 5. Prices never wait for orders, orders never wait for prices, and nobody waits for a slow client:
//!    every queue is bounded and says what happens when it is full.

pub mod bridge;
pub mod cluster;
pub mod config;
pub mod data_dir;
pub mod day_end;
pub mod engine;
pub mod exchange;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
pub mod index;
#[cfg(test)]
mod layers;
pub mod market;
pub mod metrics;
pub mod money;
pub mod offline;
pub mod oms;
pub mod order;
pub mod projection;
pub mod runtime;
pub mod shutdown;
pub mod sim_exchange;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod stream;
pub mod sync;
#[cfg(any(test, fuzzing, feature = "simulation"))]
pub mod testing;
pub mod topology;
pub mod types;
pub mod wal;
pub mod web;
