# One UDI per job and node, one image mount per node.
load lib

@test "all ranks of all steps of a job share one mount namespace on each node" {
    run batch -N2 -n6 --image=debian:12 <<'SCRIPT'
#!/bin/bash
for step in 1 2 3; do srun sh -c 'echo "$(hostname) $(readlink /proc/self/ns/mnt)"'; done
SCRIPT
    assert_success
    echo "$output"
    assert_equal "${#lines[@]}" 18
    # Two nodes, two namespaces: as many different lines.
    assert_equal "$(sort -u <<<"$output" | wc -l)" 2
}

# hold USER: a job of USER on c1 that says where it is and waits for `let_go`.
hold() {
    as "$1" srun -w c1 -J "hold-$1" --image=debian:12 sh -c '
        touch /shared/scratch/held-$USER; while [ ! -e /shared/scratch/go ]; do sleep 0.05; done
        readlink /proc/self/ns/mnt; rm /shared/scratch/held-$USER' >"$BATS_TEST_TMPDIR/$1" 2>&1 </dev/null 3>&- &
    eventually 20 on ctl test -e "$SCRATCH/held-$1"
}
let_go() { on ctl touch "$SCRATCH/go"; wait; on ctl rm -f "$SCRATCH/go"; }
teardown() { let_go; }

@test "two users with the same image on a node: two namespaces over one image mount" {
    hold alice
    hold bob
    images_of() { on c1 ls "/run/shifter/jobs/$(on ctl squeue -h -n "hold-$1" -o %A)/images"; }
    image=$(images_of alice)
    assert_equal "$(images_of bob)" "$image"
    run on c1 sh -c 'cat /sys/block/loop*/loop/backing_file | grep -F "$1"' - "$image"
    assert_equal "${#lines[@]}" 1
    let_go
    [[ $(<"$BATS_TEST_TMPDIR/alice") == mnt:* && $(<"$BATS_TEST_TMPDIR/bob") == mnt:* ]]
    [[ $(<"$BATS_TEST_TMPDIR/alice") != $(<"$BATS_TEST_TMPDIR/bob") ]]
}

@test "two jobs of one user on a node have UDIs of their own" {
    hold='touch '$SCRATCH'/one-$SLURM_JOB_ID; while [ $(ls '$SCRATCH'/one-* | wc -l) -lt 2 ]; do sleep 0.05; done; readlink /proc/self/ns/mnt'
    run alice 'srun -w c1 --image=tiny:1 sh -c "$1" & srun -w c1 --image=tiny:1 sh -c "$1" & wait; rm '$SCRATCH'/one-*' "$hold"
    assert_success
    assert_equal "${#lines[@]}" 2
    [[ ${lines[0]} != "${lines[1]}" ]]
}

@test "the mount namespace is all that differs: network, processes, IPC, users and host name are the host's" {
    for kind in net pid ipc user uts; do
        inside=$(alice 'srun -w c1 --image=debian:12 readlink /proc/self/ns/$1' $kind)
        assert_equal "$inside" "$(on c1 readlink /proc/1/ns/$kind)"
    done
}
