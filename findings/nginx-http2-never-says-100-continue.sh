#!/usr/bin/env bash
# Expected: a server that answers "Expect: 100-continue" with 100 over HTTP/1.1 does so over HTTP/2.
# Happens: nginx 1.22 skips it over HTTP/2: it neither says 100 nor refuses, and waits for the body, while the
#   client waits for it. curl gives in after its own second. HAProxy 2.6, on the same origin, says 100.
# Seen 2026-11-29 with nginx 1.22.1, haproxy 2.6.12 and curl (Debian).
# Matters: a front proxy that keeps Expect and waits for 100 before it sends a body costs each upload to such an
#   origin its whole time-out, over HTTP/2 only. Answer Expect at the edge and strip it upstream.
source "$(dirname "$0")/lib/lab.sh"
debian_install 'nginx=1.22.1*' 'haproxy=2.6.12*'

nginx1=$(free_port) nginx2=$(free_port) haproxy2=$(free_port)
cat >"$work/nginx.conf" <<CONF
daemon off; pid $work/nginx.pid; error_log $work/error.log; events {}
http {
  access_log off;
  client_body_temp_path $work/1; proxy_temp_path $work/2; fastcgi_temp_path $work/3; uwsgi_temp_path $work/4; scgi_temp_path $work/5;
  server {
    listen 127.0.0.1:$nginx1; listen 127.0.0.1:$nginx2 http2;
    location / { proxy_pass http://127.0.0.1:$nginx1/done; }
    location = /done { return 204; }
  }
}
CONF
cat >"$work/haproxy.cfg" <<CONF
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
listen edge
  bind 127.0.0.1:$haproxy2 proto h2
  server origin 127.0.0.1:$nginx1
CONF
nginx -e stderr -c "$work/nginx.conf" 2>/dev/null &
haproxy -q -f "$work/haproxy.cfg" >/dev/null 2>&1 &
await_port "$nginx1" && await_port "$nginx2" && await_port "$haproxy2"

upload() { # NAME, PORT, CURL'S OPTION OF THE PROTOCOL: the statuses, in their order
  echo "$1:" "$(curl --silent --max-time 20 "$3" --expect100-timeout 2 --header 'Expect: 100-continue' --data 'a body' \
    --dump-header - --output /dev/null --write-out 'after 2 s: %{time_total}' "http://127.0.0.1:$2/" |
    tr -d '\r' | sed -nE 's/^HTTP[^ ]* ([0-9]+).*/\1/p; s/^after 2 s: 2.*/after the two seconds that curl waits/p' | paste -sd' ')"
}
{
  upload "nginx, HTTP/1.1" "$nginx1" --http1.1
  upload "nginx, HTTP/2" "$nginx2" --http2-prior-knowledge
  upload "haproxy, HTTP/2" "$haproxy2" --http2-prior-knowledge
} >"$work/seen"
unchanged <<'END'
nginx, HTTP/1.1: 100 204
nginx, HTTP/2: 204 after the two seconds that curl waits
haproxy, HTTP/2: 100 204
END
