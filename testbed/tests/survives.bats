# However a job ends, nothing of it stays on the nodes.
load lib

setup() { before=$(state_of_nodes); }
started() { eventually 20 on ctl test -e "$SCRATCH/started"; on ctl rm -f "$SCRATCH/started"; }
HELD="touch $SCRATCH/started; exec sleep 300"

@test "after a normal end" {
    run alice 'srun -N2 -n8 --image=debian:12 true'
    assert_success
    nothing_is_left "$before"
}

@test "after scancel of the job, and srun does not hang" {
    as alice timeout 60 srun -J cancel-me -N1 --image=debian:12 sh -c "$HELD" >/dev/null 2>&1 </dev/null 3>&- &
    started
    alice 'scancel -n cancel-me'
    run wait $!
    refute [ "$status" = 124 ]
    nothing_is_left "$before"
}

@test "after a restart of slurmd during the job, which goes on" {
    as alice timeout 60 srun -J restart-me -w c1 --image=debian:12 sh -c "$HELD" >/dev/null 2>&1 </dev/null 3>&- &
    started
    on c1 restart-slurmd
    run on ctl squeue -h -n restart-me -o %T
    assert_output RUNNING
    alice 'scancel -n restart-me'
    wait $! || true
    nothing_is_left "$before"
}

@test "after two jobs at once" {
    run alice 'srun -w c1 --image=debian:12 true & srun -w c1 --image=tiny:1 true & wait'
    assert_success
    nothing_is_left "$before"
}
