use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::signature::{CodePrefix, VALIDITY_MICROS};
use crate::types::TimestampMicros;

/// How long a signature may be valid: as long before its time as after it.
const KEPT_MICROS: u64 = 2 * VALIDITY_MICROS;

/// The signatures of the last seconds. At 10,000 requests a second they take some 20 MB.
#[derive(Debug, Default)]
pub(super) struct SeenSignatures(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    current: HashSet<CodePrefix>,
    /// Those of the time before, as long as they may be valid.
    previous: HashSet<CodePrefix>,
    since_micros: u64,
}

impl SeenSignatures {
    /// Notes a valid signature. False if it was noted before.
    pub(super) fn is_new(&self, code: CodePrefix, now: TimestampMicros) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age_micros = now.micros().saturating_sub(seen.since_micros);
        if age_micros > KEPT_MICROS {
            let current = std::mem::take(&mut seen.current);
            // What is twice as old is not valid any more.
            let is_recent = age_micros <= 2 * KEPT_MICROS;
            seen.previous = if is_recent { current } else { HashSet::new() };
            seen.since_micros = now.micros();
        }
        !seen.previous.contains(&code) && seen.current.insert(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_counts_once_for_as_long_as_it_is_valid() {
        let seen = SeenSignatures::default();
        let at = |seconds: u64| TimestampMicros::new((1_732_400_000 + seconds) * 1_000_000);
        assert!(seen.is_new(1, at(0)) && !seen.is_new(1, at(0)));
        assert!(seen.is_new(2, at(15)) && !seen.is_new(1, at(20)));
        assert!(!seen.is_new(2, at(35)), "noted 20 s ago");
        assert!(seen.is_new(1, at(60)), "as nothing so old is valid");
        assert!(seen.0.lock().unwrap().previous.len() <= 2, "old ones are forgotten");
        assert!(!seen.is_new(1, at(59)), "a clock that goes back forgets nothing");
    }
}
