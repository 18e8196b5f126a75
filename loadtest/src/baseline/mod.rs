//! The usual design of an order service, as a competent engineer would write it: axum on tokio's
//! multi-threaded runtime, one Postgres table behind a connection pool, and a kept-alive HTTP client
//! to the exchange. Each order is inserted as `pending`, submitted, and updated to the exchange's
//! answer. Each statement is prepared and a transaction of its own, durable once answered.
//!
//! It has the routes, bodies and tokens of Longbow's contract for creating and reading orders. It
//! omits what would make it slower: fills, cancels, and the check for an earlier order with the same
//! `clientOrderId`.

mod auth;
mod exchange;
mod order;
mod problem;
mod routes;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use axum::{
    Router,
    routing::{get, post},
    serve::ListenerExt,
};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Runtime;

use crate::{
    cpu,
    error::{Context, Error, Result},
    peer::serve_input,
    prices::exchange::symbols,
};
use auth::Tokens;
use exchange::Exchange;
use store::Store;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4_096;

/// Flags of the process. It uses the cores it is started on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BaselineArgs {
    /// Address of the exchange
    #[arg(long)]
    exchange: SocketAddr,
    /// Database, as postgres://user@host:port/name
    #[arg(long)]
    database: String,
    /// Connections in the pool
    #[arg(long, default_value_t = 16)]
    pool: usize,
    /// File with the key of the tokens
    #[arg(long)]
    jwt_secret_file: PathBuf,
}

/// State shared by all requests.
struct Site {
    tokens: Tokens,
    symbols: HashSet<String>,
    store: Store,
    exchange: Exchange,
}

/// Runs the peer until its input ends.
///
/// # Errors
/// Exchange, database or key are not usable, or the system has no socket or thread.
pub(crate) fn run(arguments: &BaselineArgs) -> Result<()> {
    let baseline = Baseline::start(arguments)?;
    serve_input(baseline.address, |_| {
        Ok(json!({ "connections": baseline.site.store.connections() }))
    })
}

/// The running peer. Dropping it stops it.
struct Baseline {
    address: SocketAddr,
    site: Arc<Site>,
    _runtime: Runtime,
}

impl Baseline {
    fn start(arguments: &BaselineArgs) -> Result<Self> {
        let _ = cpu::raise_descriptor_limit();
        let symbols = symbols(arguments.exchange)?.into_iter().collect();
        let tokens = Tokens::read(&arguments.jwt_secret_file)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cpu::core_count())
            .thread_name("baseline")
            .enable_all()
            .build()
            .context("starting the runtime")?;
        let store = runtime.block_on(Store::open(&arguments.database, arguments.pool));
        let store = store.map_err(|error| {
            let what = "the peer's database".to_owned();
            Error::Answer { what, answer: error.to_string() }
        })?;
        let exchange = Exchange::new(arguments.exchange);
        let site = Arc::new(Site { tokens, symbols, store, exchange });
        let listener = listen().context("listening")?;
        let address = listener.local_addr().context("own address")?;
        let router = Router::new()
            .route("/order", post(routes::create))
            .route("/order/{id}", get(routes::read))
            .route("/orders", get(routes::list))
            .with_state(Arc::clone(&site));
        runtime.spawn(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let listener = listener.tap_io(|socket| {
                let _ = socket.set_nodelay(true);
            });
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, site, _runtime: runtime })
    }
}

fn listen() -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
