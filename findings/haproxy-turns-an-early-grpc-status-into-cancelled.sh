#!/usr/bin/env bash
# Expected: a gRPC server that ends a client's stream early with a status, as quotas and checks do, is understood
#   through a proxy as it is without.
# Happens: HAProxy 2.6 passes the trailers with the status on, and then RST_STREAM with CANCEL, since the client
#   had not finished. grpcio believes the reset: RESOURCE_EXHAUSTED becomes CANCELLED, though the trailing
#   metadata of the very answer that it discards is there to be read. nginx 1.22 passes it as it is.
# Seen 2026-11-29 with haproxy 2.6.12, nginx 1.22.1 (Debian) and grpcio 1.85.3 (PyPI).
# Matters: retry policies go by the status: CANCELLED is nobody's fault, and is not retried. After an early
#   answer a proxy has to reset with NO_ERROR (RFC 9113, section 8.1), or to let the client finish.
source "$(dirname "$0")/lib/lab.sh"
pip_install grpcio==1.85.3
debian_install 'haproxy=2.6.12*' 'nginx=1.22.1*'

origin=$(free_port) haproxy=$(free_port) nginx=$(free_port)
cat >"$work/haproxy.cfg" <<CONF
defaults
  mode http
  timeout connect 5s
  timeout client 9s
  timeout server 9s
listen edge
  bind 127.0.0.1:$haproxy proto h2
  server origin 127.0.0.1:$origin proto h2
CONF
cat >"$work/nginx.conf" <<CONF
daemon off; pid $work/nginx.pid; error_log $work/error.log; events {}
http {
  access_log off;
  client_body_temp_path $work/1; proxy_temp_path $work/2; fastcgi_temp_path $work/3; uwsgi_temp_path $work/4; scgi_temp_path $work/5;
  server { listen 127.0.0.1:$nginx http2; location / { grpc_pass grpc://127.0.0.1:$origin; } }
}
CONF
haproxy -q -f "$work/haproxy.cfg" >/dev/null 2>&1 &
nginx -e stderr -c "$work/nginx.conf" 2>/dev/null &
await_port "$haproxy" && await_port "$nginx"

"$python" - "$origin" "$haproxy" "$nginx" >"$work/seen" <<'PY'
import concurrent.futures
import sys
import threading
import grpc

def upload(messages, context):
    next(messages)
    context.set_trailing_metadata((("x-quota", "spent"),))
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more today")

server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
handlers = {"Upload": grpc.stream_unary_rpc_method_handler(upload)}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Store", handlers),))
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
for name, port in zip(("directly", "through haproxy", "through nginx"), sys.argv[1:]):
    answered = threading.Event()
    def messages():
        yield b"first"
        answered.wait(5)
    with grpc.insecure_channel("127.0.0.1:" + port) as channel:
        call = channel.stream_unary("/test.Store/Upload").future(messages(), timeout=5)
        call.add_done_callback(lambda _: answered.set())
        metadata = dict(call.trailing_metadata() or ())
        print(f"{name}: {call.code().name}, {call.details()!r}, x-quota: {metadata.get('x-quota')}")
server.stop(None).wait()
PY
unchanged <<'END'
directly: RESOURCE_EXHAUSTED, 'no more today', x-quota: spent
through haproxy: CANCELLED, 'Stream removed (RST_STREAM (Received RST_STREAM with error code 8))', x-quota: spent
through nginx: RESOURCE_EXHAUSTED, 'no more today', x-quota: spent
END
