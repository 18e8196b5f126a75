//! The search for a linearization.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::model::{Effect, Register, Rules};
use super::{Operation, Outcome, Request};

/// Most steps of one search. Thanks to versions, the first candidate is nearly always right, and a
/// history of a thousand requests takes some thousand steps; a search that gets here is hopeless.
const MAX_STEPS: usize = 5_000_000;

/// Why a history is not linearizable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Impossible {
    /// There is no linearization. These operations, by their index in the history, are the candidates
    /// of which none can follow the longest sequence found.
    NoLine {
        /// The candidates after the longest sequence.
        stuck_at: Vec<usize>,
        /// The register there.
        register: Register,
        /// Length of that sequence, in effects.
        explained: usize,
        /// The oldest version that was seen and is not in the sequence yet; no newer one can come
        /// before it.
        oldest_open: Option<u64>,
    },
    /// The search was given up.
    TooHard,
}

impl fmt::Display for Impossible {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLine { stuck_at, register, explained, oldest_open } => write!(
                formatter,
                "no line explains it: after {explained} effects, with {register:?} and version \
                 {oldest_open:?} still to come, none of the operations {stuck_at:?} can be next"
            ),
            Self::TooHard => write!(formatter, "given up after {MAX_STEPS} steps"),
        }
    }
}

/// One effect to place.
#[derive(Debug, Clone, Copy)]
struct Event {
    effect: Effect,
    invoked: u64,
    /// `u64::MAX` if it may take effect at any later time.
    responded: u64,
    /// Whether it may also never take effect.
    optional: bool,
    operation: usize,
}

impl Event {
    /// The version that it shows.
    const fn version(&self) -> Option<u64> {
        match self.effect {
            Effect::Show(observed) => Some(observed.version),
            Effect::Create | Effect::AskCancel | Effect::ShowAbsent | Effect::ConfirmCancel => None,
        }
    }
}

/// Checks a history of one order, from the known state before it.
///
/// # Errors
/// No line explains it, or the search was given up.
pub(crate) fn check(
    initial: Register,
    operations: &[Operation],
    rules: Rules,
) -> Result<(), Impossible> {
    let events = events(operations);
    let mut open_versions = BTreeMap::new();
    for version in events.iter().filter_map(Event::version) {
        *open_versions.entry(version).or_default() += 1;
    }
    let mut search = Search {
        events: &events,
        rules,
        done: vec![false; events.len()],
        line: Vec::new(),
        open_versions,
        seen: HashSet::new(),
        first_open: 0,
        best: Best { explained: 0, register: initial, next: Vec::new(), oldest_open: None },
    };
    search.run(initial)
}

/// The effects of all operations, by the time at which they were invoked.
fn events(operations: &[Operation]) -> Vec<Event> {
    let mut events = Vec::with_capacity(operations.len() * 2);
    for (place, operation) in operations.iter().enumerate() {
        let unknown = operation.outcome == Outcome::Unknown;
        let responded = if unknown { u64::MAX } else { operation.responded };
        let mut push = |effect, optional| {
            let invoked = operation.invoked;
            events.push(Event { effect, invoked, responded, optional, operation: place });
        };
        match operation.request {
            // A request that found no order, or was refused, had no effect.
            Request::Create if operation.outcome != Outcome::Absent => {
                push(Effect::Create, unknown);
            }
            Request::Cancel if operation.outcome != Outcome::Absent => {
                push(Effect::AskCancel, unknown);
            }
            Request::Create | Request::Cancel | Request::Read => {}
        }
        match operation.outcome {
            Outcome::Showed(observed) => push(Effect::Show(observed), false),
            Outcome::Absent => push(Effect::ShowAbsent, false),
            Outcome::Cancelled => push(Effect::ConfirmCancel, false),
            Outcome::Unknown => {}
        }
    }
    events.sort_by_key(|event| event.invoked);
    events
}

struct Search<'a> {
    events: &'a [Event],
    rules: Rules,
    done: Vec<bool>,
    /// The sequence so far, each step with the register before it and the events left to try there.
    line: Vec<Step>,
    /// Versions still to be placed, with their number. None of them can follow a newer one, which
    /// makes the search nearly linear.
    open_versions: BTreeMap<u64, usize>,
    seen: HashSet<(Vec<usize>, Register)>,
    /// Every event before this one is placed.
    first_open: usize,
    best: Best,
}

/// The longest sequence so far.
struct Best {
    explained: usize,
    register: Register,
    /// The candidates for the next step.
    next: Vec<usize>,
    oldest_open: Option<u64>,
}

struct Step {
    event: usize,
    before: Register,
    untried: Vec<usize>,
}

impl Search<'_> {
    fn run(&mut self, initial: Register) -> Result<(), Impossible> {
        let mut register = initial;
        let mut untried = self.candidates(register);
        for _ in 0..MAX_STEPS {
            if self.is_explained() {
                return Ok(());
            }
            if let Some((event, after)) = self.next_possible(register, &mut untried) {
                self.put(event, register, std::mem::take(&mut untried));
                register = after;
                untried = self.candidates(register);
                if self.line.len() > self.best.explained {
                    let (explained, next) = (self.line.len(), untried.clone());
                    let oldest_open = self.oldest_open();
                    self.best = Best { explained, register, next, oldest_open };
                }
            } else {
                let Some(step) = self.take_back() else { return Err(self.no_line()) };
                (register, untried) = (step.before, step.untried);
            }
        }
        Err(Impossible::TooHard)
    }

    /// Events that may come next: those invoked before any other unplaced event was answered. The one
    /// to try first is last.
    fn candidates(&self, register: Register) -> Vec<usize> {
        let mut earliest_response = u64::MAX;
        let mut candidates = Vec::new();
        for (place, event) in self.events.iter().enumerate().skip(self.first_open) {
            if event.invoked > earliest_response {
                break;
            }
            if !self.done.get(place).copied().unwrap_or(true) {
                earliest_response = earliest_response.min(event.responded);
                candidates.push(place);
            }
        }
        let rank = |place: &usize| {
            self.events.get(*place).map_or((0, 0), |event| match event.effect {
                // These change nothing that could conflict with others.
                Effect::AskCancel => (0, 0),
                Effect::Create if register.exists => (0, 0),
                Effect::ShowAbsent => (1, 0),
                Effect::Create if !event.optional => (2, 0),
                Effect::Show(observed) => (3, observed.version),
                Effect::ConfirmCancel => (4, 0),
                // Only if nothing else fits: it may never have happened.
                Effect::Create => (5, 0),
            })
        };
        candidates.sort_by_key(|place| std::cmp::Reverse(rank(place)));
        candidates
    }

    fn next_possible(
        &mut self,
        register: Register,
        untried: &mut Vec<usize>,
    ) -> Option<(usize, Register)> {
        while let Some(place) = untried.pop() {
            let Some(event) = self.events.get(place) else { continue };
            let Some(after) = register.after(event.effect, self.rules) else { continue };
            self.mark(place, true);
            let all_can_follow =
                self.oldest_open().is_none_or(|oldest| oldest >= after.least_version);
            let is_new = all_can_follow && self.seen.insert((self.signature(), after));
            self.mark(place, false);
            if is_new {
                return Some((place, after));
            }
        }
        None
    }

    fn oldest_open(&self) -> Option<u64> {
        self.open_versions.first_key_value().map(|(version, _)| *version)
    }

    /// Which events are placed: the first unplaced one and the placed ones after it, few at any time.
    fn signature(&self) -> Vec<usize> {
        let mut open = self.first_open;
        while self.done.get(open).copied().unwrap_or(false) {
            open += 1;
        }
        let behind = self.done.iter().enumerate().skip(open).filter(|(_, done)| **done);
        std::iter::once(open).chain(behind.map(|(place, _)| place)).collect()
    }

    fn put(&mut self, event: usize, before: Register, untried: Vec<usize>) {
        self.mark(event, true);
        while self.done.get(self.first_open).copied().unwrap_or(false) {
            self.first_open += 1;
        }
        self.line.push(Step { event, before, untried });
    }

    fn take_back(&mut self) -> Option<Step> {
        let step = self.line.pop()?;
        self.mark(step.event, false);
        self.first_open = self.first_open.min(step.event);
        Some(step)
    }

    fn mark(&mut self, place: usize, done: bool) {
        if let Some(version) = self.events.get(place).and_then(Event::version) {
            let count = self.open_versions.entry(version).or_default();
            *count = if done { count.saturating_sub(1) } else { *count + 1 };
            if *count == 0 {
                self.open_versions.remove(&version);
            }
        }
        if let Some(slot) = self.done.get_mut(place) {
            *slot = done;
        }
    }

    fn is_explained(&self) -> bool {
        let open = self.events.iter().zip(&self.done).skip(self.first_open);
        open.into_iter().all(|(event, done)| *done || event.optional)
    }

    fn no_line(&self) -> Impossible {
        let Best { explained, register, ref next, oldest_open } = self.best;
        let operation = |place: &usize| self.events.get(*place).map(|event| event.operation);
        let mut stuck_at: Vec<usize> = next.iter().filter_map(operation).collect();
        stuck_at.sort_unstable();
        stuck_at.dedup();
        Impossible::NoLine { stuck_at, register, explained, oldest_open }
    }
}
