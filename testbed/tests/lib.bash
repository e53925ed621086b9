# What every file of tests shares. The tests are the manual of the promises: each is named as a user or
# an administrator would say it, and its body is the session that shows it.

bats_require_minimum_version 1.5.0
bats_load_library bats-support
bats_load_library bats-assert

TESTBED=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
SCRATCH=/shared/scratch
CONFIG=/etc/shifter/shifter.toml
NODES=(c1 c2)

as() { "$TESTBED/as" "$@"; }
on() { "$TESTBED/on" "$@"; }

# alice SCRIPT [ARG…], bob SCRIPT [ARG…]: a line or more of shell on the login node. That a job had to wait
# for a moment is not to be told: it depends on what else goes on.
alice() { shell_of alice "$@"; }
bob()   { shell_of bob "$@"; }
shell_of() {
    as "$1" bash -O expand_aliases -c "alias srun='srun -Q' salloc='salloc -Q'
        exec 2>&1; $2" "$1" "${@:3}" </dev/null
}

# eventually SECONDS CMD…: CMD, again and again until it succeeds; never slower than it must be.
eventually() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || { echo "still not after a while: $*" >&2; return 1; }
        sleep 0.1
    done
}

# batch [OPTION…] < SCRIPT: alice's batch job (or WHO's) from submission to its end: its output, its exit code.
batch() {
    as "${WHO:-alice}" bash -c '
        job=$(sbatch --parsable --output=%j.out "$@") || exit
        until [[ $(squeue -h -t all -j "$job" -o %T) =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL) ]]; do sleep 0.1; done
        cat "$job.out"; rm "$job.out"
        exit "$(scontrol show job "$job" | sed -n "s/.* ExitCode=\([0-9]*\):.*/\1/p")"' batch "$@"
}

# made_image NAME: alice's image user:alice/NAME:1, as images.py makes it.
made_image() {
    [[ -d $BATS_FILE_TMPDIR/oci ]] || python3 "$BATS_TEST_DIRNAME/images.py" "$BATS_FILE_TMPDIR/oci"
    tar -C "$BATS_FILE_TMPDIR/oci" -c "$1" |
        as alice sh -c 'mkdir made && tar -xC made && shifterimg import -q "oci:made/$1:1" "$1:1" >/dev/null; rm -r made' - "$1"
}

# count TEXT: on how many lines of the output the text stands.
count() { grep -cF -- "$1" <<<"$output" || true; }

# started_one JOB-NAME: the id of alice's running job of that name.
running() { alice 'squeue -h -t R -n "$1" -o %A' "$1" | grep .; }

# one_message: shifter said one thing, and what to do about it. Slurm's own lines around it are Slurm's, which
# writes them in pieces: ours may be found in the middle of a word of theirs.
one_message() {
    local said hints
    said=$(grep -cE '^(slurmstepd-[^ ]+ error: [a-z_]+)?shifter: ' <<<"$output" || true)
    hints=$(grep -cE '^(slurmstepd-[^ ]+ error: [a-z_]+)?shifter: (hint|This is a site problem|This is a bug)' <<<"$output" || true)
    ((said - hints == 1)) || { echo "shifter said $((said - hints)) things:"; echo "$output"; return 1; }
    ((hints >= 1)) || { echo "and did not say what to do:"; echo "$output"; return 1; }
} >&2

# configure SED-SCRIPT [NODE…]: changes the site's configuration, on the compute nodes if none is named,
# until `restore_config`.
configure() {
    local script=$1 node
    shift
    (($#)) || set -- "${NODES[@]}"
    for node; do
        on "$node" bash -c '[[ -e $1.saved ]] || cp -p "$1" "$1.saved"; sed -i "$2" "$1"' - "$CONFIG" "$script"
    done
}
restore_config() {
    local node
    for node in ctl "${NODES[@]}"; do
        on "$node" bash -c '[[ ! -e $1.saved ]] || mv "$1.saved" "$1"' - "$CONFIG"
    done
}

# slurm_with LINES: Slurm, restarted everywhere with these lines more in its configuration; with none, as it was.
slurm_with() {
    local node pid pids=()
    for node in ctl "${NODES[@]}"; do
        on "$node" bash -c 'cd /etc/slurm
            if [[ $1 ]]; then
                # What the site has is kept, not what this test or its file has put there before.
                [[ ! -e local.conf ]] || grep -qx "# of a test" local.conf || mv local.conf local.conf.saved
                printf "%s\n" "# of a test" "$1" >local.conf
            else
                rm -f local.conf
                [[ ! -e local.conf.saved ]] || mv local.conf.saved local.conf
            fi
            slurm-configure' - "$1"
    done
    for node in "${NODES[@]}"; do on "$node" restart-slurmd & pids+=($!); done
    on ctl restart-slurmctld
    for pid in "${pids[@]}"; do wait "$pid"; done
    eventually 30 nodes_are_idle
}

# node_state NODE: what a job may not leave changed: the mounts, the loop devices under images, our directory.
node_state() {
    on "$1" bash -c '
        echo "mounts:"; cut -d" " -f4-6 /proc/1/mountinfo
        echo "loop devices:"; grep -Hs "/shared/shifter/images/" /sys/block/loop*/loop/backing_file
        echo "/run/shifter:"; find /run/shifter | sort
        echo "step daemons:"; ps -C slurmstepd -o stat=,args= | grep -v "^Z"; true'
}
state_of_nodes() { local node; for node in "${NODES[@]}"; do echo "== $node"; node_state "$node"; done; }

nodes_are_idle() { [[ $(on ctl sinfo -h -N -o '%T') == $'idle\nidle' ]]; }
no_drained_node() { [[ ! $(on ctl sinfo -h -R) ]] || { on ctl sinfo -R >&2; return 1; }; }
# state_is BEFORE: all is as BEFORE; but a loop device of the test before may have gone meanwhile.
state_is() {
    diff <(echo "$1") <(state_of_nodes) >"$BATS_TEST_TMPDIR/left" || ! grep '^[<>]' "$BATS_TEST_TMPDIR/left" | grep -qv '^< /sys/block/loop'
}

# nothing_is_left BEFORE: all nodes are idle and fine, and as `state_of_nodes` said BEFORE.
nothing_is_left() {
    eventually 60 nodes_are_idle
    no_drained_node
    eventually 10 state_is "$1" || { cat "$BATS_TEST_TMPDIR/left" >&2; return 1; }
}
