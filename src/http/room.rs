//! Room for clients: each connection takes one of the files that the process may have open, as a stream
//! too, and some of those are for the process itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::stream::StreamQuotas;
use crate::types::{LogThrottle, MonotonicMicros};

/// Least time between two log lines about connections that there was no room for.
const LOG_PACE: Duration = Duration::from_secs(10);

/// Counts and limits the connections of clients on all shards, streams among them.
#[derive(Debug)]
pub struct ClientRoom {
    most: usize,
    /// Those that hyper has. A stream leaves it.
    in_hyper: AtomicUsize,
    streams: Arc<StreamQuotas>,
    log: Mutex<LogThrottle>,
}

/// The place of one connection, until it ends or becomes a stream. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place(Arc<ClientRoom>);

impl ClientRoom {
    /// Room for `most` connections, of which those that `streams` counts are streams.
    pub fn new(most: usize, streams: Arc<StreamQuotas>) -> Self {
        let log = Mutex::new(LogThrottle::new(LOG_PACE));
        Self { most, in_hyper: AtomicUsize::new(0), streams, log }
    }

    /// A place for one more connection; `None` if there is none, which is logged now and then.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        let before = self.in_hyper.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        if before + self.streams.open() < self.most {
            return Some(place);
        }
        drop(place);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = log.note(MonotonicMicros::now()) {
            tracing::warn!(
                refused,
                limit = self.most,
                "client connections are closed at once: there are as many as the limit of open files \
                 (`ulimit -n`) has room for"
            );
        }
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_hyper.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::UserId;

    #[test]
    fn connections_and_streams_share_the_room() {
        let streams = Arc::new(StreamQuotas::new(9, 9));
        let room = Arc::new(ClientRoom::new(3, Arc::clone(&streams)));
        let first = room.enter().unwrap();
        let second = room.enter().unwrap();
        let stream = streams.reserve(&UserId::new("alice").unwrap()).unwrap();
        assert!(room.enter().is_none());
        // The stream has left hyper.
        drop(first);
        let third = room.enter().unwrap();
        assert!(room.enter().is_none());
        drop(stream);
        let fourth = room.enter().unwrap();
        assert!(room.enter().is_none());
        drop((second, third, fourth));
        assert_eq!(room.in_hyper.load(Ordering::Relaxed), 0);
    }
}
