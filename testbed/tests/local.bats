# --image=local:PATH: images of the nodes' own, below directories that the site lists: a directory, or a squashfs file.
load lib

PLACE=/opt/images

setup_file() {
    # A root with busybox from the image that all tests have, and the same packed.
    alice 'rm -rf own; srun -w c1 --image=tiny:1 sh -c "mkdir -p own/bin own/etc; cp /bin/busybox own/bin; for name in sh ls cat id touch sleep stat; do ln -s busybox own/bin/\$name; done; echo own >own/etc/name"'
    for node in c1 c2; do
        on $node sh -c 'rm -rf "$1"; mkdir -p "$1"; cp -r --no-preserve=ownership /home/alice/own "$1/tree"; chmod -R go+rX,go-w "$1"' - $PLACE
    done
    type -P mksquashfs >/dev/null || apt-get install -qqy squashfs-tools >/dev/null
    packed=$BATS_FILE_TMPDIR/own.sqsh
    mkdir "$BATS_FILE_TMPDIR/tree" && on c1 tar -C $PLACE/tree -c . | tar -C "$BATS_FILE_TMPDIR/tree" -x
    mksquashfs "$BATS_FILE_TMPDIR/tree" "$packed" -quiet -no-progress -comp zstd -all-root
    for node in c1 c2; do on $node sh -c 'cat >"$1/file.sqsh"' - $PLACE <"$packed"; done
}
teardown_file() {
    alice 'rm -rf own'
    for node in c1 c2; do on $node rm -rf $PLACE; done
}
setup() { configure '$ a [images]\nlocal = ["'$PLACE'"]' ctl c1 c2; }
teardown() { restore_config; }

@test "a directory and a squashfs file are images like any other, on every node, in jobs and steps" {
    for name in tree file.sqsh; do
        run alice 'srun -N2 -n4 --image=local:"$1" --volume=$HOME:/mnt sh -c "cat /etc/name; id -un; ls /mnt/own/etc" | sort | uniq -c | tr -s " "' "$PLACE/$name"
        assert_output $' 4 alice\n 4 name\n 4 own'
        run batch --image=local:$PLACE/$name <<<$'#!/bin/bash\nsrun cat /etc/name; srun --image=tiny:1 cat /etc/name; srun sh -c \'echo $SHIFTER_IMAGE $SHIFTER_IMAGEREQUEST; touch /new\''
        assert_line own
        assert_line --partial "can't open '/etc/name'"
        assert_line "local:$PLACE/$name local:$PLACE/$name"
        assert_line --partial 'Read-only file system'
    done
}

@test "the file is mounted once for all jobs on the node, and gone with the last" {
    before=$(state_of_nodes)
    for job in 1 2; do as alice srun -w c1 -J held --image=local:$PLACE/file.sqsh sleep 60 >/dev/null 2>&1 </dev/null 3>&- & done
    eventually 20 on c1 sh -c '[ "$(pgrep -cu alice sleep)" = 2 ]'
    run on c1 sh -c 'grep -l "$1" /sys/block/loop*/loop/backing_file' - file.sqsh
    assert_equal "${#lines[@]}" 1
    on ctl scancel -n held
    wait
    nothing_is_left "$before"
}

@test "it can be written like any other, and is not changed by it" {
    run alice 'srun -w c1 --image=local:"$1"/file.sqsh --image-writable=1M sh -c "touch /etc/new && stat -c %U /etc/new"' $PLACE
    assert_output alice
    # The root of a testbed's node is an overlay, which cannot show root's files as somebody else's: the top is mine,
    # what is below has the owners that it has.
    run alice 'srun -w c1 --image=local:"$1"/tree --image-writable=1M sh -c "touch /new && stat -c %U /new; touch /etc/new"' $PLACE
    assert_line alice
    assert_line 'touch: /etc/new: Permission denied'
    run on c1 sh -c 'ls "$1"/tree "$1"/tree/etc | xargs; tail -n 20 /var/log/slurm/slurmd.log' - $PLACE
    assert_line --index 0 "$PLACE/tree: bin etc $PLACE/tree/etc: name"
    assert_output --partial "--image-writable: this kernel cannot show root's files of this image as the user's"
}

@test "only below what the site lists, where no link leads out, and only what root alone can have written" {
    on c1 sh -c 'cd "$1"; cp file.sqsh alices.sqsh; chown alice alices.sqsh; cp file.sqsh shared.sqsh; chmod g+w shared.sqsh
        cp file.sqsh closed.sqsh; chmod 600 closed.sqsh; ln file.sqsh second.sqsh; ln -s /home/alice/own out; ln -s tree inner
        mkdir -p by/alice/tree; chown alice by/alice; echo text >text' - $PLACE
    run alice 'srun -w c1 --image=local:"$1"/inner cat /etc/name' $PLACE
    assert_output own
    for case in 'out|leads out of' 'alices.sqsh|belongs to uid' 'shared.sqsh|others than root can write it' 'closed.sqsh|Permission denied' \
        'second.sqsh|has other names' 'by/alice/tree|belongs to uid' 'text|is not a squashfs file' 'nothing|there is no'; do
        run alice 'srun -w c1 --image=local:"$1" cat /etc/name 2>&1' "$PLACE/${case%|*}"
        assert_failure 1
        assert_output --partial "${case#*|}"
        one_message
    done
    no_drained_node
    for path in /home/alice/own /opt/images2/tree; do
        run alice 'srun -w c1 --image=local:"$1" true 2>&1' $path
        assert_failure 1
        assert_output --partial 'it is not below a directory that this site lists'
    done
    restore_config
    run alice 'srun --image=local:"$1"/tree true 2>&1' $PLACE
    assert_failure 1
    assert_output --partial 'this site has no local: images'
}
