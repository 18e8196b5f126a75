//! Enforces the layers: a folder imports only folders of lower layers, files of a folder import each
//! other in one direction, and some libraries stay within the folders that own them.

mod circles;

use std::fs;
use std::path::Path;

/// Folders by layer, lowest first. Folders of one layer do not import each other.
const LAYERS: &[&[&str]] = &[
    &["types"],
    &["sync", "metrics", "shutdown", "data_dir", "runtime", "web", "money"],
    &["market", "order"],
    &["engine", "wal"],
    &["index", "exchange", "stream", "projection"],
    &["oms", "day_end", "offline", "sim_exchange", "cluster", "bridge", FOR_TESTS],
    &["http", "simulation"],
    &["config"],
    &["topology", "fuzzing"],
    &["main", "bin"],
];

/// No build of the product has it, so what imports it is a test, of whatever layer.
const FOR_TESTS: &str = "testing";

/// A library and the folders that may name it.
const WALLS: &[(&str, &[&str])] = &[
    ("glommio", &["runtime"]),
    ("hyper", &["runtime", "exchange", "http"]),
    ("hyper_util", &["sim_exchange"]),
    ("flate2", &["sim_exchange"]),
    ("postcard", &["sim_exchange"]),
    ("axum", &["sim_exchange"]),
    ("tokio", &["sim_exchange", "projection", "cluster", "bridge"]),
    ("tokio_postgres", &["projection", "cluster"]),
    ("refinery", &["projection"]),
    ("redis", &["bridge"]),
    ("jsonwebtoken", &["http"]),
    ("clap", &["config", "bin"]),
    ("fjall", &["index"]),
    ("atomic_waker", &["sync"]),
];

/// Lock-free code that is more than a single atomic, each time by what it cannot do without.
const LOCK_FREE: &[&str] = &["fence(Ordering", "AtomicWaker", "crossbeam::queue"];

fn layer_of(folder: &str) -> usize {
    LAYERS
        .iter()
        .position(|row| row.contains(&folder))
        .unwrap_or_else(|| panic!("{folder} is in no layer"))
}

/// Calls `look` with the top folder, the path and the code of each line below `src/`.
fn each_line(directory: &Path, look: &mut dyn FnMut(&str, &Path, &str)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_line(&path, look);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(&root).unwrap();
            let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
            let folder = first.trim_end_matches(".rs");
            if folder == "lib" || folder == "layers" {
                continue;
            }
            for line in fs::read_to_string(&path).unwrap().lines() {
                let code = line.split("//").next().unwrap_or_default();
                look(folder, relative, code);
            }
        }
    }
}

/// The names that follow `prefix` in a line.
fn names_after<'a>(line: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(prefix).map(move |(at, _)| {
        let rest = &line[at + prefix.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn a_folder_imports_only_lower_layers() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    each_line(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |folder, path, line| {
        let prefix = if ["main", "bin"].contains(&folder) { "longbow::" } else { "crate::" };
        for imported in names_after(line, prefix) {
            seen += 1;
            let is_lower = || layer_of(imported) < layer_of(folder);
            if imported != folder && imported != FOR_TESTS && !is_lower() {
                wrong.push(format!("{}: {folder} imports {imported}", path.display()));
            }
        }
    });
    assert!(seen > 50, "the imports were not found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn libraries_stay_within_their_folders() {
    let mut wrong = Vec::new();
    each_line(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |folder, path, line| {
        for (library, allowed) in WALLS {
            let used = line.contains(&format!("{library}::"))
                && !line.contains(&format!("_{library}::"))
                && !line.contains(&format!("::{library}::"));
            if used && !allowed.contains(&folder) {
                wrong.push(format!("{}: {folder} uses {library}", path.display()));
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lock_free_code_stays_in_its_folder() {
    let mut wrong = Vec::new();
    each_line(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |folder, path, line| {
        if folder != "sync" && LOCK_FREE.iter().any(|word| line.contains(word)) {
            wrong.push(format!("{}: {}", path.display(), line.trim()));
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
