#!/bin/sh
# The proxies whose configurations docs/deploy/proxies has, for `make check-proxies`. Installs
# Debian's where that is possible, and says in one line what to install where it is not. Starts
# nothing.
set -eu

missing=
for program in haproxy nginx caddy; do
    if ! command -v "$program" >/dev/null; then
        missing="$missing $program"
    fi
done

# shellcheck disable=SC2086  # one word for each package
if [ -z "$missing" ] || "$(dirname "$0")/apt-install.sh" $missing; then
    exit 0
fi
echo "check-proxies needs$missing: install them and run again" >&2
exit 1
