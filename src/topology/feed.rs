//! The feed thread and those that work beside it, so that neither a slow list nor a slow disk holds
//! up a price.

use std::io;

use crate::bridge::{FeedThread, Follower};
use crate::data_dir::DataDir;
use crate::exchange::feed::Feed;
use crate::shutdown::Shutdown;

use super::candles::CandleFeed;
use super::threads::Threads;

/// Starts the threads of the feed. With a follower, this is one of several processes.
///
/// # Errors
/// A thread cannot be started.
pub(super) fn start(
    (mut feed, follower, candles): (Feed, Option<Follower>, Option<CandleFeed>),
    data_dir: &DataDir,
    (threads, shutdown): (&mut Threads, &Shutdown),
) -> io::Result<()> {
    let lists = feed.list_reader();
    let checkpoints = feed.remember_in(data_dir.checkpoint());
    if let Some(CandleFeed { mark, ring }) = candles {
        feed.tell_candles(mark, ring);
    }
    threads.spawn("symbols", shutdown, move || {
        lists.run();
        Ok::<(), String>(())
    })?;
    threads.spawn("checkpoint", shutdown, move || {
        checkpoints.run();
        Ok::<(), String>(())
    })?;
    if let Some(follower) = follower {
        let thread = FeedThread::new(feed, follower);
        return threads.spawn("feed", shutdown, move || thread.run());
    }
    threads.spawn("feed", shutdown, move || {
        feed.run();
        Ok::<(), String>(())
    })
}
