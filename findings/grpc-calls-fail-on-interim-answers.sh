#!/usr/bin/env bash
# Expected: a gRPC client takes an interim answer (100, 102, 103) before the answer proper as any HTTP client must
#   (RFC 9110, section 15.2), so that an origin may send one for all, and a proxy passes it on.
# Happens: grpcio takes the first status for the answer, and ends the call as UNKNOWN, though the message and status 0
#   follow. nginx 1.22's grpc_pass answers 502 instead, which grpcio has as UNAVAILABLE, to be retried. HAProxy 2.6 passes
#   all of it on. grpc-js has no trouble.
# Seen 2026-12-01 with grpcio 1.85.3 (PyPI), @grpc/grpc-js 1.14.0 (npm), haproxy 2.6.12 and nginx 1.22.1 (Debian).
# Matters: an edge that begins to pass 103 on over HTTP/2, or says 100 by itself, breaks some gRPC clients and not others.
#   Keep interim answers from what is application/grpc.
source "$(dirname "$0")/lib/lab.sh"
pip_install grpcio==1.85.3 h2==4.4.1
npm_install @grpc/grpc-js@1.14.0
debian_install 'haproxy=2.6.12*' 'nginx=1.22.1*'

cat >"$work/origin.py" <<'PY'
# Answers each call with "done" and status 0, after one interim answer, if one is named.
import socket
import sys
import threading
import h2.connection
import h2.config
import h2.events

def serve(connection):
    http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    http2.initiate_connection()
    connection.sendall(http2.data_to_send())
    while data := connection.recv(65536):
        for event in http2.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                stream = event.stream_id
                for status in sys.argv[2:]:
                    http2.send_headers(stream, [(":status", status)])
                http2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
                http2.send_data(stream, b"\0\0\0\0\4done")
                http2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        connection.sendall(http2.data_to_send())

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
PY
cat >"$work/call.py" <<'PY'
import sys
import grpc

with grpc.insecure_channel("127.0.0.1:" + sys.argv[1]) as channel:
    try:
        print(channel.unary_unary("/test.Store/Get")(b"", timeout=5).decode())
    except grpc.RpcError as error:
        print(f"{error.code().name}, {error.details()!r}")
PY
cat >"$work/call.js" <<'JS'
const grpc = require("@grpc/grpc-js");
const bytes = (value) => value;
const get = { path: "/test.Store/Get", requestStream: false, responseStream: false,
  requestSerialize: bytes, requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes };
const Store = grpc.makeGenericClientConstructor({ get }, "Store");
const store = new Store("127.0.0.1:" + process.argv[2], grpc.credentials.createInsecure());
store.get(Buffer.alloc(0), { deadline: Date.now() + 5000 }, (error, answer) => {
  console.log(error ? `${error.code}, ${error.details}` : answer.toString());
  store.close();
});
JS

for status in '' 100 102 103; do
  origin=$(free_port) haproxy=$(free_port) nginx=$(free_port) folder=$work/of-$status
  mkdir "$folder"
  cat >"$folder/haproxy.cfg" <<CONF
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
listen edge
  bind 127.0.0.1:$haproxy proto h2
  server origin 127.0.0.1:$origin proto h2
CONF
  cat >"$folder/nginx.conf" <<CONF
daemon off; pid $folder/nginx.pid; error_log $folder/error.log; events {}
http {
  access_log off;
  client_body_temp_path $folder/1; proxy_temp_path $folder/2; fastcgi_temp_path $folder/3; uwsgi_temp_path $folder/4; scgi_temp_path $folder/5;
  server { listen 127.0.0.1:$nginx http2; location / { grpc_pass grpc://127.0.0.1:$origin; } }
}
CONF
  # shellcheck disable=SC2086 # none, or one
  "$python" "$work/origin.py" "$origin" $status 2>/dev/null &
  haproxy -q -f "$folder/haproxy.cfg" >/dev/null 2>&1 &
  nginx -e stderr -c "$folder/nginx.conf" 2>/dev/null &
  await_port "$origin" && await_port "$haproxy" && await_port "$nginx"
  echo "after ${status:-nothing}:"
  echo "  grpcio: $("$python" "$work/call.py" "$origin")"
  echo "  grpc-js: $(cd "$work" && node call.js "$origin")"
  echo "  grpcio through haproxy: $("$python" "$work/call.py" "$haproxy")"
  echo "  grpcio through nginx: $("$python" "$work/call.py" "$nginx")"
done >"$work/seen"
unchanged <<'END'
after nothing:
  grpcio: done
  grpc-js: done
  grpcio through haproxy: done
  grpcio through nginx: done
after 100:
  grpcio: UNKNOWN, 'Received http2 header with status: 100'
  grpc-js: done
  grpcio through haproxy: UNKNOWN, 'Received http2 header with status: 100'
  grpcio through nginx: UNAVAILABLE, 'Received http2 header with status: 502'
after 102:
  grpcio: UNKNOWN, 'Received http2 header with status: 102'
  grpc-js: done
  grpcio through haproxy: UNKNOWN, 'Received http2 header with status: 102'
  grpcio through nginx: UNAVAILABLE, 'Received http2 header with status: 502'
after 103:
  grpcio: UNKNOWN, 'Received http2 header with status: 103'
  grpc-js: done
  grpcio through haproxy: UNKNOWN, 'Received http2 header with status: 103'
  grpcio through nginx: UNAVAILABLE, 'Received http2 header with status: 502'
END
