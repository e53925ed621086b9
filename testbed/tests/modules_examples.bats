# The modules of slurm-conf-examples/shifter.toml, as they stand there: `cvmfs`, `slurm` and `mpich`.
load lib

EXAMPLES=$BATS_TEST_DIRNAME/../../slurm-conf-examples

# install NAME: the example module NAME, on all nodes, without its "#". It replaces the testbed's own of that name, which
# is the last of its file.
install_module() {
    local text node
    text=$(sed -n "/^#\[modules\.$1\]/,/^\$/s/^#\([^ ]\)/\1/p" "$EXAMPLES/shifter.toml")
    for node in ctl "${NODES[@]}"; do
        configure "/^\[modules\.$1\]/,\$ d" "$node"
        on "$node" sh -c 'printf "\n%s\n" "$2" >>"$1"' - "$CONFIG" "$text"
    done
}

setup_file() {
    for node in "${NODES[@]}"; do
        on "$node" sh -c 'cat >/etc/shifter/slurm-command; chmod 755 /etc/shifter/slurm-command' <"$EXAMPLES/slurm-command"
    done
}
teardown_file() {
    for node in "${NODES[@]}"; do on "$node" rm -f /etc/shifter/slurm-command; done
}
teardown() {
    restore_config
    on c1 sh -c '[ ! -e /run/automount.cvmfs ] || kill $(cat /run/automount.cvmfs); while mountpoint -q /cvmfs; do sleep 0.1; done
        rm -rf /cvmfs /srv/cvmfs /etc/auto.master.cvmfs /etc/auto.cvmfs'
}

# --- cvmfs ---

@test "cvmfs: a repository that the automounter mounts because a rank looks at it is there, in a job that runs already" {
    on c1 sh -c 'command -v automount' || skip 'this release of Debian has no autofs'
    on c1 sh -s <<'SETUP'
set -e
mkdir -p /cvmfs /srv/cvmfs/atlas.cern.ch && echo software >/srv/cvmfs/atlas.cern.ch/file
echo '/cvmfs /etc/auto.cvmfs --timeout=60' >/etc/auto.master.cvmfs
echo '* -fstype=bind :/srv/cvmfs/&' >/etc/auto.cvmfs
automount --pid-file /run/automount.cvmfs /etc/auto.master.cvmfs
until mountpoint -q /cvmfs; do sleep 0.1; done
SETUP
    install_module cvmfs
    run alice 'srun -w c1 --image=tiny:1 --module=cvmfs sh -c "mounted() { grep -c \" /cvmfs/atlas.cern.ch \" /proc/self/mountinfo; }
        echo before: \$(mounted); cat /cvmfs/atlas.cern.ch/file; echo after: \$(mounted); cat /cvmfs/none/file; true"'
    assert_line 'before: 0'
    assert_line software
    assert_line 'after: 1'
    assert_line "cat: can't open '/cvmfs/none/file': No such file or directory"
}

@test "cvmfs: on a node without it the message names it" {
    install_module cvmfs
    run alice 'srun -w c1 --image=tiny:1 --module=cvmfs true'
    assert_failure 1
    assert_output --partial 'cannot open /cvmfs for the line'
    assert_output --partial 'This is a site problem'
}

# --- slurm ---

@test "slurm: the node's commands work in an image with glibc, an older glibc, and with none" {
    install_module slurm
    for image in debian:12 ubuntu:14.04 tiny:1; do
        run alice 'srun -w c1 --image="$1" --module=slurm sh -c "squeue -h -j \$SLURM_JOB_ID -o %u; scontrol show job \$SLURM_JOB_ID | grep -c JobId; sinfo -h -o %P; srun --version"' "$image"
        assert_output --regexp $'^alice\n1\nmain\\*\nslurm[-a-z]* [0-9.]+$'
    done
}

@test "slurm: a rank starts a step, which is in the same image, and one in another" {
    install_module slurm
    run alice 'salloc -w c1 -n2 --image=debian:12 --module=slurm srun --overlap -n1 sh -c "srun --overlap -n2 sh -c \"image-only; id -un\"; srun --overlap --image=tiny:1 -n1 /bin/busybox echo from tiny; srun --overlap --image=none -n1 sh -c \"ls /.shifter || echo on the host\""'
    assert_success
    assert_equal "$(count 'only in the image')" 2
    assert_equal "$(count alice)" 2
    assert_line 'from tiny'
    assert_line 'on the host'
}

@test "slurm: a batch script inside starts its steps inside, on both nodes" {
    install_module slurm
    configure '$ a [inside]\nbatch = "ask"' ctl c1 c2
    run batch -N2 --ntasks-per-node=2 --image=debian:12 --image-batch --module=slurm <<'SCRIPT'
#!/bin/bash
image-only
srun -N2 -n4 sh -c 'echo $SLURMD_NODENAME; image-only' | sort | uniq -c | tr -s ' '
SCRIPT
    assert_line --index 0 'only in the image'
    assert_line ' 2 c1'
    assert_line ' 2 c2'
    assert_line ' 4 only in the image'
}

@test "slurm: a job is submitted from inside; it is a new one and has no image unless it asks" {
    install_module slurm
    run alice 'srun -w c1 --image=debian:12 --module=slurm sh -c "cd /home/alice
        sbatch --wait -Q -o nested.out --wrap \"ls /.shifter || echo on the host\"; cat nested.out
        sbatch --wait -Q -o nested.out --image=tiny:1 --wrap \"srun /bin/busybox echo in an image\"; cat nested.out; rm nested.out"'
    assert_line 'on the host'
    assert_line 'in an image'
}

@test "slurm: a mistake inside is told as outside" {
    install_module slurm
    run alice 'srun -w c1 --image=tiny:1 --module=slurm sh -c "srun --overlap --image=tny:1 true; echo exit \$?"'
    assert_output --partial '--image=tny:1: no such image in the store'
    assert_line 'exit 1'
}

# --- mpich ---

@test "mpich: the nodes' library, its Fortran and C++ interfaces and UCX are those that an image's programs find; two nodes" {
    install_module mpich
    # What the image has is replaced where it was, and UCX, which it lacks, is in a place of ours.
    sums='cd /usr/lib/x86_64-linux-gnu; for name in libmpich.so.12 libmpichfort.so.12 libmpichcxx.so.12 libucp.so.0 libuct.so.0 libucs.so.0 libucm.so.0; do
        [ -e $name ] || cd /.shifter/lib; sha256sum $name; done'
    run alice 'srun --image=mpich:3.4 --module=mpich sh -c "$1"' "$sums"
    assert_output "$(on c1 sh -c "$sums")"
    assert_equal "${#lines[@]}" 7
    run alice 'srun --image=mpich:3.4 --module=mpich sh -c "cd /usr/lib/x86_64-linux-gnu; for name in libmpich libmpichfort libmpichcxx; do
        LD_TRACE_LOADED_OBJECTS=1 /lib64/ld-linux-x86-64.so.2 ./\$name.so.12; done"'
    assert_line --partial '/.shifter/lib/libucp.so.0'
    refute_output --partial 'not found'
    run alice 'srun -N2 --mpi=pmi2 --image=mpich:3.4 --module=mpich ranks'
    assert_line --partial 'all is right with 2 ranks and MPICH Version: '
    refute_output --partial 'MPICH Version: 3.4'
}

@test "mpich: UCX finds its parts for a network, which it opens by itself" {
    install_module mpich
    run alice 'SHIFTERENV_LD_DEBUG=files srun -w c1 --mpi=pmi2 --image=mpich:3.4 --module=mpich ranks'
    assert_line --regexp 'calling init: /opt/site/ucx/libuct_.*\.so'
    assert_line --partial 'all is right with 1 ranks'
}

@test "mpich: a node without UCX is fine" {
    install_module mpich
    configure 's|"/usr/lib/x86_64-linux-gnu/ucx"|"/no/such/ucx"|' c1
    run alice 'srun -w c1 --mpi=pmi2 --image=mpich:3.4 --module=mpich ranks -v'
    assert_line --partial 'rank 0 of 1 on c1: MPICH Version: '
}
