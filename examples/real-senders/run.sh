#!/usr/bin/env bash
# Drives a Trine with what people really run: Debian's Prometheus and node_exporter (remote write,
# with native histograms and exemplars),
# the Python OpenTelemetry SDK (OTLP over gRPC and HTTP), log files pushed as Promtail pushes them.
# Then it asks every API what came out, kills the server with -9 while all of them send, restarts
# it, and counts again.
#
#   apt-get install prometheus prometheus-node-exporter jq curl
#   pip install opentelemetry-sdk opentelemetry-exporter-otlp
#   cargo build --release && examples/real-senders/run.sh LOG_FILE...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
trine=${TRINE_BINARY:-${CARGO_TARGET_DIR:-$root/target}/release/trine}
port=${PORT:-19090}
node_port=${NODE_PORT:-19100}
native_port=${NATIVE_PORT:-19101}
seconds=${SECONDS_TO_RUN:-20}
work=$(mktemp -d)
url=http://127.0.0.1:$port
pids=()
cleanup() {
    kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

fail() { echo "FAILED: $*" >&2; exit 1; }
get() { curl -fsS -G "$url$1" "${@:2}"; }
# One number out of an instant PromQL query.
promql() { get /api/v1/query --data-urlencode "query=$1" | jq -r '.data.result[0].value[1] // "0"'; }
logql() {
    get /loki/api/v1/query --data-urlencode "query=$1" | jq -r '.data.result[0].value[1] // "0"'
}
traceql() { get /api/search --data-urlencode "q=$1" -d limit=1000 | jq -r '.traces | length'; }
expect() { # what, found, at least
    if [ "${2%.*}" -ge "$3" ]; then echo "ok      $1: $2"; else fail "$1: $2, expected at least $3"; fi
}
start_trine() {
    "$trine" --listen "127.0.0.1:$port" --data-dir "$work/data" >>"$work/trine.log" 2>&1 &
    trine_pid=$!
    pids+=("$trine_pid")
    for _ in $(seq 100); do curl -fsS "$url/ready" >/dev/null 2>&1 && return; sleep 0.1; done
    cat "$work/trine.log" >&2
    fail "the server does not become ready"
}

start_trine
prometheus-node-exporter --web.listen-address="127.0.0.1:$node_port" >"$work/node.log" 2>&1 &
pids+=($!)
python3 "$here/native_app.py" "$native_port" &
pids+=($!)
sed "s/TRINE_PORT/$port/; s/NODE_PORT/$node_port/; s/NATIVE_PORT/$native_port/" "$here/prometheus.yml" >"$work/prometheus.yml"
prometheus --enable-feature=native-histograms,exemplar-storage --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/prometheus" \
    --web.listen-address="127.0.0.1:$((port + 1))" >"$work/prometheus.log" 2>&1 &
pids+=($!)

python3 "$here/otel_app.py" grpc "127.0.0.1:$port"
python3 "$here/otel_app.py" http "127.0.0.1:$port"
lines=0
[ $# -gt 0 ] && lines=$(python3 "$here/push_logs.py" "$url/loki/api/v1/push" "$@")
sleep "$seconds"

check() {
    expect "node_exporter series" "$(promql 'count({job="node"})')" 100
    expect "scrapes of up" "$(promql 'count_over_time(up{job="node"}[1h])')" "$((seconds - 5))"
    expect "native histograms" "$(promql 'count_over_time(native_app_seconds[1h])')" "$((seconds - 5))"
    expect "exemplars" "$(get /api/v1/query_exemplars --data-urlencode query=native_app_orders_total \
        -d start=0 -d "end=$(date +%s)" | jq '[.data[].exemplars[]] | length')" "$((seconds - 5))"
    expect "kinds of metrics" "$(get /api/v1/metadata | jq '.data | length')" 100
    expect "rate of CPU seconds, cores" "$(promql 'count(sum by (cpu) (rate(node_cpu_seconds_total[1m])))')" 1
    for protocol in grpc http; do
        expect "orders counted, $protocol" "$(promql "sum(shop_orders_total{job=\"shop-$protocol\"})")" 50
        expect "buckets, $protocol" "$(promql "sum(shop_order_duration_seconds_bucket{job=\"shop-$protocol\",le=\"+Inf\"})")" 50
        expect "log records, $protocol" "$(logql "sum(count_over_time({service_name=\"shop-$protocol\"} |= \"taken\" [1h]))")" 50
        expect "traces, $protocol" "$(traceql "{resource.service.name=\"shop-$protocol\"}")" 50
        expect "failed orders, $protocol" "$(traceql "{resource.service.name=\"shop-$protocol\" && span.http.response.status_code=500}")" 5
    done
    if [ "$lines" -gt 0 ]; then
        expect "pushed lines" "$(logql 'sum(count_over_time({job="files"}[1h]))')" "$lines"
    fi
    id=$(get /api/search --data-urlencode 'q={resource.service.name="shop-grpc"}' | jq -r '.traces[0].traceID')
    expect "spans of trace $id" "$(get "/api/traces/$id" | jq '[.batches[].scopeSpans[].spans[]] | length')" 2
}
check
# What Prometheus was told of what it sent: nothing was refused.
refused=$(curl -fsS "http://127.0.0.1:$((port + 1))/metrics" |
    awk '/^prometheus_remote_storage_(samples|histograms|exemplars|metadata)_failed_total/ {n += $2}
         END {print n + 0}')
[ "$refused" = 0 ] || fail "$refused of what Prometheus sent was refused"

echo "kill -9 while everybody sends"
before=$(promql 'count_over_time(up{job="node"}[1h])')
kill -9 "$trine_pid"
wait "$trine_pid" 2>/dev/null || true
start_trine
sleep 3
check
after=$(promql 'count_over_time(up{job="node"}[1h])')
expect "scrapes of up, none lost" "$after" "${before%.*}"
echo "all is well"
