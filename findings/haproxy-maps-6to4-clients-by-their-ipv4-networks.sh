#!/usr/bin/env bash
# Expected: a map from networks to countries holds IPv4 and IPv6 networks, and an IPv6 client that is in none of
#   its IPv6 networks gets the default.
# Happens: HAProxy's map_ip looks in the IPv4 networks then, with the address that a 6to4 or IPv4-compatible one
#   holds, besides the mapped ones. An entry for 2002::/16 comes first where there is one. It does not do so
#   for Teredo or 64:ff9b::/96. nginx's `geo` does it for mapped addresses only.
# Seen 2026-11-29 with haproxy 2.6.12 and nginx 1.22.1 (Debian).
# Matters: from the same country file two edges tell the same client to be in a country and in none. Agree in
#   writing on which prefixes are unwrapped, and do it once, before any look-up.
source "$(dirname "$0")/lib/lab.sh"
debian_install 'haproxy=2.6.12*' 'nginx=1.22.1*'

printf '%s\n' '1.1.1.0/24 AU' '2a00::/12 EUROPE' >"$work/some.map"
printf '%s\n' '1.1.1.0/24 AU' '2a00::/12 EUROPE' '2002::/16 SIXTO4' >"$work/all.map"
haproxy=$(free_port) nginx=$(free_port)
cat >"$work/haproxy.cfg" <<CONF
defaults
  mode http
  timeout client 5s
frontend edge
  bind 127.0.0.1:$haproxy
  http-request return status 200 content-type text/plain lf-string "haproxy: %[url_param(ip),map_ip($work/some.map,none)], with 2002::/16 in the map: %[url_param(ip),map_ip($work/all.map,none)]"
CONF
cat >"$work/nginx.conf" <<CONF
daemon off; pid $work/nginx.pid; error_log $work/error.log; events {}
http {
  access_log off;
  client_body_temp_path $work/1; proxy_temp_path $work/2; fastcgi_temp_path $work/3; uwsgi_temp_path $work/4; scgi_temp_path $work/5;
  geo \$arg_ip \$country { default none; 1.1.1.0/24 AU; 2a00::/12 EUROPE; }
  server { listen 127.0.0.1:$nginx; return 200 "nginx: \$country"; }
}
CONF
haproxy -q -f "$work/haproxy.cfg" >/dev/null 2>&1 &
nginx -e stderr -c "$work/nginx.conf" 2>/dev/null &
await_port "$haproxy" && await_port "$nginx"

for address in 1.1.1.1 ::ffff:1.1.1.1 ::1.1.1.1 2002:101:101::1 64:ff9b::101:101 2001:0:101:101:0:ffff:fefe:fefe 2a00::1; do
  echo "$address $(curl --silent "http://127.0.0.1:$haproxy/?ip=$address"); $(curl --silent "http://127.0.0.1:$nginx/?ip=$address")"
done >"$work/seen"
unchanged <<'END'
1.1.1.1 haproxy: AU, with 2002::/16 in the map: AU; nginx: AU
::ffff:1.1.1.1 haproxy: AU, with 2002::/16 in the map: AU; nginx: AU
::1.1.1.1 haproxy: AU, with 2002::/16 in the map: AU; nginx: none
2002:101:101::1 haproxy: AU, with 2002::/16 in the map: SIXTO4; nginx: none
64:ff9b::101:101 haproxy: none, with 2002::/16 in the map: none; nginx: none
2001:0:101:101:0:ffff:fefe:fefe haproxy: none, with 2002::/16 in the map: none; nginx: none
2a00::1 haproxy: EUROPE, with 2002::/16 in the map: EUROPE; nginx: EUROPE
END
