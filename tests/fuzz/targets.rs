//! One binary for all fuzz targets, because linking an instrumented engine a dozen times would take
//! longer than a short run of all targets. `LONGBOW_FUZZ_TARGET` selects the target; `--list` prints
//! the names.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use longbow::fuzzing::{TARGETS, Target, target};

const VARIABLE: &str = "LONGBOW_FUZZ_TARGET";

static CHOSEN: OnceLock<Target> = OnceLock::new();

fn choose() -> Target {
    if std::env::args().any(|argument| argument == "--list") {
        for (name, _) in TARGETS {
            println!("{name}");
        }
        std::process::exit(0);
    }
    let name = std::env::var(VARIABLE).unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        eprintln!("{VARIABLE}={name:?} is no fuzz target; --list prints all of them");
        std::process::exit(2);
    })
}

fuzz_target!(
    init: {
        CHOSEN.get_or_init(choose);
    },
    |data: &[u8]| {
        let (_, run) = CHOSEN.get_or_init(choose);
        run(data);
    }
);
