//! HTTP/1.1 for clients and operators: accepting, hyper, authentication, and the routes of the
//! contract. The socket of a stream request leaves hyper here and moves to the shard's hub.

mod accept;
mod admin;
mod app;
mod auth;
mod body;
mod connection;
mod fields;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod health;
mod limits;
mod metrics;
mod operate;
mod path;
mod problem;
mod quarantine;
mod query;
mod ready;
mod reply;
mod router;
mod routes;

pub use accept::{serve_clients, serve_operators};
pub use admin::Admin;
pub use app::{App, Site, StreamService};
pub use auth::{Authenticator, Secret, SecretError};
pub use health::Health;
pub use limits::HttpLimits;
pub use metrics::HttpMetrics;
