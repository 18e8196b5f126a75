//! Each mutant fits the code that it breaks: one that no longer does shows nothing.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::Command;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let copied = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &copied);
        } else {
            fs::copy(entry.path(), copied).unwrap();
        }
    }
}

#[test]
fn every_mutant_can_be_applied() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = tempfile::tempdir().unwrap();
    copy(&root.join("src"), &tree.path().join("src"));
    let mut misfits = Vec::new();
    for mutant in fs::read_dir(root.join("mutants")).unwrap() {
        let mut apply = Command::new(root.join("scripts/apply-mutant"));
        let applied = apply.arg(mutant.unwrap().path()).arg(tree.path()).output().unwrap();
        for file in String::from_utf8(applied.stdout).unwrap().lines() {
            fs::copy(root.join(file), tree.path().join(file)).unwrap();
        }
        if !applied.status.success() {
            misfits.push(String::from_utf8(applied.stderr).unwrap());
        }
    }
    assert_eq!(misfits.concat(), "");
}
