//! Converts CSV files of QuantConnect/Lean to `src/sim_exchange/data/tape-20131008.bin` and
//! `universe-20140324.bin`; the `README.md` beside those says where to get the CSV files and how to
//! run this.
//!
//! `convert_tape DIRECTORY OUTPUT`: DIRECTORY holds the unpacked `<day>_<symbol>_Trade_Tick.csv` of
//! the day and of the day before, and `20140324.csv`.

use std::error::Error;
use std::fs;
use std::path::Path;

use longbow::sim_exchange::tape::{Tape, TapeParts, TapePrint, TapeSymbol};
use longbow::sim_exchange::universe::{Universe, UniverseEntry};
use longbow::types::{PriceCents, Symbol};

const DAY: u32 = 20_131_008;
const DAY_BEFORE: u32 = 20_131_007;
const UNIVERSE_DAY: u32 = 20_140_324;
const SYMBOLS: [&str; 4] = ["AIG", "BAC", "IBM", "SPY"];
/// Regular session in New York, milliseconds since midnight: 09:30 to 16:00.
const OPEN_MILLIS: u32 = 34_200_000;
const CLOSE_MILLIS: u32 = 57_600_000;
const TRADES_SOURCE: &str = "QuantConnect/Lean (Apache-2.0), trades by AlgoSeek, \
    commit 24863901deffa9ec7985e21ef8fbdb0258efb9e4, Data/equity/usa/tick";
const UNIVERSE_SOURCE: &str = "QuantConnect/Lean (Apache-2.0), \
    commit 24863901deffa9ec7985e21ef8fbdb0258efb9e4, Data/equity/usa/fundamental/coarse";

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(input), Some(output), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: convert_tape DIRECTORY OUTPUT".into());
    };
    let (input, output) = (Path::new(&input), Path::new(&output));
    let (mut symbols, mut prints) = (Vec::new(), Vec::new());
    for (index, name) in (0_u16..).zip(SYMBOLS) {
        let symbol = Symbol::new(name)?;
        let before = regular_session(input, DAY_BEFORE, name, index)?;
        let last = before.last().ok_or("no trade on the day before")?;
        let previous_close = PriceCents::new(i64::from(last.price_cents))?;
        let trades = regular_session(input, DAY, name, index)?;
        println!("{name}: {} trades, previous close {}", trades.len(), last.price_cents);
        symbols.push(TapeSymbol { symbol, previous_close });
        prints.extend(trades);
    }
    let tape = Tape::new(TapeParts {
        source: TRADES_SOURCE.to_owned(),
        day: DAY,
        open_millis: OPEN_MILLIS,
        close_millis: CLOSE_MILLIS,
        symbols,
        prints,
    })?;
    write(output, &format!("tape-{DAY}.bin"), &tape.encode()?)?;
    write(output, &format!("universe-{UNIVERSE_DAY}.bin"), &universe(input)?.encode()?)
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(directory.join(name), bytes)?;
    println!("{name}: {} bytes", bytes.len());
    Ok(())
}

/// The trades of a regular session that are not flagged suspicious.
fn regular_session(
    directory: &Path,
    day: u32,
    symbol: &str,
    index: u16,
) -> Result<Vec<TapePrint>, Failure> {
    let name = format!("{day}_{}_Trade_Tick.csv", symbol.to_lowercase());
    let text = fs::read_to_string(directory.join(&name)).map_err(|e| format!("{name}: {e}"))?;
    let mut prints = Vec::new();
    for line in text.lines() {
        let broken = || format!("{name}: {line:?} is not a trade");
        let fields: Vec<&str> = line.split(',').collect();
        let [millis, price, shares, _exchange, _conditions, suspicious] = fields.as_slice() else {
            return Err(broken().into());
        };
        let millis: u32 = millis.parse()?;
        if *suspicious != "0" || !(OPEN_MILLIS..CLOSE_MILLIS).contains(&millis) {
            continue;
        }
        let price: u32 = price.parse()?; // in 1/10,000 of a dollar
        if !price.is_multiple_of(100) {
            return Err(broken().into());
        }
        prints.push(TapePrint {
            millis,
            price_cents: price / 100,
            shares: shares.parse()?,
            symbol: index,
        });
    }
    Ok(prints)
}

/// Every ticker that is a valid symbol with a close of at least one cent and some volume. Of a
/// duplicate ticker, the more active row counts.
fn universe(directory: &Path) -> Result<Universe, Failure> {
    let name = format!("{UNIVERSE_DAY}.csv");
    let text = fs::read_to_string(directory.join(&name)).map_err(|e| format!("{name}: {e}"))?;
    let mut entries = std::collections::BTreeMap::<Symbol, UniverseEntry>::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        let [_id, ticker, close, volume, ..] = fields.as_slice() else {
            return Err(format!("{name}: {line:?} is not a ticker").into());
        };
        let (Ok(symbol), Some(Ok(close))) =
            (Symbol::new(ticker), cents(close).map(PriceCents::new))
        else {
            continue;
        };
        let entry = UniverseEntry { symbol, close, volume: volume.parse()? };
        let better = entries
            .get(&symbol)
            .is_none_or(|other| other.dollar_volume_cents() < entry.dollar_volume_cents());
        if entry.volume > 0 && better {
            entries.insert(symbol, entry);
        }
    }
    println!("universe: {} tickers", entries.len());
    Ok(Universe::new(UNIVERSE_SOURCE.to_owned(), UNIVERSE_DAY, entries.into_values().collect())?)
}

/// Converts decimal dollars to cents, rounding half up.
fn cents(dollars: &str) -> Option<i64> {
    let (whole, fraction) = dollars.split_once('.').unwrap_or((dollars, ""));
    let thousandths: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(whole.parse::<i64>().ok()? * 100 + (thousandths + 5) / 10)
}
