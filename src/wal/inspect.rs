//! Inspects records without the lock, also while a server appends to the log.

use std::path::Path;
use std::sync::Arc;

use super::recovery::recover_from;
use super::storage::Directory;
use super::{Lsn, RecordView, VisitError, WalError};

/// Maximum attempts to resume after damage that a running server may have caused: a batch written
/// partly before and partly after the read can look damaged.
const MAX_ATTEMPTS: u32 = 5;

/// Visits the records after `after`, or all of them. Takes no lock and changes nothing. What a
/// server is writing at the moment counts as the end.
///
/// # Errors
/// [`WalError::CutOff`] if the log begins later; [`WalError::LostTail`] if it ends before;
/// [`WalError::Damaged`], after visiting everything before the damage; [`WalError::Visit`] with the
/// error of `visit`; [`WalError::Newer`] and [`WalError::Io`].
pub fn inspect(
    directory: &Path,
    after: Option<Lsn>,
    visit: &mut dyn FnMut(RecordView<'_>) -> Result<(), VisitError>,
) -> Result<(), WalError> {
    let storage = Arc::new(Directory::open_unlocked(directory)?);
    let mut after = after;
    let mut attempts = 0;
    loop {
        let mut visited = None;
        let outcome = recover_from(Arc::clone(&storage), after, &mut |record| {
            assert!(
                Some(record.lsn) > visited.or(after),
                "records are visited once, in their order"
            );
            visit(record)?;
            visited = Some(record.lsn);
            Ok(())
        });
        after = visited.or(after);
        attempts += 1;
        assert!(attempts <= MAX_ATTEMPTS, "the last attempt ends the inspection");
        match outcome {
            Ok(_) => return Ok(()),
            Err(WalError::Damaged { .. }) if attempts < MAX_ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}
