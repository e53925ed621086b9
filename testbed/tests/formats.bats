# Images packed as ext4 and erofs besides squashfs: for jobs nothing is different.
load lib

setup_file() { remove_them; }
teardown_file() { remove_them; }
remove_them() { alice 'for tag in squashfs ext4 erofs; do shifterimg rm user:alice/format:$tag; done' >/dev/null || true; }

# alice has the same tree as an image in each format, each under a name of its own platform-independent digest.
import() {
    alice 'mkdir -p format/bin format/etc format/lib && cp /bin/busybox format/bin/ && ln -f format/bin/busybox format/bin/sh &&
        echo $1 >format/etc/format && echo closed >format/etc/mine && chmod 640 format/etc/mine &&
        shifterimg import -q --format $1 dir:format format:$1 && rm -r format' "$1"
}

@test "a job runs from an ext4 and from an erofs image as from squashfs: read-only, nosuid, nodev" {
    local format kind
    for format in squashfs ext4 erofs; do
        import "$format"
        run alice 'srun --image=user:alice/format:$1 /bin/sh -c "/bin/busybox cat /etc/format; /bin/busybox id -u"' "$format"
        assert_output "$format"$'\n1001'
        kind=$(alice 'shifterimg inspect --json user:alice/format:$1' "$format" | jq -r .file.format)
        [[ $kind == "$format" ]]
        run alice 'srun --image=user:alice/format:$1 /bin/sh -c "echo x >/etc/x"' "$format"
        assert_failure
        assert_output --partial 'Read-only file system'
        run alice 'srun --image=user:alice/format:$1 /bin/busybox cat /etc/mine' "$format"
        assert_failure
        assert_output --partial 'Permission denied'
    done
}

@test "on the node the image is mounted as what it is, with nothing that could be replayed or set-user-ID" {
    local format
    for format in ext4 erofs; do
        import "$format"
        alice 'srun --image=user:alice/format:$1 /bin/busybox sleep 20 >/dev/null 2>&1 &
            until [ "$(squeue -h -u alice -t R -o %j)" ]; do sleep 0.1; done' "$format"
        run eventually 10 on c1 nsenter --mount=/run/shifter/images.ns grep -E " - $format /dev/loop[0-9]+ ro" /proc/self/mountinfo
        assert_success
        assert_output --partial 'ro,nosuid,nodev'
        alice 'scancel -u alice'
    done
}

@test "a pull makes another format of what is there, for everybody, and once" {
    alice 'shifterimg pull -q tiny:1' >/dev/null
    run alice 'shifterimg pull --format erofs tiny:1; shifterimg inspect tiny:1; srun --image=tiny:1 busybox echo from erofs'
    assert_line --partial 'it is in the store already'
    assert_line --regexp '^size: .*\(erofs\)$'
    assert_line 'from erofs'
    run bob 'shifterimg pull --format=ext3 tiny:1'
    assert_failure 2
    assert_output --partial 'squashfs, ext4 or erofs'
    # As the other tests know it.
    on ctl shifterimg rm tiny:1 >/dev/null
    alice 'shifterimg pull -q tiny:1' >/dev/null
}
