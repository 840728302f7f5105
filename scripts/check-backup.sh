#!/usr/bin/env bash
# Runs the commands that docs/operations.md has for a backup of an SQLite file that a server has
# open, and for a restore, as they stand there. Then shows why the restore begins with `rm`: with
# the -wal of the old file beside it, the restored one is the old one again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
program=$(realpath "${1:-$target/debug/sundown}")
book=docs/operations.md

fail() {
    echo "check-backup: $*" >&2
    exit 1
}

command -v sqlite3 >/dev/null ||
    fail "sqlite3 is missing: install it (Debian, Ubuntu: apt-get install sqlite3)"

# Of a block of the book: its lines from this beginning on.
lines() { # BEGINNING
    awk -v begin="$1" 'index($0, begin) == 1 { on = 1 } /^```/ { on = 0 } on' "$book"
}
backup=$(lines '(umask 077; sqlite3 sundown.db')
restore=$(lines 'rm -f sundown.db')
[[ -n $backup && $restore == *$'\n'* ]] || fail "$book: the commands are not there any more"

work=$(mktemp -d)
server=
cleanup() {
    if [[ -n $server ]]; then
        kill_server
    fi
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work"

start() {
    # The child empties it too late: we would read what the server before has printed.
    : >out
    "$program" --listen 127.0.0.1:0 --admin off --store sqlite:sundown.db >out 2>log &
    server=$!
    for _ in {1..400}; do
        if grep -q '^ready$' out; then
            listen=$(sed -n 's|^listening on ws://\([^/]*\)/.*|\1|p' out)
            return
        fi
        sleep 0.05
    done
    fail "the server is not ready: $(cat log)"
}
kill_server() {
    kill -KILL "$server"
    wait "$server" 2>/dev/null || true
    server=
}
# Each makes a session.
client() { "$program" smoke --listen "$listen" >/dev/null; }
expect() { # SESSIONS WHEN
    local found
    found=$(sqlite3 "${3:-sundown.db}" 'SELECT count(*) FROM session; PRAGMA integrity_check')
    [[ $found == "$1"$'\nok' ]] || fail "$2: expected $1 sessions, and found $found"
    echo "ok: $2"
}

start
client
bash -ec "$backup"
[[ $(stat -c %a backup.db) == 600 ]] || fail "others can read the backup"
client
expect 2 "the server goes on"
expect 1 "the backup has what was there" backup.db
# Not by SIGTERM, which leaves little in the -wal.
kill_server
bash -ec "$restore"
start
expect 1 "the restored file is the backup"
client
expect 2 "the server goes on with it"
kill_server
cp backup.db sundown.db
[[ $(sqlite3 sundown.db 'SELECT count(*) FROM session') != 1 ]] ||
    fail "an old -wal does no harm any more: $book says that it does"
echo "ok: without the rm, the old -wal undoes the restore"
