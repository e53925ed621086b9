# Programs of a module: as root on the node, for jobs with the module only; and inside, as the user, before my
# command. What holds of every hook as root (environment, output, time limit) is in hooks.bats.
load lib

HOOK=/usr/local/libexec/module
OUT=/run/module.out

setup_file() { alice 'mkdir -p hooked'; }
teardown_file() { alice 'rm -r hooked'; }
setup() { alice 'rm -rf hooked/*'; }
teardown() {
    restore_config
    on c1 sh -c 'rm -f "$1"* "$2"' - "$HOOK" "$OUT"
}

# of_module LINE…: the site has a module `m` with these lines.
of_module() {
    local lines
    printf -v lines '\\n%s' "$@"
    configure '$ a [modules.m]'"$lines" ctl c1 c2
}
# inside SCRIPT [TIMEOUT]: the module's program for inside, by the image's shell.
inside() { of_module '[[modules.m.hooks.user]]' "command = [\"/bin/sh\", \"-c\", \"$1\"]" "timeout = ${2:-10}"; }

@test "as root, before and after, behind the site's own, and only with the module" {
    for name in site module; do
        on c1 sh -c 'printf "#!/bin/sh\necho $2 \$1 \$(id -u) >>$3\n" >"$1-$2"; chmod 755 "$1-$2"' - "$HOOK" "$name" "$OUT"
    done
    of_module "hooks.before = [{ command = [\"$HOOK-module\", \"before\"] }]" "hooks.after = [{ command = [\"$HOOK-module\", \"after\"] }]" \
        '[[hooks.before]]' "command = [\"$HOOK-site\", \"before\"]"
    run alice 'srun -w c1 -n2 --image=tiny:1 --module=m true; srun -w c1 --image=tiny:1 true'
    assert_success
    run on c1 cat "$OUT"
    assert_output $'site before 0\nmodule before 0\nmodule after 0\nsite before 0'
}

@test "one that is not root's alone is not run, and the job fails by the site's fault" {
    on c1 sh -c 'echo "#!/bin/sh" >"$1-module"; chmod 775 "$1-module"' - "$HOOK"
    of_module "hooks.before = [{ command = [\"$HOOK-module\"] }]"
    run alice 'srun -w c1 --image=tiny:1 --module=m echo ran; srun -w c1 --image=tiny:1 echo fine'
    assert_output --partial "the site's hook $HOOK-module will not be run: "
    refute_line ran
    assert_line fine
    no_drained_node
}

@test "inside: as me, where I start, with the environment that my command has" {
    inside 'id -un; id -Gn; pwd; echo $GREETING $MINE $SHIFTER_RUNTIME $SLURM_NTASKS; cat /etc/os-release | head -n1'
    run alice 'cd hooked; MINE=my srun -w c1 --image=debian:12 --module=greeting,m true'
    assert_line --index 0 alice
    assert_line --index 1 --partial science
    assert_line --index 2 /home/alice/hooked
    assert_line --index 3 'hello from the site my 1 1'
    assert_line --index 4 --partial Debian
}

@test "… before my command, once for a step on each node, however many ranks wait for it" {
    inside 'sleep 0.5; echo prepared >>$HOME/hooked/$SLURMD_NODENAME'
    run alice 'srun -N2 -n32 --image=tiny:1 --module=m sh -c "cat hooked/\$SLURMD_NODENAME" | sort | uniq -c | tr -s " "; srun -w c1 --image=tiny:1 --module=m cat hooked/c1; srun -w c1 --image=tiny:1 cat hooked/c1'
    assert_output $' 32 prepared\nprepared\nprepared\nprepared\nprepared'
}

@test "… with no privilege, none of my command's files or input, and it cannot stop my command from having them" {
    inside "grep -E '^(NoNewPrivs|CapEff|CapPrm|CapBnd|CapAmb):' /proc/self/status | xargs -n2; ls /proc/self/fd | wc -l; cat"
    run alice 'echo input | srun -w c1 --image=tiny:1 --module=m cat'
    assert_line 'NoNewPrivs: 1'
    assert_equal "$(count ': 0000000000000000')" 4
    assert_line 4
    assert_equal "$(count input)" 1
}

@test "… what it prints I see on standard error, and what it leaves running ends with it" {
    inside 'echo said; echo also >&2; sleep 303 & true'
    run alice 'srun -w c1 --image=tiny:1 --module=m echo out 2>hooked/error; cat hooked/error'
    assert_line --index 0 out
    assert_line said
    assert_line also
    refute on c1 pgrep -f 'sleep 303'
}

@test "one that fails, hangs, is killed or is not there fails the step, in one message for each node, and not the node" {
    for case in 'echo no such device >&2; exit 3|failed with exit 3' 'kill -9 $$|was killed by signal 9' 'sleep 304|did not end within 1 seconds and was stopped'; do
        inside "${case%|*}" 1
        run alice 'srun -w c1 -n8 --image=tiny:1 --module=m echo ran'
        assert_failure 1
        assert_output --partial "--module=m: its program /bin/sh -c ${case%|*} ${case#*|}"
        assert_output --partial 'hint: what it says stands above; do without m, or ask your HPC support'
        refute_line ran
        one_message
        restore_config
    done
    refute on c1 pgrep -f 'sleep 304'
    of_module 'hooks.user = [{ command = ["/opt/none"] }]'
    run alice 'srun -w c1 --image=tiny:1 --module=m echo ran; srun -w c1 --image=tiny:1 echo fine'
    assert_output --partial 'its program /opt/none could not be run: cannot run /opt/none: No such file or directory'
    refute_line ran
    assert_line fine
    no_drained_node
}

@test "the image cannot put another program in the place of one that the module mounts" {
    on c1 sh -c 'install -d "$1" && printf "#!/bin/sh\necho of the site\n" >"$1/check" && chmod 755 "$1/check"' - "$HOOK.d"
    of_module 'hooks.user = [{ command = ["/opt/site/check"] }]' "mount = [{ from = \"$HOOK.d\", to = \"/opt/site\" }]"
    run alice 'srun -w c1 --image=tiny:1 --module=m true'
    assert_output 'of the site'
    run alice 'srun -w c1 --image=tiny:1 --module=m --volume=$HOME:/opt/site true'
    assert_output --partial '/opt/site is protected'
    on c1 rm -r "$HOOK.d"
}

@test "a batch script that runs inside has them as well" {
    inside 'echo prepared'
    configure '$ a [inside]\nbatch = "ask"' ctl c1 c2
    run batch -w c1 --image=tiny:1 --image-batch --module=m <<<$'#!/bin/sh\necho script'
    assert_output $'prepared\nscript'
}
