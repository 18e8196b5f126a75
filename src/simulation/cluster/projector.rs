//! The projection of a member, as its thread follows the log: batch after batch, over one connection
//! after another. What it may write is decided by the real [`Positions`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::around::Around;
use super::commands::Shared;
use super::end::End;
use super::postgres::{Answer, Link, Question, Reply, Ticket};
use super::tables::{Refusal, Transaction};
use crate::order::{Event, NODE_PARTITION, TrackedOrder, decode};
use crate::projection::position::Positions;
use crate::projection::{HeldPartitions, OwnershipChange, Progress};
use crate::testing::FaultyDisk;
use crate::types::{MonotonicMicros, OrderId, USER_PARTITIONS, UserPartition};
use crate::wal::{LogReader, Lsn};

/// How often the positions of all partitions advance.
const POSITION_INTERVAL: Duration = Duration::from_millis(250);

/// One connection.
struct Session {
    link: Link,
    reader: LogReader<FaultyDisk>,
    /// The positions at its beginning: what is read begins after them.
    begun: Positions,
    positions: Positions,
    working: BTreeMap<OrderId, TrackedOrder>,
    owned_since: OwnershipChange,
    committed: Lsn,
    all_advanced_at: MonotonicMicros,
}

enum State {
    Idle,
    /// Asks which partitions are ours.
    Owning(Ticket, OwnershipChange, HeldPartitions),
    Writing {
        ticket: Ticket,
        touched: BTreeSet<UserPartition>,
        last: Lsn,
    },
}

/// Follows the log.
pub(super) struct Projector {
    epoch: i64,
    session: Option<Session>,
    state: State,
    next: MonotonicMicros,
}

impl Projector {
    pub(super) fn new(epoch: i64) -> Self {
        Self { epoch, session: None, state: State::Idle, next: MonotonicMicros::new(0) }
    }

    /// Takes the next step.
    pub(super) fn step(
        &mut self,
        shared: &Shared,
        progress: &Progress,
        around: &mut Around<'_>,
    ) -> Result<(), End> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => self.begin(shared, progress, around),
            State::Owning(ticket, newest, held) => match around.postgres.reply(ticket) {
                Reply::Waits => self.state = State::Owning(ticket, newest, held),
                Reply::Is(Answer::Owned(owned)) => {
                    let ownership = (&shared.ownership, held);
                    let last =
                        u8::try_from(USER_PARTITIONS - 1).expect("numbers of partitions are bytes");
                    let owned = Positions::of_owner(0..=last, &owned, ownership);
                    let owned = owned.map_err(|_lost| End::Superseded)?;
                    self.own(owned, newest, (shared, progress), around);
                }
                Reply::Lost | Reply::Is(_) => self.fail(around),
            },
            State::Writing { ticket, touched, last } => match around.postgres.reply(ticket) {
                Reply::Waits => self.state = State::Writing { ticket, touched, last },
                Reply::Is(Answer::Written(Ok(()))) => {
                    if let Some(session) = &mut self.session {
                        session.positions.advance(&touched, last);
                        session.committed = last;
                        progress.reach(0, last);
                    }
                }
                Reply::Is(Answer::Written(Err(Refusal::Superseded))) => {
                    return Err(End::Superseded);
                }
                Reply::Lost | Reply::Is(_) => self.fail(around),
            },
        }
        Ok(())
    }

    fn fail(&mut self, around: &Around<'_>) {
        self.session = None;
        self.next = around.now.monotonic.saturating_add(around.retry_pause());
    }

    fn begin(&mut self, shared: &Shared, progress: &Progress, around: &mut Around<'_>) {
        let now = around.now.monotonic;
        if now < self.next {
            return;
        }
        if self.session.as_ref().is_some_and(|session| session.link != around.link) {
            self.fail(around);
            return;
        }
        let newest = shared.ownership.newest();
        let is_known = self.session.as_ref().is_some_and(|session| session.owned_since >= newest);
        if !is_known {
            let held = shared.ownership.held();
            let ticket = around.ask(Question::Owned { epoch: self.epoch });
            self.state = State::Owning(ticket, newest, held);
            return;
        }
        self.follow(progress, around);
    }

    /// Takes note of what is ours.
    fn own(
        &mut self,
        owned: Positions,
        newest: OwnershipChange,
        (shared, progress): (&Shared, &Progress),
        around: &Around<'_>,
    ) {
        if let Some(session) = &mut self.session {
            session.positions.own(&owned);
            session.begun.own(&owned);
            session.owned_since = newest;
        } else {
            let from = owned.least().min(shared.log.committed());
            let Ok(reader) = shared.log.reader(from) else {
                unreachable!("nothing of the log is cut")
            };
            progress.reach(0, from);
            self.session = Some(Session {
                link: around.link,
                reader,
                begun: owned.clone(),
                positions: owned,
                working: BTreeMap::new(),
                owned_since: newest,
                committed: from,
                all_advanced_at: around.now.monotonic,
            });
        }
        shared.ownership.follow(newest);
    }

    /// Writes the next batch.
    fn follow(&mut self, progress: &Progress, around: &mut Around<'_>) {
        let Some(session) = &mut self.session else { return };
        let changed = session.read(around);
        let last = session.reader.position();
        let now = around.now.monotonic;
        let is_due = now.saturating_since(session.all_advanced_at) >= POSITION_INTERVAL;
        if changed.is_empty() && !(is_due && last > session.committed) {
            if last > session.committed {
                progress.reach(0, last);
                session.committed = last;
            }
            return;
        }
        let mut touched: BTreeSet<UserPartition> =
            changed.iter().map(|order_id| order_id.partition()).collect();
        if is_due {
            touched.clear();
            session.all_advanced_at = now;
        }
        let orders = changed.iter().filter_map(|order_id| session.working.get(order_id)).cloned();
        let transaction = Transaction {
            epoch: self.epoch,
            touched: session.positions.of(&touched),
            reached: last,
            orders: orders.collect(),
        };
        let ticket = around.ask(Question::Write(transaction));
        self.state = State::Writing { ticket, touched, last };
    }
}

impl Session {
    /// Reads the next records, and applies those that are for Postgres to their orders.
    fn read(&mut self, around: &Around<'_>) -> BTreeSet<OrderId> {
        let mut changed = BTreeSet::new();
        for _ in 0..around.most {
            let Ok(Some(record)) = self.reader.next_record() else { break };
            let of = UserPartition::new(record.partition);
            let is_written = of.is_some_and(|of| self.begun.have(of, record.lsn));
            if record.partition == NODE_PARTITION || is_written {
                continue;
            }
            let event = decode(record.kind, record.format_version, record.payload);
            match event.expect("the log has only what was appended") {
                Event::Created(created) => {
                    self.working.insert(created.order_id, TrackedOrder::new(&created));
                    changed.insert(created.order_id);
                }
                Event::Changed(change) => {
                    let order_id = change.order_id;
                    let known = self.working.entry(order_id).or_insert_with(|| {
                        let stored = around.postgres.tables.order(order_id);
                        stored.expect("what changes is in the log or in Postgres").clone()
                    });
                    if known.apply(&change).recorded {
                        changed.insert(order_id);
                    }
                }
                Event::Adopted(adopted) => {
                    self.working.insert(adopted.order.order().order_id, adopted.order.clone());
                }
                Event::UnmatchedReport(_)
                | Event::FeedPosition(_)
                | Event::CashMoved(_)
                | Event::AccountAdopted(_)
                | Event::AccountsBegun(_) => {}
            }
        }
        changed
    }
}
