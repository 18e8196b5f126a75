//! Concurrent clients that create, cancel, read and list orders, one request at a time each, while
//! there is a server.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use crate::{
    api::{Api, Terms},
    error::{Context, Error, Result},
    record::Histories,
};

/// Page size of client lists.
const PAGE: usize = 50;
/// How long clients may take to stop: more than the answer timeout.
const PARK_TIMEOUT: Duration = Duration::from_secs(20);

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Many orders, each touched by a few requests.
    Broad,
    /// Few orders, each touched by everybody.
    Hot {
        /// Orders per user and epoch.
        keys: usize,
    },
}

/// How the clients work.
#[derive(Debug, Clone)]
pub(crate) struct WorkloadOptions {
    /// Number of clients, assigned to the users in turn.
    pub clients: usize,
    /// One token per user.
    pub tokens: Vec<String>,
    /// Most requests per client and epoch.
    pub requests: usize,
    /// What they do.
    pub mix: Mix,
    /// Random seed.
    pub seed: u64,
}

/// The running clients. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Workload {
    stage: Arc<Stage>,
    clients: Vec<JoinHandle<()>>,
}

/// A period with a server at one address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Epoch {
    /// Increases by one per epoch.
    number: u64,
    /// Identifies the hot orders, which can span several epochs with a kill in between.
    wave: u64,
    url: String,
}

#[derive(Debug, Default)]
struct Stage {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    epoch: Option<Epoch>,
    /// Busy clients.
    busy: usize,
    ends: bool,
}

impl Workload {
    /// Starts the clients; they wait for the first epoch.
    ///
    /// # Errors
    /// [`Error::Io`] when a thread cannot be created.
    pub(crate) fn start(options: &WorkloadOptions, histories: &Arc<Histories>) -> Result<Self> {
        let stage = Arc::<Stage>::default();
        let mut workload = Self { stage: Arc::clone(&stage), clients: Vec::new() };
        for number in 0..options.clients {
            let user = number.checked_rem(options.tokens.len()).unwrap_or(0);
            let client = Client {
                number,
                user,
                token: options.tokens.get(user).cloned().unwrap_or_default(),
                options: options.clone(),
                histories: Arc::clone(histories),
                lost: Vec::new(),
            };
            let stage = Arc::clone(&stage);
            let thread = thread::Builder::new().name(format!("client-{number}"));
            let thread = thread.spawn(move || client.run(&stage)).context("starting a client")?;
            workload.clients.push(thread);
        }
        Ok(workload)
    }

    /// Starts an epoch with the server at `url`.
    pub(crate) fn open(&self, number: u64, wave: u64, url: &str) {
        let mut state = self.stage.lock();
        state.epoch = Some(Epoch { number, wave, url: url.to_owned() });
        state.busy = self.clients.len();
        self.stage.changed.notify_all();
    }

    /// Whether every client has finished its requests.
    pub(crate) fn is_done(&self) -> bool {
        self.stage.lock().busy == 0
    }

    /// Ends the epoch and waits until no request is in flight.
    ///
    /// # Errors
    /// [`Error::Timeout`] when a client does not stop, [`Error::Thread`] when one has died.
    pub(crate) fn close(&self) -> Result<()> {
        let mut state = self.stage.lock();
        state.epoch = None;
        let wait = self.stage.changed.wait_timeout_while(state, PARK_TIMEOUT, |s| s.busy > 0);
        let (state, timeout) = wait.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        if self.clients.iter().any(JoinHandle::is_finished) {
            return Err(Error::Thread("client"));
        }
        if timeout.timed_out() {
            return Err(Error::Timeout {
                what: "the stop of all clients".to_owned(),
                seconds: PARK_TIMEOUT.as_secs(),
                detail: String::new(),
            });
        }
        Ok(())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let mut state = self.stage.lock();
        (state.ends, state.epoch) = (true, None);
        drop(state);
        self.stage.changed.notify_all();
        for client in self.clients.drain(..) {
            // A panic has been reported.
            let _ = client.join();
        }
    }
}

impl Stage {
    /// Waits for an epoch after `seen`; `None` at the end.
    fn next(&self, seen: u64) -> Option<Epoch> {
        let is_new = |state: &State| state.epoch.as_ref().is_some_and(|new| new.number > seen);
        let state = self.lock();
        let state = self.changed.wait_while(state, |state| !state.ends && !is_new(state));
        let state = state.unwrap_or_else(PoisonError::into_inner);
        if state.ends { None } else { state.epoch.clone() }
    }

    fn is_open(&self, epoch: &Epoch) -> bool {
        self.lock().epoch.as_ref() == Some(epoch)
    }

    fn park(&self) {
        let mut state = self.lock();
        state.busy = state.busy.saturating_sub(1);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Client {
    number: usize,
    user: usize,
    token: String,
    options: WorkloadOptions,
    histories: Arc<Histories>,
    /// Creates without an answer, repeated as soon as there is a server, as a client would.
    lost: Vec<Terms>,
}

/// What a client does next.
#[derive(Debug, Clone, Copy)]
enum Action {
    Create,
    Repeat,
    Conflict,
    Read,
    Cancel,
    List,
}

/// Actions by their share in percent.
type Shares = [(Action, u32); 6];

const BROAD: Shares = [
    (Action::Create, 38),
    (Action::Repeat, 7),
    (Action::Conflict, 3),
    (Action::Read, 22),
    (Action::Cancel, 20),
    (Action::List, 10),
];
const HOT: Shares = [
    (Action::Create, 22),
    (Action::Repeat, 0),
    (Action::Conflict, 4),
    (Action::Read, 44),
    (Action::Cancel, 5),
    (Action::List, 25),
];

impl Client {
    fn run(mut self, stage: &Stage) {
        let mut seen = 0;
        while let Some(epoch) = stage.next(seen) {
            seen = epoch.number;
            let mix = self.options.seed ^ (epoch.number << 20) ^ self.number as u64;
            let mut random = Xoshiro256PlusPlus::seed_from_u64(mix);
            let api = Api::new(&epoch.url, &self.token);
            let mut made = 0;
            let mut answered = true;
            while answered && made < self.options.requests && stage.is_open(&epoch) {
                answered = match self.lost.pop() {
                    Some(terms) => self.create(&api, &terms),
                    None => self.act(&api, &epoch, made, &mut random),
                };
                made += 1;
            }
            stage.park();
        }
    }

    /// Sends one request. Returns `false` without an answer: the server is gone.
    fn act(
        &mut self,
        api: &Api,
        epoch: &Epoch,
        made: usize,
        random: &mut Xoshiro256PlusPlus,
    ) -> bool {
        let shares = if self.options.mix == Mix::Broad { BROAD } else { HOT };
        let mut left = random.random_range(0..shares.iter().map(|(_, share)| share).sum());
        let action = shares.into_iter().find(|(_, share)| {
            let is_it = left < *share;
            left = left.saturating_sub(*share);
            is_it
        });
        let action = action.map_or(Action::List, |(action, _)| action);
        if matches!(action, Action::List) {
            return self.list(api, random);
        }
        let picked = match (action, self.options.mix) {
            (Action::Create, Mix::Broad) => {
                let key = format!("{}-{}-{made}", epoch.number, self.number);
                return self.create(api, &terms(key, random));
            }
            (_, Mix::Broad) => self.histories.pick(self.user, random.random()),
            (_, Mix::Hot { keys }) => {
                let terms = hot_terms(epoch.wave, random.random_range(0..keys), self.options.seed);
                let order_id = self.histories.order_id(self.user, &terms.client_order_id);
                let is_known = order_id.is_some();
                Some((terms, order_id, is_known))
            }
        };
        match (action, picked) {
            (Action::Conflict, Some((terms, _, true))) => self.conflict(api, &terms),
            (Action::Read, Some((terms, Some(id), _))) => {
                let sent = self.histories.send(self.number, self.user);
                self.histories.read(sent, &terms.client_order_id, api.read(&id).as_ref())
            }
            (Action::Cancel, Some((terms, Some(id), _))) => {
                let sent = self.histories.send(self.number, self.user);
                self.histories.cancelled(sent, &terms.client_order_id, api.cancel(&id).as_ref())
            }
            (_, Some((terms, ..))) => self.create(api, &terms),
            (_, None) => true,
        }
    }

    fn create(&mut self, api: &Api, terms: &Terms) -> bool {
        self.histories.expect(self.user, terms);
        let sent = self.histories.send(self.number, self.user);
        let answered = self.histories.created(sent, terms, api.create(terms).as_ref());
        if !answered {
            self.lost.push(terms.clone());
        }
        answered
    }

    fn conflict(&self, api: &Api, terms: &Terms) -> bool {
        let other = Terms { num_shares: terms.num_shares + 1, ..terms.clone() };
        let sent = self.histories.send(self.number, self.user);
        self.histories.conflicted(sent, &terms.client_order_id, api.create(&other).as_ref())
    }

    /// Reads the newest page, or one starting among the newest orders.
    fn list(&self, api: &Api, random: &mut Xoshiro256PlusPlus) -> bool {
        let cursor = match random.random_bool(0.3) {
            true => self.histories.pick(self.user, random.random()).and_then(|(_, id, _)| id),
            false => None,
        };
        let sent = self.histories.send(self.number, self.user);
        let answer = api.list(PAGE, cursor.as_deref());
        self.histories.listed(sent, cursor.as_deref(), answer.as_ref());
        answer.is_some()
    }
}

/// The terms of an order that fills immediately, may fill, or rests.
fn terms(key: String, random: &mut Xoshiro256PlusPlus) -> Terms {
    // Symbols of the tape, each with a limit above the prices of its day.
    const SYMBOLS: [(&str, u64); 4] =
        [("SPY", 20_000), ("BAC", 2_000), ("IBM", 25_000), ("AIG", 7_000)];
    let place = random.random_range(0..SYMBOLS.len());
    let (symbol, through) = SYMBOLS.get(place).copied().unwrap_or(("SPY", 20_000));
    let price_in_cents = match random.random_range(0..10) {
        0..4 => None,
        4..6 => Some(through),
        _ => Some(1),
    };
    Terms {
        position: if price_in_cents.is_none() && random.random_bool(0.3) { "sell" } else { "buy" },
        symbol,
        num_shares: [1, 10, 300, 2_000].get(random.random_range(0..4)).copied().unwrap_or(1),
        price_in_cents,
        time_in_force: if random.random_bool(0.3) { "gtc" } else { "day" },
        client_order_id: key,
    }
}

/// The terms of a hot key, the same for every client.
fn hot_terms(wave: u64, index: usize, seed: u64) -> Terms {
    let mix = seed ^ (wave << 8) ^ index as u64;
    terms(format!("hot-{wave}-{index}"), &mut Xoshiro256PlusPlus::seed_from_u64(mix))
}
