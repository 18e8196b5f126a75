use std::time::Duration;

use super::MonotonicMicros;

/// Lets one of many alike messages through: the first, and then one in a while with how many there
/// were since. What an exchange repeats without end shall not fill a log.
#[derive(Debug)]
pub struct Spell {
    pace: Duration,
    told_at: Option<MonotonicMicros>,
    untold: u64,
}

impl Spell {
    /// Of which one message goes out in so much time.
    pub const fn new(pace: Duration) -> Self {
        Self { pace, told_at: None, untold: 0 }
    }

    /// It happened once more. How often since the last message, where one is to go out now.
    pub fn note(&mut self, now: MonotonicMicros) -> Option<u64> {
        self.untold += 1;
        if self.told_at.is_some_and(|at| now < at.saturating_add(self.pace)) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_out_and_then_one_in_a_while() {
        let mut spell = Spell::new(Duration::from_micros(10));
        let told: Vec<_> = (0..25).map(|at| spell.note(MonotonicMicros::new(at))).collect();
        let told: Vec<_> =
            told.iter().enumerate().filter_map(|(at, n)| n.map(|n| (at, n))).collect();
        assert_eq!(told, [(0, 1), (10, 10), (20, 10)]);
    }
}
