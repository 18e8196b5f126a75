//! Actions that set clocks.

use super::network::Request;
use super::trace::say;
use super::world::World;

const MILLISECOND: i64 = 1_000;
const MINUTE: i64 = 60_000 * MILLISECOND;
const HOUR: i64 = 60 * MINUTE;

impl World<'_> {
    /// Sets our machine's wall clock to any offset; the steady clock follows it slowly. Only once
    /// the process has heard the exchange's clock: before that it compares with its own.
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

    /// Sets the exchange's clock, which the feed reports at once. No submit may be in flight,
    /// since its deadline is in the old clock's time.
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

    /// A process forgets the exchange's clock when it ends. A clock that is far off is corrected
    /// before the next one starts, and submits of this process are dropped from the network.
    pub(super) fn forget_exchange_clock(&mut self) {
        if self.clock.set_exchange_right() {
            say!(self.trace, "the exchange's clock is set right");
            self.network.requests.retain(|(_, request)| !matches!(request, Request::Submit(_)));
        }
    }
}
