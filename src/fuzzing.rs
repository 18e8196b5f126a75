//! Registry of the fuzz targets: functions of an input's bytes that panic when a property is
//! violated. They live beside the private parsers that they call. `make fuzz` feeds them from
//! libFuzzer (see `tests/fuzz/`), the test below from the stored corpus.

/// A target's name, which is also its folder in `tests/fuzz/corpus/`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("client_body", crate::http::fuzzing::client_body),
    ("client_credentials", crate::http::fuzzing::client_credentials),
    ("client_query", crate::http::fuzzing::client_query),
    ("exchange_address", crate::exchange::fuzzing::address),
    ("exchange_feed", crate::exchange::fuzzing::feed),
    ("exchange_http", crate::exchange::fuzzing::http_response),
    ("exchange_symbols", crate::exchange::fuzzing::symbols),
    ("exchange_webhook", crate::exchange::fuzzing::webhook),
    ("exchange_words", crate::oms::fuzzing::exchange_words),
    ("order_event", crate::order::fuzzing::event),
    ("wal_record", crate::wal::fuzzing::record),
    ("wal_recovery", crate::wal::fuzzing::recovery),
    ("wal_segment_header", crate::wal::fuzzing::segment_header),
];

/// The target with this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).copied()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn corpus() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
    }

    #[test]
    fn every_input_of_the_corpus_passes() {
        let mut broken = Vec::new();
        for (name, run) in TARGETS {
            let mut inputs = 0;
            for entry in fs::read_dir(corpus().join(name)).unwrap() {
                let path = entry.unwrap().path();
                let input = fs::read(&path).unwrap();
                if std::panic::catch_unwind(|| run(&input)).is_err() {
                    broken.push(path);
                }
                inputs += 1;
            }
            assert!(inputs > 0, "{name} has no corpus");
        }
        assert!(broken.is_empty(), "{broken:#?}");
    }

    /// Writes the seeds that are not text.
    fn write_seeds(corpus: &Path) {
        let seeds = [
            ("order_event", crate::order::fuzzing::seeds()),
            ("wal_record", crate::wal::fuzzing::record_seeds()),
            ("wal_recovery", crate::wal::fuzzing::recovery_seeds()),
            ("wal_segment_header", crate::wal::fuzzing::segment_header_seeds()),
        ];
        for (name, seeds) in seeds {
            let directory = corpus.join(name);
            fs::create_dir_all(&directory).unwrap();
            for (number, seed) in seeds.iter().enumerate() {
                fs::write(directory.join(format!("seed-{number}")), seed).unwrap();
            }
        }
    }

    /// Run with `LONGBOW_WRITE_SEEDS=1` after a record format has changed, to add the new seeds to
    /// the corpus.
    #[test]
    fn seeds_pass_their_targets() {
        if std::env::var_os("LONGBOW_WRITE_SEEDS").is_some() {
            write_seeds(&corpus());
        }
        let directory = tempfile::tempdir().unwrap();
        write_seeds(directory.path());
        for folder in fs::read_dir(directory.path()).unwrap() {
            let folder = folder.unwrap();
            let (_, run) = target(folder.file_name().to_str().unwrap()).unwrap();
            for seed in fs::read_dir(folder.path()).unwrap() {
                run(&fs::read(seed.unwrap().path()).unwrap());
            }
        }
    }

    #[test]
    fn every_folder_of_the_corpus_has_a_target() {
        for entry in fs::read_dir(corpus()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(target(&name).is_some(), "tests/fuzz/corpus/{name} has no target");
        }
    }
}
