#!/usr/bin/env bash
# Expected: a proxy that cannot pass a request's trailers on drops them, as nginx does over HTTP/1.1.
# Happens: over HTTP/2 nginx 1.22 takes the trailers' HEADERS frame for a protocol error, and says GOAWAY: the
#   connection is closed, with whatever other streams it carries. By RFC 9113, section 8.1, the request is good.
# Seen 2026-11-29 with nginx 1.22.1 (Debian) and the h2 4.4.1 client library (PyPI).
# Matters: a proxy in front that multiplexes many clients over one HTTP/2 connection to such an origin must
#   drop trailers of requests, or one client's upload with a checksum costs the others their answers.
source "$(dirname "$0")/lib/lab.sh"
pip_install h2==4.4.1
debian_install 'nginx=1.22.1*'

port=$(free_port) origin=$(free_port)
cat >"$work/nginx.conf" <<CONF
daemon off; pid $work/nginx.pid; error_log $work/error.log info; events {}
http {
  access_log off;
  client_body_temp_path $work/1; proxy_temp_path $work/2; fastcgi_temp_path $work/3; uwsgi_temp_path $work/4; scgi_temp_path $work/5;
  server { listen 127.0.0.1:$port http2; location / { proxy_pass http://127.0.0.1:$origin; } }
}
CONF
nginx -e stderr -c "$work/nginx.conf" 2>/dev/null &
await_port "$port"

"$python" - "$port" "$origin" >"$work/seen" <<'PY'
import http.server
import socket
import sys
import threading
import h2.connection
import h2.events

class Origin(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Origin)
threading.Thread(target=server.serve_forever, daemon=True).start()

def ask(trailers):
    peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    connection.send_headers(1, [(":method", "POST"), (":scheme", "http"), (":authority", "a.example"), (":path", "/")])
    connection.send_data(1, b"body", end_stream=not trailers)
    if trailers:
        connection.send_headers(1, trailers, end_stream=True)
    peer.sendall(connection.data_to_send())
    while received := peer.recv(65536):
        for event in connection.receive_data(received):
            if isinstance(event, h2.events.ResponseReceived):
                return "status " + dict(event.headers)[b":status"].decode()
            if isinstance(event, h2.events.ConnectionTerminated):
                return f"GOAWAY, error {int(event.error_code)}"
    return "closed"

print("without trailers:", ask([]))
print("with trailers:", ask([("x-checksum", "1")]))
PY
sed 's/.*: \*[0-9]* //; s/, client:.*//; s/ while.*//' "$work/error.log" | grep 'HEADERS' >>"$work/seen"
unchanged <<'END'
without trailers: status 204
with trailers: GOAWAY, error 1
client sent HEADERS frame with incorrect identifier 1, the last was 1
END
