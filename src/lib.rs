//! Longbow, a brokerage engine: live prices over Server-Sent Events, durable orders to an external
//! exchange.

pub mod metrics;
pub mod net;
pub mod shutdown;
pub mod sync;
pub mod types;
