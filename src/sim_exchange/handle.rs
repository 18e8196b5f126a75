//! Starts and stops the exchange thread.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::SimError;
use super::driver::drive;
use super::faults::Faults;
use super::listener::{BoundedListener, Connection};
use super::options::{SessionTime, SimOptions};
use super::pending_actions::run_pending_actions;
use super::replay::{Pace, Replay};
use super::routes::router;
use super::state::{Calendar, Ending, Forget, Shared, State};
use super::tape::Tape;
use super::universe::{Universe, UniverseEntry};
use super::venue::Venue;
use super::webhook_delivery::deliver;
use crate::exchange::wire::SymbolInfo;
use crate::types::{SteadyClock, Symbol, TimestampMicros};

/// Name of the thread.
pub const THREAD_NAME: &str = "exchange";

static TAPE: &[u8] = include_bytes!("data/tape-20131008.bin");
static UNIVERSE: &[u8] = include_bytes!("data/universe-20140324.bin");

/// A running exchange. Dropping it stops it.
#[derive(Debug)]
pub struct SimHandle {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<(), SimError>>>,
}

impl SimHandle {
    /// The address it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the thread has ended, on request or not; [`Self::join`] then returns at once with
    /// the reason.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Asks the thread to stop, without waiting. Requests in flight are cut off; whatever was
    /// answered is in the journal.
    pub fn request_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for the thread to end.
    ///
    /// # Errors
    /// Why the thread ended unasked: the journal, the server, or a panic.
    pub fn join(mut self) -> Result<(), SimError> {
        self.join_thread()
    }

    /// Asks the thread to stop and waits for it.
    ///
    /// # Errors
    /// As [`Self::join`].
    pub fn stop(self) -> Result<(), SimError> {
        self.request_stop();
        self.join()
    }

    fn join_thread(&mut self) -> Result<(), SimError> {
        let result = self.thread.take().map(JoinHandle::join);
        result.unwrap_or(Ok(Ok(()))).unwrap_or(Err(SimError::Panicked))
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        self.request_stop();
        if let Err(error) = self.join_thread() {
            tracing::error!(%error, "the exchange failed");
        }
    }
}

/// Starts the exchange on a thread of its own; it listens when this returns.
///
/// # Errors
/// A setting, file or address cannot be used.
pub fn start(options: SimOptions) -> Result<SimHandle, SimError> {
    start_with(options, || {})
}

/// Like [`start`]; calls `on_end` on the exchange's thread when the thread ends for any reason, a
/// panic included.
///
/// # Errors
/// As [`start`].
pub fn start_with(
    options: SimOptions,
    on_end: impl FnOnce() + Send + 'static,
) -> Result<SimHandle, SimError> {
    options.check()?;
    let listen = options.listen;
    let forget = match options.faults.manner.forget_ms {
        0 => Forget::Nothing,
        millis => Forget::LastMicros(millis.saturating_mul(1_000)),
    };
    let world = World::load(options)?;
    let first = world.open(forget)?;
    let bound = TcpListener::bind(listen).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, listener))
    });
    let (address, listener) =
        bound.map_err(|source| SimError::Listen { address: listen, source })?;
    let (stop, stopped) = watch::channel(false);
    let body = move || {
        let _on_end = OnEnd(Some(on_end));
        run(&listener, &world, first, &stopped)
    };
    let thread = std::thread::Builder::new()
        .name(THREAD_NAME.to_owned())
        .spawn(body)
        .map_err(|source| SimError::Thread { action: "be started", source })?;
    Ok(SimHandle { address, stop, thread: Some(thread) })
}

struct OnEnd<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnEnd<F> {
    fn drop(&mut self) {
        if let Some(on_end) = self.0.take() {
            on_end();
        }
    }
}

/// Runs the exchange, again after each requested restart. The listener stays open, so that
/// connections made during a restart wait.
fn run(
    listener: &TcpListener,
    world: &World,
    first: (State, Replay),
    stopped: &watch::Receiver<bool>,
) -> Result<(), SimError> {
    let failed = |action| move |source| SimError::Thread { action, source };
    let mut run = first;
    loop {
        let listener = listener.try_clone().map_err(failed("share its listener"))?;
        // A runtime per run: dropping it drops every connection and task.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed("make its runtime"))?;
        let ending = runtime.block_on(run_once(listener, world, run, stopped.clone()))?;
        drop(runtime);
        match ending {
            None => return Ok(()),
            Some(Ending::Restart { forget, feed_session }) => {
                let forget = match u64::try_from(forget.as_micros()).unwrap_or(u64::MAX) {
                    0 => Forget::Nothing,
                    micros => {
                        let since = world.clock.now().micros().saturating_sub(micros);
                        Forget::Since(TimestampMicros::new(since))
                    }
                };
                run = world.open(forget)?;
                run.0.feed_session = feed_session.unwrap_or(run.0.feed_session);
                world.faults.note_restart();
                tracing::info!(?forget, session = run.0.venue.session(), "the exchange restarted");
            }
        }
    }
}

/// One run; `None` when it was asked to stop.
async fn run_once(
    listener: TcpListener,
    world: &World,
    (state, replay): (State, Replay),
    mut stopped: watch::Receiver<bool>,
) -> Result<Option<Ending>, SimError> {
    let failed = |action| move |source| SimError::Thread { action, source };
    let listener = tokio::net::TcpListener::from_std(listener);
    let listener = BoundedListener::new(listener.map_err(failed("use its listener"))?);
    let shared = Shared::new(state, Arc::clone(&world.faults), world.clock.clone());
    for place in shared.look(|state| state.webhooks.indices()) {
        tokio::spawn(deliver(Arc::clone(&shared), place));
    }
    tokio::spawn(run_pending_actions(Arc::clone(&shared)));
    let service = router(Arc::clone(&shared)).into_make_service_with_connect_info::<Connection>();
    let server = axum::serve(listener, service);
    tokio::select! {
        // An error means that the handle is gone, which also asks for a stop.
        _ = stopped.wait_for(|&stop| stop) => Ok(None),
        ending = shared.ending() => Ok(Some(ending)),
        () = drive(Arc::clone(&shared), replay, world.options.speed) => {
            Ok(Some(shared.ending().await))
        }
        served = server.into_future() => served.map(|()| None).map_err(failed("serve")),
    }
}

/// What stays the same over the runs of the exchange.
struct World {
    options: SimOptions,
    tape: Arc<Tape>,
    synthetic: Vec<UniverseEntry>,
    start_millis: u32,
    symbols: Vec<SymbolInfo>,
    faults: Arc<Faults>,
    /// Steady: the exchange's clock never goes back, even if the machine's clock does.
    clock: SteadyClock,
}

impl World {
    fn load(options: SimOptions) -> Result<Self, SimError> {
        let tape = Arc::new(match &options.tape {
            None => Tape::decode(TAPE)?,
            Some(path) => {
                let tape = read_file(path).and_then(|bytes| Tape::decode(&bytes));
                let unusable = |source| SimError::Tape { path: path.clone(), source };
                tape.map_err(Box::new).map_err(unusable)?
            }
        });
        let universe = Universe::decode(UNIVERSE)?;
        let synthetic = choose_synthetic(&tape, &universe, options.universe)?;
        let start_millis = options.from.map_or(tape.open_millis(), SessionTime::millis);
        if !(tape.open_millis()..tape.close_millis()).contains(&start_millis) {
            let (open, close) = (tape.open_millis(), tape.close_millis());
            return Err(SimError::Setting {
                setting: "from",
                value: SessionTime::of_millis(start_millis).to_string(),
                allowed: format!(
                    "a time within the session, {} or later and before {}",
                    SessionTime::of_millis(open),
                    SessionTime::of_millis(close)
                ),
            });
        }
        let symbols = describe(&tape, &universe, &synthetic);
        let faults = Arc::new(Faults::new(options.faults.clone()));
        let clock = SteadyClock::start(TimestampMicros::default());
        Ok(Self { options, tape, synthetic, start_millis, symbols, faults, clock })
    }

    /// Begins a new session with the orders in the journal, except those to forget.
    fn open(&self, forget: Forget) -> Result<(State, Replay), SimError> {
        let options = &self.options;
        let tape = Arc::clone(&self.tape);
        let replay = Replay::new(tape, &self.synthetic, self.start_millis, options.seed);
        let calendar = Calendar {
            pace: Pace::new(0, replay.start(), options.speed.factor()),
            open: u64::from(self.tape.open_millis()) * 1_000,
            close: replay.close(),
            not_before: TimestampMicros::default(),
        };
        let names: Vec<Symbol> = self.symbols.iter().map(|symbol| symbol.symbol).collect();
        let described = (calendar, self.symbols.clone());
        let (directory, retained) = (options.data_dir.as_deref(), options.feed_retained_bytes);
        let (venue, now) = (Venue::new(&names), self.clock.now());
        let state = State::open(venue, directory, retained, described, (forget, now))?;
        Ok((state, replay))
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, SimError> {
    let file_error = |source| SimError::File { action: "read", path: path.to_owned(), source };
    std::fs::read(path).map_err(file_error)
}

/// The most active symbols of the universe that are not on the tape.
fn choose_synthetic(
    tape: &Tape,
    universe: &Universe,
    count: usize,
) -> Result<Vec<UniverseEntry>, SimError> {
    let on_tape = |symbol| tape.symbols().iter().any(|recorded| recorded.symbol == symbol);
    let others = universe.entries().iter().filter(|entry| !on_tape(entry.symbol));
    let chosen: Vec<_> = others.clone().take(count).cloned().collect();
    if chosen.len() == count {
        return Ok(chosen);
    }
    Err(SimError::Setting {
        setting: "universe",
        value: count.to_string(),
        allowed: format!("a number from 0 to {}", others.count()),
    })
}

fn describe(tape: &Tape, universe: &Universe, synthetic: &[UniverseEntry]) -> Vec<SymbolInfo> {
    let recorded = format!("recorded trades of {}: {}", day(tape.day()), tape.source());
    let made_up = format!(
        "synthetic: random prints around the real close and at the real activity of {}: {}",
        day(universe.day()),
        universe.source()
    );
    let unset = TimestampMicros::default();
    let recorded = (0_u16..).zip(tape.symbols()).map(|(place, symbol)| SymbolInfo {
        symbol: symbol.symbol,
        previous_close_in_cents: Some(symbol.previous_close),
        open_in_cents: tape.open_price(place),
        source: recorded.clone(),
        synthetic: false,
        session_open: unset,
        session_close: unset,
    });
    let made_up = synthetic.iter().map(|entry| SymbolInfo {
        symbol: entry.symbol,
        previous_close_in_cents: Some(entry.close),
        open_in_cents: Some(entry.close),
        source: made_up.clone(),
        synthetic: true,
        session_open: unset,
        session_close: unset,
    });
    recorded.chain(made_up).collect()
}

/// Formats a `YYYYMMDD` number as `YYYY-MM-DD`.
fn day(number: u32) -> String {
    format!("{:04}-{:02}-{:02}", number / 10_000, number / 100 % 100, number % 100)
}
