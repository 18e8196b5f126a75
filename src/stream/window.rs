use std::time::{Duration, Instant};

/// A shard rests up to this many times as long as its last pass took: under load, passes take at most
/// a quarter of the time.
const REST_PER_PASS: u32 = 3;

/// Decides when a shard reads ticks.
///
/// Without a window it reads them in every slice, also while streams still wait to be served. With
/// one, it serves every stream with news once (a *pass*) and then rests, longer after a long pass but
/// never longer than the window: what changes meanwhile merges. A pass of a few sends is followed by
/// a rest of a few microseconds, so an idle server adds no delay. In a pass that takes longer than
/// the window ticks are read as without one: streams that are served late get the newest prices, and
/// an overloaded shard does not rest.
#[derive(Debug)]
pub(super) struct Window {
    longest_rest: Duration,
    pass_began: Option<Instant>,
    rest_until: Option<Instant>,
}

impl Window {
    pub(super) fn new(longest_rest: Duration) -> Self {
        Self { longest_rest, pass_began: None, rest_until: None }
    }

    /// Whether ticks may be read now.
    pub(super) fn is_open(&mut self, now: Instant) -> bool {
        if self.rest_until.is_some_and(|until| now >= until) {
            self.rest_until = None;
        }
        let is_long = |began| now.duration_since(began) >= self.longest_rest;
        assert!(
            self.rest_until.is_none() || self.pass_began.is_none(),
            "a shard rests between passes"
        );
        self.rest_until.is_none() && self.pass_began.is_none_or(is_long)
    }

    /// Some streams have news: a pass goes on or begins.
    pub(super) fn begin_pass(&mut self, now: Instant) {
        assert!(self.rest_until.is_none(), "a pass begins when ticks may be read");
        if !self.longest_rest.is_zero() {
            self.pass_began.get_or_insert(now);
        }
    }

    /// Every stream with news has been served.
    pub(super) fn end_pass(&mut self, now: Instant) {
        if let Some(began) = self.pass_began.take() {
            assert!(now >= began, "a pass ends after it begins");
            assert!(self.rest_until.is_none(), "a shard rests after a pass, not during one");
            let took = now.duration_since(began);
            self.rest_until = Some(now + (took * REST_PER_PASS).min(self.longest_rest));
        }
    }

    /// How long the rest goes on; `None` when the shard does not rest.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        // Zero where the rest is over.
        let left = self.rest_until?.saturating_duration_since(now);
        assert!(left <= self.longest_rest, "a rest is never longer than the window");
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_rest_follows_the_length_of_the_pass() {
        let began = Instant::now();
        let mut window = Window::new(20 * MS);
        assert!(window.is_open(began));
        window.begin_pass(began);
        assert!(!window.is_open(began + MS), "everybody is served first");
        window.end_pass(began + 2 * MS);
        assert_eq!(window.rest(began + 3 * MS), Some(5 * MS));
        assert!(!window.is_open(began + 7 * MS));
        assert!(window.is_open(began + 8 * MS));
        window.begin_pass(began + 8 * MS);
        assert!(!window.is_open(began + 27 * MS));
        assert!(window.is_open(began + 28 * MS), "a long pass takes what is new");
        window.begin_pass(began + 28 * MS);
        window.end_pass(began + 58 * MS);
        assert_eq!(window.rest(began + 58 * MS), Some(20 * MS), "never longer than the window");
        window.end_pass(began + 60 * MS);
        assert!(window.is_open(began + 78 * MS), "a pass ends once");
    }

    #[test]
    fn without_a_window_there_is_no_rest() {
        let now = Instant::now();
        let mut window = Window::new(Duration::ZERO);
        window.begin_pass(now);
        assert!(window.is_open(now));
        window.end_pass(now + MS);
        assert!(window.is_open(now + MS) && window.rest(now + MS).is_none());
    }
}
