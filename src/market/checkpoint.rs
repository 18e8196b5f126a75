//! A checkpoint: what a process knows of the market, encoded for the next process to go on from.

use compact_str::CompactString;

use super::day::{DAY_WORDS, Day};
use super::directory::TradingSession;
use super::last_value::LastValue;
use crate::types::{MAX_SYMBOL_BYTES, MAX_SYMBOLS, Symbol, TimestampMicros};

/// The first bytes of a file, including its version.
const MAGIC: &[u8; 8] = b"LBMKT\0\0\x01";
/// Longest name of a feed session, in bytes.
const MAX_SESSION_BYTES: usize = 64;
/// Length of the checksum.
const CHECKSUM_BYTES: usize = 8;
/// Words of one symbol without its day: its value, its session, and when its day begins.
const VALUE_WORDS: usize = 6 + 2 + 1;

/// What is known of one symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SavedSymbol {
    pub(super) symbol: Symbol,
    pub(super) value: LastValue,
    pub(super) session: Option<TradingSession>,
    pub(super) begins: TimestampMicros,
    pub(super) day: Day,
}

/// What is known of every symbol up to a line of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The feed session.
    pub session: CompactString,
    /// The last line that is included.
    pub sequence: u64,
    pub(super) symbols: Vec<SavedSymbol>,
}

impl Checkpoint {
    /// Encodes the checkpoint, with a checksum.
    pub fn encode(&self) -> Vec<u8> {
        let mut symbols: Vec<&SavedSymbol> = self.symbols.iter().collect();
        symbols.sort_by_key(|saved| saved.symbol);
        let mut out = MAGIC.to_vec();
        put_text(&mut out, &self.session);
        put_word(&mut out, self.sequence);
        put_word(&mut out, symbols.len() as u64);
        for saved in symbols {
            put_symbol(&mut out, saved);
        }
        let checksum = xxhash_rust::xxh3::xxh3_64(&out);
        put_word(&mut out, checksum);
        out
    }

    /// Decodes what [`Self::encode`] wrote; `None` for anything else.
    pub fn decode(file: &[u8]) -> Option<Self> {
        let (body, checksum) = file.split_at_checked(file.len().checked_sub(CHECKSUM_BYTES)?)?;
        if checksum != xxhash_rust::xxh3::xxh3_64(body).to_le_bytes() {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        let session = CompactString::new(text(&mut rest, MAX_SESSION_BYTES)?);
        let (sequence, count) = (word(&mut rest)?, word(&mut rest)?);
        let count = usize::try_from(count).ok().filter(|count| *count <= MAX_SYMBOLS)?;
        let symbols = (0..count).map(|_| symbol(&mut rest)).collect::<Option<_>>()?;
        rest.is_empty().then_some(Self { session, sequence, symbols })
    }
}

fn put_symbol(out: &mut Vec<u8>, saved: &SavedSymbol) {
    let SavedSymbol { symbol, value, session, begins, day } = saved;
    put_text(out, symbol.as_str());
    let (open, close) =
        session.map_or((0, 0), |session| (session.open.micros(), session.close.micros()));
    let words: [u64; VALUE_WORDS] = [
        value.price_cents.cast_unsigned(),
        value.open_cents.cast_unsigned(),
        value.high_cents.cast_unsigned(),
        value.low_cents.cast_unsigned(),
        value.volume,
        value.timestamp.micros(),
        open,
        close,
        begins.micros(),
    ];
    for word in words.into_iter().chain(day.to_words()) {
        put_word(out, word);
    }
}

fn symbol(rest: &mut &[u8]) -> Option<SavedSymbol> {
    let symbol = Symbol::new(text(rest, MAX_SYMBOL_BYTES)?).ok()?;
    let mut words = [0; VALUE_WORDS];
    for slot in &mut words {
        *slot = word(rest)?;
    }
    let mut day = [0; DAY_WORDS];
    for slot in &mut day {
        *slot = word(rest)?;
    }
    let [price, open, high, low, volume, timestamp, session_open, session_close, begins] = words;
    let value = LastValue {
        price_cents: price.cast_signed(),
        open_cents: open.cast_signed(),
        high_cents: high.cast_signed(),
        low_cents: low.cast_signed(),
        volume,
        timestamp: TimestampMicros::new(timestamp),
        // Changed in no feed session of the next process, so no resuming client takes it for news.
        ..LastValue::default()
    };
    let (open, close) = (TimestampMicros::new(session_open), TimestampMicros::new(session_close));
    let session = (open < close).then_some(TradingSession { open, close });
    let begins = TimestampMicros::new(begins);
    Some(SavedSymbol { symbol, value, session, begins, day: Day::from_words(&day) })
}

fn put_word(out: &mut Vec<u8>, word: u64) {
    out.extend_from_slice(&word.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_word(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn word(rest: &mut &[u8]) -> Option<u64> {
    let (word, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_le_bytes(*word))
}

fn text<'a>(rest: &mut &'a [u8], most_bytes: usize) -> Option<&'a str> {
    let length = usize::try_from(word(rest)?).ok().filter(|length| *length <= most_bytes)?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    std::str::from_utf8(text).ok()
}
