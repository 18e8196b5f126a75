//! The recorded tape: one regular session of real trades in a compact file.
//!
//! Header: source text, day, session times, and for each symbol its name, previous close and number
//! of prints. Body: symbol by symbol, in columns, which deflate far better than rows: milliseconds
//! since the previous print, price difference in cents (zigzag), shares. Equal prints are separate
//! trades and stay separate.

use super::SimError;
use super::codec::{Cursor, put_text, put_varint, unzigzag, zigzag};
use super::container::Kind;
use crate::types::{MAX_PRICE_CENTS, MAX_SYMBOL_BYTES, PriceCents, Symbol};

/// Most prints of one tape: more than ten times the recorded day, 128 MiB in memory.
pub const MAX_TAPE_PRINTS: usize = 8 << 20;
/// Most symbols of one tape.
pub const MAX_TAPE_SYMBOLS: usize = 256;
/// Most shares of one print. The largest on the recorded day is 2.4 million.
pub const MAX_PRINT_SHARES: u32 = 1_000_000_000;
/// Milliseconds of a day.
const DAY_MILLIS: u32 = 24 * 60 * 60 * 1_000;
/// Longest source text.
const MAX_SOURCE_BYTES: usize = 1_024;

// Prices are stored in 32 bits; each print takes at most three varints of five bytes.
const _: () = assert!(MAX_PRICE_CENTS <= u32::MAX as i64);
const KIND: Kind =
    Kind { magic: *b"LBTAPE\r\n", name: "tape", max_body_bytes: MAX_TAPE_PRINTS * 15 };

/// One regular session of trades.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tape {
    source: String,
    day: u32,
    open_millis: u32,
    close_millis: u32,
    symbols: Vec<TapeSymbol>,
    prints: Vec<TapePrint>,
}

/// A symbol of a tape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapeSymbol {
    /// Its name.
    pub symbol: Symbol,
    /// Last trade of the previous regular session.
    pub previous_close: PriceCents,
}

/// One trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapePrint {
    /// Milliseconds since midnight in New York.
    pub millis: u32,
    /// Price per share in cents.
    pub price_cents: u32,
    /// Shares, from 1 to [`MAX_PRINT_SHARES`].
    pub shares: u32,
    /// Index of the symbol in [`Tape::symbols`].
    pub symbol: u16,
}

/// The contents of a tape, not validated.
#[derive(Debug, Clone)]
pub struct TapeParts {
    /// Where the trades come from, with licence and version.
    pub source: String,
    /// The day as `YYYYMMDD`.
    pub day: u32,
    /// First millisecond of the session since midnight.
    pub open_millis: u32,
    /// First millisecond after the session.
    pub close_millis: u32,
    /// Its symbols.
    pub symbols: Vec<TapeSymbol>,
    /// Its trades; those of one symbol in chronological order.
    pub prints: Vec<TapePrint>,
}

impl Tape {
    /// Validates the parts and merges the trades of all symbols by time, at equal times by symbol.
    ///
    /// # Errors
    /// Names the first thing that the format does not allow.
    pub fn new(mut parts: TapeParts) -> Result<Self, SimError> {
        let is_valid_session = parts.open_millis < parts.close_millis
            && parts.close_millis <= DAY_MILLIS
            && parts.source.len() <= MAX_SOURCE_BYTES;
        if !is_valid_session {
            return Err(KIND.bad("its session times or its source text are invalid"));
        }
        if parts.symbols.is_empty() || parts.symbols.len() > MAX_TAPE_SYMBOLS {
            return Err(KIND.bad("it has no symbol, or more than 256"));
        }
        let mut names: Vec<Symbol> = parts.symbols.iter().map(|symbol| symbol.symbol).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() != parts.symbols.len() {
            return Err(KIND.bad("it lists a symbol twice"));
        }
        if parts.prints.len() > MAX_TAPE_PRINTS {
            return Err(KIND.bad("it has too many prints"));
        }
        let is_valid_print = |print: &TapePrint| {
            (parts.open_millis..parts.close_millis).contains(&print.millis)
                && (1..=MAX_PRICE_CENTS).contains(&i64::from(print.price_cents))
                && (1..=MAX_PRINT_SHARES).contains(&print.shares)
                && usize::from(print.symbol) < parts.symbols.len()
        };
        if !parts.prints.iter().all(is_valid_print) {
            return Err(KIND.bad("a print is outside of the session or has a number out of range"));
        }
        parts.prints.sort_by_key(|print| (print.millis, print.symbol));
        Ok(Self {
            source: parts.source,
            day: parts.day,
            open_millis: parts.open_millis,
            close_millis: parts.close_millis,
            symbols: parts.symbols,
            prints: parts.prints,
        })
    }

    /// Parses a tape file.
    ///
    /// # Errors
    /// The file is invalid, its checksum included.
    pub fn decode(file: &[u8]) -> Result<Self, SimError> {
        let (header, body) = KIND.unpack(file)?;
        let (mut parts, counts) = decode_header(&mut Cursor::new(header))
            .ok_or_else(|| KIND.bad("its header is damaged"))?;
        let mut body = Cursor::new(&body);
        for (symbol, count) in (0_u16..).zip(counts) {
            let prints = decode_symbol(&mut body, symbol, count, parts.open_millis)
                .ok_or_else(|| KIND.bad("its prints are damaged"))?;
            parts.prints.extend(prints);
            if parts.prints.len() > MAX_TAPE_PRINTS {
                return Err(KIND.bad("it has too many prints"));
            }
        }
        if !body.is_empty() {
            return Err(KIND.bad("it has bytes after its last print"));
        }
        Self::new(parts)
    }

    /// Serializes a tape file.
    ///
    /// # Errors
    /// The tape is larger than the format allows.
    pub fn encode(&self) -> Result<Vec<u8>, SimError> {
        let (mut header, mut body) = (Vec::new(), Vec::new());
        put_text(&mut header, &self.source);
        for number in [self.day, self.open_millis, self.close_millis] {
            put_varint(&mut header, u64::from(number));
        }
        put_varint(&mut header, self.symbols.len() as u64);
        for (index, symbol) in (0_u16..).zip(&self.symbols) {
            let of_symbol = || self.prints.iter().filter(move |print| print.symbol == index);
            put_text(&mut header, symbol.symbol.as_str());
            put_varint(&mut header, symbol.previous_close.cents().unsigned_abs());
            put_varint(&mut header, of_symbol().count() as u64);
            let mut before = self.open_millis;
            for print in of_symbol() {
                put_varint(&mut body, u64::from(print.millis - before));
                before = print.millis;
            }
            let mut before = 0;
            for print in of_symbol() {
                put_varint(&mut body, zigzag(i64::from(print.price_cents) - before));
                before = i64::from(print.price_cents);
            }
            for print in of_symbol() {
                put_varint(&mut body, u64::from(print.shares));
            }
        }
        KIND.pack(&header, &body)
    }

    /// Where the trades come from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The recorded day as `YYYYMMDD`.
    pub const fn day(&self) -> u32 {
        self.day
    }

    /// First millisecond of the session since midnight in New York.
    pub const fn open_millis(&self) -> u32 {
        self.open_millis
    }

    /// First millisecond after the session.
    pub const fn close_millis(&self) -> u32 {
        self.close_millis
    }

    /// The symbols.
    pub fn symbols(&self) -> &[TapeSymbol] {
        &self.symbols
    }

    /// The trades by time.
    pub fn prints(&self) -> &[TapePrint] {
        &self.prints
    }

    /// Price of a symbol's first trade.
    pub fn open_price(&self, symbol: u16) -> Option<PriceCents> {
        let first = self.prints.iter().find(|print| print.symbol == symbol)?;
        PriceCents::new(i64::from(first.price_cents)).ok()
    }
}

fn decode_header(header: &mut Cursor<'_>) -> Option<(TapeParts, Vec<usize>)> {
    let source = header.text(MAX_SOURCE_BYTES)?.to_owned();
    let mut number = || header.varint().and_then(|number| u32::try_from(number).ok());
    let (day, open_millis, close_millis) = (number()?, number()?, number()?);
    let symbol_count = usize::try_from(header.varint()?).ok()?;
    if symbol_count > MAX_TAPE_SYMBOLS {
        return None;
    }
    let (mut symbols, mut counts) = (Vec::new(), Vec::new());
    for _ in 0..symbol_count {
        let symbol = Symbol::new(header.text(MAX_SYMBOL_BYTES)?).ok()?;
        let previous_close = PriceCents::new(i64::try_from(header.varint()?).ok()?).ok()?;
        symbols.push(TapeSymbol { symbol, previous_close });
        counts.push(usize::try_from(header.varint()?).ok()?);
    }
    let parts = TapeParts { source, day, open_millis, close_millis, symbols, prints: Vec::new() };
    header.is_empty().then_some((parts, counts))
}

fn decode_symbol(
    body: &mut Cursor<'_>,
    symbol: u16,
    count: usize,
    open_millis: u32,
) -> Option<Vec<TapePrint>> {
    // Each print takes at least three bytes, so a forged count cannot demand much memory.
    if count.checked_mul(3)? > body.rest().len() {
        return None;
    }
    let mut prints = Vec::with_capacity(count);
    let mut millis = open_millis;
    for _ in 0..count {
        millis = millis.checked_add(u32::try_from(body.varint()?).ok()?)?;
        prints.push(TapePrint { millis, price_cents: 0, shares: 0, symbol });
    }
    let mut price = 0_i64;
    for print in &mut prints {
        price = price.checked_add(unzigzag(body.varint()?))?;
        print.price_cents = u32::try_from(price).ok()?;
    }
    for print in &mut prints {
        print.shares = u32::try_from(body.varint()?).ok()?;
    }
    Some(prints)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(prints: Vec<TapePrint>) -> TapeParts {
        let symbol = |name, close| TapeSymbol {
            symbol: Symbol::new(name).unwrap(),
            previous_close: PriceCents::new(close).unwrap(),
        };
        TapeParts {
            source: "made up".to_owned(),
            day: 20_131_008,
            open_millis: 1_000,
            close_millis: 100_000,
            symbols: vec![symbol("AAA", 100), symbol("BBB", 20_000)],
            prints,
        }
    }

    fn print() -> impl Strategy<Value = TapePrint> {
        (1_000..100_000_u32, 1..=1_000_000_000_u32, 1..=MAX_PRINT_SHARES, 0..2_u16).prop_map(
            |(millis, price_cents, shares, symbol)| TapePrint {
                millis,
                price_cents,
                shares,
                symbol,
            },
        )
    }

    proptest! {
        #[test]
        fn a_tape_round_trips(mut prints in prop::collection::vec(print(), 0..200)) {
            prints.extend(prints.clone()); // equal prints are separate trades
            let tape = Tape::new(parts(prints)).unwrap();
            prop_assert_eq!(Tape::decode(&tape.encode().unwrap()).unwrap(), tape);
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes: Vec<u8>, header: Vec<u8>, body: Vec<u8>) {
            prop_assert!(Tape::decode(&bytes).is_err());
            let _ = Tape::decode(&KIND.pack(&header, &body).unwrap());
        }

        #[test]
        fn damaged_contents_under_a_valid_checksum_never_panic(
            prints in prop::collection::vec(print(), 1..20), place: prop::sample::Index, byte: u8,
        ) {
            let file = Tape::new(parts(prints)).unwrap().encode().unwrap();
            let (header, mut body) = KIND.unpack(&file).unwrap();
            let place = place.index(body.len());
            body[place] = byte;
            let _ = Tape::decode(&KIND.pack(header, &body).unwrap());
        }
    }

    #[test]
    fn invalid_prints_are_rejected() {
        let good = TapePrint { millis: 1_000, price_cents: 5, shares: 1, symbol: 0 };
        assert!(Tape::new(parts(vec![good])).is_ok());
        for bad in [
            TapePrint { millis: 999, ..good },
            TapePrint { millis: 100_000, ..good },
            TapePrint { price_cents: 0, ..good },
            TapePrint { shares: 0, ..good },
            TapePrint { symbol: 2, ..good },
        ] {
            assert!(Tape::new(parts(vec![bad])).is_err(), "{bad:?}");
        }
    }
}
