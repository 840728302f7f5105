#!/bin/sh
# Installs packages of Debian, where that is possible, without starting the services in them:
#
#   scripts/apt-install.sh PACKAGE…       exit code 1: this is no Debian, or we are not root
set -eu

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    exit 1
fi
apt-get update -q
# Nobody has asked for a server on its usual port: 101 forbids the start (see invoke-rc.d(8))
# wherever no other policy is in force.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
