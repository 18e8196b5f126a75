//! Keys and values of candles. Part of the format.

use crate::index::IndexError;
use crate::market::candles::{BookState, Candle, DAY_MINUTES, FeedMark, Minute, Stretch};
use crate::types::{MAX_SYMBOL_BYTES, Symbol, TimestampMicros};

/// Version of a value, its first byte.
const FORMAT: u8 = 1;
const PARTIAL: u8 = 1;
/// Words of a candle.
const WORDS: usize = 6;

/// Days since 1970-01-01.
pub(super) type Day = u16;
pub(super) type Key = [u8; 2 + MAX_SYMBOL_BYTES + 2];

fn unreadable() -> IndexError {
    IndexError::Unreadable { what: "a candle" }
}

/// The day of a minute; `None` after 2149.
pub(super) fn day_of(minute: Minute) -> Option<Day> {
    Day::try_from(minute.0 / DAY_MINUTES).ok()
}

/// Key of a candle: day, symbol, minute of the day.
pub(super) fn key(day: Day, symbol: Symbol, minute_of_day: u16) -> Key {
    let mut key = Key::default();
    let (of_day, rest) = key.split_at_mut(2);
    of_day.copy_from_slice(&day.to_be_bytes());
    let (of_symbol, of_minute) = rest.split_at_mut(MAX_SYMBOL_BYTES);
    for (slot, byte) in of_symbol.iter_mut().zip(symbol.as_str().bytes()) {
        *slot = byte;
    }
    of_minute.copy_from_slice(&minute_of_day.to_be_bytes());
    key
}

/// Key of a minute's candle; `None` after 2149.
pub(super) fn key_of(symbol: Symbol, minute: Minute) -> Option<Key> {
    let of_day = u16::try_from(minute.0 % DAY_MINUTES).ok()?;
    Some(key(day_of(minute)?, symbol, of_day))
}

/// The minute of a key.
pub(super) fn minute_of(key: &[u8]) -> Result<Minute, IndexError> {
    let day = key.first_chunk().map(|day| u16::from_be_bytes(*day)).ok_or_else(unreadable)?;
    let of_day = key.last_chunk().map(|at| u16::from_be_bytes(*at)).ok_or_else(unreadable)?;
    Ok(Minute(u32::from(day) * DAY_MINUTES + u32::from(of_day)))
}

pub(super) fn encode(candle: &Candle) -> Vec<u8> {
    let Candle { open, high, low, close, volume, trades, is_partial } = *candle;
    let prices = [open, high, low, close].map(i64::cast_unsigned);
    let [open, high, low, close] = prices;
    let words: [u64; WORDS] = [open, high, low, close, volume, trades];
    let words = words.map(u64::to_be_bytes);
    let flags = if is_partial { PARTIAL } else { 0 };
    [&[FORMAT, flags][..], words.as_flattened()].concat()
}

pub(super) fn decode(value: &[u8]) -> Result<Candle, IndexError> {
    let Some(([FORMAT, flags], words)) = value.split_first_chunk() else {
        return Err(unreadable());
    };
    let (words, rest) = words.as_chunks();
    let [open, high, low, close, volume, trades] = *words else { return Err(unreadable()) };
    if !rest.is_empty() {
        return Err(unreadable());
    }
    let [open, high, low, close] =
        [open, high, low, close].map(|word| u64::from_be_bytes(word).cast_signed());
    let [volume, trades] = [volume, trades].map(u64::from_be_bytes);
    Ok(Candle { open, high, low, close, volume, trades, is_partial: flags & PARTIAL != 0 })
}

pub(super) fn encode_state(state: &BookState) -> Vec<u8> {
    let BookState { mark, at, missing } = state;
    let mut out = vec![FORMAT];
    let mut put = |word: u64| out.extend_from_slice(&word.to_be_bytes());
    [mark.numbering, mark.sequence, at.micros()].into_iter().for_each(&mut put);
    for Stretch { symbol, from, to } in missing.iter() {
        [from.micros(), to.micros()].into_iter().for_each(|word| {
            out.extend_from_slice(&word.to_be_bytes());
        });
        let name = symbol.as_ref().map_or("", Symbol::as_str);
        // A name has at most 15 bytes.
        out.push(u8::try_from(name.len()).unwrap_or_default());
        out.extend_from_slice(name.as_bytes());
    }
    out
}

pub(super) fn decode_state(value: &[u8]) -> Result<BookState, IndexError> {
    read_state(value).ok_or(IndexError::Unreadable { what: "the position of the candles" })
}

fn read_state(value: &[u8]) -> Option<BookState> {
    let mut rest = value.strip_prefix(&[FORMAT])?;
    let (numbering, sequence) = (word(&mut rest)?, word(&mut rest)?);
    let at = TimestampMicros::new(word(&mut rest)?);
    let mut missing = Vec::new();
    while !rest.is_empty() {
        let [from, to] = [word(&mut rest)?, word(&mut rest)?].map(TimestampMicros::new);
        let (length, after) = rest.split_first()?;
        let (name, after) = after.split_at_checked(usize::from(*length))?;
        rest = after;
        let name = std::str::from_utf8(name).ok()?;
        let symbol = if name.is_empty() { None } else { Some(Symbol::new(name).ok()?) };
        missing.push(Stretch { symbol, from, to });
    }
    if missing.iter().any(|stretch| stretch.from > stretch.to) {
        return None;
    }
    let missing = missing.into_iter().collect();
    Some(BookState { mark: FeedMark { numbering, sequence }, at, missing })
}

fn word(rest: &mut &[u8]) -> Option<u64> {
    let (word, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candles_and_their_keys_round_trip() {
        let candle = Candle {
            open: 1,
            high: i64::MAX,
            low: -4,
            close: 3,
            volume: u64::MAX,
            trades: 6,
            is_partial: true,
        };
        let value = encode(&candle);
        assert_eq!(decode(&value).unwrap(), candle);
        for length in 0..value.len() {
            assert!(decode(&value[..length]).is_err());
        }
        let (symbol, longer) = (Symbol::new("BRK").unwrap(), Symbol::new("BRK.A").unwrap());
        for minute in [0, 1, 20_000 * DAY_MINUTES + 1_439].map(Minute) {
            let key = key_of(symbol, minute).unwrap();
            assert_eq!(minute_of(&key).unwrap(), minute);
            assert!(key < key_of(longer, minute).unwrap(), "one symbol's keys follow each other");
        }
        assert_eq!(key_of(symbol, Minute(u32::MAX)), None);
        assert!(minute_of(b"x").is_err());
    }

    #[test]
    fn the_state_round_trips() {
        let at = TimestampMicros::new;
        let stretch = |symbol: Option<&str>, from, to| Stretch {
            symbol: symbol.map(|name| Symbol::new(name).unwrap()),
            from: at(from),
            to: at(to),
        };
        let missing = [stretch(None, 5, 6), stretch(Some("IBM"), 1, 9)].into_iter().collect();
        let mark = FeedMark { numbering: 7, sequence: 8 };
        for state in [BookState { mark, at: at(3), missing }, BookState::default()] {
            let bytes = encode_state(&state);
            assert_eq!(decode_state(&bytes).unwrap(), state);
            assert!(decode_state(&bytes[..bytes.len() - 1]).is_err());
        }
        assert!(decode_state(b"").is_err());
    }
}
