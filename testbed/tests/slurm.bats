# What srun, sbatch, scancel and their like can do, they do with an image as without. Elsewhere: one step, its exit code
# and terminal in run.bats, jobs and steps in batch.bats, very many in many.bats, however they end in survives.bats.
load lib

setup_file() {
    alice 'mkdir -p slurm && cd slurm && printf "#!/bin/sh\nimage-only\necho \$0\n" >program && chmod +x program'
    # Slurm tells jobs of their time limit twice a minute: the last test looks at this one.
    alice 'cd slurm && sbatch -J in-slurm-bats -w c1 -n1 -t1 --signal=B:USR1@55 --image=debian:12 -o limit.out --wrap "
        trap \"echo the script is told\" USR1; srun sh -c \"image-only; trap : TERM; sleep 40 & wait\" & wait; kill %1; wait"' >/dev/null
}
teardown_file() { alice 'scancel -n in-slurm-bats; rm -r slurm'; }
teardown() { alice 'scancel -n held'; }

# held [OPTION…] -- SCRIPT: alice's job with an image, whose step runs SCRIPT in debian:12. Its id is in $job when it runs.
held() {
    local options=()
    while [[ $1 != -- ]]; do options+=("$1"); shift; done
    on ctl rm -f /home/alice/slurm/said
    job=$(as alice sbatch --parsable -J held --chdir=/home/alice/slurm -o said --image=debian:12 "${options[@]}" <<<"#!/bin/bash
$2" 2>/dev/null)
    eventually 20 said ready
}
said() { on ctl grep -q -- "$1" /home/alice/slurm/said; }
ended() { [[ ! $(on ctl squeue -h -j "$job" -t R,CG,S,PD 2>/dev/null) ]]; }

# --- what is started ---

@test "a command by its path, absolute or relative, or by an interpreter that only the image has" {
    run alice 'cd slurm && srun --image=debian:12 /usr/local/bin/image-only && srun --image=debian:12 ./program
        printf "#!/usr/local/bin/image-only\n" >script; chmod +x script; srun --image=debian:12 ./script'
    assert_output $'only in the image\nonly in the image\n/home/alice/slurm/./program\nonly in the image'
}

@test "what Slurm tells a rank by variables is the same inside" {
    # But for what each step has of its own.
    run batch -N2 -n4 -c2 --image=debian:12 <<'SCRIPT'
#!/bin/bash
variables() { srun "$@" sh -c 'env | grep -E "^(SLURM|SRUN|PMI|TMPDIR|CUDA|GPU)" | sed "s/^/$SLURM_PROCID /"' |
    grep -v SHIFTER | sed -E 's/(STEP_?ID|TASK_PID|_PORTS?|KVSNAME)=.*/\1=/' | sort; }
variables --image=none >without.$$
variables | diff without.$$ - && wc -l <without.$$
rm without.$$
SCRIPT
    assert_success
    ((output > 100))
}

@test "srun --bcast and sbcast: the file that they put on the nodes is run inside" {
    run alice 'cd slurm && srun -N2 -n2 --image=debian:12 --bcast=/tmp/bcast-$$ ./program; srun -N2 rm /tmp/bcast-$$'
    assert_equal "$(count 'only in the image')" 2
    assert_equal "$(grep -c '^/tmp/bcast-' <<<"$output")" 2
    run batch -N2 -n2 --image=debian:12 <<'SCRIPT'
#!/bin/bash
sbcast slurm/program /tmp/sbcast-$$ && srun /tmp/sbcast-$$
srun rm /tmp/sbcast-$$
SCRIPT
    assert_equal "$(count 'only in the image')" 2
    assert_equal "$(grep -c '^/tmp/sbcast-' <<<"$output")" 2
}

@test "limits are passed on, or not, as --propagate says" {
    for propagate in ALL NONE CORE,NOFILE; do
        limits() { alice 'ulimit -c 100; ulimit -n 777; srun -w c1 "$@" bash -c "ulimit -a"' --propagate=$propagate "$@"; }
        run limits --image=debian:12
        assert_line --regexp 'open files'
        assert_output "$(limits)"
    done
}

# --- input and output ---

@test "files: one for all ranks to read, and by %t one for each to write" {
    run alice 'cd slurm; echo for all >in
        srun -N2 -n4 --image=tiny:1 --input=in --output=out.%t --error=err.%t sh -c "cat; echo of \$SLURM_PROCID >&2"; cat out.? err.?; rm in out.? err.?'
    assert_output $'for all\nfor all\nfor all\nfor all\nof 0\nof 1\nof 2\nof 3'
}

@test "--label, input for one rank alone, and --unbuffered" {
    run alice 'echo only for one | srun -n3 --label --input=1 --image=tiny:1 cat'
    assert_output '1: only for one'
    alice 'cd slurm; rm -f go; srun -u --image=tiny:1 sh -c "printf not-a-line; until [ -e go ]; do sleep 0.1; done" >part &
        for _ in $(seq 100); do grep -q not-a-line part && break; sleep 0.1; done; grep -q not-a-line part; seen=$?; touch go; wait; exit $seen'
}

@test "sattach shows what a step says" {
    held -- 'srun sh -c "echo ready; while :; do echo still here; sleep 0.1; done"'
    run alice 'timeout 10 sattach "$1.0" | grep -m1 "still here"' "$job"
    assert_output 'still here'
}

# --- jobs and steps under way ---

@test "srun --jobid, from outside the job: on the host, or by --image among the job's own ranks" {
    held -n2 -- 'srun -n1 --overlap sh -c "echo ready; readlink /proc/self/ns/mnt; sleep 60"'
    node=$(on ctl squeue -h -j "$job" -o %N)
    run alice 'srun --overlap -n1 --jobid="$1" readlink /proc/self/ns/mnt
        cd /usr && srun --overlap -n1 --jobid="$1" --image=debian:12 sh -c "readlink /proc/self/ns/mnt; pwd"' "$job"
    assert_line --index 0 "$(on "$node" readlink /proc/1/ns/mnt)"
    assert_line --index 1 "$(on ctl grep mnt: /home/alice/slurm/said)"
    # Where it stands is its own affair.
    assert_line --index 2 /usr
}

@test "scancel --signal reaches all ranks, and with --batch the script alone" {
    held -N2 -n2 -- 'trap "echo the script" USR1
srun bash -c "trap \"echo a rank\" USR1; echo ready; while :; do sleep 0.1; done" &
wait; wait'
    both_ready() { [[ $(on ctl grep -c ready /home/alice/slurm/said) == 2 ]]; }
    eventually 10 both_ready
    as alice scancel --batch --signal=USR1 "$job"
    eventually 10 said 'the script'
    run on ctl cat /home/alice/slurm/said
    refute_line 'a rank'
    as alice scancel --signal=USR1 "$job"
    both_told() { [[ $(on ctl grep -c 'a rank' /home/alice/slurm/said) == 2 ]]; }
    eventually 10 both_told
}

@test "scontrol suspend stops the ranks, and resume lets them go on" {
    held -- 'srun sh -c "echo ready; while :; do date +%s%N >beat; sleep 0.05; done"'
    beat() { on ctl cat /home/alice/slurm/beat; }
    beats() { local was; was=$(beat); sleep 0.3; [[ $was && $(beat) != "$was" ]]; }
    stands() { ! beats; }
    eventually 5 beats
    on ctl scontrol suspend "$job"
    eventually 5 stands
    on ctl scontrol resume "$job"
    eventually 5 beats
}

@test "--kill-on-bad-exit and --wait end the other ranks, as without an image" {
    for how in --kill-on-bad-exit=1 --wait=1; do
        bad() { alice 'srun -w c1 -n2 "$@" sh -c "[ \$SLURM_PROCID = 1 ] && sleep 60; exit 3" >/dev/null; echo "exit $?"' $how "$@"; }
        run bad --image=debian:12
        assert_line --regexp '^exit [1-9]'
        assert_equal "$(grep exit <<<"$output" | tail -1)" "$(bad | grep exit | tail -1)"
    done
}

@test "--no-kill: when a node goes, the job and its image stay on the other" {
    held -N2 -n2 --no-kill -- 'srun -n1 -N1 -w c1 sh -c "echo ready; until [ -e gone ]; do sleep 0.1; done"
srun -n1 -N1 -w c1 image-only'
    on ctl scontrol update nodename=c2 state=down reason=test
    on ctl touch /home/alice/slurm/gone
    eventually 20 said 'only in the image'
    eventually 20 ended
    on ctl scontrol update nodename=c2 state=resume
    on ctl rm /home/alice/slurm/gone
    back() { [[ $(on ctl sinfo -h -n c2 -o %T) == idle ]]; }
    eventually 30 back
}

@test "SLURM_TEST_EXEC, or a site's LaunchParameters=test_exec, looks on the login node: it refuses what only the image has" {
    run alice 'SLURM_TEST_EXEC=1 srun --image=debian:12 image-only'
    assert_failure
    assert_output --partial 'image-only'
    refute_output --partial 'only in the image'
}

@test "--signal=B:USR1@… before the time limit: the script is told, whose ranks are inside" {
    told() { on ctl grep -qx 'the script is told' /home/alice/slurm/limit.out; }
    eventually 60 told
    run on ctl cat /home/alice/slurm/limit.out
    assert_line 'only in the image'
}
