#!/bin/sh
# Builds the image, with the Rust of this machine:
#
#   docker/image.sh [NAME]        sundown:latest
set -eu

name=${1:-sundown:latest}
cd "$(dirname "$0")/.."
context=${CARGO_TARGET_DIR:-target}/image
rm -rf "$context"
docker/static.sh "$context"
mkdir "$context/data"
docker build --quiet --file docker/Dockerfile --tag "$name" "$context"
docker image inspect --format "$name: {{.Size}} bytes" "$name"
