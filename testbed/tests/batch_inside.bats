# --image-batch, and what the site says of batch scripts: never inside (its default), always, or as I ask.
load lib

setup_file() { alice 'mkdir -p inside'; }
teardown_file() { alice 'rm -r inside'; }
teardown() { restore_config; }

may_ask() { configure '$ a [inside]\nbatch = "ask"' ctl c1 c2; }
always() { configure '$ a [inside]\nbatch = "always"' ctl c1 c2; }

@test "where the site says ask, --image-batch runs the script inside: as me, in my directory, with its arguments" {
    may_ask
    run alice 'cd inside; printf "#!/bin/bash\nimage-only; id -un; pwd; echo \"\$0: \$*\"; [[ -e /.shifter ]]; exit 7\n" >job
        sbatch --wait --image=debian:12 --image-batch -o out ./job one two; echo "exit $?"; cat out'
    assert_line 'exit 7'
    assert_line 'only in the image'
    assert_line alice
    assert_line /home/alice/inside
    assert_line --regexp '/slurm_script: one two$'
    no_drained_node
}

@test "… as does a line #SBATCH --image-batch, with volumes and modules, in every task of an array, and with --export=NONE" {
    may_ask
    run batch <<'SCRIPT'
#!/bin/bash
#SBATCH --image=debian:12 --image-batch --volume=/home/alice/inside:/data --module=greeting
ls -d /data; echo $GREETING
SCRIPT
    assert_output $'/data\nhello from the site'
    run batch --export=NONE --image=debian:12 --image-batch <<<$'#!/bin/bash\nimage-only'
    assert_output 'only in the image'
    run alice 'cd inside; sbatch --wait --array=1-3 --image=debian:12 --image-batch -o a.%a --wrap image-only >/dev/null; cat a.[123]'
    assert_equal "$(count 'only in the image')" 3
}

@test "… and without it the script stays on the host" {
    may_ask
    run batch -w c1 --image=debian:12 <<<$'#!/bin/bash\nreadlink /proc/self/ns/mnt'
    assert_line "$(on c1 readlink /proc/1/ns/mnt)"
}

@test "where the site says always, every script with an image runs inside, and none without" {
    always
    run batch --image=debian:12 <<<$'#!/bin/bash\nimage-only'
    assert_output 'only in the image'
    run batch -w c1 <<<$'#!/bin/bash\nreadlink /proc/self/ns/mnt'
    assert_output "$(on c1 readlink /proc/1/ns/mnt)"
    run batch -w c1 --image=none <<<$'#!/bin/bash\nreadlink /proc/self/ns/mnt'
    assert_output "$(on c1 readlink /proc/1/ns/mnt)"
}

@test "… also from a client that knows nothing of us" {
    always
    on ctl bash -c "sed 's|^PlugStackConfig=.*|PlugStackConfig=/dev/null|' /etc/slurm/slurm.conf >$SCRATCH/bare.conf"
    run alice 'SLURM_CONF='$SCRATCH/bare.conf' SLURM_SHIFTER_IMAGE=debian:12 sbatch --wait -o inside/out --wrap image-only >/dev/null; cat inside/out'
    on ctl rm "$SCRATCH/bare.conf"
    assert_output 'only in the image'
}

@test "where the site says never, --image-batch is refused" {
    run alice 'sbatch --image=debian:12 --image-batch --wrap true; echo "exit $?"'
    assert_line 'exit 1'
    assert_line 'shifter: --image-batch: this site runs batch scripts on the host'
    one_message
}

@test "the script and a step that comes in from outside share the job's mounts" {
    may_ask
    run alice 'job=$(sbatch --parsable -n2 --image=debian:12 --image-batch -o inside/out --wrap "readlink /proc/self/ns/mnt; until [ -e inside/go ]; do sleep 0.1; done")
        until [[ $(squeue -h -j "$job" -o %T) == RUNNING ]]; do sleep 0.1; done
        srun --overlap --jobid "$job" --image=debian:12 readlink /proc/self/ns/mnt; touch inside/go
        until [[ ! $(squeue -h -j "$job") ]]; do sleep 0.1; done; cat inside/out; rm inside/go'
    assert_equal "${#lines[@]}" 2
    assert_regex "${lines[0]}" '^mnt:'
    assert_equal "${lines[0]}" "${lines[1]}"
}

@test "what cannot be staged: the script does not run, its output says why, the node is fine" {
    may_ask
    run batch -w c1 --image=debian:12 --image-batch --volume=/no/such:/data <<<$'#!/bin/bash\ntouch ~/inside/ran'
    assert_failure 1
    assert_line --partial 'shifter: on c1: --volume=/no/such:/data: cannot open /no/such'
    configure 's/^path = .*/path = 7/' c1
    run batch -w c1 --image=debian:12 --image-batch <<<$'#!/bin/bash\ntouch ~/inside/ran'
    assert_failure 1
    assert_line --partial 'shifter: on c1: /etc/shifter/shifter.toml:'
    assert_line --partial 'This is a site problem'
    restore_config
    may_ask
    configure 's/^\[node\]/[node]\ndebug_panic = "stage"/' c1
    run batch -w c1 --image=debian:12 --image-batch <<<$'#!/bin/bash\ntouch ~/inside/ran'
    assert_failure 1
    assert_line --partial 'this is a bug in shifter'
    run alice 'ls inside/ran'
    assert_failure
    no_drained_node
}

@test "… and a script that stays outside runs, whatever is broken for images" {
    configure 's/^path = .*/path = 7/' c1
    run batch -w c1 --image=debian:12 <<<$'#!/bin/bash\nreadlink /proc/self/ns/mnt'
    assert_success
    assert_line "$(on c1 readlink /proc/1/ns/mnt)"
}

@test "an interpreter that the image lacks: the script fails as it would in any image" {
    may_ask
    run batch --image=tiny:1 --image-batch <<<$'#!/usr/bin/python3\nprint("no")'
    assert_failure
    assert_output --partial 'No such file or directory'
    no_drained_node
}

@test "salloc's shell stays on the host, also where scripts always run inside" {
    always
    run alice 'salloc --image=debian:12 readlink /proc/self/ns/mnt'
    assert_output "$(on ctl readlink /proc/1/ns/mnt)"
}

@test "srun and salloc have no batch script, and say so" {
    may_ask
    for command in srun salloc; do
        run alice "$command --image=debian:12 --image-batch true"
        assert_failure 1
        assert_output --partial "--image-batch: $command has no batch script"
        one_message
    done
}

# --- sbatch says where a script runs that starts nothing inside ---

NOTE='the script runs on the host, not in the image, and has no srun in it: start programs in the image by srun'

# said SCRIPT OPTION…: what sbatch says of a script.
said() {
    local script=$1
    shift
    run alice 'printf "%s\n" "#!/bin/bash" "$1" | sbatch -H -J said-$$ "${@:2}"; echo "exit $?"; squeue -h -n said-$$ -o %T; scancel -n said-$$' "$script" "$@"
    assert_line 'exit 0'
    assert_line PENDING
}

@test "sbatch says once that a script with an image and without srun runs on the host" {
    for script in ./solve 'mpirun ./solve' '# srun ./solve' 'echo done # by srun'; do
        said "$script" --image=debian:12
        assert_equal "$(count "shifter: note: $NOTE")" 1
    done
    said ./solve --image=debian:12 --array=1-3
    assert_equal "$(count note:)" 1
}

@test "… and nothing where srun starts something, without an image, where the script runs inside, or with --quiet" {
    said 'srun ./solve' --image=debian:12
    refute_output --partial note:
    said ./solve
    refute_output --partial note:
    said ./solve --image=none
    refute_output --partial note:
    said ./solve --image=debian:12 --quiet
    refute_output --partial note:
    may_ask
    said ./solve --image=debian:12 --image-batch
    refute_output --partial note:
    said ./solve --image=debian:12
    assert_line --partial "$NOTE, or submit the script with --image-batch"
}
