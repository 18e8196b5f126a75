//! A store in memory, and the index over it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imbl::OrdMap;

use crate::index::node;
use crate::index::store::{Bytes, Period, ScanOrder, Space, Store, View, Visit, Write};
use crate::index::{Index, IndexAges, IndexError, IndexFiller, IndexReader};

type Content = OrdMap<(Space, Vec<u8>), Bytes>;
/// A snapshot of the content, and the periods at that time.
type ContentView = (Content, BTreeSet<Period>);

/// A store in memory. A crash sets it back to what was persisted, or to any batch after that.
/// Clones share one store.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    persisted: Content,
    /// The content after each batch since the last persist.
    unpersisted: Vec<Content>,
    /// Durable at once, as in fjall.
    periods: BTreeSet<Period>,
    /// Simulates a full disk.
    refuses_writes: bool,
}

impl State {
    fn current(&self) -> &Content {
        self.unpersisted.last().unwrap_or(&self.persisted)
    }
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of batches that are not persisted yet.
    pub fn unpersisted_batches(&self) -> usize {
        self.state().unpersisted.len()
    }

    /// Loses the batches that are not persisted, except for the oldest few.
    pub fn crash(&self, surviving_batches: usize) {
        let mut state = self.state();
        state.unpersisted.truncate(surviving_batches);
        state.persisted = state.current().clone();
        state.unpersisted.clear();
    }

    /// Refuses writes as on a full disk, or takes them again.
    pub fn refuse_writes(&self, refuses: bool) {
        self.state().refuses_writes = refuses;
    }

    #[cfg(test)]
    pub(crate) fn content(&self) -> Vec<(Space, Vec<u8>, Bytes)> {
        let state = self.state();
        let all = state.current().iter();
        all.map(|((space, key), value)| (*space, key.clone(), value.clone())).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View for ContentView {
    fn periods(&self) -> Vec<Period> {
        self.1.iter().copied().collect()
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        Ok(self.0.get(&(space, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        space: Space,
        (from, to): (&[u8], &[u8]),
        order: ScanOrder,
        visit: &mut Visit<'_>,
    ) -> Result<(), IndexError> {
        let mut range = self.0.range((space, from.to_vec())..(space, to.to_vec()));
        loop {
            let next = match order {
                ScanOrder::Ascending => range.next(),
                ScanOrder::Descending => range.next_back(),
            };
            let Some(((_, key), value)) = next else { return Ok(()) };
            if !visit(key, value)? {
                return Ok(());
            }
        }
    }
}

impl Store for MemoryStore {
    fn disk_bytes(&self, _space: Space) -> Result<u64, IndexError> {
        Ok(0)
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        Ok(self.state().current().get(&(space, key.to_vec())).cloned())
    }

    fn view(self: Arc<Self>) -> Box<dyn View> {
        let state = self.state();
        Box::new((state.current().clone(), state.periods.clone()))
    }

    fn periods(&self) -> Vec<Period> {
        self.state().periods.iter().copied().collect()
    }

    fn add_period(&self, period: Period) -> Result<(), IndexError> {
        self.state().periods.insert(period);
        Ok(())
    }

    fn drop_period(&self, period: Period) -> Result<(), IndexError> {
        let mut state = self.state();
        state.periods.remove(&period);
        let is_kept = |space: &Space| match *space {
            Space::Changes(of) | Space::Versions(of) => of != period,
            _ => true,
        };
        let State { persisted, unpersisted, .. } = &mut *state;
        for content in unpersisted.iter_mut().chain([persisted]) {
            let kept = content.iter().filter(|((space, _), _)| is_kept(space));
            *content = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
        }
        Ok(())
    }

    fn commit(&self, batch: Vec<Write>) -> Result<(), IndexError> {
        let mut state = self.state();
        if state.refuses_writes {
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(IndexError::Io { action: "write", path: "memory".into(), source });
        }
        let mut content = state.current().clone();
        for Write { space, key, value } in batch {
            let key = (space, key.to_vec());
            match value {
                Some(value) => drop(content.insert(key, value)),
                None => drop(content.remove(&key)),
            }
        }
        state.unpersisted.push(content);
        Ok(())
    }

    fn persist(&self) -> Result<(), IndexError> {
        let mut state = self.state();
        state.persisted = state.current().clone();
        state.unpersisted.clear();
        Ok(())
    }
}

impl Index {
    /// An index in memory.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`] where the store holds something else.
    pub fn in_memory(store: &MemoryStore, ages: IndexAges) -> Result<Self, IndexError> {
        let again = store.clone();
        let store: Arc<dyn Store> = Arc::new(store.clone());
        let meta = node::meta(&*Arc::clone(&store).view())?;
        let open = move || -> Result<Arc<dyn Store>, IndexError> { Ok(Arc::new(again.clone())) };
        Ok(Self::over((store, Box::new(open)), meta, PathBuf::from("memory"), ages))
    }
}

impl IndexFiller {
    /// Fills a store in memory.
    pub fn in_memory(store: &MemoryStore) -> Self {
        Self::over(Arc::new(store.clone()))
    }
}

impl IndexReader {
    /// Runs the queued reads. False if there were none.
    pub fn run_pending(&self) -> bool {
        let mut has_read = false;
        while let Ok(job) = self.jobs.try_recv() {
            job(&self.index);
            has_read = true;
        }
        has_read
    }
}
