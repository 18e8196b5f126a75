//! The checkpoint file: the day's figures across a restart. A thread of its own writes it, so that
//! a slow disk delays no price.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::market::{Checkpoint, MAX_SEQUENCE};

type Shared = (Mutex<Slot>, Condvar);

#[derive(Default)]
struct Slot {
    checkpoint: Option<Checkpoint>,
    /// The sender is gone; nothing follows.
    is_last: bool,
}

/// The feed thread's end: a slot for the newest checkpoint. Dropping it ends the writer.
#[derive(Default)]
pub(super) struct CheckpointSender(Arc<Shared>);

impl CheckpointSender {
    /// Replaces a checkpoint that is not written yet.
    pub(super) fn put(&self, checkpoint: Checkpoint) {
        self.change(|slot| slot.checkpoint = Some(checkpoint));
    }

    /// The writer of this sender's checkpoints.
    pub(super) fn writer(&self, path: PathBuf) -> CheckpointWriter {
        CheckpointWriter { newest: Arc::clone(&self.0), path }
    }

    fn change(&self, change: impl FnOnce(&mut Slot)) {
        let (slot, changed) = &*self.0;
        change(&mut slot.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }
}

impl Drop for CheckpointSender {
    fn drop(&mut self) {
        self.change(|slot| slot.is_last = true);
    }
}

/// The thread that writes checkpoints. A lost checkpoint costs only lines that are read again.
pub struct CheckpointWriter {
    newest: Arc<Shared>,
    path: PathBuf,
}

impl CheckpointWriter {
    /// Writes checkpoints until the feed thread has ended.
    pub fn run(self) {
        let mut is_failing = false;
        loop {
            let (checkpoint, is_last) = self.next();
            if let Some(checkpoint) = checkpoint {
                let written = write(&self.path, &checkpoint.encode());
                if let Err(error) = &written
                    && !is_failing
                {
                    let path = self.path.display();
                    tracing::warn!(%path, %error, "the checkpoint cannot be written; a restart would reread more of the feed");
                }
                is_failing = written.is_err();
            }
            if is_last {
                return;
            }
        }
    }

    fn next(&self) -> (Option<Checkpoint>, bool) {
        let (slot, changed) = &*self.newest;
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        while slot.checkpoint.is_none() && !slot.is_last {
            slot = changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
        (slot.checkpoint.take(), slot.is_last)
    }
}

/// Atomic: a reader finds the old file or the new one. Not synced: a power cut may lose the
/// contents, which the checksum reveals.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    fs::write(&next, bytes)?;
    fs::rename(&next, path)
}

/// Reads the previous process's checkpoint. An unusable file is left in place; the next checkpoint
/// overwrites it.
pub(super) fn read(path: &Path) -> Option<Checkpoint> {
    let file = match fs::read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the checkpoint cannot be read");
            return None;
        }
    };
    let checkpoint = Checkpoint::decode(&file);
    if checkpoint.is_none() {
        tracing::warn!(path = %path.display(), "the checkpoint is damaged; the day's figures start over");
    }
    checkpoint.filter(|Checkpoint { session, sequence, .. }| {
        let is_possible = *sequence < MAX_SEQUENCE;
        if !is_possible {
            tracing::error!(
                path = %path.display(), %session, sequence,
                "the checkpoint has an impossible sequence and is not used: the day's figures start \
                 afresh, and the next checkpoint overwrites it; there is nothing to do"
            );
        }
        is_possible
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{MarketLimits, Watchers, open_market};

    #[test]
    fn the_next_process_reads_the_last_checkpoint() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("market.checkpoint");
        assert_eq!(read(&path), None);
        let sender = CheckpointSender::default();
        let writer = sender.writer(path.clone());
        let writing = std::thread::spawn(move || writer.run());
        let (market, _reader) = open_market(Watchers::default(), MarketLimits::default());
        for sequence in [1, 2] {
            sender.put(market.checkpoint(&"7".into(), sequence));
        }
        drop(sender);
        writing.join().unwrap();
        assert_eq!(read(&path).map(|checkpoint| checkpoint.sequence), Some(2));
        fs::write(&path, b"rot").unwrap();
        assert_eq!(read(&path), None);
    }

    #[test]
    fn a_checkpoint_with_an_impossible_sequence_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("market.checkpoint");
        let (market, _reader) = open_market(Watchers::default(), MarketLimits::default());
        for (sequence, is_used) in
            [(MAX_SEQUENCE - 1, true), (MAX_SEQUENCE, false), (u64::MAX, false)]
        {
            write(&path, &market.checkpoint(&"7".into(), sequence).encode()).unwrap();
            assert_eq!(read(&path).is_some(), is_used, "{sequence}");
        }
    }
}
