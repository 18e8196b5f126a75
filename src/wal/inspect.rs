//! Looking at records without the lock, also while an engine appends after them.

use std::path::Path;
use std::sync::Arc;

use super::recovery::recover_from;
use super::storage::Directory;
use super::{Lsn, RecordView, VisitError, WalError};

/// How often reading begins anew after what was read when an engine wrote into what was just being
/// looked at: the part of a batch that came after the look can make the rest seem damaged.
const MAX_ATTEMPTS: u32 = 5;

/// Visits records after `after`, or from the oldest one on. Takes no lock and changes nothing; what
/// an engine is writing in this moment is the end.
///
/// # Errors
/// [`WalError::CutOff`] where the log begins later, [`WalError::LostTail`] where it ends before;
/// [`WalError::Damaged`], once everything before the damage was visited; [`WalError::Visit`] with
/// what `visit` said; [`WalError::Newer`] and [`WalError::Io`].
pub fn inspect(
    directory: &Path,
    after: Option<Lsn>,
    visit: &mut dyn FnMut(RecordView<'_>) -> Result<(), VisitError>,
) -> Result<(), WalError> {
    let storage = Arc::new(Directory::look(directory)?);
    let mut after = after;
    let mut attempts = 0;
    loop {
        let mut visited = None;
        let outcome = recover_from(Arc::clone(&storage), after, &mut |record| {
            visit(record)?;
            visited = Some(record.lsn);
            Ok(())
        });
        after = visited.or(after);
        attempts += 1;
        match outcome {
            Ok(_) => return Ok(()),
            Err(WalError::Damaged { .. }) if attempts < MAX_ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}
