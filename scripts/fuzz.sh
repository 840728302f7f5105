#!/usr/bin/env bash
# Builds the fuzz targets and runs each for so many seconds, beginning with the committed corpus:
#
#   scripts/fuzz.sh [SECONDS [TARGET…]]        15 seconds, and all targets
#
# Needs stable Rust and a C++ compiler (libFuzzer is C++), and not cargo-fuzz: it builds with the
# flags of `cargo fuzz build --sanitizer none`, all of which the stable compiler takes. A finding is
# written to tests/fuzz/artifacts, what is new but no finding to tests/fuzz/found.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../tests/fuzz"

seconds=${1:-15}
targets=("${@:2}")
if ((${#targets[@]} == 0)); then
    targets=(request_head proxy_header frames redis_replies session_id kinds)
fi

if ! command -v c++ >/dev/null && ! ../../scripts/apt-install.sh g++; then
    echo "the fuzz targets need a C++ compiler: install g++ and run again" >&2
    exit 1
fi

flags=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    --cfg fuzzing
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0
    -Cllvm-args=-sanitizer-coverage-stack-depth
    -Cdebug-assertions
    -Ccodegen-units=1
)
host=$(rustc -vV | sed -n 's/^host: //p')
# With a target named, build scripts and procedural macros get none of the flags.
RUSTFLAGS="${flags[*]}" cargo build --locked --release --bins --target "$host"

for target in "${targets[@]}"; do
    mkdir -p "artifacts/$target" "found/$target"
    echo "== $target, $seconds s"
    if ! "${CARGO_TARGET_DIR:-target}/$host/release/$target" "found/$target" "corpus/$target" \
        -max_total_time="$seconds" -max_len=8192 -timeout=5 -rss_limit_mb=512 \
        -print_final_stats=1 -artifact_prefix="artifacts/$target/" >"artifacts/$target.log" 2>&1; then
        grep -v -E '^#' "artifacts/$target.log" >&2
        exit 1
    fi
    grep -E 'DONE|^stat::' "artifacts/$target.log"
done
