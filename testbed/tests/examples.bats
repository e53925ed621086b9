# slurm-conf-examples/: what a site copies works as it stands.
load lib

EXAMPLES=$BATS_TEST_DIRNAME/../../slurm-conf-examples

# with_examples CMD: CMD on the login node with a Slurm configuration that has the examples' lines and nothing else of ours.
with_examples() {
    tar -C "$EXAMPLES" -c plugstack.conf slurm.conf shifter.toml | on ctl bash -c '
        set -e
        dir=$(mktemp -d); chmod 755 "$dir"; trap "rm -r $dir" EXIT; cd "$dir"
        tar x --no-same-owner; mv slurm.conf lines
        grep -vE "^(JobSubmitPlugins|PrologFlags|SlurmdSpoolDir|PlugStackConfig)=" /etc/slurm/slurm.conf >slurm.conf
        { cat lines; echo "PlugStackConfig=$dir/plugstack.conf"; } >>slurm.conf
        export SLURM_CONF=$dir/slurm.conf
        '"$1"
}

@test "the example plugstack.conf gives srun, sbatch and salloc our options" {
    for command in srun sbatch salloc; do
        run with_examples "$command --help"
        assert_success
        assert_output --partial '--image=NAME:TAG'
    done
}

@test "the example slurm.conf is read without a complaint, and names our job_submit plugin" {
    run with_examples 'sinfo; grep -x JobSubmitPlugins=shifter slurm.conf'
    assert_success
    refute_output --partial error
    # The plugin of that name is where Slurm looks for it.
    on ctl bash -c '[[ -f $(scontrol show config | sed -n "s/^PluginDir *= //p")/job_submit_shifter.so ]]'
}

@test "the example shifter.toml is what the tool reads, but for the store's place" {
    # As root: a tool that is set-user-ID lets nobody else name another configuration.
    run with_examples 'sed -i "s|^path = .*|path = \"/shared/shifter\"|" shifter.toml; shifterimg --config "$dir/shifter.toml" images'
    assert_success
    assert_output --partial 'IMAGE'
}

@test "the plugin is required: optional would run a job on the bare host" {
    grep -qx 'required shifter.so' "$EXAMPLES/plugstack.conf"
    [[ $(grep -cv '^#' "$EXAMPLES/plugstack.conf") == 1 ]]
}

# --- and out again ---

teardown_file() { on ctl grep -q shifter.so /etc/slurm/plugstack.conf || slurm_with ''; }

@test "without our lines in Slurm's configuration nothing of us is left, and with them all is as before" {
    for node in ctl "${NODES[@]}"; do
        on "$node" sed -i '/shifter\.so/d; /^JobSubmitPlugins=/d' /etc/slurm/plugstack.conf /etc/slurm/slurm.conf
    done
    on ctl restart-slurmctld
    for node in "${NODES[@]}"; do
        on "$node" restart-slurmd
        on "$node" umount -l /run/shifter
        run -1 on "$node" grep -E 'shifter\.so| /run/shifter' /proc/1/mountinfo "/proc/$(on "$node" pgrep -x slurmd)/maps"
    done
    eventually 30 nodes_are_idle
    run alice 'srun -N2 hostname | sort; srun --image=tiny:1 true'
    assert_line --index 0 c1
    assert_line --index 1 c2
    assert_output --partial "unrecognized option '--image=tiny:1'"
    slurm_with ''
    run alice 'srun -N2 --image=tiny:1 echo in again'
    assert_output $'in again\nin again'
}
