# docs/scale.md: what a job costs the shared file system, counted.
load lib

# calls_on_c1 CMD…: the opens below the store on c1, by slurmd and everything it starts, while CMD runs.
calls_on_c1() {
    on c1 bash -c 'echo $$ >/tmp/tracer; exec strace -f -y -qq -e trace=open,openat,openat2,getdents64,flock,fcntl,rename,unlink,mkdir -o /tmp/calls -p "$(pidof slurmd)"' </dev/null >/dev/null 2>&1 3>&- &
    local tracer=$!
    eventually 10 on c1 bash -c 'grep -q "^TracerPid:.*[1-9]" "/proc/$(pidof slurmd)/status"'
    "$@"
    eventually 30 nodes_are_idle
    on c1 sh -c 'kill -INT "$(cat /tmp/tracer)"'
    wait "$tracer" || true
    on c1 bash -c 'grep "/shared/shifter" /tmp/calls; rm /tmp/calls /tmp/tracer' >"$BATS_TEST_TMPDIR/calls" || true
}
opened() { grep -cE "open(at|at2)?\(.*$1" "$BATS_TEST_TMPDIR/calls" || true; }

@test "a job costs the store three opens per node, whatever its steps and ranks" {
    calls_on_c1 alice "salloc -Q -w c1 -n8 --image=debian:12 sh -c 'srun -n8 true; srun -n8 true; srun -n1 true'"
    cat "$BATS_TEST_TMPDIR/calls"
    [[ $(opened '"manifests/') == 1 ]]
    [[ $(opened '"images/') == 2 ]]
    [[ $(opened '"refs/') == 0 ]]
    # And nothing else but the store's own directory.
    [[ $(opened '') == 4 ]]
}

@test "a job lists no directory of the store, takes no lock there, and writes nothing" {
    calls_on_c1 alice "srun -w c1 -n4 --image=debian:12 true"
    [[ $(opened '"images/') == 2 ]]
    run grep -E '(getdents64|flock|fcntl|rename|unlink|mkdir)[a-z0-9]*\(|O_WRONLY|O_RDWR|O_CREAT' "$BATS_TEST_TMPDIR/calls"
    assert_failure 1
}
