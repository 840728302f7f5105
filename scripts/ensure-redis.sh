#!/bin/sh
# The tests start a redis-server of their own: installs Debian's where that is possible, and says
# in one line what to install where it is not. Starts nothing.
set -eu

if command -v redis-server >/dev/null || "$(dirname "$0")/apt-install.sh" redis-server; then
    exit 0
fi
echo "the tests need redis-server: install it (Debian, Ubuntu: sudo apt-get install redis-server; Fedora: sudo dnf install redis; macOS: brew install redis) and run again" >&2
exit 1
