#!/usr/bin/env bash
# Moves the service to the other colour without losing anybody: starts it, tests it, lets it have
# the new connections, and stops the old one, whose clients come back to the new one.
#
#   docker/promote.sh [blue|green]       without a colour: the one that does not run
#
# If a step fails before the old colour has been asked to stop, the new one is stopped again and the
# old one goes on as before. It can be repeated at any time, also after it was interrupted, and does
# the first start, too. Variables: SUNDOWN_IMAGE and the others of compose.yml; PROMOTE_TIMEOUT,
# seconds that a step may wait (60); COMPOSE, the command to use.
#
# Exit codes: 0 the colour serves, alone; 1 it does not, and who served before serves on; 2 it
# serves, but the old one has not ended as it should; 64 called wrongly.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly patience=${PROMOTE_TIMEOUT:-60}
# Compose reads the name from the same two places.
project=${COMPOSE_PROJECT_NAME:-$(sed -n 's/^COMPOSE_PROJECT_NAME=//p' "$here/.env" 2>/dev/null || true)}
readonly project=${project:-docker}

new=
old=
# What has been done and must be undone if the next step fails.
stage=nothing
# The new colour ran before this script began: it may have clients, and is not ours to stop.
ran_before=no

main() {
    choose_compose
    case $#${1:-} in
    0 | 1blue | 1green) ;;
    *) fail 64 "usage: docker/promote.sh [blue|green]" ;;
    esac
    case $patience in
    '' | *[!0-9]*) fail 64 "PROMOTE_TIMEOUT is a number of seconds, and not '$patience'" ;;
    esac
    docker version >/dev/null || fail 1 "the Docker engine does not answer"
    one_at_a_time
    choose_colours "${1:-}"
    trap 'undo "interrupted"' INT TERM HUP
    trap 'unexpected' EXIT

    step "proxy and Redis: running and healthy"
    start_if_not_running redis
    start_if_not_running proxy

    if is_running "app_$new"; then
        ran_before=yes
        is_running "app_$old" || finish_what_is_done
    fi

    hold_new

    step "app_$new: start"
    stage=started
    start_new || undo "app_$new does not start"

    step "app_$new: wait until it is ready"
    wait_ready

    step "app_$new: one client, one message"
    docker exec "$(container "app_$new")" /sundown smoke || undo "app_$new has failed the test"

    step "proxy: new connections to app_$new"
    wait_reached
    proxy_state "app_$new" ready
    stage=switched
    proxy_state "app_$old" drain

    stop_old
    stage=over
    step "done: app_$new serves"
}

# --- The steps ---------------------------------------------------------------------------------

# What runs stays as it is, whatever compose.yml says by now: all clients go through the one, and all
# sessions are in the other.
start_if_not_running() {
    if ! is_running "$1"; then
        compose up -d --no-deps "$1" || undo "$1 does not start"
    fi
    wait_healthy "$1"
}

# If an earlier promotion was killed after its switch, it is the old one that is held back, and the
# new one that serves. One of them must be open to newcomers at any time.
hold_new() {
    stage=held
    if is_running "app_$old"; then
        proxy_state "app_$old" ready
    fi
    if [[ $ran_before == yes && $(proxy_status "app_$old") != "UP L7OK" ]]; then
        step "app_$new: is not held back, since nothing else serves"
        return
    fi
    step "app_$new: held back by the proxy until it is tested"
    proxy_state "app_$new" drain
}

# An interrupt waits until Compose has done this: what the engine is asked to start while nobody
# listens any more, it starts after our rollback.
start_new() (
    trap '' INT TERM HUP
    compose up -d --no-deps "app_$new"
)

# The colour serves already: there is nothing to deploy, only to look whether it is well.
finish_what_is_done() {
    proxy_state "app_$new" ready
    proxy_state "app_$old" ready
    wait_ready
    wait_proxy "UP L7OK"
    step "nothing to do: app_$new serves already, alone (for a new image, promote $old)"
    exit 0
}

# A container that restarts or has ended will not become ready: the rest of the time is saved.
wait_ready() {
    local id restarts deadline=$((SECONDS + patience))
    id=$(container "app_$new")
    restarts=$(restarts "$id")
    while ! docker exec "$id" /sundown healthcheck >/dev/null 2>&1; do
        if [[ $(status "$id") != running || $(restarts "$id") != "$restarts" ]]; then
            undo "app_$new has ended: $(last_words "$id")"
        fi
        if ((SECONDS >= deadline)); then
            undo "app_$new is not ready after $patience s: $(last_words "$id")"
        fi
        sleep 0.2
    done
}

# The proxy must see for itself that the new colour is ready. It believes that of every server whose
# name it has just resolved, until a check has failed: so it is told the contrary first.
wait_reached() {
    if [[ $(proxy_status "app_$new") == "UP L7OK" ]]; then
        return
    fi
    wait_proxy "D* *"
    proxy "set server sundown/app_$new health down" >/dev/null || undo "the proxy does not answer"
    wait_proxy "DRAIN L7OK"
}

# Until the proxy says this of the new colour: its state, and the outcome of the last check.
wait_proxy() {
    local deadline=$((SECONDS + patience))
    # shellcheck disable=SC2053  # a pattern
    until [[ $(proxy_status "app_$new") == $1 ]]; do
        if ((SECONDS >= deadline)); then
            undo "the proxy does not reach app_$new: $(proxy_status "app_$new")"
        fi
        sleep 0.1
    done
}

wait_healthy() {
    local id deadline=$((SECONDS + patience))
    id=$(container "$1")
    until [[ $(docker inspect --format '{{.State.Health.Status}}' "$id") == healthy ]]; do
        if ((SECONDS >= deadline)); then
            undo "$1 is not healthy after $patience s: $(last_words "$id")"
        fi
        sleep 0.2
    done
}

# SIGTERM, and SIGKILL only after the grace period of compose.yml. From here on there is no way
# back, and no need for one: the new colour serves.
stop_old() {
    local id code report
    id=$(container "app_$old")
    if ! is_running "app_$old"; then
        step "app_$old: does not run, nothing to stop"
        proxy_state "app_$old" ready
        return
    fi
    step "app_$old: SIGTERM, and wait for its report"
    stage=stopping
    compose stop "app_$old" || undo "compose could not stop it"
    # What does not run gets nothing; from now on the proxy only has to look whether it runs.
    proxy_state "app_$old" ready
    code=$(docker inspect --format '{{.State.ExitCode}}' "$id")
    report=$(docker logs --tail 5 "$id" 2>/dev/null | grep '^{' | tail -n 1 || true)
    echo "         exit code $code, report: ${report:-none}"
    if [[ $code != 0 || -z $report ]]; then
        undo "app_$old ended with exit code $code: $(last_words "$id")"
    fi
    if [[ $report != *'"spilled":0,'* ]]; then
        echo "         Redis did not take everything in time: the rest is in the volume of app_$old."
        echo "         To hand it over: start app_$old once more, and stop it when it is ready"
    fi
}

# Puts back what this run has changed, and leaves with a message. Nobody may be there to read it (a
# terminal that was closed, a full disk): first the deeds, then the words.
undo() {
    local reached=$stage
    trap '' INT TERM HUP PIPE
    set +e
    stage=over
    case $reached in
    nothing | over)
        fail 1 "$1"
        ;;
    held | started)
        if [[ $reached == started && $ran_before == no ]]; then
            compose stop "app_$new" >/dev/null 2>&1
        fi
        # What does not run gets nothing. If we could not stop it, it stays held back.
        if [[ $ran_before == yes ]] || ! is_running "app_$new"; then
            proxy_set "app_$new" ready
        fi
        proxy_set "app_$old" ready
        say "FAILED: $1"
        fail 1 "rolled back: $(who_serves)"
        ;;
    switched | stopping)
        say "FAILED after the switch: $1"
        fail 2 "app_$new serves; look at app_$old (docs/operations.md), or promote again"
        ;;
    esac
}

who_serves() {
    if [[ $(proxy_status "app_$old") == "UP L7OK" ]]; then
        echo "app_$old serves as before"
    elif [[ $(proxy_status "app_$new") == "UP L7OK" ]]; then
        echo "app_$new serves as before"
    elif is_running "app_$old"; then
        echo "app_$old runs as before, but the proxy does not reach it"
    else
        echo "nothing serves, as before"
    fi
}

# --- What runs ---------------------------------------------------------------------------------

choose_colours() {
    new=$1
    if [[ -z $new ]]; then
        if ! is_running app_blue; then
            new=blue
        elif ! is_running app_green; then
            new=green
        else
            fail 64 "both colours run: say which one shall go on"
        fi
    fi
    if [[ $new == blue ]]; then old=green; else old=blue; fi
}

# The id of a service's container, if there is one: the one that runs, or the newest. Compose can
# leave two behind when it is killed, or cannot start one in the other's place. Asked often, and the
# engine answers faster than Compose does.
container() {
    docker ps --all --no-trunc --format '{{.State}} {{.ID}}' \
        --filter "label=com.docker.compose.project=$project" \
        --filter "label=com.docker.compose.service=$1" \
        --filter "label=com.docker.compose.oneoff=False" |
        awk '$1 ~ /^(running|paused|restarting)$/ && !found { id = $2; found = 1 }
            id == "" { id = $2 }
            END { print id }'
}

is_running() {
    local id
    id=$(container "$1")
    [[ -n $id ]] || return 1
    case $(status "$id") in
    running | paused | restarting) ;;
    *) return 1 ;;
    esac
}

status() {
    docker inspect --format '{{.State.Status}}' "$1"
}

restarts() {
    docker inspect --format '{{.RestartCount}}' "$1"
}

last_words() {
    docker logs --tail 3 "$1" 2>&1 | tr '\n' ' '
}

# --- The proxy ---------------------------------------------------------------------------------

# One command to haproxy's runtime API, from inside its container: the socket is open nowhere else.
proxy() {
    # shellcheck disable=SC2016  # for the shell in the container
    timeout 10 docker exec "$(container proxy)" bash -c \
        'exec 3<>/dev/tcp/127.0.0.1/9999 && printf "%s\n" "$1" >&3 && cat <&3' bash "$1"
}

# "ready", or "drain": no new connections; those that are open stay, and so do the checks.
proxy_state() {
    proxy_set "$1" "$2" || undo "the proxy does not take '$2' for $1"
}

# haproxy answers only when it does not do as told.
proxy_set() {
    local answer
    answer=$(proxy "set server sundown/$1 state $2") || return 1
    [[ -z ${answer//[$' \n']/} ]] || {
        echo "haproxy: $answer" >&2
        return 1
    }
}

# UP, DRAIN, DOWN or MAINT (it has no address), and the outcome of the last check, L7OK if it was
# good: the fields 18 and 37 of haproxy's statistics.
proxy_status() {
    proxy "show stat sundown 4 -1" |
        awk -F, -v server="$1" '$2 == server { sub(/ .*/, "", $18); sub(/^\* /, "", $37); print $18, $37 }'
}

# --- The rest ----------------------------------------------------------------------------------

choose_compose() {
    if [[ -n ${COMPOSE:-} ]]; then
        readonly compose=$COMPOSE
    elif docker compose version >/dev/null 2>&1; then
        readonly compose="docker compose"
    elif command -v docker-compose >/dev/null; then
        readonly compose=docker-compose
    else
        fail 64 "neither 'docker compose' nor docker-compose is installed"
    fi
}

compose() {
    # shellcheck disable=SC2086  # two words, or one
    $compose --project-name "$project" --file "$here/compose.yml" "$@"
}

# Two promotions at a time would undo each other's work. The lock goes when this script and the last
# command that it has started are gone.
one_at_a_time() {
    if command -v flock >/dev/null; then
        exec 9<"$here/compose.yml"
        flock -n 9 || fail 64 "another promotion is under way"
    else
        say "no flock here: see to it yourself that nobody else promotes at the same time"
    fi
}

step() {
    echo "promote: $*"
}

say() {
    echo "promote: $*" >&2 || true
}

# A command that nobody has looked at has failed: `set -e` ends the script.
unexpected() {
    case $stage in
    nothing | over) ;;
    *) undo "a command has failed" ;;
    esac
}

fail() {
    stage=over
    say "$2"
    exit "$1"
}

main "$@"
