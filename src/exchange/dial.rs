//! Connections to the exchange: resolves its name, races its addresses and notices when it moves.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::address::ExchangeAddress;
use crate::runtime::connect_any;

/// Interval at which a pending lookup checks for a stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

type Lookup = dyn Fn(&ExchangeAddress) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Connects to the exchange. Each connection resolves the name again and tries every address, so
/// that a move of the exchange is followed and one dead address of several costs little. Clones
/// share their state.
#[derive(Clone)]
pub struct Dialer(Arc<Shared>);

struct Shared {
    exchange: ExchangeAddress,
    lookup: Box<Lookup>,
    state: Mutex<State>,
    looked_up: Condvar,
    /// How many lookups found other addresses than the one before.
    changes: AtomicU64,
}

#[derive(Default)]
struct State {
    /// A lookup is running, on a thread of its own: the system's resolver may block for half a
    /// minute. There is never more than one.
    is_looking_up: bool,
    /// Lookups completed.
    lookups: u64,
    /// Why the last lookup failed.
    failure: Option<String>,
    /// Addresses of the last successful lookup.
    known: Vec<SocketAddr>,
    /// The address reached last: tried first while the name still resolves to it.
    reached: Option<SocketAddr>,
}

impl Dialer {
    /// A dialer that has not connected yet.
    pub fn new(exchange: ExchangeAddress) -> Self {
        Self::with_lookup(exchange, ExchangeAddress::resolve_all)
    }

    fn with_lookup(
        exchange: ExchangeAddress,
        lookup: impl Fn(&ExchangeAddress) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        let (lookup, state) = (Box::new(lookup), Mutex::default());
        let (looked_up, changes) = (Condvar::new(), AtomicU64::new(0));
        Self(Arc::new(Shared { exchange, lookup, state, looked_up, changes }))
    }

    /// The exchange that this connects to.
    pub fn exchange(&self) -> &ExchangeAddress {
        &self.0.exchange
    }

    /// Resolves the name and connects with `TCP_NODELAY`, from `source` if given. Waits for
    /// `timeout` at most in total, and ends early once `is_stopped`. While the resolver hangs or
    /// fails, the addresses known before are tried.
    ///
    /// # Errors
    /// The name is unknown, or none of its addresses is reachable.
    pub fn connect(
        &self,
        source: Option<IpAddr>,
        timeout: Duration,
        is_stopped: &dyn Fn() -> bool,
    ) -> io::Result<TcpStream> {
        let until = Instant::now() + timeout;
        let mut addresses = self.addresses(timeout, is_stopped)?;
        if let Some(source) = source {
            addresses.retain(|address| address.is_ipv4() == source.is_ipv4());
        }
        let reached = self.lock().reached;
        // The sort is stable: the rest keeps the resolver's order.
        addresses.sort_by_key(|address| Some(*address) != reached);
        let left = until.saturating_duration_since(Instant::now());
        let (address, stream) = connect_any(&addresses, source, left, is_stopped)?;
        if reached != Some(address) {
            tracing::info!(exchange = %self.0.exchange, %address, "connected to the exchange");
            self.lock().reached = Some(address);
        }
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Starts a lookup without waiting for its result.
    pub fn refresh(&self) {
        if self.0.exchange.literal().is_none() {
            // If no thread can be spawned, this lookup is skipped.
            let _failed = self.begin_lookup().map(drop);
        }
    }

    /// How often the name began to resolve to other addresses. While this stands still, every
    /// connection leads to the right host.
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }

    /// Whether the name resolves to this address now.
    pub fn leads_to(&self, address: SocketAddr) -> bool {
        self.lock().known.contains(&address)
    }

    fn addresses(
        &self,
        timeout: Duration,
        is_stopped: &dyn Fn() -> bool,
    ) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = self.0.exchange.literal() {
            return Ok(vec![address]);
        }
        let mut state = self.begin_lookup()?;
        let seen = state.lookups;
        // Leave time to connect to the addresses known before.
        let lookup_timeout = if state.known.is_empty() { timeout } else { timeout / 2 };
        let until = Instant::now() + lookup_timeout;
        while state.lookups == seen && !is_stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.0.looked_up.wait_timeout(state, left.min(LOOK_INTERVAL));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if !state.known.is_empty() {
            return Ok(state.known.clone());
        }
        let failure = state.failure.as_deref().filter(|_| state.lookups > seen);
        let failure = failure.unwrap_or("the resolver does not answer");
        let exchange = &self.0.exchange;
        Err(io::Error::new(io::ErrorKind::NotFound, format!("{exchange}: {failure}")))
    }

    /// Starts a lookup, or joins the running one.
    fn begin_lookup(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        if !state.is_looking_up {
            let shared = Arc::clone(&self.0);
            let thread = std::thread::Builder::new().name("resolver".to_owned());
            // Detached: nobody joins a resolver that hangs.
            let _detached = thread.spawn(move || shared.look_up())?;
            state.is_looking_up = true;
        }
        Ok(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn look_up(&self) {
        let outcome = (self.lookup)(&self.exchange);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_looking_up = false;
        state.lookups += 1;
        state.failure = None;
        match outcome {
            Ok(mut addresses) => {
                let mut before = std::mem::replace(&mut state.known, addresses.clone());
                before.sort_unstable();
                addresses.sort_unstable();
                if before != addresses {
                    self.changes.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) => {
                let known = state.known.len();
                tracing::warn!(exchange = %self.exchange, %error, known, "the exchange's name did not resolve; trying the addresses known before");
                state.failure = Some(error.to_string());
            }
        }
        drop(state);
        self.looked_up.notify_all();
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Dialer").field(&self.0.exchange).finish()
    }
}

impl From<ExchangeAddress> for Dialer {
    fn from(exchange: ExchangeAddress) -> Self {
        Self::new(exchange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(20);

    fn named() -> ExchangeAddress {
        "http://exchange.example:7070".parse().unwrap()
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn reached(dialer: &Dialer) -> io::Result<SocketAddr> {
        dialer.connect(None, LONG, &|| false).and_then(|stream| stream.peer_addr())
    }

    #[test]
    fn each_connection_resolves_the_name_and_tries_every_address() {
        let (first, dead) = listener();
        let (second, alive) = listener();
        let means = Arc::new(Mutex::new(vec![dead]));
        let told = Arc::clone(&means);
        let dialer = Dialer::with_lookup(named(), move |_| Ok(told.lock().unwrap().clone()));
        assert_eq!(reached(&dialer).unwrap(), dead);
        drop(first);
        assert!(reached(&dialer).is_err(), "nothing listens there any longer");
        *means.lock().unwrap() = vec![dead, alive];
        assert_eq!(reached(&dialer).unwrap(), alive);
        let (_third, moved) = listener();
        *means.lock().unwrap() = vec![moved];
        assert_eq!(reached(&dialer).unwrap(), moved, "although the old one still answers");
        drop(second);
    }

    #[test]
    fn a_lookup_tells_which_connections_are_outdated() {
        let [one, two]: [SocketAddr; 2] = ["10.0.0.1:7", "10.0.0.2:7"].map(|a| a.parse().unwrap());
        let means = Arc::new(Mutex::new(vec![one, two]));
        let told = Arc::clone(&means);
        let dialer = Dialer::with_lookup(named(), move |_| Ok(told.lock().unwrap().clone()));
        let look = || dialer.0.look_up();
        look();
        let changes = dialer.changes();
        means.lock().unwrap().reverse();
        look();
        assert_eq!(dialer.changes(), changes, "the order of addresses does not matter");
        *means.lock().unwrap() = vec![two];
        look();
        assert_eq!(dialer.changes(), changes + 1);
        assert!(dialer.leads_to(two) && !dialer.leads_to(one));
    }

    #[test]
    fn a_failing_resolver_leaves_the_addresses_known_before() {
        let (_listener, address) = listener();
        let (sender, answers) = mpsc::channel();
        let answers = Mutex::new(answers);
        let dialer = Dialer::with_lookup(named(), move |_| {
            let answer: Option<Vec<SocketAddr>> = answers.lock().unwrap().recv().unwrap();
            answer.ok_or_else(|| io::Error::other("no such name"))
        });
        sender.send(None).unwrap();
        let unknown = reached(&dialer).unwrap_err().to_string();
        assert!(unknown.contains("exchange.example") && unknown.contains("no such name"));
        sender.send(Some(vec![address])).unwrap();
        assert_eq!(reached(&dialer).unwrap(), address);
        sender.send(None).unwrap();
        assert_eq!(reached(&dialer).unwrap(), address);
        // A hanging resolver: half of the timeout is spent waiting for it.
        let short = Duration::from_secs(2);
        assert!(dialer.connect(None, short, &|| false).is_ok());
        sender.send(None).unwrap();
    }

    #[test]
    fn a_stop_is_noticed_while_the_resolver_hangs() {
        let (_sender, never) = mpsc::channel::<()>();
        let never = Mutex::new(never);
        let (begun, has_begun) = mpsc::channel();
        let dialer = Dialer::with_lookup(named(), move |_| {
            begun.send(()).unwrap();
            let _ended = never.lock().unwrap().recv();
            Err(io::Error::other("ended"))
        });
        let stop = || has_begun.try_recv().is_ok();
        assert!(dialer.connect(None, LONG * 100, &stop).is_err());
    }

    #[test]
    fn only_addresses_of_the_sources_family_are_tried() {
        let (_listener, address) = listener();
        let other = "[::1]:9".parse().unwrap();
        let dialer = Dialer::with_lookup(named(), move |_| Ok(vec![other, address]));
        let source = Some("127.0.0.9".parse().unwrap());
        let stream = dialer.connect(source, LONG, &|| false).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert_eq!(stream.local_addr().unwrap().ip().to_string(), "127.0.0.9");
    }
}
