//! Every mutant patch still applies.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn every_mutant_can_be_applied() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mutants = fs::read_dir(root.join("tests/mutants")).unwrap();
    let mutants: Vec<_> = mutants.map(|mutant| mutant.unwrap().path()).collect();
    assert!(mutants.len() > 50, "{mutants:?}");
    let mut misfits = Vec::new();
    for mutant in mutants {
        let mut apply = Command::new("git");
        let applied = apply.args(["apply", "--check"]).arg(&mutant).current_dir(root);
        let applied = applied.output().unwrap();
        if !applied.status.success() {
            let problem = String::from_utf8(applied.stderr).unwrap();
            misfits.push(format!("{}: {problem}", mutant.display()));
        }
    }
    assert_eq!(misfits.concat(), "");
}
