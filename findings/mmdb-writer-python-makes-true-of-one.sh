#!/usr/bin/env bash
# Expected: a writer that has a type for booleans, integers and doubles writes each value as what it is.
# Happens: mmdb_writer keeps one copy of equal values, and takes Python's word for equal: 1 == True == 1.0. The
#   first of them to be written is what all are: after a record of AS 1 the flag "is_anonymous: true" of other
#   records is the integer 1, after a score of 1.0 it is a double, and after a flag that is true AS 1 is
#   `true`. So are 0, False and 0.0. Both readers say the same, so it is in the file.
# Seen 2026-11-29 with mmdb_writer 0.2.7, maxminddb 3.2.0 and maxminddb-rust 0.8.0 (PyPI).
# Matters: home-made databases of anonymous networks and AS numbers come out of this writer. A reader that takes
#   only a real boolean for a flag takes an anonymous network for a plain one. Take any number but zero.
source "$(dirname "$0")/lib/lab.sh"
pip_install mmdb_writer==0.2.7 maxminddb==3.2.0 maxminddb-rust==0.8.0

(cd "$work" && "$python" - >"$work/seen") <<'PY'
import maxminddb
import maxminddb_rust
from mmdb_writer import MMDBWriter
from netaddr import IPSet

flag, number, score = {"is_anonymous": True}, {"asn": 1}, {"score": 1.0}
for records in ([number, flag], [flag, number], [score, flag], [{"asn": 2}, flag], [{"asn": 0}, {"is_anonymous": False}]):
    writer = MMDBWriter(4, "Test", languages=["en"])
    for place, record in enumerate(records):
        writer.insert_network(IPSet([f"192.0.2.{place * 128}/25"]), record)
    writer.to_db_file("test.mmdb")
    for module in (maxminddb, maxminddb_rust):
        with module.open_database("test.mmdb") as reader:
            print("wrote", *records, "read by", module.__name__, *[reader.get(f"192.0.2.{place * 128}") for place in range(2)])
PY
unchanged <<'END'
wrote {'asn': 1} {'is_anonymous': True} read by maxminddb {'asn': 1} {'is_anonymous': 1}
wrote {'asn': 1} {'is_anonymous': True} read by maxminddb_rust {'asn': 1} {'is_anonymous': 1}
wrote {'is_anonymous': True} {'asn': 1} read by maxminddb {'is_anonymous': True} {'asn': True}
wrote {'is_anonymous': True} {'asn': 1} read by maxminddb_rust {'is_anonymous': True} {'asn': True}
wrote {'score': 1.0} {'is_anonymous': True} read by maxminddb {'score': 1.0} {'is_anonymous': 1.0}
wrote {'score': 1.0} {'is_anonymous': True} read by maxminddb_rust {'score': 1.0} {'is_anonymous': 1.0}
wrote {'asn': 2} {'is_anonymous': True} read by maxminddb {'asn': 2} {'is_anonymous': True}
wrote {'asn': 2} {'is_anonymous': True} read by maxminddb_rust {'asn': 2} {'is_anonymous': True}
wrote {'asn': 0} {'is_anonymous': False} read by maxminddb {'asn': 0} {'is_anonymous': 0}
wrote {'asn': 0} {'is_anonymous': False} read by maxminddb_rust {'asn': 0} {'is_anonymous': 0}
END
