# File systems that a node mounts and unmounts while a job runs: what of it is seen inside.
load lib

PLACE=/mnt/propagation

# The nodes' mounts are shared, as systemd makes them, but in the last test.
# One job runs through the file. It shows the place as a volume, and in two ways that the site mounts it.
setup_file() {
    export JOB RANK
    on c1 sh -c 'mkdir -p "$1/early" "$1/late" && mount -t tmpfs early "$1/early" && touch "$1/early/file"' - "$PLACE"
    configure "\$ a [[mount]]\nfrom = \"$PLACE\"\nto = \"/follows\"\n[[mount]]\nfrom = \"$PLACE\"\nto = \"/stays\"\nslave = false\n[[mount]]\nfrom = \"$PLACE\"\nto = \"/alone\"\nrecursive = false" c1
    JOB=$(alice 'sbatch --parsable -J propagation -w c1 -o /dev/null --image=tiny:1 --volume="$1":/volume --wrap "srun -n1 sleep 301"' "$PLACE")
    eventually 20 rank_runs
}
teardown_file() {
    alice 'scancel "$1"' "$JOB"
    restore_config
    # The job's copy goes with the job.
    on c1 sh -c 'umount -q "$1/early"; umount -q "$1/late"; rm -r "$1"' - "$PLACE"
}
teardown() {
    on c1 sh -c 'umount -q "$1/late"; true' - "$PLACE"
    [[ ! ${PRIVATE:-} ]] || on c2 sh -c 'umount -q /mnt/late; rmdir /mnt/late; mount --make-shared / && restart-slurmd'
}

rank_runs() { RANK=$(on c1 pgrep -u alice -f '^/bin/sleep 301'); }
# inside CMD…: where the job's rank is.
inside() { on "${NODE:-c1}" nsenter -t "$RANK" -m "$@" 2>&1; }
# mounted NAME: in which of the four places it is mounted inside.
mounted() { inside sh -c 'for at in volume follows stays alone; do grep -q " /$at/'"$1"' " /proc/self/mountinfo && echo $at; done; true'; }

@test "what was mounted before comes along, but where the site wants the directory alone" {
    run mounted early
    assert_output $'volume\nfollows\nstays'
    run inside ls /volume/early /alone/early
    assert_output $'/alone/early:\n\n/volume/early:\nfile'
}

@test "what the host mounts later is there inside, in a volume and in a mount of the site's, but not in a private one" {
    run mounted late
    assert_output ''
    on c1 sh -c 'mount -t tmpfs late "$1/late" && echo late >"$1/late/file"' - "$PLACE"
    run mounted late
    assert_output $'volume\nfollows\nalone'
    run inside cat /volume/late/file /follows/late/file
    assert_output $'late\nlate'
    run inside ls /stays/late
    assert_output ''
}

@test "what it unmounts is gone inside, but for a private copy, which the job keeps" {
    on c1 mount -t tmpfs late "$PLACE/late"
    on c1 umount "$PLACE/late"
    run mounted late
    assert_output ''
    on c1 umount "$PLACE/early"
    run mounted early
    assert_output stays
    run inside cat /stays/early/file
    assert_success
}

@test "on a node whose mounts are private nothing comes or goes later, and slurmd's start says so" {
    PRIVATE=yes
    said() { on c2 grep -c 'shifter: the mounts of / are private.*(mount --make-rshared /)' /var/log/slurm/slurmd.log || true; }
    before=$(said)
    on c2 sh -c 'mkdir -p /mnt/late && mount --make-private / && restart-slurmd'
    assert_equal "$(said)" $((before + 1))
    other=$(alice 'sbatch --parsable -w c2 -o /dev/null --image=tiny:1 --volume=/mnt:/volume --wrap "srun sleep 302"')
    eventually 20 on c2 pgrep -u alice -f '^/bin/sleep 302'
    on c2 mount -t tmpfs late /mnt/late
    NODE=c2 RANK=$(on c2 pgrep -u alice -f '^/bin/sleep 302') run inside grep -c ' /volume/late ' /proc/self/mountinfo
    alice 'scancel "$1"' "$other"
    assert_output 0
}
