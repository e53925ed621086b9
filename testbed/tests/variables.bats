# --volume='$SCRATCH/…:TO': variables of the job in FROM. The site says which: here SCRATCH and BB_*.
load lib

setup_file() {
    configure '$ a [volumes]\nvariables = ["SCRATCH", "BB_*"]\nnot_from = ["/home/bob"]' ctl c1 c2
    alice 'mkdir -p var/a "var/b c" var/\$x; echo a >var/a/name; echo b >"var/b c/name"; echo x >var/\$x/name'
}
teardown_file() {
    restore_config
    alice 'rm -r var'
}

V=/home/alice/var

@test "\$NAME and \${NAME} have the values of the job's environment, on every node" {
    run alice 'export SCRATCH=$HOME/var BB_1="b c"; srun -N2 -n2 --image=tiny:1 '"'"'--volume=$SCRATCH/a:/1;${SCRATCH}/$BB_1:/2'"'"' cat /1/name /2/name | sort'
    assert_output $'a\na\nb\nb'
}

@test "#SBATCH --volume=\$SCRATCH/…: no shell reads that line, the job's environment has the value" {
    run batch --export=ALL,SCRATCH=$V <<'SCRIPT'
#!/bin/bash
#SBATCH --image=tiny:1
#SBATCH --volume=$SCRATCH/a:/data:ro
srun cat /data/name
printenv SLURM_SHIFTER_VOLUME
SCRIPT
    assert_output $'a\n${SCRATCH}/a:/data:ro'
}

@test "a step sees the value it has itself; steps with the same value share what is mounted" {
    run batch --export=ALL,SCRATCH=$V/a --image=tiny:1 '--volume=$SCRATCH:/data' <<'SCRIPT'
#!/bin/bash
look() { srun sh -c 'echo $(cat /data/name) $(readlink /proc/self/ns/mnt)'; }
look; SCRATCH="/home/alice/var/b c" look; look
SCRIPT
    assert_line --index 0 --regexp '^a mnt:'
    assert_line --index 1 --regexp '^b mnt:'
    assert_equal "${lines[2]}" "${lines[0]}"
    refute_regex "${lines[1]}" "${lines[0]#a }"
}

@test "one that is not set in the job: the step fails, and says which" {
    run alice 'unset SCRATCH; srun -N2 --image=tiny:1 '"'"'--volume=$SCRATCH/a:/data'"'"' true; echo "exit $?"'
    assert_line 'exit 1'
    assert_line 'shifter: on c1: --volume=${SCRATCH}/a:/data: SCRATCH is not set in the job'"'s environment"
    run alice 'SCRATCH=var srun --image=tiny:1 '"'"'--volume=$SCRATCH/a:/data'"'"' true'
    assert_output --partial 'FROM must be an absolute path'
    no_drained_node
}

@test "a value gives no more than the path would: the site's list and my own rights decide on the node" {
    run alice 'SCRATCH=/home/bob srun --image=tiny:1 '"'"'--volume=$SCRATCH:/data'"'"' true'
    assert_failure 1
    assert_output --partial 'this site does not allow volumes from /home/bob'
    run alice 'SCRATCH=/root/x srun --image=tiny:1 '"'"'--volume=$SCRATCH:/data'"'"' true'
    assert_failure 1
    assert_output --partial 'cannot open /root/x: Permission denied'
    no_drained_node
}

@test "any other \$ is text, and so is one behind a backslash" {
    run alice 'x=no srun --image=tiny:1 --volume=$HOME/var/\$x:/data cat /data/name'
    assert_output x
    run alice 'srun --image=tiny:1 '"'"'--volume=$HOME/var:/data'"'"' true'
    assert_failure 1
    assert_output --partial 'FROM must be an absolute path'
    run alice 'mkdir var/\$SCRATCH; echo text >var/\$SCRATCH/name; SCRATCH=/no srun --image=tiny:1 "--volume=$HOME/var/\\\$SCRATCH:/data" cat /data/name'
    assert_output text
}
