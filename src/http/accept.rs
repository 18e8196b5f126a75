//! Accepts connections on a listener, within its limit, and drains them at shutdown.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use http::Request;
use hyper::body::Incoming;

use crate::runtime::{Semaphore, TcpListener, TcpStream, accept, sleep, spawn_local};
use crate::shutdown::Shutdown;

use super::admin::Admin;
use super::app::App;
use super::connection::serve_connection;
use super::limits::HttpLimits;
use super::metrics::HttpMetrics;
use super::peer_router::route_peer;
use super::router::route;

/// Connections accepted in a row before the shard's other tasks run: at 20-30 us each, half a
/// millisecond.
const ACCEPTS_IN_A_ROW: u32 = 16;
/// Pause of the accept loop when the process has no free descriptor.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
/// How long requests in progress may take to finish after a stop was requested.
const DRAIN: Duration = Duration::from_millis(500);
/// Interval at which the drain checks whether requests are still in progress.
const DRAIN_POLL: Duration = Duration::from_millis(1);
/// A real timer, however short, lets every other task run first.
const YIELD: Duration = Duration::from_micros(1);

/// Serves clients on a shard's listener until the process stops.
pub async fn serve_clients(
    listener: TcpListener,
    limits: HttpLimits,
    metrics: HttpMetrics,
    shutdown: Shutdown,
    app: Rc<App>,
) {
    let counted = metrics.clone();
    serve_listener(listener, limits, metrics, shutdown, move |stream| {
        let (app, metrics) = (Rc::clone(&app), counted.clone());
        let place = app.site.room.enter()?;
        let hub = Some(Rc::clone(&app.hub));
        Some(async move {
            let handle = |request| route(Rc::clone(&app), request);
            serve_connection(stream, limits, metrics, hub, handle).await;
            drop(place);
        })
    })
    .await;
}

/// Serves other nodes on a shard's listener for them until the process stops.
pub async fn serve_peers(
    listener: TcpListener,
    metrics: HttpMetrics,
    shutdown: Shutdown,
    app: Rc<App>,
) {
    let counted = metrics.clone();
    let limits = HttpLimits::of_peers();
    serve_listener(listener, limits, metrics, shutdown, move |stream| {
        let (app, metrics) = (Rc::clone(&app), counted.clone());
        let hub = Some(Rc::clone(&app.hub));
        Some(async move {
            let handle = |request| route_peer(Rc::clone(&app), request);
            serve_connection(stream, limits, metrics, hub, handle).await;
        })
    })
    .await;
}

/// Serves operators until the process stops.
pub async fn serve_operators(
    listener: TcpListener,
    limits: HttpLimits,
    metrics: HttpMetrics,
    shutdown: Shutdown,
    admin: Rc<Admin>,
) {
    let counted = metrics.clone();
    serve_listener(listener, limits, metrics, shutdown, move |stream| {
        let (admin, metrics) = (Rc::clone(&admin), counted.clone());
        Some(async move {
            let peer = stream.peer_addr().ok();
            let handle = |request: Request<Incoming>| {
                let admin = Rc::clone(&admin);
                async move { admin.route(request, peer).await }
            };
            serve_connection(stream, limits, metrics, None, handle).await;
        })
    })
    .await;
}

/// Accepts connections and serves each in a task of its own until the process stops. One for which
/// `serve` has nothing is closed at once. Requests in progress then have [`DRAIN`] to finish. Returns
/// once all connections are closed: an executor never drops tasks that are left over, nor what they
/// hold.
async fn serve_listener<F>(
    listener: TcpListener,
    limits: HttpLimits,
    metrics: HttpMetrics,
    shutdown: Shutdown,
    serve: impl Fn(TcpStream) -> Option<F>,
) where
    F: Future<Output = ()> + 'static,
{
    let permits = Rc::new(Semaphore::new(limits.connections));
    // Never has a permit; closing it ends all connections.
    let end = Rc::new(Semaphore::new(0));
    accept_until_stop(listener, &metrics, &shutdown, (&permits, &end), serve).await;
    let finished = async {
        while metrics.in_progress() > 0 {
            sleep(DRAIN_POLL).await;
        }
    };
    or(finished, async {
        sleep(DRAIN).await;
    })
    .await;
    end.close();
    let _all_closed = permits.acquire(limits.connections).await;
}

async fn accept_until_stop<F>(
    listener: TcpListener,
    metrics: &HttpMetrics,
    shutdown: &Shutdown,
    (permits, end): (&Rc<Semaphore>, &Rc<Semaphore>),
    serve: impl Fn(TcpStream) -> Option<F>,
) where
    F: Future<Output = ()> + 'static,
{
    let mut in_a_row = 0;
    let mut exhausted = false;
    while !shutdown.is_requested() {
        // Take the permit first: an accepted connection without one would wait unserved.
        let permit = or(async { permits.acquire_static_permit(1).await.ok() }, async {
            shutdown.requested().await;
            None
        });
        let Some(permit) = permit.await else { return };
        let accepted = or(accept(&listener), async {
            shutdown.requested().await;
            Err(io::ErrorKind::Interrupted.into())
        });
        match accepted.await {
            Ok(stream) => {
                exhausted = false;
                metrics.accepted.inc();
                if let Some(serving) = serve(stream) {
                    let end = Rc::clone(end);
                    spawn_local(async move {
                        or(serving, async {
                            let _closed = end.acquire(1).await;
                        })
                        .await;
                        drop(permit);
                    })
                    .detach();
                } else {
                    metrics.refused.inc();
                }
                in_a_row += 1;
                if in_a_row >= ACCEPTS_IN_A_ROW {
                    in_a_row = 0;
                    sleep(YIELD).await;
                }
            }
            Err(_) if shutdown.is_requested() => return,
            Err(error) => {
                metrics.accept_errors.inc();
                // Log once per outage: a process without descriptors fails thousands of times a
                // second.
                if !std::mem::replace(&mut exhausted, true) {
                    tracing::error!(%error, "cannot accept connections; retrying");
                }
                sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}
