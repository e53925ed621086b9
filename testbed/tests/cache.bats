# --volume=FROM:TO:perNodeCache=size=SIZE[,fs=FS]: a file system that each node has for itself, as long as the job.
load lib

CACHES=/var/lib/caches/shifter  # on the nodes' own storage
SHARED=/shared/caches           # on the storage that all share
GO=$SCRATCH/cache-go

setup_file() {
    local node
    for node in "${NODES[@]}"; do on "$node" sh -c 'mkdir -p "$(dirname "$1")"; install -d -o shifter -m 700 "$1"' - "$CACHES"; done
    on ctl install -d -o shifter -m 700 "$SHARED"
    caches_are_allowed
}
caches_are_allowed() {
    configure '$ a [cache]\ndirectories = ["'$CACHES'", "'$SHARED'"]\nmax = "1000T"\nmax_user = "2000T"\nmax_node = "8000T"' ctl "${NODES[@]}"
}
teardown_file() {
    restore_config
    local node
    for node in "${NODES[@]}"; do on "$node" rm -rf "$(dirname "$CACHES")"; done
    on ctl rm -rf "$SHARED"
}
setup() { eventually 60 nodes_are_idle; before=$(state_of_nodes) changed=; }
teardown() {
    on ctl scancel -n cache
    on ctl rm -f "$GO" "$SCRATCH/started"
    wait
    [[ ! $changed ]] || { restore_config; caches_are_allowed; }
    on c1 sh -c '! mountpoint -q "$1/mnt" || umount -l "$1/mnt"' - "$(dirname "$CACHES")"
}

XFS=none:/c:perNodeCache=size=300M,fs=xfs
EXT4=none:/c:perNodeCache=size=300M,fs=ext4

# site KEY VALUE [NODE…]: changes a key of [cache] on the nodes, until the end of the test.
site() {
    changed=yes
    configure "s|^$1 = .*|$1 = $2|" "${@:3}"
}

# held NAME OPTION…: an srun in the background, whose rank waits; returns when it runs.
held() {
    local name=$1
    shift
    as "${WHO:-alice}" timeout 60 srun -Q -J cache --image=tiny:1 "$@" sh -c "echo \$SLURMD_NODENAME >/c/name; touch $SCRATCH/started
        until [ -e $GO ]; do sleep 0.1; done" >"$BATS_TEST_TMPDIR/$name" 2>&1 </dev/null 3>&- &
    eventually 20 on ctl test -e "$SCRATCH/started"
    on ctl rm "$SCRATCH/started"
}

# caches: loop devices that hold caches; the testbed's nodes see each other's.
caches() { on c1 sh -c 'grep -hsE "$1/|$2/" /sys/block/loop*/loop/backing_file' - "$CACHES" "$SHARED"; }
on_both_nodes() { [[ $(caches | wc -l) == 2 ]]; }
no_cache_is_left() { [[ ! $(caches) ]]; }
no_cache_nor_anything_is_left() {
    nothing_is_left "$before"
    eventually 10 no_cache_is_left || { caches >&2; return 1; }
    [[ ! $(on c1 ls -A "$CACHES" "$SHARED" | grep -v :) ]]
}

@test "all ranks of all steps on a node have the same cache, and each node has its own" {
    run batch -N2 --ntasks-per-node=2 --image=tiny:1 --volume="$EXT4" <<'END'
#!/bin/bash
srun -N2 -n2 sh -c 'echo "written on $SLURMD_NODENAME" >/c/name'
srun -N2 -n4 --ntasks-per-node=2 sh -c 'echo "$SLURMD_NODENAME: $(cat /c/name)"' | sort | uniq -c | tr -s " "
END
    assert_output ' 2 c1: written on c1
 2 c2: written on c2'
    no_cache_nor_anything_is_left
}

@test "it is empty, mine alone, as large as I asked for, with the file system that I asked for, and beside the page cache" {
    look='stat -c "%U %G %a" /c; ls -A /c
        mount=$(grep " /c " /proc/self/mounts); echo "$mount"; device=${mount%% *}
        echo "direct I/O: $(cat /sys/block/${device#/dev/}/loop/dio)"
        dd if=/dev/zero of=/c/full bs=1M 2>&1; du -m /c/full'
    for volume in "$XFS" "$EXT4"; do
        run alice 'srun --image=tiny:1 --volume="$1" sh -c "$2"' "$volume" "$look"
        assert_line 'alice alice 700'
        assert_output --regexp "/dev/loop[0-9]+ /c ${volume##*=} rw,nosuid,nodev,noatime"
        assert_line 'direct I/O: 1'
        assert_output --partial 'No space left on device'
        assert_line --regexp '^2[0-9]{2}.*/c/full'
    done
    no_cache_nor_anything_is_left
}

@test "without fs= it is what the site says; and I choose the storage by naming a place on it" {
    run alice 'srun --image=tiny:1 --volume="none:/a:perNodeCache=size=300M;/shared/scratch:/b:perNodeCache=size=300M,fs=ext4" sh -c "
        grep -oE \" /[ab] (xfs|ext4)\" /proc/self/mounts; cat /sys/block/loop*/loop/backing_file"'
    assert_line ' /a xfs'
    assert_line ' /b ext4'
    assert_output --partial "$CACHES/"
    assert_output --partial "$SHARED/"
    no_cache_nor_anything_is_left
}

@test "a step that asks for something else has a cache of its own, and it goes with the step" {
    run batch -w c1 --image=tiny:1 --volume="$EXT4" <<END
#!/bin/bash
srun touch /c/job
srun --volume="$XFS" sh -c 'touch /c/step; ls /c'
srun ls /c
caches() { grep -hs $CACHES/ /sys/block/loop*/loop/backing_file | wc -l; }
for i in \$(seq 50); do [ \$(caches) = 1 ] && break; sleep 0.1; done
caches
END
    assert_output $'step\njob\n1'
    no_cache_nor_anything_is_left
}

@test "nobody reaches the file below: it has no name, and its directory is closed" {
    held it -w c1 --volume="$EXT4"
    run caches
    assert_output --regexp "^$CACHES/.* \(deleted\)$"
    run on c1 ls -A "$CACHES"
    assert_output ''
    run alice 'srun -w c1 sh -c "ls -A $1; head -qc 1 /dev/loop?; true"' "$CACHES"
    assert_line --partial "'$CACHES': Permission denied"
    assert_equal "$(count 'Permission denied')" "${#lines[@]}"
    run on c1 sh -c 'ls -l /proc/[0-9]*/fd 2>/dev/null | grep -F "$1/"' - "$CACHES"
    assert_output ''
    on ctl touch "$GO"
    no_cache_nor_anything_is_left
}

@test "it is gone after scancel" {
    held it -N2 -n2 --volume="$XFS"
    eventually 10 on_both_nodes
    on ctl scancel -n cache
    no_cache_nor_anything_is_left
}

@test "it is gone after kill -9 of slurmstepd and of everything inside" {
    held it -w c1 --volume="$XFS"
    # What a step daemon's death takes along need not be there any more for the second.
    on c1 sh -c 'pkill -9 -f "^slurmstepd: \[" && { pkill -9 -u alice || true; }'
    on ctl scancel -n cache
    no_cache_nor_anything_is_left
}

@test "a user has as much on a node as the site allows, over all jobs; others have theirs" {
    site max_user '"500M"'
    held mine -w c1 --volume="$EXT4"
    run alice 'srun -w c1 --image=tiny:1 --volume="$1" true' "$EXT4"
    assert_failure 1
    assert_output --partial "--volume=$EXT4: you have 300M of caches on this node already, and this site allows 500M"
    one_message
    run alice 'srun -w c2 --image=tiny:1 --volume="$1" ls -d /c' "$EXT4"
    assert_output /c
    run bob 'srun -w c1 --image=tiny:1 --volume="$1" ls -d /c' "$EXT4"
    assert_output /c
    on ctl touch "$GO"
    no_cache_nor_anything_is_left
    # What is gone does not count.
    run alice 'for i in 1 2 3; do srun -w c1 --image=tiny:1 --volume="$1" ls -d /c; done' "$EXT4"
    assert_output $'/c\n/c\n/c'
}

# refused WORDS OPTION…: alice's srun says WORDS, and what to do; no node is the worse for it.
refused() {
    local words=$1
    shift
    run alice 'srun -w c1 --image=tiny:1 "$@" touch ran; echo "exit $?"; ls ran' "$@"
    assert_line 'exit 1'
    assert_output --partial "$words"
    assert_output --partial "cannot access 'ran'"
    one_message
    no_drained_node
}

@test "what is wrong with a request is said at submission" {
    refused 'a cache with the file system xfs has 300M at least' --volume=none:/c:perNodeCache=size=100M
    refused 'this site allows caches of 1000T at most' --volume=none:/c:perNodeCache=size=2000T
    refused 'caches of this site are on /var/lib/caches, /shared' --volume=/home/alice:/c:perNodeCache=size=1G
    refused 'it begins empty, so ro is of no use' --volume=none:/c:perNodeCache=size=1G:ro
    site directories '[]' ctl
    refused 'this site has no per-node caches' --volume="$XFS"
}

@test "more than the node has left is refused with what it has" {
    refused "the node's storage for caches ($CACHES) has " --volume=none:/c:perNodeCache=size=1000T
    no_cache_nor_anything_is_left
}

@test "a site's mistake is the site's: whose the directory is, and what to type" {
    on c1 chmod 755 "$CACHES"
    refused "cache.directories: $CACHES belongs to uid 990 with mode 755; it must be shifter's alone
shifter: hint: chown shifter $CACHES; chmod 700 $CACHES
shifter: This is a site problem" --volume="$XFS"
    on c1 rmdir "$CACHES"
    refused "shifter: hint: install -d -o shifter -m 700 $CACHES" --volume="$XFS"
    on c1 install -d -o shifter -m 700 "$CACHES"
    on c1 mv /usr/sbin/mkfs.xfs /usr/sbin/mkfs.xfs.away
    refused "this node has no /usr/sbin/mkfs.xfs, which makes caches of xfs
shifter: hint: install xfsprogs; until then fs=ext4 may work" --volume="$XFS"
    on c1 mv /usr/sbin/mkfs.xfs.away /usr/sbin/mkfs.xfs
    run alice 'srun -w c1 --image=tiny:1 --volume="$1" ls -d /c' "$XFS"
    assert_output /c
    no_cache_nor_anything_is_left
}

@test "storage on which root is nobody carries caches too" {
    # A FUSE file system that only its owner may use, as NFS with root_squash.
    on c1 sh -c 'install -d -o shifter -m 700 "$1/data" "$1/mnt"; chown 990:65534 "$1/data"
        setpriv --reuid=990 --regid=65534 --clear-groups bindfs --no-allow-other "$1/data" "$1/mnt"; ! ls "$1/mnt"' - "$(dirname "$CACHES")"
    site directories "[\"$(dirname "$CACHES")/mnt\"]" c1
    run alice 'srun -w c1 --image=tiny:1 --volume="$1" sh -c "dd if=/dev/zero of=/c/x bs=1M count=50 conv=fsync 2>/dev/null; du -m /c/x"' "$EXT4"
    on c1 sh -c 'umount -l "$1/mnt"' - "$(dirname "$CACHES")"
    assert_output --regexp '^50'
    no_cache_nor_anything_is_left
}

# poor FAULT: on c1, storage for caches that has it (poorfs.c); no other.
poor() {
    local at
    at=$(dirname "$CACHES")
    if [[ ! -e $BATS_FILE_TMPDIR/poorfs ]]; then
        gcc -O2 -static -D_FILE_OFFSET_BITS=64 -o "$BATS_FILE_TMPDIR/poorfs" "$BATS_TEST_DIRNAME/poorfs.c" -lfuse3 -lpthread -ldl 2>/dev/null
        on c1 sh -c 'cat >"$1" && chmod 755 "$1"' - "$at/poorfs" <"$BATS_FILE_TMPDIR/poorfs"
    fi
    on c1 sh -c 'install -d -o shifter -m 700 "$1/data" "$1/mnt"
        "$1/poorfs" "$2" "$1/data" "$1/mnt" -o allow_other,default_permissions' - "$at" "$1"
    site directories "[\"$at/mnt\"]" c1
}
# … and nothing of what was tried is left on it.
no_longer_poor() {
    eventually 10 on c1 sh -c '[ ! "$(ls -A "$1/data")" ] && umount "$1/mnt"' - "$(dirname "$CACHES")"
    no_cache_nor_anything_is_left
}

@test "storage that cannot carry a cache is named, with the cause, and with what the site can do" {
    local other='name other storage in cache.directories
shifter: This is a site problem' at
    at=$(dirname "$CACHES")/mnt
    poor solid
    refused "$at cannot carry a cache of 300M: its file system has no sparse files
shifter: hint: $other" --volume="$XFS"
    no_longer_poor
    poor quota
    refused "a cache in $at: /usr/sbin/mke2fs failed: exit status: 1 (mke2fs: Disk quota exceeded" --volume="$EXT4"
    assert_output --partial "shifter: hint: see what shifter may store there (quota), or $other"
    no_longer_poor
    poor dying
    refused "a cache in $at: cannot mount it: Input/output error (os error 5)
shifter: hint: dmesg on the node may say more; $other" --volume="$XFS"
    no_longer_poor
    # The kernel has file systems whose files it does not write itself.
    on c1 mount -t hugetlbfs -o uid=990,mode=700 none "$at"
    refused "a cache in $at: /usr/sbin/mkfs.xfs failed: exit status: 1 (mkfs.xfs: pwrite failed: Invalid argument" --volume="$XFS"
    no_longer_poor
}

@test "storage that counts a file as stored where it has holes, as CephFS does, carries caches" {
    poor long
    run alice 'srun -w c1 --image=tiny:1 --volume="$1" sh -c "echo kept >/c/x; cat /c/x"' "$XFS"
    assert_output kept
    no_longer_poor
}

@test "slurmd's own limit for files is told, and no step daemon dies of it" {
    local slurmd
    slurmd=$(on c1 pgrep -o -x slurmd)
    on c1 prlimit --pid "$slurmd" --fsize=100000000:
    run alice 'srun -w c1 --image=tiny:1 --volume="$1" true; echo "exit $?"
        srun -w c1 --image=tiny:1 --volume="$2" ls -d /c' "$XFS" none:/c:perNodeCache=size=64M,fs=ext4
    on c1 prlimit --pid "$slurmd" --fsize=unlimited:
    assert_line 'exit 1'
    assert_line 'shifter: on c1: slurmd on this node may have files of 95M at most'
    assert_line 'shifter: hint: set LimitFSIZE=infinity (ulimit -f unlimited) for slurmd and restart it; until then a cache of 95M may work'
    one_message
    assert_line /c
    # A user's own limit is for what the user's programs write.
    run alice 'ulimit -f 1000; srun -w c1 --image=tiny:1 --volume="$1" ls -d /c' "$XFS"
    assert_output /c
    no_cache_nor_anything_is_left
}
