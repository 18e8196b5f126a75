//! The steps of those who set clocks.

use super::network::Request;
use super::trace::say;
use super::world::World;

const MILLISECOND: i64 = 1_000;
const MINUTE: i64 = 60_000 * MILLISECOND;
const HOUR: i64 = 60 * MINUTE;

impl World<'_> {
    /// Somebody sets the wall clock of our machine, as far from the true time as they like: what
    /// reads it follows slowly. Not before the process has heard the exchange's clock: until then
    /// it compares with its own.
    pub(super) fn set_clock(&mut self) -> bool {
        let now = self.clock.ours();
        if !self.node.as_ref().is_some_and(|node| node.hears_exchange(now)) {
            return false;
        }
        let near = i64::try_from(self.dice.between(0, 40)).unwrap_or_default() - 20;
        let micros = [near * MILLISECOND, MINUTE, -MINUTE, HOUR, -HOUR][self.dice.below(5)];
        self.clock.set_wall(micros);
        say!(self.trace, "our wall clock is set {micros} us ahead");
        self.trace.count("settings of our wall clock");
        true
    }

    /// Somebody sets the exchange's clock, and the feed tells of it at once: before that nobody could
    /// know. No order is on its way, whose deadline was told by the clock as it was.
    pub(super) fn step_exchange_clock(&mut self) -> bool {
        let now = self.clock.ours();
        let submits = |(_, request): &(_, Request)| matches!(request, Request::Submit(_));
        let may_be_told = self
            .node
            .as_ref()
            .is_some_and(|node| node.hears_exchange(now) && node.feed.is_at_end(&self.exchange));
        if !may_be_told || self.network.requests.iter().any(submits) {
            return false;
        }
        let micros = [MINUTE, -MINUTE, HOUR, -HOUR][self.dice.below(4)];
        self.clock.step_exchange(micros);
        say!(self.trace, "the exchange's clock is put ahead by {micros} us");
        self.trace.count("steps of the exchange's clock");
        self.feed_beat()
    }

    /// What a process knew of the exchange's clock ends with it. A clock that is far from ours is set
    /// right before the next one starts, and no order of this one is still on its way then.
    pub(super) fn forget_exchange_clock(&mut self) {
        if self.clock.set_exchange_right() {
            say!(self.trace, "the exchange's clock is set right");
            self.network.requests.retain(|(_, request)| !matches!(request, Request::Submit(_)));
        }
    }
}
