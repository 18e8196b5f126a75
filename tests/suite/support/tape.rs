//! The first hour of the recorded day, for servers that live for seconds: to unpack the whole day would be
//! most of their start.

use std::path::Path;

use longbow::sim_exchange::tape::{Tape, TapeParts};

const WHOLE_DAY: &[u8] = include_bytes!("../../../src/sim_exchange/data/tape-20131008.bin");
const HOUR_MILLIS: u32 = 60 * 60 * 1_000;

/// The tape for a simulated exchange with these other arguments: the whole day where the replay is faster
/// than the tests' usual five times.
pub(crate) fn arguments(others: &[&str]) -> Vec<String> {
    let speed = others.iter().position(|&name| name == "--speed");
    let speed = speed.and_then(|place| others.get(place + 1));
    if speed.is_some_and(|speed| !["1", "5"].contains(speed)) {
        return Vec::new();
    }
    vec!["--tape".to_owned(), first_hour()]
}

/// The path of the tape, made by the first test that needs it.
fn first_hour() -> String {
    let name = format!("first-hour-of-{}-bytes.tape", WHOLE_DAY.len());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !path.exists() {
        let day = Tape::decode(WHOLE_DAY).expect("the built-in tape");
        let end = day.open_millis() + HOUR_MILLIS;
        let hour = Tape::new(TapeParts {
            source: day.source().to_owned(),
            day: day.day(),
            open_millis: day.open_millis(),
            close_millis: day.close_millis(),
            symbols: day.symbols().to_vec(),
            prints: day.prints().iter().copied().filter(|print| print.millis < end).collect(),
        });
        let bytes = hour.and_then(|hour| hour.encode()).expect("a part of a tape is one");
        // Under a temporary name first, so that nobody finds half of it.
        let own = path.with_extension(std::process::id().to_string());
        std::fs::write(&own, bytes).expect("a folder for temporary files");
        std::fs::rename(&own, &path).expect("the same folder");
    }
    path.to_str().expect("a printable path").to_owned()
}
