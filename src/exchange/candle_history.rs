//! Reads candles from the exchange, for what the feed did not tell. Each answer on a connection of its own.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::address::ExchangeAddress;
use super::blocking_http::{GetOptions, get};
use super::dial::Dialer;
use super::wire::CandlesResponse;
use crate::market::candles::{Candle, Minute};
use crate::shutdown::Shutdown;
use crate::types::{Symbol, TimestampMicros};

/// Longest answer: the candles of a week.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Status of what is not there.
const NOT_FOUND: u16 = 404;

/// Asks the exchange for candles.
pub struct CandleHistory {
    dialer: Dialer,
    options: GetOptions,
}

/// What the exchange knows of a symbol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownCandles {
    /// From this time on it knows all; `None`: all that was asked.
    pub since: Option<TimestampMicros>,
    pub candles: Vec<(Minute, Candle)>,
}

impl CandleHistory {
    /// Each answer has to come within the timeout.
    pub fn new(
        exchange: ExchangeAddress,
        source: Option<IpAddr>,
        timeout: Duration,
        shutdown: Shutdown,
    ) -> Self {
        let options = GetOptions { source, timeout, shutdown };
        Self { dialer: Dialer::new(exchange), options }
    }

    /// Candles of one minute, from a minute on, up to but without another. `None`: the exchange offers none.
    ///
    /// # Errors
    /// It does not answer, or with something else.
    pub fn minutes(
        &self,
        symbol: Symbol,
        (from, to): (Minute, Minute),
    ) -> io::Result<Option<KnownCandles>> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("symbol", symbol.as_str()).append_pair("interval", "1m");
        query.append_pair("from", &from.start().micros().to_string());
        query.append_pair("to", &to.start().micros().to_string());
        let path = format!("/v1/candles?{}", query.finish());
        let response = get(&self.dialer, &path, &self.options)?;
        match response.status {
            NOT_FOUND => Ok(None),
            200 => known(&response.read_to_end(MAX_ANSWER_BYTES)?, (from, to)).map(Some),
            status => Err(io::Error::other(format!("GET /v1/candles answered {status}"))),
        }
    }
}

fn known(answer: &[u8], (from, to): (Minute, Minute)) -> io::Result<KnownCandles> {
    let odd = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let CandlesResponse { since, candles } =
        serde_json::from_slice(answer).map_err(|error| odd(error.to_string()))?;
    let candles = candles.iter().map(|bar| {
        bar.candle().filter(|(minute, _)| (from..to).contains(minute)).ok_or_else(|| {
            odd(format!("a candle that begins at {} contradicts itself", bar.start.micros()))
        })
    });
    Ok(KnownCandles { since, candles: candles.collect::<io::Result<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::wire::CandleBar;

    #[test]
    fn answers_are_read_and_odd_ones_refused() {
        let (from, to) = (Minute(10), Minute(12));
        let candle = Candle { low: 5, close: 7, ..Candle::of(9, 3) };
        let bar = CandleBar::of(Minute(11).start(), &candle);
        let read = |bar: CandleBar| {
            let answer = CandlesResponse { since: None, candles: vec![bar] };
            known(&serde_json::to_vec(&answer).unwrap(), (from, to))
        };
        assert_eq!(read(bar).unwrap().candles, [(Minute(11), candle)]);
        let later = TimestampMicros::new(bar.start.micros() + 1);
        for odd in [
            CandleBar { start: later, ..bar },
            CandleBar { start: Minute(12).start(), ..bar },
            CandleBar { low_in_cents: 0, ..bar },
            CandleBar { high_in_cents: 8, ..bar },
            CandleBar { close_in_cents: 4, ..bar },
            CandleBar { trades: 0, ..bar },
        ] {
            assert!(read(odd).is_err(), "{odd:?}");
        }
        assert_eq!(
            known(br#"{"candles":[],"more":1}"#, (from, to)).unwrap(),
            KnownCandles::default()
        );
        assert!(known(b"{}", (from, to)).is_err());
    }
}
