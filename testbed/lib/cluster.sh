# The mini-Slurm: its containers.

# What `docker run --privileged` would give, less CAP_SYS_RESOURCE, which not every host has to give.
CAPABILITIES=(SYS_ADMIN SYS_PTRACE SYS_NICE SYS_CHROOT SYS_TTY_CONFIG NET_ADMIN NET_RAW MKNOD DAC_READ_SEARCH
    AUDIT_WRITE AUDIT_CONTROL SETFCAP LINUX_IMMUTABLE IPC_LOCK IPC_OWNER LEASE SYSLOG)

exists()  { docker container inspect "$1" >/dev/null 2>&1; }
running() { [[ $(docker container inspect -f '{{.State.Running}}' "$1" 2>/dev/null) == true ]]; }

make_network() {
    docker network inspect "$NETWORK" >/dev/null 2>&1 ||
        docker network create --label "$LABEL" --subnet "$SUBNET.0/24" "$NETWORK" >/dev/null
    local volume
    for volume in "$NAME-shared" "$NAME-home"; do docker volume create --label "$LABEL" "$volume" >/dev/null; done
}

# start_container NAME IMAGE ARG…: started if it stands still, made if it is missing.
start_container() {
    local node=$1 image=$2 name
    name=$(container "$node")
    shift 2
    running "$name" && return
    if exists "$name"; then docker rm -f "$name" >/dev/null; fi
    docker run -d --init=false --name "$name" --hostname "$node" --network "$NETWORK" --ip "$(address "$node")" "$@" "$image" >/dev/null
    MADE+=("$node")
}

# start_node NODE ROLE IMAGE RELEASE NODES
start_node() {
    local node=$1 role=$2 image=$3 release=$4 nodes=$5 args=() cap i
    for cap in "${CAPABILITIES[@]}"; do args+=(--cap-add "$cap"); done
    for ((i = 1; i <= nodes; i++)); do args+=(--add-host "c$i:$(address "c$i")"); done
    start_container "$node" "$image" "${args[@]}" \
        --add-host "ctl:$(address ctl)" --add-host "registry:$(address registry)" \
        --label "$LABEL=$role" --label "shifter.slurm=$release" --label "shifter.nodes=$nodes" \
        --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined \
        --device-cgroup-rule 'b 7:* rwm' --device-cgroup-rule 'c 10:* rwm' \
        --tmpfs /run:nosuid,nodev,mode=755 --tmpfs /tmp:exec,nosuid,nodev,mode=1777 \
        --stop-timeout 1 \
        -v "$NAME-shared:/shared" -v "$NAME-home:/home" \
        -e ROLE="$role" -e NODES="$nodes"
}

# nodes_ready N: all N compute nodes take jobs.
nodes_ready() {
    local ready
    ready=$(docker exec "$(container ctl)" timeout 2 sinfo -h -N -o '%T' 2>/dev/null | grep -cvE 'down|drain|unknown|fail|inval|boot|maint|\*' || true)
    [[ $ready == "$1" ]]
}

# wait_for_slurm N
wait_for_slurm() {
    local node end=$((SECONDS + 60))
    while ((SECONDS < end)); do
        nodes_ready "$1" && return
        for node in ctl $(compute_nodes); do
            running "$(container "$node")" && continue
            docker logs --tail 20 "$(container "$node")" >&2
            die "$node has stopped: its last words are above"
        done
        sleep 0.2
    done
    docker exec "$(container ctl)" timeout 2 sinfo -N -o '%N %T %E' >&2 ||
        docker exec "$(container ctl)" tail -n 20 /var/log/slurm/slurmctld.log >&2 || true
    die "the $1 nodes are not ready after a minute: see above, and testbed/on ctl tail /var/log/slurm/slurmctld.log"
}

# restart_slurm: controller and nodes, at the same time: a node registers when its slurmd starts.
restart_slurm() {
    local node pids=()
    docker exec "$(container ctl)" sv -w 30 restart /run/service/slurmctld >/dev/null
    for node in $(compute_nodes); do
        docker exec "$(container "$node")" restart-slurmd &
        pids+=($!)
    done
    for node in "${pids[@]}"; do wait "$node" || die "a node does not come back: see above"; done
    wait_for_slurm "$(running_nodes)"
}

# check_node NODE: what the plugin needs, tried; a shortcoming is said, and is no reason to stop.
check_node() {
    local node=$1 out check
    for check in pins mounts; do
        if ! out=$(docker exec "$(container "$node")" node-check "$check" 2>&1); then
            warn "$node: $out"
            [[ $check == pins ]] && note "the plugin then retries on another CPU, or each step has a private UDI"
        fi
    done
    return 0
}
