# What a site sets in slurm.conf around jobs, and whom it concerns that they have an image: its programs, its
# PrologFlags and LaunchParameters. job_container/tmpfs is in job_tmp.bats, task plugins are in slurm_cgroups.bats.
load lib

SITE=$SCRATCH/site
PROGRAMS=(Prolog Epilog PrologSlurmctld EpilogSlurmctld SrunProlog SrunEpilog TaskProlog TaskEpilog)

# programs: those of the site, as lines of slurm.conf.
programs() { local name; for name in "${PROGRAMS[@]}"; do echo "$name=$SITE/$name"; done; }

setup_file() {
    # All are one: it says its name, where it is, as whom, and which image and volumes it was told of.
    on ctl bash -s <<END
mkdir -p $SITE && cd $SITE && install -m 666 /dev/null said
cat >program <<'PROGRAM'
#!/bin/sh
PATH=/usr/bin:/bin
name=\$(basename "\$0")
[ -e /.shifter ] && where=inside || where=outside
echo "\$name \$where as \$(id -un) \${SPANK_SHIFTER_IMAGE%%@*} \$SPANK_SHIFTER_VOLUME" >>$SITE/said
[ \$name != TaskProlog ] || printf '%s\n' 'export OF_THE_SITE=value' 'unset LOST' 'print printed by the site'
PROGRAM
chmod 755 program
for name in ${PROGRAMS[*]}; do ln program \$name; done
END
    slurm_with "PrologFlags=X11
LaunchParameters=use_interactive_step,disable_send_gids
$(programs)"
}
teardown_file() {
    slurm_with ''
    on ctl rm -r "$SITE"
}
setup() { on ctl sh -c ": >$SITE/said"; }
teardown() { alice 'scancel -n contained'; }

# said_with [OPTION…]: what the site's programs said of a step of two ranks with these options, and nothing else.
said_with() {
    on ctl sh -c ": >$SITE/said"
    alice 'srun -w c1 -n2 "$@" true' "$@" >/dev/null
    eventually 20 both_epilogs
    on ctl sort "$SITE/said" | sed 's/ *$//'
}
both_epilogs() { [[ $(on ctl grep -cE '^Epilog(Slurmctld)? ' "$SITE/said") == 2 ]]; }

@test "the site's Prologs and Epilogs run on the host and are told the request; its TaskProlog runs inside" {
    run said_with --image=debian:12 --volume=/shared:/mnt:ro
    name='docker:docker.io/library/debian:12 /shared:/mnt:ro'
    assert_output "Epilog outside as root $name
EpilogSlurmctld outside as slurm $name
Prolog outside as root $name
PrologSlurmctld outside as slurm $name
SrunEpilog outside as alice
SrunProlog outside as alice
TaskEpilog outside as alice
TaskEpilog outside as alice
TaskProlog inside as alice
TaskProlog inside as alice"
    run said_with
    refute_output --partial 'docker:'
    refute_output --partial 'inside'
    assert_equal "$(wc -l <<<"$output")" 10
}

@test "what TaskProlog exports, unsets and prints reaches the rank" {
    run alice 'LOST=1 srun --image=debian:12 sh -c "echo \$OF_THE_SITE; echo lost: \$LOST"'
    assert_output $'printed by the site\nvalue\nlost:'
}

@test "a TaskProlog that the image cannot run fails the rank, says so, and the node is fine" {
    on ctl sh -c "mv $SITE/TaskProlog $SITE/moved; printf '#!/no/such/shell\n' >$SITE/TaskProlog; chmod 755 $SITE/TaskProlog"
    run -127 alice 'srun --image=debian:12 echo ran'
    on ctl mv "$SITE/moved" "$SITE/TaskProlog"
    refute_line ran
    assert_output --partial TaskProlog
    no_drained_node
}

@test "salloc with an interactive step: its shell is on the node's host, what it starts by srun is inside" {
    # What is typed before the prompt is there gets lost on the way.
    run alice '(for _ in {1..100}; do grep -qs "alice@c1" typescript && break; sleep 0.1; done
            echo "echo at: \$(hostname) \$(readlink /proc/self/ns/mnt); srun image-only </dev/null; exit 7") |
        timeout 20 script -qefc "salloc -w c1 --image=debian:12" typescript; echo "exit $?"; rm typescript'
    assert_output --partial "at: c1 $(on c1 readlink /proc/1/ns/mnt)"
    assert_line --regexp '^only in the image'
    assert_line 'exit 7'
}

@test "LaunchParameters=disable_send_gids: my groups, which the node looks up" {
    run alice 'srun -w c1 --image=debian:12 sh -c "id; id -G"'
    assert_output "$(alice 'srun -w c1 sh -c "id; id -G"')"
    assert_output --partial '2001(science),2002(astro)'
}

@test "PrologFlags=Contain: processes that a site adopts into the job stay on the host, and stage nothing" {
    as alice salloc -Q -J contained -w c1 --image=debian:12 --no-shell
    job=$(on ctl squeue -h -n contained -o %A)
    # The step's daemon, and what it starts to have a process, where it does.
    of_extern_step() { adopted=$(on c1 sh -c 'pgrep -f "^slurmstepd: \[$1.extern\]" && { pgrep -P "$(pgrep -f "^slurmstepd: \[$1.extern\]")"; :; }' - "$job"); }
    eventually 10 of_extern_step
    for pid in $adopted; do assert_equal "$(on c1 readlink "/proc/$pid/ns/mnt")" "$(on c1 readlink /proc/1/ns/mnt)"; done
    run on c1 ls "/run/shifter/jobs/$job"
    assert_failure
    on ctl scancel "$job"
    eventually 20 nodes_are_idle
}

@test "PrologFlags=X11: a program inside reaches the display" {
    # Something that answers like a display, as far as connecting goes.
    on ctl sh -c 'while :; do echo hello from the display | busybox nc -l -p 6099; done' >/dev/null 2>&1 </dev/null 3>&- &
    display=$!
    run alice 'export DISPLAY=localhost:99; xauth -q add localhost:99 . 0123456789abcdef0123456789abcdef
        srun --x11 -w c1 --image=debian:12 bash -c "
            [[ -r \$XAUTHORITY ]] && echo cookies; number=\${DISPLAY#*:}; exec 3<>/dev/tcp/\${DISPLAY%%:*}/\$((6000 + \${number%.*})) && head -1 <&3"'
    kill "$display"
    on ctl pkill -f 'nc -l -p 6099'
    on ctl rm /home/alice/.Xauthority
    assert_line cookies
    assert_line 'hello from the display'
}

@test "without PrologFlags a job's first step calls the site's Prolog; steps and epilog are as ever" {
    # Serial alone brings no other flag with it, and cannot be had without a word.
    slurm_with "PrologFlags=Serial
$(programs)"
    before=$(state_of_nodes)
    run said_with --image=debian:12
    assert_equal "$(wc -l <<<"$output")" 10
    run batch -N2 -n2 --image=debian:12 <<<$'#!/bin/bash\nsrun image-only\nsrun --image=tiny:1 true'
    assert_equal "$(count 'only in the image')" 2
    nothing_is_left "$before"
}

@test "PrologFlags=RunInJob, from 24.05 on: nothing is left of a job, though Slurm calls no plugin at its end" {
    [[ $(alice 'srun --version') != 'slurm-wlm 22.05'* ]] || skip 'this release of Slurm has no RunInJob'
    slurm_with "PrologFlags=RunInJob
$(programs)"
    before=$(state_of_nodes)
    run batch -N2 -n2 --image=debian:12 <<<$'#!/bin/bash\nsrun image-only\nsrun --image=tiny:1 true\nsrun image-only'
    assert_equal "$(count 'only in the image')" 4
    nothing_is_left "$before"
}
