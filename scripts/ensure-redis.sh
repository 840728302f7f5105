#!/bin/sh
# The tests start a redis-server of their own: installs Debian's where that is possible, and says
# in one line what to install where it is not. Starts nothing.
set -eu

if command -v redis-server >/dev/null; then
    exit 0
fi
if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    apt-get update -q
    # The package would start a service on port 6379, which nobody asked for: 101 forbids it
    # (see invoke-rc.d(8)) wherever no other policy is in force.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends redis-server
    exit 0
fi
echo "the tests need redis-server: install it (Debian, Ubuntu: sudo apt-get install redis-server; Fedora: sudo dnf install redis; macOS: brew install redis) and run again" >&2
exit 1
