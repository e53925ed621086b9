# Places and names: where things lie, what containers are called, which release runs.

TESTBED=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
REPO=$(dirname "$TESTBED")
CACHE=${SHIFTER_TESTBED_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/shifter-testbed}
LOGS=$CACHE/log
# What `reinstall` built last, so that a node made later gets it too. Gone after `down`.
STAGE=$CACHE/stage-${TESTBED_NAME:-shifter}
# A second testbed beside the first wants another name and network (and shares the caches).
NAME=${TESTBED_NAME:-shifter}
NETWORK=$NAME
# Test addresses of RFC 2544: unlikely to be anybody's real network.
SUBNET=${TESTBED_SUBNET:-198.18.57}
LABEL=$NAME-testbed
# What the registry has. Tests damage what is in it, so that another testbed has its own, and loses it with `down`.
REGISTRY_STORE=$CACHE/registry
[[ $NAME == shifter ]] || REGISTRY_STORE+=-$NAME

mkdir -p "$CACHE" "$LOGS"

container() { printf '%s-%s' "$NAME" "$1"; }

# The Debian release whose own Slurm is the one asked for.
suite_of_release() {
    case $1 in
        22.05) echo bookworm ;;
        24.11) echo trixie ;;
        26.05) echo forky ;;
        *) die "SLURM=$1: there are 22.05, 24.11 and 26.05" ;;
    esac
}

# address NODE: fixed, so that no name server is in the way of Slurm's many connections.
address() {
    case $1 in
        ctl) echo "$SUBNET.10" ;;
        registry) echo "$SUBNET.5" ;;
        c*) echo "$SUBNET.$((100 + ${1#c}))" ;;
    esac
}

# label_of_ctl NAME: what the controller was made with, or nothing when there is none.
label_of_ctl() { docker ps -a --filter "name=^$(container ctl)\$" --format "{{.Label \"$1\"}}" 2>/dev/null || true; }
running_release() { label_of_ctl shifter.slurm; }
running_nodes()   { label_of_ctl shifter.nodes; }

# The compute nodes that exist, in order: c1 c2 …
compute_nodes() {
    docker ps -a --filter "label=$LABEL=compute" --format '{{.Names}}' | sed "s/^$NAME-//" | sort -V
}

# one_at_a_time: two people's `up` at the same moment would make the same node twice.
one_at_a_time() {
    exec 9>"$CACHE/lock-$NAME"
    flock -n 9 && return
    printf '==> waiting for another testbed command\n' >&2
    flock 9
}
