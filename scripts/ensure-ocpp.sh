#!/bin/sh
# `make test-ocpp` has charge points of the Python package ocpp: makes a virtual environment for it in
# the directory that is given, where there is none, and says in one line what to install if that fails.
#
#   scripts/ensure-ocpp.sh DIRECTORY
set -eu
cd "$(dirname "$0")/.."

environment=$1
wanted=tests/examples/requirements.txt
if cmp -s "$wanted" "$environment/installed.txt"; then
    exit 0
fi
rm -rf "$environment"
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    ./scripts/apt-install.sh python3 python3-venv || true
fi
if python3 -m venv "$environment" &&
    "$environment/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"; then
    cp "$wanted" "$environment/installed.txt"
    exit 0
fi
echo "the tests need Python 3.10 or later with venv, and PyPI: install it (Debian, Ubuntu: sudo apt-get install python3-venv) and run again" >&2
exit 1
