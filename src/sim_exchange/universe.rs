//! The universe: real tickers with the close and the volume of one day, from which synthetic
//! symbols are made.

use serde::{Deserialize, Serialize};

use super::SimError;
use super::container::Kind;
use crate::types::{MAX_SYMBOL_BYTES, MAX_SYMBOLS, PriceCents, Symbol};

/// Longest source text.
const MAX_SOURCE_BYTES: usize = 1_024;
const KIND: Kind = Kind {
    magic: *b"LBUNIV2\n",
    name: "universe",
    // Name with its length, and two varints, for every symbol that a node can know.
    max_bytes: MAX_SYMBOLS * (1 + MAX_SYMBOL_BYTES + 20) + (1 << 16),
};

/// The universe as a file has it, by name: neighbours in the alphabet pack well.
#[derive(Debug, Serialize, Deserialize)]
struct UniverseFile {
    source: String,
    day: u32,
    entries: Vec<UniverseEntry>,
}

/// One real ticker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniverseEntry {
    /// Its name.
    pub symbol: Symbol,
    /// Real close of the day.
    pub close: PriceCents,
    /// Real volume of the day in shares, at least 1.
    pub volume: u64,
}

impl UniverseEntry {
    /// Value traded on the day, in cents.
    pub fn dollar_volume_cents(&self) -> u128 {
        u128::from(self.close.cents().unsigned_abs()) * u128::from(self.volume)
    }
}

/// All tickers of one day, most active (by value traded) first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Universe {
    source: String,
    day: u32,
    entries: Vec<UniverseEntry>,
}

impl Universe {
    /// Sorts the entries by activity.
    ///
    /// # Errors
    /// A symbol twice, a volume of zero, or more symbols than a node can know.
    pub fn new(
        source: String,
        day: u32,
        mut entries: Vec<UniverseEntry>,
    ) -> Result<Self, SimError> {
        if source.len() > MAX_SOURCE_BYTES || entries.len() > MAX_SYMBOLS {
            return Err(KIND.bad("it has too many symbols or too long a source"));
        }
        entries.sort_by_key(|entry| entry.symbol);
        let twice = entries
            .windows(2)
            .any(|pair| matches!(pair, [first, second] if first.symbol == second.symbol));
        if twice || entries.iter().any(|entry| entry.volume == 0) {
            return Err(KIND.bad("it has a symbol twice, or one without volume"));
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.dollar_volume_cents()));
        Ok(Self { source, day, entries })
    }

    /// Reads a universe file.
    ///
    /// # Errors
    /// Anything in it that is not as it should be, including a wrong checksum.
    pub fn decode(file: &[u8]) -> Result<Self, SimError> {
        let UniverseFile { source, day, entries } = KIND.unpack(file)?;
        Self::new(source, day, entries)
    }

    /// Writes a universe file.
    ///
    /// # Errors
    /// More data than the format allows.
    pub fn encode(&self) -> Result<Vec<u8>, SimError> {
        let mut entries = self.entries.clone();
        entries.sort_by_key(|entry| entry.symbol);
        KIND.pack(&UniverseFile { source: self.source.clone(), day: self.day, entries })
    }

    /// Where the data come from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The day as `YYYYMMDD`.
    pub const fn day(&self) -> u32 {
        self.day
    }

    /// The tickers, most active first.
    pub fn entries(&self) -> &[UniverseEntry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, close: i64, volume: u64) -> UniverseEntry {
        let symbol = Symbol::new(name).unwrap();
        UniverseEntry { symbol, close: PriceCents::new(close).unwrap(), volume }
    }

    #[test]
    fn a_universe_comes_back_most_active_first() {
        let entries = vec![entry("AAA", 100, 10), entry("BBB", 50, 1_000), entry("CCC", 1, 1)];
        let universe = Universe::new("made up".to_owned(), 20_140_324, entries).unwrap();
        let names: Vec<_> = universe.entries().iter().map(|e| e.symbol.to_string()).collect();
        assert_eq!(names, ["BBB", "AAA", "CCC"]);
        assert_eq!(Universe::decode(&universe.encode().unwrap()).unwrap(), universe);
    }

    #[test]
    fn doubles_and_the_dead_are_refused() {
        let double = vec![entry("AAA", 100, 10), entry("AAA", 100, 10)];
        assert!(Universe::new(String::new(), 0, double).is_err());
        assert!(Universe::new(String::new(), 0, vec![entry("AAA", 100, 0)]).is_err());
    }
}
