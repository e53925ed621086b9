# --image-writable=SIZE: an image that can be written, in memory, as long as its job is on the node. The kernel here
# is new enough that what is root's in the image is the user's to change; what holds on older ones is shown by
# testbed/kernels.
load lib

W='--image=debian:12 --image-writable=64M'

@test "what is root's in the image is mine: new files, changed ones, deleted ones, renamed directories" {
    run alice 'srun '"$W"' bash -euc "
        touch /opt/x; stat -c \"%U %n\" / /usr/lib /opt/x
        mkdir -p /usr/lib/python3/dist-packages; echo module >/usr/lib/python3/dist-packages/m.py
        echo changed >/usr/local/bin/image-only; rm /usr/bin/id; mv /usr/share /usr/share2; ls -d /usr/share*
        cat /usr/local/bin/image-only; hash -r; type id || true; ls /usr/share2 | wc -l"'
    assert_success
    assert_line 'alice /'
    assert_line 'alice /usr/lib'
    assert_line 'alice /opt/x'
    assert_line '/usr/share2'
    refute_line '/usr/share'
    assert_line changed
    assert_line --partial 'id: not found'
}

@test "the job's other steps and ranks see what one wrote; the next job, another user and the store do not" {
    id=$(alice 'shifterimg lookup debian:12')
    run batch -n2 $W <<'SCRIPT'
#!/bin/bash
srun -n1 sh -c 'echo mine >/opt/mine; rm /bin/ls'
srun -n2 cat /opt/mine
srun -n1 --image-writable=32M cat /opt/mine 2>&1
srun -n1 ls / 2>&1
SCRIPT
    assert_equal "$(grep -cx mine <<<"$output")" 2
    # Another size is another image.
    assert_line --partial 'cat: /opt/mine: No such file or directory'
    assert_line --partial 'ls: No such file or directory'
    for user in alice bob; do
        run $user 'srun '"$W"' ls /opt'
        assert_success
        assert_output ''
    done
    file=$(on ctl sh -c 'ls /shared/shifter/images/*/*.squashfs')
    for path in $file; do assert_equal "$(on ctl sha256sum "$path" | cut -c1-64)" "$(basename "$path" .squashfs)"; done
    assert_equal "$(alice 'shifterimg lookup debian:12')" "$id"
}

@test "no more than SIZE, on each node; memory that is given back is there again" {
    run alice 'srun --image=debian:12 --image-writable=8M bash -c "
        head -c 9M /dev/zero >/opt/large; ls -s --block-size=1M /opt/large; rm /opt/large; head -c 6M /dev/zero >/opt/small && echo fits"'
    assert_output --partial 'No space left on device'
    assert_line --regexp '^[78] /opt/large$'
    assert_line fits
}

@test "without it nothing can be written; and what the site put there stays the site's" {
    run alice 'srun --image=debian:12 touch /opt/x 2>&1'
    assert_failure
    assert_output --partial 'Read-only file system'
    run alice 'srun '"$W"' sh -c "echo >>/etc/passwd; cat /etc/passwd | grep -c alice; stat -c %U /etc/passwd"'
    assert_line --partial 'Permission denied'
    assert_line 1
    assert_line root
}

@test "it gives no privilege: a program that root's set-user-ID bit is on runs as me, and mounts are nosuid" {
    run alice 'srun '"$W"' sh -c "cp /usr/bin/id /opt/id; chmod 4755 /opt/id /usr/bin/id; /opt/id -u; id -u; awk \"\\\$5 == \\\"/\\\" { print \\\$6 }\" /proc/self/mountinfo"'
    assert_success
    assert_line --index 0 "$(alice 'id -u')"
    assert_line --index 1 "$(alice 'id -u')"
    assert_line --index 2 --partial 'nosuid,nodev'
}

@test "a size that is none, or more than the site allows, is refused at submission" {
    for size in 0 lots 17G; do
        run alice 'srun --image=debian:12 --image-writable="$1" true' $size
        assert_failure 1
        assert_output --partial "--image-writable=$size: "
        one_message
    done
}
