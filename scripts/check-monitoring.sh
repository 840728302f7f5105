#!/usr/bin/env bash
# Checks docker/monitoring by Prometheus' own tool: the configuration, the alerts and their tests.
# Then what no tool of Prometheus knows: that the metrics which alerts and dashboard ask for are
# there. Two lists are held against each other for that, the table in docs/operations.md and the page
# of a running server (target/debug/sundown, or the program that is named), which is scraped once.
#
#   scripts/check-monitoring.sh [PROGRAM]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
program=${1:-$target/debug/sundown}
monitoring=docker/monitoring
work=$target/check-monitoring
# Seconds that the server may take to start, and to leave.
patience=20
mkdir -p "$work"

fail() {
    echo "check-monitoring: $*" >&2
    exit 1
}

command -v promtool >/dev/null ||
    fail "promtool is missing: install prometheus (Debian, Ubuntu: apt-get install prometheus)"
command -v python3 >/dev/null ||
    fail "python3 is missing: install it (Debian, Ubuntu: apt-get install python3)"
[ -x "$program" ] || fail "there is no $program: build it first (cargo build)"

# A warning of promtool is a failure, too; it counts what it has found by itself.
promtool check config --lint=all --lint-fatal "$monitoring/prometheus.yml"
promtool check rules --lint=all --lint-fatal "$monitoring/alerts.yml"
promtool test rules "$monitoring/alerts_test.yml"

# The expressions of the dashboard, as rules: promtool parses them no other way.
python3 scripts/check_monitoring.py files "$work/dashboard-rules.yml"
promtool check rules --lint=none "$work/dashboard-rules.yml" ||
    fail "an expression of $monitoring/dashboard.json is none (see above)"

# --- A server, and its page ------------------------------------------------------------------------

server=
stop() {
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
}
trap stop EXIT

# Its variables are its own: what is set where this runs is not what is checked. The file is emptied
# here, and not only by the job: what the last run has left in it says "ready", too.
: >"$work/stdout"
env -i "$program" --listen 127.0.0.1:0 --admin 127.0.0.1:0 --store memory: \
    >"$work/stdout" 2>"$work/stderr" &
server=$!
deadline=$((SECONDS + patience))
until grep -qx ready "$work/stdout"; do
    kill -0 "$server" 2>/dev/null || fail "$program does not start: $(cat "$work/stderr")"
    ((SECONDS < deadline)) || fail "$program is not ready after $patience s"
    sleep 0.05
done
listen=$(sed -n 's|^listening on ws://\([^/]*\)/.*|\1|p' "$work/stdout")
admin=$(sed -n 's|^admin on http://||p' "$work/stdout")

# Some families are not there before they have a sample: a handshake and a message, an answer.
env -i "$program" smoke --listen "$listen" >/dev/null
env -i "$program" healthcheck --listen "$listen" --admin "$admin" >/dev/null
python3 scripts/check_monitoring.py page "http://$admin/metrics" >"$work/page"
promtool check metrics <"$work/page"
echo "ok: promtool check metrics: $(grep -c '^# TYPE' "$work/page") families"

kill -TERM "$server"
wait "$server" || fail "$program has ended with $?: $(tail -n 1 "$work/stdout")"
server=
