#!/usr/bin/env bash
# Builds every combination of cargo features that makes sense, with warnings as errors: the command
# belongs to `cli`, and everything else is a part that a program which embeds the library may leave
# out. With none of them, the unit tests of what is left are run, and no C is built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo=${CARGO:-cargo}
for features in "" sqlite redis "redis sqlite" web cli "cli sqlite" "cli redis" "cli redis sqlite"; do
    echo "features: ${features:-none}"
    "$cargo" clippy --quiet --lib --bins --no-default-features --features "$features" -- -D warnings
done
"$cargo" test --quiet --lib --no-default-features
tree=$("$cargo" tree --edges normal,build --prefix none --no-default-features)
if grep -E '^(cc|ring|libsqlite3-sys) ' <<<"$tree"; then
    echo "check-features: without features, nothing is built from C (see above)" >&2
    exit 1
fi
