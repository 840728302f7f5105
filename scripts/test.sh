#!/usr/bin/env bash
# All tests that need no root and no Docker engine, and a check that they leave nothing behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

echo "make test: takes about 6 minutes on two cores, the build included"
files() {
    find . -maxdepth 1 -type f | sort
}
before=$(files)
code=0
"${CARGO:-cargo}" test --no-fail-fast || code=$?
left=$(comm -13 <(echo "$before") <(files))
if [ -n "$left" ]; then
    echo "make test: the tests have left behind: $left" >&2
    exit 1
fi
exit "$code"
