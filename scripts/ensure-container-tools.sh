#!/bin/sh
# What the container tests need besides a Docker engine: Compose, and redis-server and haproxy to
# build stand-ins from, where those images cannot be pulled. Installs Debian's where that is
# possible, and says in one line what to install where it is not. Starts nothing.
set -eu

if [ "${SUNDOWN_SKIP_DOCKER:-}" = 1 ]; then
    exit 0
fi
missing=
need() { # COMMAND PACKAGE
    if ! command -v "$1" >/dev/null; then
        missing="$missing $2"
    fi
}
need redis-server redis-server
need haproxy haproxy
need readelf binutils
docker compose version >/dev/null 2>&1 || need docker-compose docker-compose

# shellcheck disable=SC2086  # one word for each package
if [ -z "$missing" ] || "$(dirname "$0")/apt-install.sh" $missing; then
    exit 0
fi
echo "the container tests need$missing: install them and run again" >&2
exit 1
