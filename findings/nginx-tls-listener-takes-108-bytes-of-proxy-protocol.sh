#!/usr/bin/env bash
# Expected: a listener with `proxy_protocol` takes a version 2 header as long as its length field says, or has a
#   limit of its own for it.
# Happens: nginx 1.22 has two, and neither is named. A TLS listener takes 108 bytes, by a buffer made for the
#   lines of version *1*: 28 of header and IPv4 addresses leave 80 for TLVs, less than a VPC id, a checksum and
#   the name in a client's certificate take; the connection is closed before TLS begins. A plain listener takes
#   what client_header_buffer_size holds (1 KB unless set). A plain HTTP/2 one took all that was tried.
# Seen 2026-11-29 with nginx 1.22.1 (Debian); the TLV is a NOOP, made for padding.
# Matters: load balancers pad or add TLVs without asking. Whoever sends version 2 to such an origin had better
#   send no TLVs; whoever receives it had better bound the header on purpose.
source "$(dirname "$0")/lib/lab.sh"
debian_install 'nginx=1.22.1*'

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=a.example -days 2 \
  -keyout "$work/key.pem" -out "$work/certificate.pem" 2>/dev/null
plain=$(free_port) tls=$(free_port) roomy=$(free_port) h2=$(free_port)
cat >"$work/nginx.conf" <<CONF
daemon off; pid $work/nginx.pid; error_log $work/error.log info; events {}
http {
  access_log off; ssl_certificate $work/certificate.pem; ssl_certificate_key $work/key.pem;
  client_body_temp_path $work/1; proxy_temp_path $work/2; fastcgi_temp_path $work/3; uwsgi_temp_path $work/4; scgi_temp_path $work/5;
  server { listen 127.0.0.1:$plain proxy_protocol; return 204; }
  server { listen 127.0.0.1:$tls ssl proxy_protocol; return 204; }
  server { listen 127.0.0.1:$roomy proxy_protocol; client_header_buffer_size 8k; return 204; }
  server { listen 127.0.0.1:$h2 http2 proxy_protocol; return 204; }
}
CONF
nginx -e stderr -c "$work/nginx.conf" 2>/dev/null &
for port in "$plain" "$tls" "$roomy" "$h2"; do await_port "$port"; done

python3 - "$plain" "$tls" "$roomy" "$h2" >"$work/seen" <<'PY'
import socket
import ssl
import struct
import sys

context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

def is_served(port, kind, length):
    addresses = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.1") + struct.pack(">HH", 50000, 443)
    tlv = struct.pack(">BH", 4, length - 31) + bytes(length - 31)
    with socket.create_connection(("127.0.0.1", int(port)), timeout=5) as peer:
        peer.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H", len(addresses + tlv)) + addresses + tlv)
        try:
            peer = context.wrap_socket(peer) if kind == "TLS" else peer
            settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
            peer.sendall(settings if kind == "HTTP/2" else b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            return bool(peer.recv(100))
        except OSError:
            return False

for kind, port in zip(("plain", "TLS", "plain with 8k", "HTTP/2"), sys.argv[1:]):
    good = [length for length in (31, 108, 109, 1024, 1025, 6000) if is_served(port, kind, length)]
    print(f"{kind}: header bytes served:", *good)
PY
unchanged <<'END'
plain: header bytes served: 31 108 109 1024
TLS: header bytes served: 31 108
plain with 8k: header bytes served: 31 108 109 1024 1025 6000
HTTP/2: header bytes served: 31 108 109 1024 1025 6000
END
