#!/usr/bin/env bash
# Expected: HAProxy, whose authors wrote the PROXY protocol, takes a connection whose header names no address that
#   it could use, and goes by the real one, as it does for LOCAL and UNKNOWN.
# Happens: HAProxy 2.6 resets version 2 headers with the command PROXY and the families UNSPEC, UNIX or a
#   datagram over IPv4, as the text allows, and a line of version 1 that has anything between UNKNOWN and its
#   end, which the text says a receiver must ignore. nginx 1.22 takes all of them, and has no address then.
# Seen 2026-11-29 with haproxy 2.6.12 and nginx 1.22.1 (Debian).
# Matters: a sender that does not know the client's address (a test, a Unix socket, a health check through
#   another proxy) must say LOCAL; a receiver must decide whether a client without an address may enter.
source "$(dirname "$0")/lib/lab.sh"
debian_install 'haproxy=2.6.12*' 'nginx=1.22.1*'

haproxy=$(free_port) nginx=$(free_port)
cat >"$work/haproxy.cfg" <<CONF
defaults
  mode http
  timeout client 5s
frontend edge
  bind 127.0.0.1:$haproxy accept-proxy
  http-request return status 200 content-type text/plain lf-string "client %[src]"
CONF
cat >"$work/nginx.conf" <<CONF
daemon off; pid $work/nginx.pid; error_log $work/error.log; events {}
http {
  access_log off;
  client_body_temp_path $work/1; proxy_temp_path $work/2; fastcgi_temp_path $work/3; uwsgi_temp_path $work/4; scgi_temp_path $work/5;
  server { listen 127.0.0.1:$nginx proxy_protocol; return 200 "client \$proxy_protocol_addr"; }
}
CONF
haproxy -q -f "$work/haproxy.cfg" >/dev/null 2>&1 &
nginx -e stderr -c "$work/nginx.conf" 2>/dev/null &
await_port "$haproxy" && await_port "$nginx"

python3 - "$haproxy" "$nginx" >"$work/seen" <<'PY'
import socket
import struct
import sys

def binary(command, family, addresses=b""):
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack(">BBH", 0x20 | command, family, len(addresses)) + addresses

def ask(port, header):
    with socket.create_connection(("127.0.0.1", int(port)), timeout=5) as peer:
        try:
            peer.sendall(header + b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
            return peer.makefile("rb").read().rpartition(b"\r\n\r\n")[2].decode().strip() or "nothing"
        except ConnectionResetError:
            return "reset"

ipv4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.1") + struct.pack(">HH", 50000, 443)
headers = {
    "v2 PROXY TCP over IPv4": binary(1, 0x11, ipv4), "v2 LOCAL UNSPEC": binary(0, 0x00), "v2 PROXY UNSPEC": binary(1, 0x00),
    "v2 PROXY UNIX": binary(1, 0x31, bytes(216)), "v2 PROXY UDP over IPv4": binary(1, 0x12, ipv4),
    "v1 UNKNOWN": b"PROXY UNKNOWN\r\n", "v1 UNKNOWN and more": b"PROXY UNKNOWN 192.0.2.1 198.51.100.1 50000 443\r\n"}
for name, header in headers.items():
    print(f"{name}: haproxy: {ask(sys.argv[1], header)}; nginx: {ask(sys.argv[2], header)}")
PY
unchanged <<'END'
v2 PROXY TCP over IPv4: haproxy: client 192.0.2.1; nginx: client 192.0.2.1
v2 LOCAL UNSPEC: haproxy: client 127.0.0.1; nginx: client
v2 PROXY UNSPEC: haproxy: reset; nginx: client
v2 PROXY UNIX: haproxy: reset; nginx: client
v2 PROXY UDP over IPv4: haproxy: reset; nginx: client
v1 UNKNOWN: haproxy: client 127.0.0.1; nginx: client
v1 UNKNOWN and more: haproxy: reset; nginx: client
END
