//! HTTP/1.1 for clients and operators: accepting, hyper, authentication, and the routes of the
//! contract. The socket of a stream request leaves hyper here and moves to the shard's hub.

mod accept;
mod admin;
mod app;
mod auth;
mod body;
mod call;
mod cash;
mod connection;
mod day_end;
mod fields;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod health;
mod keys;
mod limits;
mod mass_cancel;
mod metrics;
mod moment;
mod operate;
mod order_cursor;
mod other_nodes;
mod passing;
#[cfg(test)]
mod passing_tests;
mod path;
mod peer_router;
mod peers;
mod posted_lines;
mod problem;
mod quarantine;
mod query;
mod ready;
mod relay;
mod reply;
mod room;
mod router;
mod routes;
mod user_limit;
mod user_routes;

pub use accept::{serve_clients, serve_operators, serve_peers};
pub use admin::Admin;
pub use app::{AccountSettings, App, Site, StreamService};
pub use auth::{Authenticator, Secret, SecretError};
pub use health::Health;
pub use keys::{KeysDirectory, KeysError};
pub use limits::{HttpLimits, OPERATOR_CONNECTIONS};
pub use metrics::HttpMetrics;
pub use peers::{PeerMetrics, PeerOptions, Peers, PeersSecret};
pub use relay::{RelayLimits, Relays};
pub use room::ClientRoom;
