#!/usr/bin/env bash
# Checks what docs/deploy offers to copy: the systemd unit by systemd's own parser, and the
# Kubernetes manifests by the API's schema. Nothing is started, and no cluster is asked. That the
# settings in them are settings, and that their times nest, is tests/behaviour/deployed.rs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The newest, and the oldest release that the manifests are for.
kubernetes_validate=1.37.0
kubernetes=(1.37 1.29)
# In tenths, of 100: what the unit has, and some room for what other releases of systemd add.
exposure_max=15

unit=docs/deploy/systemd/sundown@.service
manifests=(docs/deploy/kubernetes/*.yaml)
work=${CARGO_TARGET_DIR:-target}/check-deploy
mkdir -p "$work"

fail() {
    echo "check-deploy: $*" >&2
    exit 1
}

command -v systemd-analyze >/dev/null ||
    fail "systemd-analyze is missing: install systemd (Debian, Ubuntu: apt-get install systemd)"

# The binary need not be installed where this runs: a copy of the unit, which differs in that one
# line, names a program that is everywhere. A warning is a failure.
sed 's|^ExecStart=/usr/local/bin/sundown$|ExecStart=/bin/true|' "$unit" >"$work/sundown@.service"
[ "$(diff "$unit" "$work/sundown@.service" | grep -c '^>')" -eq 1 ] ||
    fail "$unit: expected one line ExecStart=/usr/local/bin/sundown"
said=$(systemd-analyze verify --man=no --recursive-errors=no "$work/sundown@.service" 2>&1) ||
    fail "systemd-analyze verify: ${said:-failed without a word}"
[ -z "$said" ] || fail "systemd-analyze verify: $said"
echo "ok: systemd-analyze verify $unit"

security=$(systemd-analyze security --offline=true --no-pager --threshold="$exposure_max" "$unit") ||
    fail "systemd-analyze security, more than $exposure_max of 100: $security"
echo "ok: systemd-analyze security: ${security##*→ }"

venv=$work/venv-$kubernetes_validate
if [ ! -e "$venv/complete" ]; then
    rm -rf "$venv"
    command -v python3 >/dev/null ||
        fail "python3 is missing: install it (Debian, Ubuntu: apt-get install python3-venv)"
    python3 -m venv "$venv" ||
        fail "python3 cannot make a venv: install python3-venv (Debian, Ubuntu)"
    "$venv/bin/pip" install --quiet --disable-pip-version-check \
        "kubernetes-validate==$kubernetes_validate" ||
        fail "cannot install kubernetes-validate $kubernetes_validate from the Python registry"
    touch "$venv/complete"
fi
for version in "${kubernetes[@]}"; do
    "$venv/bin/kubernetes-validate" --strict --kubernetes-version "$version" "${manifests[@]}" ||
        fail "the schema of Kubernetes $version refuses a manifest (see above)"
done
