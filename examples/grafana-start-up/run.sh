#!/usr/bin/env bash
# Asks a Trine what Grafana asks a Prometheus data source when it is opened, in Grafana's way (forms
# by POST, names by GET), and prints each call with its answer. The server's own metrics, in the
# tenant `trine`, are what there is to see. Ends with the number of calls, or at the first that fails.
#
#   cargo build && examples/grafana-start-up/run.sh            # starts a server of its own
#   URL=http://127.0.0.1:9090 examples/grafana-start-up/run.sh # asks one that runs
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
trine=${TRINE_BINARY:-${CARGO_TARGET_DIR:-$root/target}/debug/trine}
port=${PORT:-19190}
width=${WIDTH:-240}
url=${URL:-http://127.0.0.1:$port}
if [ -z "${URL:-}" ]; then
    work=$(mktemp -d)
    "$trine" --listen "127.0.0.1:$port" --data-dir "$work/data" >"$work/trine.log" 2>&1 &
    pid=$!
    trap 'kill "$pid" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
    for _ in $(seq 300); do curl -fsS "$url/ready" >/dev/null 2>&1 && break; sleep 0.1; done
fi

calls=0
ask() { # why, method, path, then parameters as name=value
    local why=$1 method=$2 path=$3 answer
    shift 3
    local arguments=(-sS --compressed -H "X-Scope-OrgID: ${TENANT:-trine}" -w '\n%{http_code}')
    [ "$method" = GET ] && arguments+=(-G)
    for parameter in "$@"; do arguments+=(--data-urlencode "$parameter"); done
    [ "$method" = POST ] && [ $# -eq 0 ] && arguments+=(-X POST)
    answer=$(curl "${arguments[@]}" "$url$path")
    printf '%s\n  %s %s %s\n  %s %s\n' "# $why" "$method" "$path" "$*" "${answer##*$'\n'}" \
        "$(printf '%s' "${answer%$'\n'*}" | cut -c "1-$width")"
    case $answer in
    '{"status":"success"'*$'\n'200 | '{"data":'*$'\n'200) calls=$((calls + 1)) ;;
    *) echo "FAILED: $why" >&2 && exit 1 ;;
    esac
}

end=$(($(date +%s) + 1)) # the newest sample is younger than this second
start=$((end - 900))
ask 'save and test' POST /api/v1/query 'query=1+1' time=4
ask 'which product it is' GET /api/v1/status/buildinfo
ask 'rules, when it is opened' GET /api/v1/rules
ask 'are there exemplars (in milliseconds)' POST /api/v1/query_exemplars \
    query=test "start=${start}000" "end=${end}000"
ask 'metric list' GET /api/v1/label/__name__/values limit=40000 "start=$start" "end=$end"
ask 'typed in the editor' GET /api/v1/label/__name__/values \
    'match[]={__name__=~".*http.*"}' limit=1000 "start=$start" "end=$end"
ask 'label names' POST /api/v1/labels limit=40000 "start=$start" "end=$end"
ask 'values of a label' GET /api/v1/label/job/values limit=40000 "start=$start" "end=$end"
ask 'values of a label with a dot' GET /api/v1/label/U__http_2e_route/values limit=40000
ask 'types and help' GET /api/v1/metadata limit=40000
ask 'series, for old versions' POST /api/v1/series 'match[]={__name__!=""}' limit=5
ask 'instant query' POST /api/v1/query query=up "time=$end"
ask 'range query' POST /api/v1/query_range 'query=sum by (job) (up)' \
    "start=$start" "end=$end" step=15
ask 'with statistics' POST '/api/v1/query?stats=all' query=up "time=$end"
ask 'exemplars of a panel' POST /api/v1/query_exemplars query=up "start=$start" "end=$end"
ask 'alerts' GET /api/v1/alerts
echo "$calls calls answered"
