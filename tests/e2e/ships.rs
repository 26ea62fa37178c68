//! What ships: a package's binary has nothing in it that only the demo and the tests need.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Nothing that makes load, certificates, databases or temporary files.
const ONLY_FOR_DEMO_AND_TESTS: [&str; 5] = ["demo", "loadtest", "rcgen", "maxminddb-writer", "tempfile"];

#[test]
fn a_package_has_no_load_generator_and_makes_no_certificates_or_databases() {
    let with_demo = linked(&[]);
    let without = linked(&["--no-default-features"]);
    for name in ONLY_FOR_DEMO_AND_TESTS {
        assert!(with_demo.contains(name), "{name} is called otherwise now");
        assert!(!without.contains(name), "{name} is in the package");
    }
    assert!(without.contains("hyper"), "{without:?}");
}

/// The packages that the binary is built of.
fn linked(features: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["tree", "--package", "proxy", "--edges", "normal", "--prefix", "none", "--locked"]);
    command.args(features).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}
