#!/bin/sh
# Builds the release binary without any shared library, for an image from scratch, and puts it into
# a directory:
#
#   docker/static.sh DIRECTORY
#
# glibc 2.36 or later: since 2.34 the C library itself resolves names from /etc/hosts and by DNS, and
# needs no libnss_*.so for that; 2.36 takes packed relocations. Any glibc target of Rust will do; musl
# is not needed.
set -eu

case $1 in
/*) directory=$1 ;;
*) directory=$PWD/$1 ;;
esac
cd "$(dirname "$0")/.."
target=$(rustc -vV | sed -n 's/^host: //p')
case $target in
*-linux-gnu) ;;
*)
    echo "a static binary is built on Linux with glibc, not on $target: use docker/Dockerfile.build" >&2
    exit 1
    ;;
esac

# With a target named, build scripts and procedural macros do not get the flags. Packed, what the
# binary has to relocate in itself at the start takes 2 KiB of memory and not 120.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs" \
    "${CARGO:-cargo}" build --release --locked --target "$target"
binary=${CARGO_TARGET_DIR:-target}/$target/release/sundown

# glibc before 2.36 does not unpack them, and such a binary would crash at its start.
if ! "$binary" --version > /dev/null; then
    echo "$binary does not start: a static binary is built with glibc 2.36 or later" >&2
    exit 1
fi
# A program that needs no interpreter loads no libraries.
if LC_ALL=C readelf --program-headers "$binary" | grep -q INTERP; then
    echo "$binary is not static: it names an interpreter" >&2
    exit 1
fi
mkdir -p "$directory"
cp "$binary" "$directory/sundown"
