#!/usr/bin/env bash
# Runs a command that runs tests, and adds up what their runners say at their ends (cargo's, and
# Node's). The last line of all is "N passed, N failed", after one with the time, and the exit code
# is the command's.
#
#   scripts/count-tests.sh COMMAND…
set -uo pipefail

begun=$SECONDS
counted=$(mktemp)
trap 'rm -f "$counted"' EXIT
# Standard error goes past the count: no runner writes its result there.
"$@" | awk '
    { print; fflush() }
    /^test result: / { passed += $4; failed += $6 }
    /^(#|ℹ) pass [0-9]+$/ { passed += $3 }
    /^(#|ℹ) fail [0-9]+$/ { failed += $3 }
    END { printf "%d %d\n", passed, failed > file }' file="$counted" -
code=${PIPESTATUS[0]}
read -r passed failed <"$counted"
took=$((SECONDS - begun))
# A runner that crashes says no result: the exit code tells.
echo "$((passed + failed)) tests in $((took / 60)) min $((took % 60)) s, exit code $code"
echo "$passed passed, $failed failed"
exit "$code"
