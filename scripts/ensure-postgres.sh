#!/bin/sh
# The tests of examples/postgres_store start a Postgres of their own: installs Debian's where that is
# possible, and says in one line what to install where it is not. Starts nothing.
set -eu

has_postgres() {
    command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

if has_postgres || "$(dirname "$0")/apt-install.sh" postgresql; then
    exit 0
fi
echo "the tests need postgresql: install it (Debian, Ubuntu: sudo apt-get install postgresql; Fedora: sudo dnf install postgresql-server; macOS: brew install postgresql) and run again" >&2
exit 1
