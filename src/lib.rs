//! Longbow, a brokerage engine: live prices over Server-Sent Events, durable orders to an external
//! exchange.

pub mod config;
pub mod engine;
pub mod exchange;
pub mod execution;
pub mod http;
pub mod market;
pub mod metrics;
pub mod net;
pub mod order;
pub mod shutdown;
pub mod stream;
pub mod sync;
pub mod topology;
pub mod types;
pub mod wal;
pub mod web;
