# However a job ends, nothing of it stays on the nodes, and no srun waits for what will not come.
load lib

setup() { before=$(state_of_nodes); }
teardown() {
    on ctl scancel -n survives
    on ctl touch "$SCRATCH/go"
    restore_config
    wait
    on ctl rm -f "$SCRATCH/go" "$SCRATCH/started"
}

# held NAME [OPTION…]: an srun of alice's in the background, one rank that waits; returns when it runs.
# Its process is in ${held[NAME]}.
declare -A held
held() {
    local name=$1
    shift
    as alice timeout 80 srun -J survives "$@" sh -c "touch $SCRATCH/started
        until [ -e $SCRATCH/go ]; do sleep 0.1; done" >"$BATS_TEST_TMPDIR/$name" 2>&1 </dev/null 3>&- &
    held[$name]=$!
    started
}
started() { eventually 20 on ctl test -e "$SCRATCH/started"; on ctl rm -f "$SCRATCH/started"; }

# ends NAME: that srun comes to an end by itself; not because `timeout` lost its patience.
ends() {
    local status=0
    wait "${held[$1]}" || status=$?
    ((status != 124 && status != 127)) || { echo "srun $1: $status"; cat "$BATS_TEST_TMPDIR/$1"; return 1; } >&2
}

# submitted [OPTION…] < SCRIPT: alice's batch job; its id.
submitted() { as alice sbatch --parsable -J survives --output=/dev/null "$@"; }
state_of() { on ctl squeue -h -t all -j "$1" -o %T; }
has_ended() { [[ $(state_of "$1") =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT)$ ]]; }
runs() { [[ $(on ctl squeue -h -s -j "$1" -o %i) == *"$1.$2"* ]]; }

# kill_step_daemons: those of the first step of the jobs here, on all nodes.
kill_step_daemons() {
    local jobs node
    jobs=$(on ctl squeue -h -n survives -o %A | paste -sd'|')
    for node in "${NODES[@]}"; do
        on "$node" sh -c 'kill -9 $(pgrep -f "^slurmstepd: \[($1)\.0\]")' - "$jobs"
    done
}

# more_than_before REGEX: the nodes are as before but for lines that are like REGEX, and there are some.
more_than_before() {
    local more=$BATS_TEST_TMPDIR/more
    diff <(echo "$before") <(state_of_nodes) | grep '^[<>]' >"$more" || true
    [[ -s $more ]] && ! grep -vE "^> ($1)\$" "$more" >&2
}
LOOP='/sys/block/loop[0-9]+/loop/backing_file:.*'

@test "after a normal end" {
    run alice 'srun -N2 -n8 --image=debian:12 true'
    assert_success
    nothing_is_left "$before"
}

@test "after a rank is killed, and after an exit code" {
    run alice 'srun -N2 -n2 --image=debian:12 sh -c "kill -KILL \$\$"; srun -N2 -n2 --image=debian:12 false'
    assert_failure 1
    nothing_is_left "$before"
}

@test "after scancel of the job" {
    held it -N2 -n2 --image=debian:12
    on ctl scancel -n survives
    ends it
    nothing_is_left "$before"
}

@test "after scancel of a step, while the job goes on" {
    job=$(submitted -N2 --image=debian:12 <<<"#!/bin/bash
srun sh -c 'touch $SCRATCH/started; exec sleep 300'
srun --image=tiny:1 true && touch $SCRATCH/went-on-\$SLURM_JOB_ID")
    started
    as alice scancel "$job.0"
    eventually 20 has_ended "$job"
    run on ctl rm "$SCRATCH/went-on-$job"
    assert_success
    nothing_is_left "$before"
}

@test "after the time limit" {
    held it -N2 -n2 --image=debian:12
    # Limits are whole minutes; this is as if the minute were nearly over. slurmctld looks every 30 s.
    on ctl scontrol update "jobid=$(on ctl squeue -h -n survives -o %A)" endtime=now+1
    ends it
    run cat "$BATS_TEST_TMPDIR/it"
    assert_output --partial 'DUE TO TIME LIMIT'
    nothing_is_left "$before"
}

@test "after kill -9 of slurmstepd: a rank that outlives it keeps its image, and no longer" {
    # Slurm tells no srun of this, with or without an image: it waits until the job is ended.
    held with -w c1 --image=debian:12
    held without -w c2
    kill_step_daemons
    on ctl scancel -n survives
    ends with
    ends without
    eventually 60 nodes_are_idle
    no_drained_node
    more_than_before "$LOOP"
    on ctl touch "$SCRATCH/go"
    nothing_is_left "$before"
}

@test "after a restart of slurmd during the job, which goes on" {
    held it -w c1 --image=debian:12
    on c1 restart-slurmd
    run on ctl squeue -h -n survives -o %T
    assert_output RUNNING
    on ctl touch "$SCRATCH/go"
    wait "${held[it]}"
    nothing_is_left "$before"
}

@test "after a requeue: the second run is like the first" {
    job=$(submitted -N2 --requeue --image=debian:12 <<<"#!/bin/bash
[[ \$SLURM_RESTART_COUNT ]] && exec srun sh -c 'image-only && touch $SCRATCH/again-$BATS_TEST_NUMBER'
srun sh -c 'touch $SCRATCH/started; exec sleep 300'")
    started
    on ctl scontrol requeue "$job"
    eventually 20 nodes_are_idle
    eventually 10 state_is "$before"
    # Slurm would wait two minutes.
    on ctl scontrol update "jobid=$job" starttime=now
    eventually 30 has_ended "$job"
    run on ctl rm "$SCRATCH/again-$BATS_TEST_NUMBER"
    assert_success
    nothing_is_left "$before"
}

@test "after two jobs at once" {
    run alice 'srun -w c1 --image=debian:12 true & srun -w c1 --image=tiny:1 true & wait'
    assert_success
    nothing_is_left "$before"
}

@test "with image_linger = 60: the image's mount stays, nothing else; and goes when it is old" {
    configure 's/^image_linger.*/image_linger = 60/'
    only_the_image_lingers() {
        eventually 60 nodes_are_idle
        no_drained_node
        eventually 10 more_than_before "$LOOP|/run/shifter/images/[0-9a-f]{64}"
    }
    run alice 'srun -N2 -n2 --image=debian:12 true'
    assert_success
    only_the_image_lingers
    lingering=$(<"$BATS_TEST_TMPDIR/more")

    # Later jobs find it, whatever way they end; a restart of slurmd takes nothing away.
    held cancelled -N2 -n2 --image=debian:12
    on ctl scancel -n survives
    ends cancelled
    held killed -N2 -n2 --image=debian:12
    kill_step_daemons
    on ctl touch "$SCRATCH/go"
    on ctl scancel -n survives
    ends killed
    on c1 restart-slurmd
    only_the_image_lingers
    assert_equal "$(<"$BATS_TEST_TMPDIR/more")" "$lingering"

    # slurmd's start, and the epilog of any job, drop what nobody used for that long.
    configure 's/^image_linger.*/image_linger = 1/'
    sleep 1
    on c1 restart-slurmd
    run alice 'srun -w c2 true'
    assert_success
    nothing_is_left "$before"
}

@test "after a crash of the node: it comes back clean, and the job runs there again" {
    job=$(submitted -w c2 --requeue --image=debian:12 <<<"#!/bin/bash
[[ \$SLURM_RESTART_COUNT ]] && exec srun sh -c 'image-only && touch $SCRATCH/again-$BATS_TEST_NUMBER'
srun sh -c 'touch $SCRATCH/started; exec sleep 300'")
    started
    slurmd_of_c2() { on ctl scontrol show node c2 | grep -o 'SlurmdStartTime=[^ ]*'; }
    crashed=$(slurmd_of_c2)
    docker kill "${TESTBED_NAME:-shifter}-c2"
    # Slurm would notice by itself, after SlurmdTimeout.
    on ctl scontrol update nodename=c2 state=down reason=crashed
    docker start "${TESTBED_NAME:-shifter}-c2"
    # An answer from before the crash would bring it back, too.
    back() {
        [[ $(slurmd_of_c2) != "$crashed" ]] || return
        on ctl scontrol update nodename=c2 state=resume
        [[ $(on ctl sinfo -h -n c2 -o %T) == idle ]]
    }
    eventually 30 back
    # It would wait for two minutes. Not at once: slurmctld 24.11.5 crashes where the end of the first run is told
    # when the second has begun (SchedMD's ticket 19198).
    on ctl scontrol update "jobid=$job" starttime=now+8
    eventually 30 has_ended "$job"
    run on ctl rm "$SCRATCH/again-$BATS_TEST_NUMBER"
    assert_success
    # A machine that starts mounts in an order of its own, and numbers namespaces anew.
    eventually 60 nodes_are_idle
    alike() { sed 's/mnt:\[[0-9]*\]/mnt/' | sort; }
    as_before() { diff <(alike <<<"$before") <(state_of_nodes | alike); }
    eventually 10 as_before
}

@test "after srun itself is told to end, or its terminal goes" {
    for signal in TERM HUP; do
        held it -N2 -n2 --image=debian:12
        on ctl pkill -"$signal" -u alice -x srun
        ends it
        eventually 60 nodes_are_idle
    done
    nothing_is_left "$before"
}

@test "an image that is removed while the job waits: the job fails, says so, and the node is fine" {
    registry=${TESTBED_SUBNET:-198.18.57}.5:5000
    python3 "$BATS_TEST_DIRNAME/images.py" "$BATS_TEST_TMPDIR/oci"
    skopeo copy -q --dest-tls-verify=false "oci:$BATS_TEST_TMPDIR/oci/other:1" "docker://$registry/waited:1"
    alice 'shifterimg pull -q waited:1'
    job=$(as alice sbatch --parsable -J survives -H -w c1 --image=waited:1 --output=waited.out --wrap 'srun cat /note')
    alice 'shifterimg rm waited:1'
    on ctl scontrol release "$job"
    eventually 30 has_ended "$job"
    run alice 'cat waited.out; rm waited.out'
    on registry rm -rf /var/lib/registry/open/docker/registry/v2/repositories/waited
    assert_output --partial 'no such image in the store'
    assert_output --partial 'hint: '
    assert_equal "$(state_of "$job")" FAILED
    nothing_is_left "$before"
}
