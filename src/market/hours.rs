//! What the exchange's trading sessions say of a moment.

use super::directory::TradingSession;
use crate::types::TimestampMicros;

/// The trading sessions at a moment. What the exchange has not told is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hours {
    /// Whether one of them is in progress.
    pub is_open: Option<bool>,
    /// When the next one begins.
    pub next_open: Option<TimestampMicros>,
    /// When the last one of those in progress ends or, if none is, the next one.
    pub next_close: Option<TimestampMicros>,
}

impl Hours {
    /// At `now` by the exchange's clock. After the last session it is closed only as long as a new one would
    /// be heard of: `is_current`.
    pub fn at(
        now: TimestampMicros,
        sessions: impl Iterator<Item = TradingSession> + Clone,
        is_current: bool,
    ) -> Self {
        let to_come = sessions.clone().filter(|session| session.open > now);
        let next = to_come.min();
        let in_progress =
            sessions.clone().filter(|session| session.open <= now && now < session.close);
        let last_close = in_progress.map(|session| session.close).max();
        let is_known = last_close.is_some()
            || next.is_some()
            || (is_current && sessions.clone().next().is_some());
        Self {
            is_open: is_known.then_some(last_close.is_some()),
            next_open: next.map(|session| session.open),
            next_close: last_close.or(next.map(|session| session.close)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_that_the_exchange_has_not_told() {
        let at = TimestampMicros::new;
        let session = |open, close| TradingSession { open: at(open), close: at(close) };
        let two = [session(10, 20), session(12, 25)];
        let hours = |now, sessions: &[TradingSession], is_current| {
            let Hours { is_open, next_open, next_close } =
                Hours::at(at(now), sessions.iter().copied(), is_current);
            let micros = |time: Option<TimestampMicros>| time.map(TimestampMicros::micros);
            (is_open, micros(next_open), micros(next_close))
        };
        assert_eq!(hours(5, &[], true), (None, None, None));
        for is_current in [false, true] {
            assert_eq!(hours(9, &two, is_current), (Some(false), Some(10), Some(20)));
            assert_eq!(hours(10, &two, is_current), (Some(true), Some(12), Some(20)));
            assert_eq!(hours(19, &two, is_current), (Some(true), None, Some(25)));
        }
        assert_eq!(hours(25, &two, true), (Some(false), None, None));
        assert_eq!(hours(25, &two, false), (None, None, None), "the next one may have begun");
    }
}
