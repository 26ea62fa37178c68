//! What Meridian is built from: licences that its users can comply with, from crates.io, for the oldest Rust that the
//! workspace promises.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};

#[test]
fn every_dependency_has_a_licence_and_a_source_that_deny_toml_allows() {
    let allowed = allowed_licences();
    for package in packages() {
        let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
        if package["source"].is_null() {
            assert_eq!(package["license"], "Apache-2.0", "{name} is ours");
            continue;
        }
        assert_eq!(package["source"], "registry+https://github.com/rust-lang/crates.io-index", "{name}");
        // `/` for OR is how old crates write it.
        let licence = Expression::parse_mode(text(&package["license"]), ParseMode::LAX);
        let licence = licence.unwrap_or_else(|error| panic!("{name} has no licence that can be read: {error}"));
        let is_allowed = licence.evaluate(|asked| allowed.contains(&asked.to_string()));
        assert!(is_allowed, "{name} is under {licence}: see [licenses] in deny.toml");
    }
}

#[test]
fn no_dependency_needs_a_newer_rust_than_the_workspace_promises() {
    let packages = packages();
    let ours = packages.iter().find(|package| package["name"] == "proxy").expect("the proxy");
    let promised = release(text(&ours["rust_version"]));
    for package in &packages {
        let Some(needed) = package["rust_version"].as_str() else { continue };
        assert!(release(needed) <= promised, "{} {} needs Rust {needed}", package["name"], package["version"]);
    }
}

/// Every package of Cargo.lock that this platform builds.
fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // What other platforms need was never fetched here.
    let version = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a platform");
    let arguments = ["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host];
    let ended = Command::new(cargo).current_dir(root()).args(arguments).output().expect("cargo runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let metadata: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

fn allowed_licences() -> BTreeSet<String> {
    let file = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let (_, licences) = file.split_once("\nallow = [").expect("the list of licences");
    let (licences, _) = licences.split_once(']').expect("its end");
    licences.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The release of `1.90` or `1.90.1`, as numbers.
fn release(text: &str) -> Vec<u32> {
    text.split('.').take(2).map(|part| part.parse().expect("a number")).collect()
}
