//! The recorded tape: one regular session of real trades, in a compact file.
//!
//! Equal prints are separate trades and stay so.

use serde::{Deserialize, Serialize};

use super::SimError;
use super::container::Kind;
use crate::types::{MAX_PRICE_CENTS, PriceCents, Symbol};

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

// Prices are kept in 32 bits; each print takes at most three varints of five bytes.
const _: () = assert!(MAX_PRICE_CENTS <= u32::MAX as i64);
const KIND: Kind =
    Kind { magic: *b"LBTAPE2\n", name: "tape", max_bytes: MAX_TAPE_PRINTS * 15 + (1 << 16) };

/// A tape as a file has it.
#[derive(Debug, Serialize, Deserialize)]
struct TapeFile {
    source: String,
    day: u32,
    open_millis: u32,
    close_millis: u32,
    symbols: Vec<SymbolFile>,
}

/// A symbol with its trades, in columns: they pack far better than rows.
#[derive(Debug, Serialize, Deserialize)]
struct SymbolFile {
    symbol: Symbol,
    previous_close: PriceCents,
    /// Milliseconds since the trade before; of the first, since the open.
    waits_millis: Vec<u32>,
    /// Cents above the trade before; of the first, above zero.
    rises_cents: Vec<i64>,
    shares: Vec<u32>,
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapeSymbol {
    /// Its name.
    pub symbol: Symbol,
    /// Last trade of the regular session before.
    pub previous_close: PriceCents,
}

/// One trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapePrint {
    /// Milliseconds since midnight in New York.
    pub millis: u32,
    /// Price of a share in cents.
    pub price_cents: u32,
    /// Shares, from 1 to [`MAX_PRINT_SHARES`].
    pub shares: u32,
    /// Place of the symbol in [`Tape::symbols`].
    pub symbol: u16,
}

/// What a tape is made of, unchecked.
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
    /// Its trades; those of one symbol in the order in which they happened.
    pub prints: Vec<TapePrint>,
}

impl Tape {
    /// Checks the parts and merges the trades of all symbols by time (at equal times by symbol).
    ///
    /// # Errors
    /// Names the first thing that the format does not allow.
    pub fn new(mut parts: TapeParts) -> Result<Self, SimError> {
        let fair_session = parts.open_millis < parts.close_millis
            && parts.close_millis <= DAY_MILLIS
            && parts.source.len() <= MAX_SOURCE_BYTES;
        if !fair_session {
            return Err(KIND.bad("its session times or its source are not usable"));
        }
        if parts.symbols.is_empty() || parts.symbols.len() > MAX_TAPE_SYMBOLS {
            return Err(KIND.bad("it has no symbol, or more than 256"));
        }
        let mut names: Vec<Symbol> = parts.symbols.iter().map(|symbol| symbol.symbol).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() != parts.symbols.len() {
            return Err(KIND.bad("it has a symbol twice"));
        }
        if parts.prints.len() > MAX_TAPE_PRINTS {
            return Err(KIND.bad("it has too many prints"));
        }
        let fair_print = |print: &TapePrint| {
            (parts.open_millis..parts.close_millis).contains(&print.millis)
                && (1..=MAX_PRICE_CENTS).contains(&i64::from(print.price_cents))
                && (1..=MAX_PRINT_SHARES).contains(&print.shares)
                && usize::from(print.symbol) < parts.symbols.len()
        };
        if !parts.prints.iter().all(fair_print) {
            return Err(KIND.bad("a print is outside the session or has an impossible number"));
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

    /// Reads a tape file.
    ///
    /// # Errors
    /// Anything in it that is not as it should be, including a wrong checksum.
    pub fn decode(file: &[u8]) -> Result<Self, SimError> {
        let TapeFile { source, day, open_millis, close_millis, symbols: files } =
            KIND.unpack(file)?;
        let (mut symbols, mut prints) = (Vec::new(), Vec::new());
        for (index, file) in files.into_iter().enumerate() {
            let symbol = u16::try_from(index).map_err(|_| KIND.bad("it has too many symbols"))?;
            let of_symbol = file
                .prints(symbol, open_millis)
                .ok_or_else(|| KIND.bad("its prints are damaged"))?;
            prints.extend(of_symbol);
            let SymbolFile { symbol, previous_close, .. } = file;
            symbols.push(TapeSymbol { symbol, previous_close });
        }
        Self::new(TapeParts { source, day, open_millis, close_millis, symbols, prints })
    }

    /// Writes a tape file.
    ///
    /// # Errors
    /// More data than the format allows.
    pub fn encode(&self) -> Result<Vec<u8>, SimError> {
        let symbols = (0_u16..).zip(&self.symbols);
        KIND.pack(&TapeFile {
            source: self.source.clone(),
            day: self.day,
            open_millis: self.open_millis,
            close_millis: self.close_millis,
            symbols: symbols.map(|(index, symbol)| self.symbol_file(index, symbol)).collect(),
        })
    }

    fn symbol_file(&self, index: u16, symbol: &TapeSymbol) -> SymbolFile {
        let TapeSymbol { symbol, previous_close } = *symbol;
        let (waits_millis, rises_cents, shares) = (Vec::new(), Vec::new(), Vec::new());
        let mut file = SymbolFile { symbol, previous_close, waits_millis, rises_cents, shares };
        let (mut millis, mut cents) = (self.open_millis, 0);
        for print in self.prints.iter().filter(|print| print.symbol == index) {
            file.waits_millis.push(print.millis - millis);
            file.rises_cents.push(i64::from(print.price_cents) - cents);
            file.shares.push(print.shares);
            (millis, cents) = (print.millis, i64::from(print.price_cents));
        }
        file
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

impl SymbolFile {
    /// The trades; `None` where the columns are not as long as each other, or a number is none.
    fn prints(&self, symbol: u16, open_millis: u32) -> Option<Vec<TapePrint>> {
        let count = self.shares.len();
        if self.waits_millis.len() != count || self.rises_cents.len() != count {
            return None;
        }
        let (mut millis, mut cents) = (open_millis, 0_i64);
        let rows = self.waits_millis.iter().zip(&self.rises_cents).zip(&self.shares);
        rows.map(|((wait, rise), &shares)| {
            (millis, cents) = (millis.checked_add(*wait)?, cents.checked_add(*rise)?);
            Some(TapePrint { millis, price_cents: u32::try_from(cents).ok()?, shares, symbol })
        })
        .collect()
    }
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
        fn a_tape_comes_back(mut prints in prop::collection::vec(print(), 0..200)) {
            prints.extend(prints.clone()); // equal prints are separate trades
            let tape = Tape::new(parts(prints)).unwrap();
            prop_assert_eq!(Tape::decode(&tape.encode().unwrap()).unwrap(), tape);
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(Tape::decode(&bytes).is_err());
        }

        #[test]
        fn impossible_columns_never_panic(
            waits_millis: Vec<u32>, rises_cents: Vec<i64>, shares: Vec<u32>,
        ) {
            let TapeSymbol { symbol, previous_close } = parts(Vec::new()).symbols[0];
            let symbols =
                vec![SymbolFile { symbol, previous_close, waits_millis, rises_cents, shares }];
            let source = String::new();
            let file = TapeFile { source, day: 1, open_millis: 1, close_millis: 2, symbols };
            let _ = Tape::decode(&KIND.pack(&file).unwrap());
        }
    }

    #[test]
    fn impossible_prints_are_refused() {
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
