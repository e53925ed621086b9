# What others see of a job's image: nothing. And of an image that is alice's alone, not even that it is there.
# Where a test says that nothing is seen, whoever may look sees it.
load lib

SECRET=registry:5001/secret:1

setup_file() {
    alice 'auth=$(printf alice:wonderland | base64); echo "{\"auths\":{\"registry:5001\":{\"auth\":\"$auth\"}}}" >login.json
        REGISTRY_AUTH_FILE=$HOME/login.json shifterimg pull -q --private '$SECRET
}
teardown_file() { alice "shifterimg rm $SECRET; rm login.json"; }
teardown() { let_go; }

# hold: alice's job on c1 in the image that is hers alone, until `let_go`. $rank is its process there.
hold() {
    as alice srun -w c1 -J held --image=$SECRET sh -c "echo \$\$ >$SCRATCH/held; exec sleep 300" >/dev/null 2>&1 </dev/null 3>&- &
    eventually 20 on ctl test -s "$SCRATCH/held"
    rank=$(on ctl cat "$SCRATCH/held")
    device=$(on c1 sh -c 'cat /run/shifter/images/*')
    file=$(on c1 cat "/sys/block/loop$device/loop/backing_file")
}
let_go() {
    [[ $(on ctl squeue -h -n held) ]] || return 0
    on ctl scancel -n held
    wait || true
    on ctl rm -f "$SCRATCH/held"
    eventually 20 nodes_are_idle
}

# at_c1 USER SCRIPT: a step of USER's on the host of c1.
at_c1() { as "$1" srun -Qw c1 bash -c "exec 2>&1; $2" "$1" "${@:3}" </dev/null; }

# --- mounts of images ---

# image_mounts NODE: the mount table of the namespace in which images are mounted, which holds no program to ask it.
image_mounts() {
    on "$1" perl -e 'my ($setns, $openat, $table) = (308, 257, "self/mountinfo");
        sysopen PROC, "/proc", 0 or die; open NS, "/run/shifter/images.ns" or die;
        syscall($setns, fileno NS, 0) == 0 or die $!;
        my $fd = syscall $openat, fileno PROC, $table, 0; open TABLE, "<&=$fd" or die; print <TABLE>'
}

@test "while a job runs, the host's mount table has its pin more, and nothing else" {
    before=$(on c1 cat /proc/1/mountinfo)
    hold
    run diff <(echo "$before") <(on c1 cat /proc/1/mountinfo)
    assert_output --regexp '^[0-9a,]+
> [^
]* /run/shifter/jobs/[0-9]+/udi [^
]* - nsfs nsfs rw$'
    let_go
    assert_equal "$(on c1 cat /proc/1/mountinfo)" "$before"
}

@test "no process on any machine has the image's mount in its table: not root's, not mine, not another user's rank" {
    hold
    as bob srun -w c1 -J held --image=debian:12 sleep 300 >/dev/null 2>&1 </dev/null 3>&- &
    eventually 20 on c1 pgrep -u bob sleep
    # This machine is that of all nodes, so all their processes are here.
    tables=$(cat /proc/[0-9]*/mountinfo 2>/dev/null || true)
    [[ $(grep -c ' - overlay shifter ro,lowerdir=site:img' <<<"$tables") -ge 2 ]]
    refute [ "$(grep -F "/dev/loop$device " <<<"$tables")" ]
    # Where it is, nobody is.
    run image_mounts c1
    assert_line --partial " - squashfs /dev/loop$device "
}

@test "nobody else looks into our directory on the node, not even through a volume" {
    hold
    on c1 ls /run/shifter/jobs | grep .
    for user in alice bob; do
        run at_c1 $user 'ls /run/shifter'
        assert_output --partial 'Permission denied'
        run as $user bash -c 'srun -w c1 --image=tiny:1 --volume=/run:/host ls /host/shifter 2>&1' </dev/null
        assert_output --partial "can't open '/host/shifter': Permission denied"
        run as $user bash -c 'srun -w c1 --image=tiny:1 --volume=/run/shifter/jobs:/host true 2>&1' </dev/null
        assert_output --partial 'cannot open /run/shifter/jobs: Permission denied'
    done
    # What is seen there is the bare directory: ours cannot be bound.
    run alice "srun -w c1 --image=tiny:1 --volume=/run:/host awk '\$5 ~ \"^/host\" { print \$5 }' /proc/self/mountinfo"
    assert_output /host
    on c1 cat /proc/1/mountinfo | grep ' /run/shifter '
}

# --- an image of alice's alone ---

names_of_secret() {
    digest=$(alice "shifterimg lookup $SECRET")
    NAMES=("$SECRET" "docker:$SECRET" "$SECRET@$digest" "id:$digest" "tiny@$digest")
}

@test "a private image: its owner uses it by name and by digest" {
    names_of_secret
    for name in "${NAMES[@]:0:4}"; do
        run alice 'srun --image="$1" cat /secret' "$name"
        assert_output 'only who may log in reads this'
    done
}

@test "… for another user no name of it is there, and it looks like an image that does not exist" {
    names_of_secret
    for name in "${NAMES[@]}"; do
        run bob 'srun --image="$1" cat /secret; echo "exit $?"' "$name"
        assert_line 'exit 1'
        assert_line --partial ': no such image in the store'
        run bob 'shifterimg inspect "$1"' "$name"
        assert_failure 1
    done
    run bob 'shifterimg images'
    refute_output --partial secret
    assert_output --partial 'trap:1'
}

@test "… nor for a client without our plugin, whom slurmctld refuses" {
    names_of_secret
    on ctl bash -c "sed 's|^PlugStackConfig=.*|PlugStackConfig=/dev/null|' /etc/slurm/slurm.conf >$SCRATCH/bare.conf"
    try() { as "$1" env SLURM_CONF=$SCRATCH/bare.conf SLURM_SHIFTER_IMAGE="$2" bash -c 'sbatch --parsable -o /dev/null --wrap true 2>&1' </dev/null; }
    for name in "${NAMES[@]}"; do
        run try bob "$name"
        assert_failure 1
        assert_output --partial 'no such image in the store'
    done
    run try alice "id:$digest"
    assert_success
    on ctl rm "$SCRATCH/bare.conf"
}

@test "… nor on the node, when the request is changed after it was judged: not even where it is mounted already" {
    names_of_secret
    hold
    script='#!/bin/bash
SLURM_SHIFTER_IMAGE=docker:'$SECRET@$digest' srun cat /secret 2>&1'
    WHO=bob run batch -w c1 --image=tiny:1 <<<"$script"
    assert_failure 1
    assert_output --partial 'no such image in the store'
    refute_output --partial 'only who'
    run batch -w c1 --image=tiny:1 <<<"$script"
    assert_output 'only who may log in reads this'
}

@test "… nor is the file in the store, while a job runs in it: not to be read, not as a volume" {
    hold
    for user in alice bob; do
        run as $user bash -c 'exec 2>&1; head -c4 "$1"; srun -Qw c1 head -c4 "$1"; srun -Qw c1 --image=tiny:1 --volume="$1":/file head -c4 /file' - "$file" </dev/null
        if [[ $user == alice ]]; then
            assert_output hsqshsqshsqs
        else
            refute_output --partial hsqs
            assert_equal "$(count 'Permission denied')" 3
        fi
    done
    run bob 'ls "$(dirname "$1")" "$(dirname "$1")/.."' "$file"
    assert_equal "$(count 'Permission denied')" 2
}

@test "… nor is the rank, in /proc or by entering or tracing it" {
    hold
    probe='ls /proc/$1/root/ | grep -x secret; cat /proc/$1/root/secret; readlink -v /proc/$1/exe; readlink -v /proc/$1/ns/mnt
        ls /proc/$1/map_files | head -1; head -1 /proc/$1/maps; ls -d /proc/$1/cwd/; ls /proc/$1/fd | head -1
        tr "\0" "\n" </proc/$1/environ | grep -x SHIFTER_RUNTIME=1
        timeout 0.5 strace -qp $1 -o /dev/null; [ $? = 124 ] && echo traced; true'
    # alice's other processes can do all of that, hers being hers.
    run at_c1 alice "$probe" "$rank"
    refute_output --partial 'ermi'
    assert_equal "${#lines[@]}" 10
    assert_line 'only who may log in reads this'
    assert_line traced
    run at_c1 bob "$probe" "$rank"
    # Nothing but refusals, one of each at least: some programs explain theirs in a second line.
    ((${#lines[@]} >= 10))
    refute_output --partial traced
    assert_equal "$(grep -v 'ermission denied\|not permitted\|different user' <<<"$output")" ""
    # Nor as root of a user namespace of his own, nor by a step in her job.
    run at_c1 bob 'unshare -Urm sh -c "cat /proc/$1/root/secret; nsenter -t $1 -m cat /secret"' "$rank"
    refute_output --partial 'only who'
    run bob 'srun --overlap --jobid=$(squeue -h -n held -o %A) cat /secret'
    assert_failure
    assert_output --partial 'Access/permission denied'
}

@test "… nor is the loop device, on the host or in an image" {
    hold
    run on c1 head -c4 "/dev/loop$device"
    assert_output hsqs
    for user in alice bob; do
        run as $user bash -c 'exec 2>&1; srun -Qw c1 head -c4 "$1"; srun -Qw c1 --image=debian:12 head -c4 "$1"' - "/dev/loop$device" </dev/null
        refute_output --partial hsqs
        assert_equal "$(count 'Permission denied')" 2
    done
}
