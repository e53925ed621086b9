# A command in a container, as if it ran here: stdin, stdout, stderr, exit code, and signals.

# in_container CONTAINER CMD…
in_container() {
    local name=$1
    shift
    if [[ -t 0 && -t 1 ]]; then exec docker exec -it -e "TERM=${TERM:-dumb}" "$name" "$@"; fi

    # docker exec passes no signal on: without this, `timeout 10 testbed/as alice srun …` would leave a
    # queued srun behind. The token finds the process again.
    local token=testbed-$$-$RANDOM$RANDOM sig rc=0
    for sig in INT TERM HUP; do
        # shellcheck disable=SC2064 # expanded now, on purpose
        trap "signal_in_container $name $token $sig" "$sig"
    done
    # A session of its own: `timeout` signals the whole group, and the client would die before its output came.
    setsid docker exec -i "$name" sh -c 'exec "$@"' "$token" "$@" <&0 &
    wait $! || rc=$?
    # A trap ends `wait` early; the command's own end is what counts.
    while kill -0 $! 2>/dev/null; do
        rc=0
        wait $! || rc=$?
    done
    if ((rc == 1)) && [[ $(docker inspect -f '{{.State.Running}}' "$name" 2>/dev/null) != true ]]; then
        echo "testbed: $name is not running: testbed/up" >&2
    fi
    return "$rc"
}

# signal_in_container CONTAINER TOKEN SIGNAL
signal_in_container() {
    local id process
    for id in $(docker inspect -f '{{join .ExecIDs " "}}' "$1"); do
        process=$(curl -s --unix-socket /var/run/docker.sock "http://docker/exec/$id/json" |
            jq -r --arg token "$2" 'select(.Running and ((.ProcessConfig.arguments // []) | index($token))) | .Pid')
        [[ $process ]] && kill -s "$3" "$process"
    done
    return 0
}
