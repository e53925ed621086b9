# [hooks] of shifter.toml: the site's programs around the staging of an image, run as root on the node.
load lib

HOOK=/usr/local/libexec/hook
OUT=/run/hook.out

# hook before|after SCRIPT: a hook on c1.
hook() {
    on c1 sh -c 'mkdir -p "${1%/*}"; printf "#!/bin/sh\n%s\n" "$2" >"$1-$3"; chmod 755 "$1-$3"; rm -f "$4"' - "$HOOK" "$2" "$1" $OUT
    configure '$ a [[hooks.'"$1"']]\ncommand = ["'"$HOOK-$1"'", "a word"]\ntimeout = 2' c1
}
teardown() {
    restore_config
    on c1 sh -c 'rm -f "$1"-* "$2"' - $HOOK $OUT
}
# said: what the hooks wrote down.
said() { on c1 cat $OUT; }
log() { on c1 tail -n "+$1" /var/log/slurm/slurmd.log; }
lines() { on c1 sed -n '$=' /var/log/slurm/slurmd.log; }

@test "before and after: once for a job on a node, not for its ranks and further steps" {
    hook before "echo before \"\$1\" \$(id -u) \$PWD >>$OUT"
    hook after "echo after >>$OUT"
    run batch -w c1 -n4 --image=tiny:1 <<<$'#!/bin/bash\nsrun true; srun -n1 true'
    assert_success
    run said
    assert_output $'before a word 0 /\nafter'
}

@test "a step with mounts of its own has hooks of its own" {
    hook before "echo before >>$OUT"
    run batch -w c1 --image=tiny:1 <<<$'#!/bin/bash\nsrun true; srun --image=debian:12 true; srun --image=none true'
    assert_success
    run said
    assert_output $'before\nbefore'
}

@test "they are told of the job, and of nothing else: no environment of the user's, no open files" {
    hook before "tr '\\0' '\\n' </proc/\$\$/environ >$OUT; ls /proc/self/fd | wc -l >>$OUT"
    run alice 'EVIL=x LD_PRELOAD=/no/such srun -w c1 --image=tiny:1 true 2>&1; shifterimg lookup tiny:1'
    digest=${lines[-1]}
    run said
    assert_line PATH=/usr/sbin:/usr/bin:/sbin:/bin
    assert_line --regexp '^SHIFTER_JOB_ID=[0-9]+$'
    assert_line "SHIFTER_UID=$(alice 'id -u')"
    assert_line "SHIFTER_GID=$(alice 'id -g')"
    assert_line SHIFTER_USER=alice
    assert_line "SHIFTER_IMAGE=$digest"
    # stdin, stdout, stderr, and the directory that ls reads.
    assert_line 4
    assert_equal "${#lines[@]}" 7
}

@test "a hook before runs when nothing is mounted, a hook after only when everything is" {
    hook before "echo before >>$OUT; grep /run/shifter/jobs /proc/self/mounts >>$OUT; true"
    hook after "echo after >>$OUT"
    run alice 'srun -w c1 --image=tiny:1 --volume=/etc/hostname:/bin true 2>&1; srun -w c1 --image=tiny:1 echo ran'
    assert_line --partial 'one is a directory and the other is not'
    assert_line ran
    run said
    assert_output $'before\nbefore\nafter'
}

@test "what a hook prints is in the node's log, and users do not see it" {
    hook before 'echo "to the log"; echo "errors as well" >&2'
    from=$(lines)
    run alice 'srun -w c1 --image=tiny:1 echo quiet'
    assert_output quiet
    # What comes before the job is slurmd's; slurmstepd writes to the same file.
    run log "$from"
    assert_output --partial "hook $HOOK-before: to the log"
    assert_output --partial "hook $HOOK-before: errors as well"
}

@test "a hook that fails or hangs fails the job by the site's fault, and not the node" {
    for case in 'exit 3|failed with exit 3' 'kill -9 $$|was killed by signal 9' 'sleep 60|did not end within 2 seconds and was stopped'; do
        for when in before after; do
            hook $when "${case%|*}"
            run alice 'srun -w c1 -n2 --image=tiny:1 echo ran 2>&1'
            assert_failure 1
            assert_output --partial "the site's hook $HOOK-$when ${case#*|}"
            assert_output --partial 'This is a site problem'
            refute_line ran
            restore_config
        done
    done
    refute on c1 pgrep -f 'sleep 60'
    no_drained_node
    run alice 'srun -w c1 --image=tiny:1 echo fine; srun -w c1 echo host'
    assert_output $'fine\nhost'
}

@test "a hook that others than root could have written is not run" {
    for change in 'chown alice "$1"' 'chmod g+w "$1"' 'chown alice "${1%/*}"' 'rm "$1"'; do
        hook before "touch $OUT"
        on c1 sh -c "$change" - $HOOK-before
        run alice 'srun -w c1 --image=tiny:1 echo ran 2>&1'
        assert_failure 1
        assert_output --partial "the site's hook $HOOK-before will not be run: "
        refute_line ran
        on c1 sh -c 'chown root "${1%/*}"; ! test -e "$2"' - $HOOK $OUT
        restore_config
    done
}
