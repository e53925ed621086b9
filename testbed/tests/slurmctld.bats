# What slurmctld does with a request that no SPANK plugin of ours has seen, with a site and a store of
# the test's own on the controller only.
load lib

A=sha256:$(printf 'a%.0s' {1..64})
B=sha256:$(printf 'b%.0s' {1..64})
C=sha256:$(printf 'c%.0s' {1..64})
SITE=/run/job-submit-test
# Nothing can be executed below /run.
CLIENT=/tmp/job-submit-test-client

on_ctl() { on ctl "$@"; }

# submit [NAME=VALUE…] [-- OPTION…]: sbatch without our plugin, as alice, with a client configuration
# whose plugstack.conf is empty.
submit() {
    local environment=(SLURM_CONF="$SITE/client/slurm.conf")
    while (($#)) && [[ $1 != -- ]]; do environment+=("$1"); shift; done
    timeout 20 "$TESTBED/as" alice env "${environment[@]}" sbatch --output=/dev/null "${@:2}" --wrap=true
}

# The controller's shifter.toml, until the test's end.
site() {
    on_ctl sh -c "cat >$SITE/shifter.toml && chmod 644 $SITE/shifter.toml"
    on_ctl mount --bind "$SITE/shifter.toml" /etc/shifter/shifter.toml
}

good_site() { printf '[store]\npath = "%s"\n' "${1:-$SITE/store}" | site; }

setup_file() {
    on_ctl sh -s <<END
set -e
mkdir -p $SITE/client $SITE/fuse $SITE/store/refs/docker.io/library/known $SITE/store/manifests/aa $SITE/store/manifests/bb
sed '/^PlugStackConfig=/d' /etc/slurm/slurm.conf >$SITE/client/slurm.conf
echo PlugStackConfig=$SITE/client/plugstack.conf >>$SITE/client/slurm.conf
: >$SITE/client/plugstack.conf
if [ -f /etc/slurm/cgroup.conf ]; then cp /etc/slurm/cgroup.conf $SITE/client; fi
echo '{"platforms":{"linux/amd64":{"digest":"$A","when":0,"by":"test","uid":0,"from":"test"}}}' >$SITE/store/refs/docker.io/library/known/:1
echo '{"info":{"digest":"$A"},"files":{}}' >$SITE/store/manifests/aa/${A#sha256:}
echo '{"info":{"digest":"$B"},"files":{}}' >$SITE/store/manifests/bb/${B#sha256:}
chmod -R a+rX $SITE
chmod 600 $SITE/store/manifests/bb/${B#sha256:}
chown -R shifter:shifter $SITE/store
END
    # slurmctld may still be in the pause that a store which hung has left it.
    good_site
    eventually 40 submit SLURM_SHIFTER_IMAGE=known:1 >/dev/null 2>&1
    teardown
}

teardown() {
    on_ctl sh -s <<END
if pid=\$(cat $SITE/fuse.pid 2>/dev/null); then kill -CONT \$pid; kill \$pid; fi
rm -f $SITE/fuse.pid
for path in $SITE/fuse /etc/shifter/shifter.toml /usr/libexec/shifter/shifter-check; do
    while umount \$path 2>/dev/null; do :; done
done
true
END
}

teardown_file() { on_ctl rm -rf "$SITE" "$CLIENT"; }

accepted() { [[ $status == 0 && $output == *"Submitted batch job"* ]] || { echo "$output"; return 1; }; }

# refused WORDS: exit 1, the words, and nothing else said to be queued.
refused() {
    [[ $status == 1 && $output == *"shifter: $1"* && $output == *"Batch job submission failed"* ]] &&
        [[ $output != *"Submitted"* ]] || { echo "$output"; return 1; }
}

@test "a name is pinned to its digest in the batch script's environment and in accounting" {
    good_site
    out=/home/alice/job-submit-test.out
    run as alice env SLURM_CONF="$SITE/client/slurm.conf" SLURM_SHIFTER_IMAGE=known:1 \
        sbatch --output="$out" --wait --wrap='echo $SLURM_SHIFTER_IMAGE'
    accepted
    [[ $(as alice cat "$out") == "docker:docker.io/library/known:1@$A" ]]
    as alice rm "$out"
    job=$(sed -n 's/^Submitted batch job //p' <<<"$output")
    comment=$(on_ctl scontrol show job "$job" | sed -n 's/^ *AdminComment=//p')
    [[ $comment == "shifter: image=docker:docker.io/library/known:1 digest=$A"* ]]
    sleep 1
    run on_ctl sacct -X -n -P -j "$job" -o AdminComment
    [[ $output == "shifter: image=docker:docker.io/library/known:1 digest=$A"* ]]
}

@test "mistakes are refused, each with a message that names the next step" {
    good_site
    run submit SLURM_SHIFTER_IMAGE=unknown:1
    refused "unknown:1: no such image in the store"
    [[ $output == *"shifter: hint: shifterimg pull"* ]]
    run submit SLURM_SHIFTER_IMAGE=NOT-A-NAME:1
    refused "--image=NOT-A-NAME:1: not an image name"
    run submit SLURM_SHIFTER_IMAGE=known:1 SLURM_SHIFTER_VOLUME=nonsense
    refused "--volume=nonsense"
    run submit SLURM_SHIFTER_IMAGE=known:1 SLURM_SHIFTER_VOLUME=/home:/etc/x
    refused "--volume=/home:/etc/x: /etc is protected"
    run submit SLURM_SHIFTER_VOLUME=/home:/mnt
    refused "--volume needs an image"
    run submit SLURM_SHIFTER_IMAGE=known:1 SLURM_SHIFTER_MODULE=none-such
    refused "--module=none-such: no such module"
}

@test "a request is found wherever a client may leave it" {
    good_site
    for name in SLURM_SHIFTER_IMAGE _SLURM_SPANK_OPTION_shifter_image \
        SLURM_SPANK__SLURM_SPANK_OPTION_shifter_image; do
        run submit "$name=NOT-A-NAME:1"
        refused "--image=NOT-A-NAME:1: not an image name"
    done
    run submit SLURM_SHIFTER_IMAGE=NOT-A-NAME:1 -- --export=NONE
    refused "--image=NOT-A-NAME:1: not an image name"
}

# api submit|JOB [NAME=VALUE…], as alice.
api() {
    if ! on_ctl test -x "$CLIENT"; then
        on_ctl tar -C /usr/include -c slurm | tar -C "$BATS_TEST_TMPDIR" -x
        cc -I "$BATS_TEST_TMPDIR" -o "$BATS_TEST_TMPDIR/client" "$BATS_TEST_DIRNAME/api_client.c" -ldl
        on_ctl sh -c "cat >$CLIENT && chmod 755 $CLIENT" <"$BATS_TEST_TMPDIR/client"
    fi
    as alice "$CLIENT" "$(on_ctl cat /etc/slurm/plugin-dir)/libslurmfull.so" "$@"
}

@test "a program that knows nothing of SPANK is held to the same" {
    good_site
    for name in SHIFTER_IMAGE _SLURM_SPANK_OPTION_shifter_image; do
        run api submit OTHER=x "$name=NOT-A-NAME:1"
        [[ $status == 1 && $output == *"shifter: --image=NOT-A-NAME:1: not an image name"* ]]
        run api submit OTHER=x "$name=known:1"
        accepted
        job=$(sed -n 's/^Submitted batch job //p' <<<"$output")
        on_ctl scontrol show job "$job" | grep "AdminComment=shifter: image=docker:docker.io/library/known:1 digest=$A"
    done
    run api submit OTHER=x
    accepted
}

@test "the image of a job cannot be changed after its submission, and anything else can" {
    good_site
    run submit SLURM_SHIFTER_IMAGE=known:1 -- --hold
    accepted
    job=$(sed -n 's/^Submitted batch job //p' <<<"$output")
    run api "$job" SHIFTER_IMAGE=other:1
    [[ $status == 1 ]]
    run api "$job" OTHER=x
    echo "$output"
    [[ $status == 0 ]]
    run as alice scontrol update "JobId=$job" Name=renamed
    [[ $status == 0 ]]
    as alice scancel "$job"
}

@test "an image that is private to somebody else looks like one that is not there" {
    good_site
    run submit "SLURM_SHIFTER_IMAGE=id:$B"
    refused "id:$B: no such image in the store"
    private=${output//$B/DIGEST}
    run submit "SLURM_SHIFTER_IMAGE=id:$C"
    refused "id:$C: no such image in the store"
    [[ ${output//$C/DIGEST} == "$private" ]]
}

@test "a name of mine alone, which slurmctld cannot read, does not mean the public image of that name" {
    good_site
    on_ctl sh -s <<END
cd $SITE/store/refs && d=.private/\$(id -u alice)/docker.io/library/known && mkdir -p \$d && chmod -R 711 .private
touch \$d/:1 && chmod 600 \$d/:1 && chown -R shifter:shifter .private
END
    run submit SLURM_SHIFTER_IMAGE=known:1
    refused "known:1 is an image of yours alone, which cannot be looked up here"
    [[ $output == *"hint: name its digest, known:1@sha256:…, as shifterimg lookup prints it"* ]]
    run submit "SLURM_SHIFTER_IMAGE=known:1@$A"
    accepted
    on_ctl rm -r "$SITE/store/refs/.private"
    run submit SLURM_SHIFTER_IMAGE=known:1
    accepted
}

@test "an image that the user has an access list entry for is accepted, though slurmctld cannot read it" {
    good_site
    on_ctl python3 - "$SITE/store/manifests/bb/${B#sha256:}" <<'END'
import os, pwd, struct, sys
uid = pwd.getpwnam("alice").pw_uid
none = 0xffffffff
entries = [(1, 6, none), (2, 4, uid), (4, 0, none), (16, 4, none), (32, 0, none)]
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
os.setxattr(sys.argv[1], "system.posix_acl_access", acl)
END
    run submit "SLURM_SHIFTER_IMAGE=id:$B"
    on_ctl python3 -c 'import os, sys; os.removexattr(sys.argv[1], "system.posix_acl_access")' "$SITE/store/manifests/bb/${B#sha256:}"
    accepted
}

@test "a digest that the name does not mean is not replaced by the one it does" {
    good_site
    run submit "SLURM_SHIFTER_IMAGE=known:1@$C"
    refused "known:1@$C: no such image in the store"
}

@test "a broken site, a missing store, a panic: refused with an image, accepted without" {
    for fault in "[store]
path = 7" "[store]
path = \"/nonexistent\"" "[store]
path = \"$SITE/store\"
[node]
debug_panic = \"job_submit\""; do
        site <<<"$fault"
        run submit SLURM_SHIFTER_IMAGE=known:1
        refused ""
        [[ $output == *"to your HPC support"* ]]
        run submit
        accepted
        run submit SLURM_SHIFTER_IMAGE=none
        accepted
        teardown
    done
}

@test "without its helper, slurmctld takes only images with a digest" {
    good_site
    on_ctl mount --bind /dev/null /usr/libexec/shifter/shifter-check
    run submit SLURM_SHIFTER_IMAGE=known:1
    refused "known:1 cannot be looked up now: /usr/libexec/shifter/shifter-check does not start"
    [[ $output == *"--image=known:1@sha256:"* ]]
    run submit "SLURM_SHIFTER_IMAGE=known:1@$A"
    accepted
}

@test "while the store hangs, slurmctld answers and nothing waits for it" {
    on_ctl sh -c "bindfs -f -o allow_other $SITE/store $SITE/fuse >/dev/null 2>&1 </dev/null & echo \$! >$SITE/fuse.pid
        for i in 1 2 3 4 5 6 7 8 9 10; do grep -q ' $SITE/fuse ' /proc/self/mountinfo && break; sleep 0.1; done"
    good_site "$SITE/fuse"
    # The helper reaches the store this way, too.
    run submit SLURM_SHIFTER_IMAGE=known:1
    accepted
    on_ctl sh -c "kill -STOP \$(cat $SITE/fuse.pid)"
    answers() { timeout 1 "$TESTBED/on" ctl sinfo --noheader >/dev/null; }
    for _ in 1 2 3; do
        submit SLURM_SHIFTER_IMAGE=known:1 >"$BATS_TEST_TMPDIR/out" 2>&1 &
        submission=$!
        for _ in 1 2 3; do answers; done
        refute wait "$submission"
        grep "image store $SITE/fuse does not answer" "$BATS_TEST_TMPDIR/out"
        grep -- "--image=known:1@sha256:" "$BATS_TEST_TMPDIR/out"
    done
    # With a digest the nodes cannot differ, and they look again.
    run submit "SLURM_SHIFTER_IMAGE=known:1@$A"
    accepted
    run submit
    accepted
    answers
    # Once the store answers again, no helper is left, and after a pause names are looked up again.
    on_ctl sh -c "kill -CONT \$(cat $SITE/fuse.pid)"
    eventually 5 no_helper
    eventually 40 submit SLURM_SHIFTER_IMAGE=known:1
}
no_helper() { ! on_ctl pgrep shifter-check; }
