//! Turns log records into one batch of the store. Pure, except that it reads the store.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::accounts::AccountWriter;
use super::activities::ActivityWriter;
use super::changes::ChangeWriter;
use super::executions::ExecutionWriter;
use super::feed_records::FeedRecords;
use super::history::Terms;
use super::index_handle::ReusedId;
use super::keys;
use super::lookups::stored_order;
use super::node::{self, INDEX_FORMAT, Meta};
use super::recent::Recent;
use super::store::{Bytes, Space, Write};
use super::{Index, IndexError};
use crate::engine::ID_REUSE_MICROS;
use crate::order::{
    Change, Changed, Created, Event, EventEncoder, Status, StoredOrderEncoder, TrackedOrder,
    booking,
};
use crate::types::{ExternalOrderId, OrderId, TimestampMicros, UserId};
use crate::wal::{LogId, Lsn};

/// Moves an index forward. One per index, owned by one thread.
///
/// Takes records in order. All records since the last commit become visible together. Unusable
/// after an error.
pub struct IndexWriter {
    index: Index,
    log_id: LogId,
    taken: Lsn,
    /// The latest time of a taken record.
    last_at: TimestampMicros,
    changed: HashMap<OrderId, Working>,
    recent: Recent<OrderId, TrackedOrder>,
    accounts: AccountWriter,
    /// Exchange ids that this batch adds.
    external: HashMap<ExternalOrderId, OrderId>,
    /// Client order ids that this batch adds.
    keys: HashMap<Bytes, OrderId>,
    feed: FeedRecords,
    changes: ChangeWriter,
    executions: ExecutionWriter,
    activities: ActivityWriter,
    encoder: StoredOrderEncoder,
    events: EventEncoder,
}

/// An order that this batch changes.
struct Working {
    tracked: TrackedOrder,
    /// The space that holds it now; `None` if it is not stored yet.
    stored_in: Option<Space>,
}

impl IndexWriter {
    /// Resumes at the position of the index, with records of this log.
    ///
    /// # Errors
    /// [`IndexError::OtherLog`], and read errors.
    pub fn new(index: Index, log_id: LogId) -> Result<Self, IndexError> {
        if let Some(index_log) = index.log_id().filter(|&known| known != log_id) {
            let directory = index.directory().to_path_buf();
            return Err(IndexError::OtherLog { directory, index_log, log: log_id });
        }
        let feed = FeedRecords::load(&index)?;
        let accounts = AccountWriter::load(&index)?;
        let changes = ChangeWriter::new(&*index.store()?, index.changes_age_micros());
        index.follows(log_id);
        Ok(Self {
            taken: index.position(),
            last_at: index.last_recorded_at()?,
            index,
            log_id,
            changed: HashMap::new(),
            recent: Recent::default(),
            accounts,
            external: HashMap::new(),
            keys: HashMap::new(),
            feed,
            changes,
            executions: ExecutionWriter::default(),
            activities: ActivityWriter::default(),
            encoder: StoredOrderEncoder::new(),
            events: EventEncoder::new(),
        })
    }

    /// The last record taken.
    pub fn taken(&self) -> Lsn {
        self.taken
    }

    /// Takes the next log record into the batch.
    ///
    /// # Errors
    /// [`IndexError::OutOfOrder`], [`IndexError::UnknownOrder`], and read errors.
    pub fn take(&mut self, lsn: Lsn, event: Event) -> Result<(), IndexError> {
        let expected = Lsn(self.taken.0 + 1);
        if lsn != expected {
            return Err(IndexError::OutOfOrder { lsn, expected });
        }
        assert!(lsn > self.index.position(), "the records taken follow the index");
        self.last_at = self.last_at.max(event.at());
        self.changes.advance(lsn, event.at());
        match event {
            Event::Created(created) => self.create(lsn, &created)?,
            Event::Changed(changed) => self.change(lsn, &changed)?,
            Event::Adopted(adopted) => self.adopt(adopted.order)?,
            Event::CashMoved(moved) => {
                self.activities.note_cash(lsn, &moved)?;
                self.accounts.move_cash(&self.index, lsn, *moved)?;
            }
            Event::AccountAdopted(adopted) => self.accounts.adopt(*adopted),
            Event::AccountsBegun(_) => self.accounts.begin(),
            Event::UnmatchedReport(report) => self.feed.keep_unmatched(lsn, report),
            Event::FeedPosition(position) => {
                let kept_micros = self.index.unmatched_report_age_micros();
                let window_micros = self.index.ended_window_micros();
                self.feed.apply_position(lsn, position, (kept_micros, window_micros));
            }
        }
        self.taken = lsn;
        Ok(())
    }

    /// Commits all taken records to the index, atomically.
    ///
    /// # Errors
    /// [`IndexError::Store`]; the index is unhealthy then.
    pub fn commit(&mut self) -> Result<(), IndexError> {
        if self.taken == self.index.position() {
            return Ok(());
        }
        let (position, last_at) = (self.taken, self.last_at);
        let meta = Meta { format: INDEX_FORMAT, log_id: self.log_id, position, last_at };
        assert!(position > self.index.position(), "the records taken follow the index");
        let committed = self.write(meta);
        committed.inspect_err(|error| self.index.failed(error))
    }

    /// Makes all committed records durable.
    ///
    /// # Errors
    /// [`IndexError::Store`]; the index is unhealthy then.
    pub fn persist(&mut self) -> Result<(), IndexError> {
        let position = self.index.position();
        if position == self.index.durable_position() {
            return Ok(());
        }
        assert!(position > self.index.durable_position(), "what is durable was committed before");
        let persisted = self.index.store().and_then(|store| store.persist());
        persisted.inspect_err(|error| self.index.failed(error))?;
        self.index.persisted_to(position);
        let dropped = self.index.store().and_then(|store| self.changes.drop_old(&*store, position));
        dropped.inspect_err(|error| self.index.failed(error))
    }

    fn create(&mut self, lsn: Lsn, created: &Created) -> Result<(), IndexError> {
        if let Some(key) = &created.client_order_id {
            self.keys.insert(keys::client_key(&created.user, key), created.order_id);
        }
        let mut tracked = TrackedOrder::new(created);
        let effect = booking::created(&tracked);
        self.accounts.book(&self.index, &mut tracked, effect)?;
        let working = Working { tracked, stored_in: None };
        self.changes.note(lsn, working.tracked.order(), &mut self.encoder)?;
        let before = self.changed.insert(created.order_id, working);
        assert!(before.is_none(), "an order is created once: {}", created.order_id);
        Ok(())
    }

    /// Takes an order as another node left it, whatever this store has of it.
    fn adopt(&mut self, tracked: TrackedOrder) -> Result<(), IndexError> {
        let order = Arc::clone(tracked.order());
        let order_id = order.order_id;
        self.recent.take(&order_id);
        let stored_in = match self.changed.remove(&order_id) {
            Some(working) => working.stored_in,
            None => stored_order(&*self.index.view()?, order_id)?.map(|(_, space)| space),
        };
        if let Some(key) = &order.client_order_id {
            self.keys.insert(keys::client_key(&order.user, key), order_id);
        }
        if let Some(id) = &order.external_order_id {
            self.external.insert(id.clone(), order_id);
        }
        self.feed.note_adopted(&tracked);
        self.changed.insert(order_id, Working { tracked, stored_in });
        Ok(())
    }

    fn change(&mut self, lsn: Lsn, changed: &Changed) -> Result<(), IndexError> {
        let order_id = changed.order_id;
        match &changed.change {
            Change::Accepted { external_order_id } => {
                self.external.insert(external_order_id.clone(), order_id);
            }
            Change::Rejected { .. }
            | Change::NotAccepted
            | Change::CancelRequested
            | Change::Cancelled { .. }
            | Change::CancelRejected { .. }
            | Change::Filled(_)
            | Change::Busted { .. }
            | Change::TakenBack { .. }
            | Change::CaseOpened(_)
            | Change::CaseClosed(_)
            | Change::ClosedByOperator(_) => {}
        }
        let working = match self.changed.entry(order_id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(match self.recent.take(&order_id) {
                Some(tracked) => Working { tracked, stored_in: Some(Space::Open) },
                None => {
                    let stored = stored_order(&*self.index.view()?, order_id)?;
                    let (tracked, space) =
                        stored.ok_or(IndexError::UnknownOrder { lsn, order_id })?;
                    Working { tracked, stored_in: Some(space) }
                }
            }),
        };
        let noted = working.tracked.effect_of(&changed.change);
        let counted = noted
            .as_ref()
            .and_then(|effect| working.tracked.executions().get(effect.execution_id())?.counted());
        let was_cancelled = working.tracked.order().status == Status::Cancelled;
        let (applied, effect) = booking::apply(&mut working.tracked, changed);
        self.accounts.book(&self.index, &mut working.tracked, effect)?;
        if applied.recorded {
            let order = working.tracked.order();
            if let Some(noted) = noted {
                self.activities.note_execution((&self.index, lsn), order, (&noted, counted))?;
                self.executions.note(lsn, order, noted);
            } else if order.status == Status::Cancelled && !was_cancelled {
                self.activities.note_cancel(lsn, order)?;
            }
            self.changes.note(lsn, working.tracked.order(), &mut self.encoder)?;
        }
        self.feed.note(&working.tracked, changed);
        Ok(())
    }

    /// The exchange ids that this batch adds, sorted: neighbours are faster to write. An id that is
    /// seen again names the newest order: the exchange's ids are unique only within a trading day.
    /// Within a day, whoever decides about orders learns of it.
    fn new_links(&mut self) -> Result<Vec<Write>, IndexError> {
        let mut links: Vec<_> = self.external.drain().collect();
        links.sort_unstable();
        let store = self.index.store()?;
        for (id, order_id) in &links {
            // A new id, as nearly all are.
            let Some(before) = store.get(Space::External, keys::external(id))? else { continue };
            let before = keys::order_id(&before)?;
            if before != *order_id && self.has_ended_lately(before)? {
                self.index.note_reused_id(ReusedId { id: id.clone(), before });
            }
        }
        let link = |(id, order_id): (ExternalOrderId, OrderId)| {
            put(Space::External, keys::external(&id).into(), &keys::order_id_bytes(order_id))
        };
        Ok(links.into_iter().map(link).collect())
    }

    /// Whether an order is open, or ended so lately that its exchange id cannot be free again.
    fn has_ended_lately(&self, order_id: OrderId) -> Result<bool, IndexError> {
        let stored = stored_order(&*self.index.view()?, order_id)?;
        Ok(stored.is_some_and(|(tracked, _)| {
            let order = tracked.order();
            order.is_open() || self.last_at.micros_since(order.updated_at) <= ID_REUSE_MICROS
        }))
    }

    fn write(&mut self, meta: Meta) -> Result<(), IndexError> {
        // Three writes for an order that ends, one for each id or key, and a few more.
        let links = self.external.len() + self.keys.len();
        let noted = self.changes.len() + self.executions.len() + self.accounts.len();
        let noted = noted + self.activities.len();
        let capacity = 3 * self.changed.len() + links + noted + 8;
        let mut batch = Vec::with_capacity(capacity);
        for (key, order_id) in self.keys.drain() {
            batch.push(put(Space::Keys, key, &keys::order_id_bytes(order_id)));
        }
        batch.append(&mut self.new_links()?);
        for (order_id, working) in self.changed.drain() {
            let order = working.tracked.order();
            let (is_open, user) = (order.is_open(), order.user.clone());
            let value = Bytes::from(self.encoder.encode(&working.tracked)?);
            let terms = Terms::of(order);
            push_order(&mut batch, (&user, order_id), (working.stored_in, is_open), (value, terms));
            if is_open {
                self.recent.keep(order_id, working.tracked);
            }
        }
        self.accounts.write(&mut batch);
        self.changes.write(&*self.index.store()?, &mut batch)?;
        self.executions.write(&mut batch);
        self.activities.write(&mut batch);
        self.feed.write(meta.position, &mut self.events, &mut batch)?;
        batch.push(Write {
            space: Space::Node,
            key: node::META_KEY.into(),
            value: Some(meta.encode()),
        });
        batch.sort_unstable();
        let keys = || batch.iter().map(|write| (write.space, &write.key));
        debug_assert!(
            keys().zip(keys().skip(1)).all(|(key, next)| key < next),
            "a batch has each key at most once"
        );
        self.index.store()?.commit(batch)?;
        self.index.moved_to(meta);
        Ok(())
    }
}

/// Writes an order to its space and removes it from the one that held it before.
fn push_order(
    batch: &mut Vec<Write>,
    (user, order_id): (&UserId, OrderId),
    (stored_in, is_open): (Option<Space>, bool),
    (value, terms): (Bytes, Terms),
) {
    let (space, key) = if is_open {
        (Space::Open, keys::open(order_id).into())
    } else {
        (Space::Ended, keys::order_id_bytes(order_id).into())
    };
    batch.push(Write { space, key, value: Some(value) });
    if !is_open {
        // Again with each change of an ended order, as its status may be another.
        batch.push(Write {
            space: Space::History,
            key: keys::history(user, order_id),
            value: Some(terms.encode()),
        });
    }
    if stored_in == Some(space) {
        return;
    }
    match stored_in {
        Some(Space::Open) => batch.push(remove(Space::Open, keys::open(order_id).into())),
        Some(Space::Ended) => {
            batch.push(remove(Space::Ended, keys::order_id_bytes(order_id).into()));
            batch.push(remove(Space::History, keys::history(user, order_id)));
        }
        Some(other) => unreachable!("orders are stored as open or ended, not in {other:?}"),
        None => {}
    }
}

fn remove(space: Space, key: Bytes) -> Write {
    Write { space, key, value: None }
}

fn put(space: Space, key: Bytes, value: &[u8]) -> Write {
    Write { space, key, value: Some(value.into()) }
}

impl std::fmt::Debug for IndexWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexWriter")
            .field("index", &self.index)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}
