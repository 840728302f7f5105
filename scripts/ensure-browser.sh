#!/bin/sh
# The browser's tests drive a Chromium by its chromedriver, from Node: installs Debian's where that
# is possible, and says in one line what to install where it is not. Starts nothing.
set -eu

missing=
command -v node >/dev/null || missing="$missing nodejs"
command -v chromium >/dev/null || missing="$missing chromium fonts-liberation"
command -v chromedriver >/dev/null || missing="$missing chromium-driver"
# shellcheck disable=SC2086 # names of packages
if [ -z "$missing" ] || "$(dirname "$0")/apt-install.sh" $missing; then
    exit 0
fi
echo "the browser's tests need node, chromium and chromedriver: install$missing (Debian: sudo apt-get install$missing) and run again" >&2
exit 1
