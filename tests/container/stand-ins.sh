#!/usr/bin/env bash
# Builds stand-ins for the images of others that docker/compose.yml names, from the redis-server and
# the haproxy of this machine, under the same names: for machines that can pull nothing. What this
# machine has under such a name already, it keeps, unless that is an older stand-in.
#
#   tests/container/stand-ins.sh              builds them
#   tests/container/stand-ins.sh --remove     removes them, and the images under test, so that nobody
#                                             takes them for the real ones
set -euo pipefail

main() {
    if [[ ${1:-} == --remove ]]; then
        remove
        return
    fi
    stand_in redis:7.2 redis-server redis-cli sh bash grep cat <<'TXT'
VOLUME /data
WORKDIR /data
USER 999:999
CMD ["redis-server"]
TXT
    stand_in haproxy:2.6 haproxy sh bash cat <<'TXT'
USER 99:99
STOPSIGNAL SIGUSR1
CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
TXT
}

remove() {
    local images
    if ! images=$(docker images --quiet --filter label=stand-in=yes 2>/dev/null); then
        return # no engine, no images
    fi
    images+=" $(docker images --format '{{.Repository}}:{{.Tag}}' sundown |
        grep -- '^sundown:under-test' | tr '\n' ' ' || true)"
    # shellcheck disable=SC2086  # one word for each image
    [[ -z ${images// /} ]] || docker rmi --force $images >/dev/null
}

# stand_in NAME PROGRAM…, and what the Dockerfile says besides on standard input.
stand_in() {
    local name=$1 context root program
    shift
    if docker image inspect "$name" >/dev/null 2>&1 &&
        [[ $(docker image inspect --format '{{index .Config.Labels "stand-in"}}' "$name") != yes ]]; then
        echo "$name: the one that is here"
        return
    fi
    context=$(mktemp -d)
    # shellcheck disable=SC2064  # this directory, not the one of a later call
    trap "rm -rf '$context'" RETURN
    root=$context/root
    mkdir -p "$root"/{bin,data,etc,tmp,usr/local/bin,usr/local/etc/haproxy}
    for program in "$@"; do
        copy "$root" "$program"
    done
    ln -s /usr/local/bin/sh "$root/bin/sh"
    printf '%s\n' root:x:0:0::/:/bin/sh haproxy:x:99:99::/: redis:x:999:999::/data: >"$root/etc/passwd"
    printf '%s\n' root:x:0: haproxy:x:99: redis:x:999: >"$root/etc/group"
    chmod 1777 "$root/tmp" "$root/data"
    tar -C "$root" -cf "$context/root.tar" .
    rm -rf "$root"
    {
        printf '%s\n' 'FROM scratch' 'ADD root.tar /' 'LABEL stand-in=yes' 'ENV PATH=/usr/local/bin'
        cat
    } >"$context/Dockerfile"
    docker build --quiet --tag "$name" "$context" >/dev/null
    echo "$name: a stand-in, of this machine's $1"
}

# A program with all the libraries that it names.
copy() {
    local root=$1 program library
    program=$(command -v "$2") || {
        echo "$2 is not installed: scripts/ensure-container-tools.sh installs it on Debian" >&2
        exit 1
    }
    cp -L "$program" "$root/usr/local/bin/$2"
    while read -r library; do
        mkdir -p "$root${library%/*}"
        cp -L "$library" "$root$library"
    done < <(ldd "$program" | grep -o '/[^ ]*')
}

main "$@"
