use std::io;

use slab::Slab;

use crate::runtime::{Interest, PollSet, StreamSocket};

use super::connection::Connection;
use super::connection_id::ConnectionId;
use super::request::NotAdopted;

/// The open streams of a shard, and the poll set that watches their sockets.
#[derive(Debug)]
pub(super) struct Connections {
    slab: Slab<Connection>,
    next_generation: u32,
    polls: PollSet,
    /// What the last look found. Kept for its memory.
    interests: Vec<Interest>,
}

impl Connections {
    /// No streams.
    ///
    /// # Errors
    /// The system has no descriptor left for the poll set.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            slab: Slab::new(),
            // Random, so that a stream id of another process names no stream of this one.
            next_generation: rand::random(),
            polls: PollSet::new()?,
            interests: Vec::new(),
        })
    }

    /// How many streams are open.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether no stream is open.
    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// The id of the next stream, whose socket is watched from now on.
    ///
    /// # Errors
    /// All keys are in use, or the kernel's limit of watches is reached.
    pub(super) fn admit(&mut self, socket: &StreamSocket) -> Result<ConnectionId, NotAdopted> {
        self.next_generation = self.next_generation.wrapping_add(1);
        let key = u32::try_from(self.slab.vacant_key()).map_err(|_| NotAdopted::Full)?;
        let id = ConnectionId { key, generation: self.next_generation };
        self.polls.add(socket, id.to_token())?;
        Ok(id)
    }

    /// Opens a stream with the id that it was given last.
    pub(super) fn insert(&mut self, connection: Connection) -> &mut Connection {
        let entry = self.slab.vacant_entry();
        assert!(entry.key() == connection.id.key as usize, "a stream has the key in its id");
        assert!(
            connection.id.generation == self.next_generation,
            "a stream opens with the id that was given last"
        );
        entry.insert(connection)
    }

    /// The stream with this key.
    #[inline]
    pub(super) fn get_mut(&mut self, key: u32) -> Option<&mut Connection> {
        self.slab.get_mut(key as usize)
    }

    /// The stream with a key that a list of subscribers or of order streams has.
    #[inline]
    pub(super) fn listed_mut(&mut self, key: u32) -> &mut Connection {
        let Some(connection) = self.slab.get_mut(key as usize) else {
            unreachable!("a stream that ends is taken out of all lists")
        };
        connection
    }

    /// The stream with this id, as long as it is open.
    pub(super) fn find(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.get_mut(id.key).filter(|connection| connection.id == id)
    }

    /// Takes a stream out. Its socket closes when it is dropped.
    pub(super) fn remove(&mut self, key: u32) -> Option<Connection> {
        let connection = self.slab.try_remove(key as usize)?;
        assert!(connection.id.key == key, "a stream has the key in its id");
        Some(connection)
    }

    /// All streams.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slab.iter().map(|(_, connection)| connection)
    }

    /// All streams.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slab.iter_mut().map(|(_, connection)| connection)
    }

    /// Asks the kernel which sockets have changed. True when there may be more. The list is given
    /// back with [`keep`](Self::keep).
    pub(super) fn look(&mut self) -> (Vec<Interest>, bool) {
        assert!(self.interests.is_empty(), "what the last look found has been worked off");
        let mut interests = std::mem::take(&mut self.interests);
        match self.polls.look(&mut interests) {
            Ok(has_more) => (interests, has_more),
            Err(error) => {
                tracing::error!(%error, "cannot poll the stream sockets");
                (interests, false)
            }
        }
    }

    /// Keeps the memory of a list that has been worked off.
    pub(super) fn keep(&mut self, interests: Vec<Interest>) {
        assert!(interests.is_empty(), "all events have been handled");
        self.interests = interests;
    }
}
