# Images packed as ext4 and erofs besides squashfs: for jobs nothing is different.
load lib

setup_file() {
    remove_them
    # The site allows them, where users pull.
    configure '$a [images]\nformats = ["squashfs", "ext4", "erofs"]' ctl
    alice 'shifterimg pull -q tiny:1' >/dev/null
}
teardown_file() {
    remove_them
    restore_config
}
remove_them() { alice 'for tag in squashfs ext4 erofs; do shifterimg rm user:alice/format:$tag; done' >/dev/null || true; }

# import FORMAT: alice's tree as an image packed so.
import() {
    alice 'mkdir -p format/bin format/etc format/lib && srun --image=tiny:1 busybox cat /bin/busybox >format/bin/busybox && chmod +x format/bin/busybox && ln -f format/bin/busybox format/bin/sh &&
        echo $1 >format/etc/format && echo closed >format/etc/mine && chmod 640 format/etc/mine &&
        shifterimg import -q --format $1 dir:format format:$1 && rm -r format' "$1"
}

@test "a job runs from an ext4 and from an erofs image as from squashfs" {
    local format kind
    for format in squashfs ext4 erofs; do
        import "$format"
        run alice 'srun --image=user:alice/format:$1 /bin/sh -c "/bin/busybox cat /etc/format; /bin/busybox id -u"' "$format"
        assert_output "$format"$'\n1001'
        kind=$(alice 'shifterimg inspect --json user:alice/format:$1' "$format" | jq -r .file.format)
        [[ $kind == "$format" ]]
        # The kernel lists the devices of these two.
        [[ $format == squashfs ]] ||
            alice 'srun --image=user:alice/format:$1 /bin/busybox ls "/sys/fs/$1"' "$format" | grep '^loop'
        run alice 'srun --image=user:alice/format:$1 /bin/sh -c "echo x >/etc/x"' "$format"
        assert_failure
        assert_output --partial 'Read-only file system'
        run alice 'srun --image=user:alice/format:$1 /bin/busybox cat /etc/mine' "$format"
        assert_failure
        assert_output --partial 'Permission denied'
    done
}

@test "a pull makes another format of what is there, for everybody, and once" {
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
