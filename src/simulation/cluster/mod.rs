//! Several nodes that share users, from a seed: each with the real orders thread (driver, engines,
//! commit gate, views, log, order sessions), with the real decisions of the thread `node`
//! ([`crate::cluster::plan`]), of the projection about what it may write, and of the threads `feed` and
//! `bridge` about order lines (who leads, what is sent, what is missing).
//!
//! Simulated are: the tables of Postgres and its clock (`tables`, `postgres`), the stream in Redis
//! (`redis`), the order in which the threads of a node ask them (`mover`, `lease`, `projector`, `feed`,
//! `feed_lease`, `publisher`), users (`users`), the exchange and the network of the simulation of a
//! single node, and the clocks of all machines (`clock`).
//!
//! Any node may be killed, frozen, stopped, or cut off from Postgres, Redis or the exchange; Postgres
//! may go away and come back on another machine, with everything that it has committed; Redis may
//! forget all lines or some, and connections to it break in the middle of a request. What is on its way at that moment arrives or does not. At the end `rest` stops
//! all faults: then every partition is served, and Postgres has what the exchange has.
//!
//! Not simulated: SQL, requests from node to node and from browsers, streams of orders, lines that are
//! garbled, an exchange that forgets, repeats or lags, and disks that fail: a member that loses its disk
//! loses nothing.

mod around;
mod checks;
mod clock;
mod commands;
mod end;
mod ended_lately;
mod fault;
mod faults;
mod feed;
mod feed_lease;
mod lease;
mod machine;
mod mover;
mod postgres;
mod process;
mod profile;
mod projector;
mod publisher;
mod redis;
mod rest;
mod tables;
mod user_actions;
mod users;
mod world;

pub(super) use world::World;
