//! Files of one folder import each other in one direction only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Files of a folder, and which of them each imports. A file and the folder of its name are one.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn source_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Code of the product: without comments and without the tests at the end of a file.
fn product_code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let product = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    product.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join(" ")
}

/// Every path that `use` names, with braces multiplied out.
fn used_paths(code: &str) -> Vec<String> {
    let uses = code.split("use ").skip(1).filter_map(|rest| rest.split(';').next());
    uses.flat_map(|tree| expand("", tree)).collect()
}

fn expand(prefix: &str, tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        return vec![format!("{prefix}{tree}")];
    };
    let prefix = format!("{prefix}{}", head.trim());
    let inner = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut from, mut paths) = (0, 0, Vec::new());
    for (at, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                paths.extend(expand(&prefix, &inner[from..at]));
                from = at + 1;
            }
            _ => {}
        }
    }
    paths.extend(expand(&prefix, &inner[from..]));
    paths
}

fn imports_within(folder: &Path) -> Imports {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let mut imports = Imports::new();
    for path in source_files(folder) {
        let relative = path.strip_prefix(folder).unwrap().with_extension("");
        let parts: Vec<&str> = relative
            .iter()
            .map(|part| part.to_str().unwrap())
            .filter(|part| *part != "mod")
            .collect();
        let Some(&file) = parts.first() else { continue };
        if file.ends_with("tests") {
            continue;
        }
        let own = format!("crate::{name}::");
        let up = "super::".repeat(parts.len());
        let imported = imports.entry(file.to_owned()).or_default();
        for used in used_paths(&product_code(&path)) {
            let within = used.strip_prefix(&own).or_else(|| used.strip_prefix(&up));
            imported.extend(within.and_then(|path| path.split("::").next()).map(str::to_owned));
        }
    }
    let files: BTreeSet<String> = imports.keys().cloned().collect();
    for (file, imported) in &mut imports {
        imported.retain(|other| other != file && files.contains(other));
    }
    imports
}

/// A way from a file back to itself, if there is one.
fn circle(imports: &Imports) -> Option<Vec<&str>> {
    fn walk<'a>(
        imports: &'a Imports,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<&'a str>> {
        let file = *way.last().unwrap();
        for next in &imports[file] {
            if let Some(from) = way.iter().position(|before| before == next) {
                return Some(way[from..].to_vec());
            }
            if !done.contains(next.as_str()) {
                way.push(next);
                let found = walk(imports, way, done);
                if found.is_some() {
                    return found;
                }
                way.pop();
            }
        }
        done.insert(file);
        None
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|file| walk(imports, &mut vec![file], &mut done))
}

#[test]
fn no_files_of_a_folder_import_each_other_in_a_circle() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut circles = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(source).unwrap() {
        let folder = entry.unwrap().path();
        if folder.is_dir() {
            let imports = imports_within(&folder);
            seen += imports.values().map(BTreeSet::len).sum::<usize>();
            circles.extend(
                circle(&imports).map(|way| format!("{}: {}", folder.display(), way.join(" -> "))),
            );
        }
    }
    assert!(seen > 300, "the imports were not found: {seen}");
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let to = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let line = [("a", to(&["b", "c"])), ("b", to(&["c"])), ("c", to(&[]))];
    let line: Imports = line.map(|(file, to)| (file.to_owned(), to)).into();
    assert_eq!(circle(&line), None);
    let mut ring = line;
    ring.insert("c".to_owned(), to(&["a"]));
    assert_eq!(circle(&ring), Some(vec!["a", "b", "c"]));
    let used = used_paths("use super::a::{B, c::{D, E}}; use crate::x::Y;");
    assert_eq!(used, ["super::a::B", "super::a::c::D", "super::a::c::E", "crate::x::Y"]);
}
