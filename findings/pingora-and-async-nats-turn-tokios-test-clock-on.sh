#!/usr/bin/env bash
# Expected: a service that asks tokio for no `test-util` runs on tokio's production clock, as its documentation advises.
# Happens: pingora-core 0.9.1 has `tokio-test` among its normal dependencies, and async-nats 0.51.0 has tryhard, whose
#   normal dependency on tokio asks for `test-util`. Cargo unites features, so every binary with either crate has the clock
#   that tests can stop, in release builds too: each look of the runtime at the time takes a mutex.
# Seen 2026-11-30 with pingora-core 0.9.1 (tokio-test 0.4.6), async-nats 0.51.0 (tryhard 0.5.2), tokio 1.54.1, cargo 1.95.0.
# Matters: it cannot be switched off from outside, costs some hundred instructions for each turn of the event loop, and lets
#   any library in the process stop the time (`tokio::time::pause` on a current-thread runtime).
source "$(dirname "$0")/lib/lab.sh"

# Who asks tokio for test-util in a build for production, of a crate with these dependencies.
who() {
    local name=$1 dependencies=$2
    mkdir -p "$work/$name/src"
    echo 'fn main() {}' >"$work/$name/src/main.rs"
    printf '[package]\nname = "%s"\nedition = "2021"\n[dependencies]\n%s\n' "$name" "$dependencies" >"$work/$name/Cargo.toml"
    cargo tree --quiet --manifest-path "$work/$name/Cargo.toml" --edges features,normal --target all --invert tokio |
        grep -A1 'tokio feature "test-util"$' | grep -oE '(tokio-test|tryhard) v' | cut -d' ' -f1 | sort -u || true
}

tokio='tokio = { version = "=1.54.1", default-features = false, features = ["rt", "time", "net"] }'
{
    echo "tokio alone: $(who alone "$tokio")"
    echo "with pingora-core: $(who pingora "$tokio"$'\n''pingora-core = "=0.9.1"' | tr '\n' ' ')"
    echo "with async-nats: $(who nats "$tokio"$'\n''async-nats = { version = "=0.51.0", default-features = false, features = ["ring", "jetstream", "kv"] }' | tr '\n' ' ')"
} >"$work/seen"

unchanged <<'SEEN'
tokio alone: 
with pingora-core: tokio-test 
with async-nats: tryhard 
SEEN
