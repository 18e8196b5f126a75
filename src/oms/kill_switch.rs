//! The operators' kill switch: refuses new orders of everybody, of some users or in some symbols
//! until it is lifted. Cancels and reads go on.
//!
//! A node without others keeps the halts in a file. Nodes that share the users share the halts too:
//! Postgres has them, and the thread `node` carries changes there and back.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_lite::future::or;

use super::halts::{HaltChange, Halts, TooManyHalts};
use super::kill_switch_file::{KillSwitchError, not_durable, read, unreadable, write};
use super::shared_halts::{HaltsDraft, HaltsLook, SharedHalts};
use crate::engine::HaltScope;
use crate::sync::{Receiver, Sender, mailbox};
use crate::types::{Symbol, TimestampMicros, UserId};

/// The kill switch of the process, usable from any thread.
#[derive(Debug, Clone)]
pub struct KillSwitch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    halts: ArcSwap<Halts>,
    keeping: Keeping,
}

/// Where the halts are kept.
#[derive(Debug)]
enum Keeping {
    File(InFile),
    Shared(Box<InPostgres>),
}

#[derive(Debug)]
struct InFile {
    path: PathBuf,
    /// Why a restart may not find the halts: the file could not be written.
    unwritten: ArcSwapOption<String>,
    /// Held while a change is written, so that changes do not overtake each other.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct InPostgres {
    halts: Mutex<SharedHalts>,
    /// Wakes whoever writes changes.
    changed: Sender<()>,
    /// The file of a time without others. Gone once Postgres has its halts.
    file: PathBuf,
}

impl InPostgres {
    fn lock(&self) -> MutexGuard<'_, SharedHalts> {
        // Nothing between two of its statements panics.
        self.halts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change that is in force here, on its way to the other nodes.
#[derive(Debug)]
pub struct Changing {
    switch: KillSwitch,
    number: u64,
    written: oneshot::Receiver<()>,
}

impl KillSwitch {
    /// Restores the halts from the file; nothing is halted if there is none.
    ///
    /// # Errors
    /// The file cannot be read. Whether orders may be taken is then unknown, so none are.
    pub fn open(path: PathBuf) -> Result<Self, KillSwitchError> {
        let halts = read(&path)?;
        if halts.any() {
            note("the kill switch is on", &halts);
        }
        Ok(Self::with(halts, path))
    }

    /// A switch with these halts, whose changes go to the file.
    pub(crate) fn with(halts: Halts, path: PathBuf) -> Self {
        let unwritten = ArcSwapOption::empty();
        let file = InFile { path, unwritten, writing: Mutex::new(()) };
        let halts = ArcSwap::from_pointee(halts);
        Self(Arc::new(Inner { halts, keeping: Keeping::File(file) }))
    }

    /// The switch of a node that shares it with others, and what tells of changes to be written. What a
    /// file halts, from a time without others, is one of them.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn shared(file: PathBuf) -> Result<(Self, Receiver<()>), KillSwitchError> {
        let kept = read(&file)?;
        let (changed, changes) = mailbox(1);
        let mut halts = SharedHalts::default();
        if kept.any() {
            note("the kill switch was on when this node had no others", &kept);
            halts.keep(kept);
            // Nobody else has sent anything.
            let _has_room = changed.try_send(());
        }
        let in_force = ArcSwap::from_pointee(halts.in_force());
        let shared = InPostgres { halts: Mutex::new(halts), changed, file };
        let inner = Inner { halts: in_force, keeping: Keeping::Shared(Box::new(shared)) };
        Ok((Self(Arc::new(inner)), changes))
    }

    /// The halts in force.
    pub fn halts(&self) -> Arc<Halts> {
        self.0.halts.load_full()
    }

    /// The scope of the halt that applies to a new order of this user in this symbol, if any.
    pub fn halted(&self, user: &UserId, symbol: Symbol) -> Option<HaltScope> {
        let halts = self.0.halts.load();
        if halts.all {
            Some(HaltScope::All)
        } else if halts.users.contains(user) {
            Some(HaltScope::User)
        } else if halts.symbols.contains(&symbol) {
            Some(HaltScope::Symbol)
        } else {
            None
        }
    }

    /// Why a restart may not find the halts in force, if so: they could not be written. The next
    /// change that is written clears this.
    pub fn unwritten(&self) -> Option<Arc<String>> {
        match &self.0.keeping {
            Keeping::File(file) => file.unwritten.load_full(),
            Keeping::Shared(shared) => shared.lock().warning().map(Arc::new),
        }
    }

    /// Applies a change. It is in force at once: an emergency does not wait for a disk that is full
    /// or hangs. When this returns it is durable too, or [`unwritten`](Self::unwritten) says why
    /// not. Blocks on the disk. Of a node that shares its halts only [`begin_change`](Self::begin_change)
    /// makes changes durable.
    ///
    /// # Errors
    /// The change exceeds a limit; nothing has changed.
    pub fn change(
        &self,
        change: HaltChange,
        now: TimestampMicros,
    ) -> Result<Arc<Halts>, TooManyHalts> {
        let file = match &self.0.keeping {
            Keeping::File(file) => file,
            Keeping::Shared(shared) => {
                let _written_later = self.begin(shared, change, now)?;
                return Ok(self.halts());
            }
        };
        // A thread that panicked here has changed nothing.
        let _writing = file.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.halts();
        let halts = before.changed(change, now);
        halts.check()?;
        assert_eq!(halts.changed_at, Some(now), "a change says when it was made");
        let halts = Arc::new(halts);
        self.put_in_force(Arc::clone(&halts));
        let written = write(&file.path, &halts);
        let unwritten = written.err().map(|error| Arc::new(not_durable(&file.path, &error)));
        file.unwritten.store(unwritten);
        Ok(halts)
    }

    /// The same on a node that shares its halts, without blocking. `None` on one without others.
    ///
    /// # Errors
    /// The change exceeds a limit; nothing has changed.
    pub fn begin_change(
        &self,
        change: &HaltChange,
        now: TimestampMicros,
    ) -> Result<Option<Changing>, TooManyHalts> {
        match &self.0.keeping {
            Keeping::File(_) => Ok(None),
            Keeping::Shared(shared) => self.begin(shared, change.clone(), now).map(Some),
        }
    }

    fn begin(
        &self,
        shared: &InPostgres,
        change: HaltChange,
        now: TimestampMicros,
    ) -> Result<Changing, TooManyHalts> {
        let mut halts = shared.lock();
        let (number, written) = halts.begin(change, now)?;
        self.put_in_force(Arc::new(halts.in_force()));
        drop(halts);
        // Full: it is about to look anyway. Closed: the process ends.
        let _told = shared.changed.try_send(());
        Ok(Changing { switch: self.clone(), number, written })
    }

    /// Replaces the halts in force, not those that are kept.
    pub(crate) fn put_in_force(&self, halts: Arc<Halts>) {
        self.0.halts.store(halts);
    }

    /// Whether this node knows what all nodes have halted. One without others does.
    pub(crate) fn is_known(&self) -> bool {
        match &self.0.keeping {
            Keeping::File(_) => true,
            Keeping::Shared(shared) => shared.lock().is_known(),
        }
    }

    /// Before a look at what Postgres has.
    pub(crate) fn begin_look(&self) -> HaltsLook {
        self.with_shared(|_, halts| halts.begin_look())
    }

    /// What Postgres has: the version, and the halts unless that is the known one.
    ///
    /// # Errors
    /// What is wrong with their text. Nothing has changed.
    pub(crate) fn found(
        &self,
        look: HaltsLook,
        version: i64,
        document: Option<&str>,
    ) -> Result<(), String> {
        self.with_shared(|_, halts| {
            let known = halts.is_known();
            let is_news = halts.found(look, version, document);
            if is_news.map_err(|error| unreadable(&error))? {
                let in_force = halts.in_force();
                if known {
                    note("the kill switch was set through another node", &in_force);
                } else if in_force.any() {
                    note("the kill switch is on", &in_force);
                }
                self.put_in_force(Arc::new(in_force));
            }
            Ok(())
        })
    }

    /// What is to be written to Postgres, if anything is.
    pub(crate) fn draft(&self) -> Option<HaltsDraft> {
        self.with_shared(|shared, halts| {
            let draft = halts.draft();
            if draft.is_none() && !halts.has_unwritten() {
                shared.remove_file();
            }
            draft
        })
    }

    /// A draft is durable, under this version.
    pub(crate) fn written(&self, draft: HaltsDraft, version: i64) {
        self.with_shared(|_, halts| {
            halts.written(draft, version);
            self.put_in_force(Arc::new(halts.in_force()));
        });
    }

    /// Changes could not be written.
    pub(crate) fn not_written(&self, error: String) {
        self.with_shared(|_, halts| halts.not_written(error));
    }

    fn with_shared<T>(&self, act: impl FnOnce(&InPostgres, &mut SharedHalts) -> T) -> T {
        match &self.0.keeping {
            Keeping::File(_) => unreachable!("a node without others has no thread that asks this"),
            Keeping::Shared(shared) => act(shared, &mut shared.lock()),
        }
    }
}

impl InPostgres {
    /// Nothing is left to be written, so Postgres has what the file halted.
    fn remove_file(&self) {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = self.file.display();
                tracing::warn!(%error, %path, "remove this file: all nodes have its halts now");
            }
            _ => {}
        }
    }
}

impl Changing {
    /// Waits until Postgres has the change, or until the deadline. Gives the halts in force by then;
    /// [`unwritten`](KillSwitch::unwritten) says whether they are durable.
    pub async fn written_by(self, deadline: impl Future<Output = ()>) -> Arc<Halts> {
        let Self { switch, number, written } = self;
        let is_written = or(async { written.await.is_ok() }, async {
            deadline.await;
            false
        });
        if !is_written.await {
            switch.with_shared(|_, halts| {
                halts.give_up(number);
                switch.put_in_force(Arc::new(halts.in_force()));
            });
        }
        switch.halts()
    }
}

/// Logs what is halted.
fn note(what: &'static str, halts: &Halts) {
    let (users, symbols) = (halts.user_list(), halts.symbol_list());
    let (by, reason) = (halts.by.as_deref(), halts.reason.as_deref());
    tracing::warn!(all = halts.all, %users, %symbols, by, reason, "{what}");
}

#[cfg(test)]
#[path = "kill_switch_tests.rs"]
mod tests;
