//! The feed thread and those that work beside it, so that neither a slow list nor a slow disk holds
//! up a price.

use std::io;
use std::path::Path;

use crate::exchange::feed::Feed;
use crate::shutdown::Shutdown;

use super::threads::Threads;

/// Where in the data directory the figures of the day are remembered.
const CHECKPOINT_FILE: &str = "market.checkpoint";

/// Starts the threads of the feed.
///
/// # Errors
/// A thread cannot be started.
pub(super) fn start(
    mut feed: Feed,
    data_dir: &Path,
    (threads, shutdown): (&mut Threads, &Shutdown),
) -> io::Result<()> {
    let lists = feed.list_reader();
    let checkpoints = feed.remember_in(data_dir.join(CHECKPOINT_FILE));
    threads.spawn("symbols", shutdown, move || {
        lists.run();
        Ok::<(), String>(())
    })?;
    threads.spawn("checkpoint", shutdown, move || {
        checkpoints.run();
        Ok::<(), String>(())
    })?;
    threads.spawn("feed", shutdown, move || {
        feed.run();
        Ok::<(), String>(())
    })
}
