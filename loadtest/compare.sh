#!/usr/bin/env bash
# CPU time per request: Meridian beside nginx with geoip2, measured in turn, in one run, on this machine.
#
#   loadtest/compare.sh [--tls] [--rounds N] [--seconds N] [--connections N] [--only nginx|meridian]
#                       [--baseline BINARY] [--everything]
#
# --baseline measures Meridian beside an earlier build of it instead of nginx. --everything turns on, for MERIDIAN_BIN
# alone, what failover and health can do on the good path: hedging, a timeout for each try, probes each second, and a
# canary with half of the clients.
#
# Both proxies have one worker on the same core and the same work: HTTP/1.1 keep-alive (--tls: over TLS 1.3 with the
# same P-256 certificate), the client's address from the X-Forwarded-For of a trusted peer, its country from the same
# MMDB, a choice between two upstreams by country, the same fields added to request and answer, kept upstream
# connections, no access log. wrk sends the same 1,024 clients' requests to both, and the same nginx answers them with
# 1 KiB. What counts is utime + stime of the proxy's whole process tree, divided by the requests that wrk saw answered.
#
# MERIDIAN_BIN and LOADTEST_BIN name the binaries (target/release/…); BASE_PORT the first of six loopback ports
# (18480). Debian's nginx 1.22, libnginx-mod-http-geoip2 and wrk are installed if they are missing.
# Exit codes: 0 measured; 1 something failed, and it says what; 2 bad arguments.
set -euo pipefail

readonly ROOT=$(cd "$(dirname "$0")/.." && pwd)
readonly MERIDIAN_BIN=${MERIDIAN_BIN:-$ROOT/target/release/meridian}
readonly LOADTEST_BIN=${LOADTEST_BIN:-$ROOT/target/release/loadtest}
readonly BASE_PORT=${BASE_PORT:-18480}
readonly EU_PORT=$BASE_PORT US_PORT=$((BASE_PORT + 1)) NGINX_PORT=$((BASE_PORT + 2))
readonly MERIDIAN_PORT=$((BASE_PORT + 3)) ADMIN_PORT=$((BASE_PORT + 4)) BASELINE_ADMIN_PORT=$((BASE_PORT + 5))
readonly GEOIP2_MODULE=/usr/lib/nginx/modules/ngx_http_geoip2_module.so
# The same countries in both proxies' configurations: those of the EU among the database's.
readonly EU_COUNTRIES="DE FR NL PL ES IT SE AT IE BE DK FI"

scheme=http rounds=5 seconds=4 connections=32 baseline="" everything=""
proxies=(nginx meridian)
declare -A pids=()

main() {
    parse_arguments "$@"
    install_missing
    check_ports
    dir=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 1' INT TERM
    write_inputs
    start_origin
    for proxy in "${proxies[@]}"; do
        "start_$proxy"
        check_answers "$proxy"
    done
    measure_rounds
    print_table
}

parse_arguments() {
    while (($#)); do
        case $1 in
            --tls) scheme=https ;;
            --rounds | --seconds | --connections)
                [[ ${2:-} =~ ^[1-9][0-9]{0,3}$ ]] || bad_arguments "$1 needs a number from 1 to 9999"
                printf -v "${1#--}" %s "$2"
                shift
                ;;
            --only)
                [[ ${2:-} == nginx || ${2:-} == meridian ]] || bad_arguments "--only needs nginx or meridian"
                proxies=("$2")
                shift
                ;;
            --baseline)
                [[ -x ${2:-} ]] || bad_arguments "--baseline needs a binary"
                baseline=$(realpath "$2")
                proxies=(baseline meridian)
                shift
                ;;
            --everything) everything=yes ;;
            -h | --help)
                sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0"
                exit 0
                ;;
            *) bad_arguments "unknown argument $1; --help tells" ;;
        esac
        shift
    done
}

install_missing() {
    local packages=()
    command -v nginx >/dev/null || packages+=(nginx)
    [[ -e $GEOIP2_MODULE ]] || packages+=(libnginx-mod-http-geoip2)
    command -v wrk >/dev/null || packages+=(wrk)
    command -v openssl >/dev/null || packages+=(openssl)
    command -v curl >/dev/null || packages+=(curl)
    if ((${#packages[@]})); then
        echo "installing ${packages[*]}" >&2
        # RUNLEVEL=1 keeps Debian from starting nginx as a service.
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}" >&2
    fi
    if [[ ! -x $LOADTEST_BIN ]]; then
        (cd "$ROOT" && cargo build --release -p loadtest >&2)
    fi
    if [[ " ${proxies[*]} " == *" meridian "* && ! -x $MERIDIAN_BIN ]]; then
        fail "no $MERIDIAN_BIN: run cargo build --release, set MERIDIAN_BIN, or say --only nginx"
    fi
}

check_ports() {
    local port
    for ((port = BASE_PORT; port < BASE_PORT + 6; port++)); do
        if (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            fail "port $port is in use: set BASE_PORT to the first of six free ones"
        fi
    done
}

# The database, the list of clients, the certificate, and what wrk does with the clients.
write_inputs() {
    "$LOADTEST_BIN" mmdb --out "$dir/country.mmdb" >"$dir/networks.csv"
    # One client in each of 1,024 networks: 192.0.2.0/20,US -> 192.0.2.9
    awk -F '[./,]' 'NR <= 1024 { print $1 "." $2 "." $3 ".9" }' "$dir/networks.csv" >"$dir/clients"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=api.example.com \
        -addext subjectAltName=DNS:api.example.com,IP:127.0.0.1 -keyout "$dir/key.pem" -out "$dir/certificate.pem" 2>/dev/null
    cat >"$dir/clients.lua" <<LUA
local requests, turn = {}, 0

function init()
    for client in io.lines("$dir/clients") do
        requests[#requests + 1] = wrk.format("GET", "/v3/x", {
            ["Host"] = "api.example.com", ["User-Agent"] = "wrk", ["Accept"] = "*/*", ["X-Forwarded-For"] = client,
        })
    end
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end

function done(summary)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
    io.write(string.format("result %d %d %d\n", summary.requests, failed, summary.duration))
end
LUA
}

start_origin() {
    cat >"$dir/origin.conf" <<NGINX
$(nginx_preamble origin)
http {
    $(nginx_http origin)
    server {
        listen 127.0.0.1:$EU_PORT;
        listen 127.0.0.1:$US_PORT;
        listen 127.0.0.2:$US_PORT;
        location / { return 200 '$(printf 'x%.0s' {1..1024})'; }
    }
}
NGINX
    on_generator_core nginx -p "$dir" -e "$dir/origin.log" -c "$dir/origin.conf" &
    pids[origin]=$!
    await_answer origin http "$EU_PORT" /
}

start_nginx() {
    local listen="listen 127.0.0.1:$NGINX_PORT" tls=""
    if [[ $scheme == https ]]; then
        listen+=" ssl"
        tls="ssl_certificate $dir/certificate.pem; ssl_certificate_key $dir/key.pem; ssl_protocols TLSv1.3;"
    fi
    cat >"$dir/nginx.conf" <<NGINX
load_module $GEOIP2_MODULE;
$(nginx_preamble nginx)
http {
    $(nginx_http nginx)
    set_real_ip_from 127.0.0.0/8;
    real_ip_header X-Forwarded-For;
    real_ip_recursive on;
    geoip2 $dir/country.mmdb { \$country source=\$remote_addr country iso_code; }
    map \$country \$region {
        default us-east-1;
$(for country in $EU_COUNTRIES; do echo "        $country eu-central-1;"; done)
    }
    upstream eu-central-1 { server 127.0.0.1:$EU_PORT; keepalive 64; keepalive_requests 100000000; }
    upstream us-east-1 { server 127.0.0.1:$US_PORT; keepalive 64; keepalive_requests 100000000; }
    server {
        $listen;
        server_name api.example.com;
        $tls
        location /v3/ {
            proxy_pass http://\$region;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host \$host;
            proxy_set_header X-Forwarded-For "\$http_x_forwarded_for, \$realip_remote_addr";
            proxy_set_header X-Forwarded-Proto \$scheme;
            proxy_set_header X-Forwarded-Host \$host;
            proxy_set_header X-Client-Country \$country;
            proxy_set_header X-Request-Id \$request_id;
            add_header X-Region \$region;
            add_header X-Request-Id \$request_id;
        }
    }
}
NGINX
    on_proxy_core nginx -p "$dir" -e "$dir/nginx.log" -c "$dir/nginx.conf" &
    pids[nginx]=$!
    await_answer nginx "$scheme" "$NGINX_PORT" /v3/x
}

start_meridian() { start_node meridian "$MERIDIAN_BIN" "$ADMIN_PORT" "$everything"; }
start_baseline() { start_node baseline "$baseline" "$BASELINE_ADMIN_PORT" ""; }

# A node of this name, binary and admin port; with everything on, or as it is by default.
start_node() {
    local name=$1 binary=$2 admin=$3 everything=$4 port tls="" retry="" canary="" health="" endpoints
    port=$(port_of "$name")
    endpoints="\"127.0.0.1:$US_PORT\""
    if [[ $everything ]]; then
        endpoints+=", { address = \"127.0.0.2:$US_PORT\", version = \"v2\" }"
        health='health = { interval = "1s", timeout = "1s" }'
        retry='retry = { hedge = true, per_try_timeout = "5s" }'
        canary=$(printf '[canary]\nversion = "v2"\nweight = 50\n')
    fi
    mkdir -p "$dir/$name"
    cp "$dir/country.mmdb" "$dir/certificate.pem" "$dir/key.pem" "$dir/$name/"
    if [[ $scheme == https ]]; then
        tls='tls = { certificates = [{ certificate = "certificate.pem", key = "key.pem" }] }'
    fi
    cat >"$dir/$name/node.toml" <<TOML
[node]
name = "compare"
region = "us-east-1"
threads = 1

[[listeners]]
address = "127.0.0.1:$port"
$tls

[admin]
address = "127.0.0.1:$admin"

[geoip]
databases = ["country.mmdb"]
trusted_proxies = ["127.0.0.0/8"]

[routing]
file = "routes.toml"
TOML
    cat >"$dir/$name/routes.toml" <<TOML
version = "compare"

[regions.us-east-1]
country = "US"
capabilities = ["read", "write"]
endpoints = [$endpoints]
$health

[regions.eu-central-1]
country = "DE"
capabilities = ["read", "write"]
endpoints = ["127.0.0.1:$EU_PORT"]
$health

[latency_ms.us-east-1]
eu-central-1 = 90

[jurisdictions.eu]
countries = [$(printf '"%s", ' $EU_COUNTRIES)]

[data_classes.personal]
cross_border = "prohibited"
scope = "jurisdiction"

[residency_defaults]
unlisted_jurisdiction = "allow"

[[residency]]
jurisdiction = "eu"
data_classes = ["personal"]
allow = { regions = ["eu-central-1"] }
transfer = "prohibited"
when_unavailable = "reject"
regulation = "GDPR"

[[routes]]
name = "api"
host = "api.example.com"
path = "/v3/"
data_class = "personal"
$retry

$canary
TOML
    (cd "$dir/$name" && on_proxy_core "$binary" run --config node.toml --no-access-log) >"$dir/$name.log" 2>&1 &
    pids[$name]=$!
    await_answer "$name" http "$admin" /ready
    await_answer "$name" "$scheme" "$port" /v3/x
}

nginx_preamble() {
    echo "daemon off; worker_processes 1; user $(id -un); pid $dir/$1.pid; error_log $dir/$1.log error;"
    echo "events { worker_connections 4096; }"
}

nginx_http() {
    echo "access_log off; keepalive_requests 100000000; client_body_temp_path $dir/$1-body;"
    local kind
    for kind in proxy fastcgi uwsgi scgi; do echo "    ${kind}_temp_path $dir/$1-$kind;"; done
}

# Both must choose by country, or the comparison says nothing.
check_answers() {
    local proxy=$1 port country client expected answer
    port=$(port_of "$proxy")
    for country in DE US; do
        client=$(grep -m 1 ",$country\$" "$dir/networks.csv" | cut -d / -f 1)
        [[ $country == DE ]] && expected=eu-central-1 || expected=us-east-1
        answer=$(curl -sk -D - -m 5 -H "X-Forwarded-For: $client" -H 'Host: api.example.com' -w '\nbytes %{size_download}\n' \
            --resolve "api.example.com:$port:127.0.0.1" "$scheme://api.example.com:$port/v3/x") || true
        grep -qi "^x-\(meridian-\)\?region: $expected" <<<"$answer" && grep -q '^bytes 1024$' <<<"$answer" || {
            echo "$answer" | cut -c 1-200 >&2
            fail "$proxy did not take a client from $country ($client) to $expected, with 1024 bytes as the answer"
        }
    done
}

# Fills $dir/rounds with: round proxy requests seconds cpu_ticks
measure_rounds() {
    local round proxy result
    for proxy in "${proxies[@]}"; do load "$proxy" 1 >/dev/null; done
    for ((round = 1; round <= rounds; round++)); do
        for proxy in "${proxies[@]}"; do
            result=$(load "$proxy" "$seconds")
            echo "$round $proxy $result" | tee -a "$dir/rounds" >&2
        done
    done
}

# One load on one proxy: prints requests, seconds, and the CPU ticks that it took.
load() {
    local proxy=$1 duration=$2 before after out requests failed microseconds
    before=$(cpu_ticks "${pids[$proxy]}")
    out=$(on_generator_core wrk -t 1 -c "$connections" -d "${duration}s" --timeout 5s -s "$dir/clients.lua" \
        "$scheme://127.0.0.1:$(port_of "$proxy")/v3/x")
    after=$(cpu_ticks "${pids[$proxy]}")
    read -r _ requests failed microseconds <<<"$(grep '^result ' <<<"$out")"
    if ((failed > 0 || requests == 0)); then
        echo "$out" >&2
        fail "$failed of $requests requests failed at $proxy"
    fi
    echo "$requests $(awk "BEGIN { print $microseconds / 1e6 }") $((after - before))"
}

# utime + stime (proc(5), fields 14 and 15, all threads) of a process and its children.
cpu_ticks() {
    local pid
    for pid in "$1" $(pgrep -P "$1" || true); do
        sed 's/^.*) //' "/proc/$pid/stat"
    done | awk '{ ticks += $12 + $13 } END { print ticks }'
}

print_table() {
    local kernel
    kernel=$(uname -sr)
    echo
    echo "$scheme, HTTP/1.1 keep-alive, $connections connections, $rounds rounds of $seconds s; $kernel, $(nginx -v 2>&1 | sed 's/.*: //')"
    awk -v hertz="$(getconf CLK_TCK)" '
        function sort(list, n,   i, j, x) {
            for (i = 2; i <= n; i++) {
                x = list[i]
                for (j = i - 1; j > 0 && list[j] > x; j--) list[j + 1] = list[j]
                list[j + 1] = x
            }
        }
        function median(list, n) {
            sort(list, n)
            return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
        }
        {
            cost[$2, $1] = $5 / hertz / $3 * 1e6; rate[$2, $1] = $3 / $4
            if (!($2 in seen)) { seen[$2]; names[++proxies] = $2 }
            rounds = $1
        }
        END {
            printf "%-10s%14s%10s%10s%14s\n", "proxy", "us/request", "least", "most", "requests/s"
            for (p = 1; p <= proxies; p++) {
                for (r = 1; r <= rounds; r++) { costs[r] = cost[names[p], r]; rates[r] = rate[names[p], r] }
                m = median(costs, rounds)
                printf "%-10s%14.2f%10.2f%10.2f%14.0f\n", names[p], m, costs[1], costs[rounds], median(rates, rounds)
                least[p] = costs[1]
                if (costs[rounds] > 1.15 * costs[1]) busy = 1
            }
            if (proxies == 2) {
                for (r = 1; r <= rounds; r++) ratios[r] = cost[names[2], r] / cost[names[1], r]
                m = median(ratios, rounds)
                printf "\n%s / %s: %.3f (median of the rounds; %.3f to %.3f), %.3f (least of each)\n", names[2], names[1], m, \
                    ratios[1], ratios[rounds], least[2] / least[1]
            }
            if (busy) print "\nThe rounds of one proxy differ by more than 15 %: something else ran beside them,"
            if (busy) print "which only ever adds. Take the ratio of the least, or more and shorter rounds in a quiet hour."
        }' "$dir/rounds"
    echo
    echo "raw: round proxy requests seconds ticks"
    cat "$dir/rounds"
}

port_of() {
    [[ $1 == meridian ]] && echo "$MERIDIAN_PORT" || echo "$NGINX_PORT"
}

# With two cores the proxy has one to itself, and the generator and the origin share the other.
# Both replace the shell that calls them, so that its process id is the command's.
on_proxy_core() { exec taskset -c 0 "$@"; }
on_generator_core() { exec taskset -c "$(($(nproc) > 1 ? 1 : 0))" "$@"; }

# Waits up to 10 s for a status below 500 from a process of ours.
await_answer() {
    local name=$1 url=$2://127.0.0.1:$3$4
    for _ in {1..100}; do
        kill -0 "${pids[$name]}" 2>/dev/null || break
        [[ $(curl -sk -o /dev/null -m 2 -w '%{http_code}' -H 'Host: api.example.com' "$url") =~ ^[1-4] ]] && return
        sleep 0.1
    done
    cat "$dir/$name.log" >&2 || true
    fail "$name did not answer at $url"
}

clean_up() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$dir"
}

fail() {
    echo "compare.sh: $*" >&2
    exit 1
}

bad_arguments() {
    echo "compare.sh: $*" >&2
    exit 2
}

main "$@"
