# [inside] and [etc] of shifter.toml: what the site arranges in every image.
load lib

teardown() {
    restore_config
    on c1 rm -rf /etc/shifter/test /tmp/of-the-node /var/tmp/of-the-node
}

@test "/tmp and /var/tmp are the node's" {
    on c1 touch /tmp/of-the-node /var/tmp/of-the-node
    run alice 'srun -w c1 --image=tiny:1 ls /tmp/of-the-node /var/tmp/of-the-node'
    assert_output $'/tmp/of-the-node\n/var/tmp/of-the-node'
    configure '$ a [inside]\ntmp = "host"\nvar_tmp = "host"' c1
    run alice 'srun -w c1 --image=tiny:1 ls /tmp/of-the-node /var/tmp/of-the-node'
    assert_output $'/tmp/of-the-node\n/var/tmp/of-the-node'
}

@test "… or empty memory of a size, one for all ranks and steps of the job" {
    on c1 touch /tmp/of-the-node
    configure '$ a [inside]\ntmp = "tmpfs=8M"\nvar_tmp = "tmpfs=1M"' c1
    run batch -w c1 -n2 --image=debian:12 <<'SCRIPT'
#!/bin/bash
srun -n1 bash -c 'ls -A /tmp /var/tmp; stat -c "%A %U" /tmp /var/tmp; echo step >/tmp/step; head -c 2M /dev/zero >/var/tmp/large; df -m --output=size /tmp | tail -1'
srun -n2 cat /tmp/step
ls /tmp/step
SCRIPT
    assert_line --index 0 /tmp:
    assert_line --index 1 /var/tmp:
    assert_equal "$(count 'drwxrwxrwt root')" 2
    assert_output --partial 'No space left on device'
    assert_line --regexp '^ *8$'
    assert_equal "$(grep -cx step <<<"$output")" 2
    assert_line "ls: cannot access '/tmp/step': No such file or directory"
}

@test "the home directory: what the site mounts, the host's, or empty memory that is mine alone" {
    alice 'touch in-home'
    home() { alice 'srun -w c1 --image=debian:12 sh -c "ls -d ~/in-home; stat -c \"%A %U\" ~; touch ~/new; ls -A ~ | wc -l" 2>&1'; }
    # The testbed mounts /home.
    run home
    assert_line --index 0 /home/alice/in-home
    no_home='s|^from = "/home"|from = "/usr/share/doc"|'
    configure "$no_home" c1
    run home
    assert_output --partial "cannot access '/home/alice/in-home'"
    restore_config
    configure "$no_home"'; $ a [inside]\nhome = "mount"' c1
    run home
    assert_line --index 0 /home/alice/in-home
    restore_config
    configure "$no_home"'; $ a [inside]\nhome = "tmpfs=1M"' c1
    run home
    assert_output --partial "cannot access '/home/alice/in-home'"
    assert_line 'drwx------ alice'
    assert_line 1
    alice 'rm -f in-home new'
}

@test "ranks start in the job's directory, or where the image says if the site has it so" {
    run alice 'cd /shared && srun -w c1 --image=debian:12 sh -c "pwd; echo \$PWD"'
    assert_output $'/shared\n/shared'
    configure '$ a [inside]\nworkdir = "image"' c1
    run alice 'cd /shared && srun -w c1 -n2 --image=debian:12 sh -c "pwd; echo \$PWD"'
    assert_output $'/usr\n/usr\n/usr\n/usr'
    # tiny:1 names none.
    run alice 'cd /shared && srun -w c1 --image=tiny:1 pwd'
    assert_output /shared
}

@test "/etc/passwd and /etc/group: root, nobody, me with all my groups, and whom the site adds" {
    show='srun -w c1 --image=debian:12 sh -c "cut -d: -f1 /etc/passwd | xargs; id; getent group astro; getent passwd munge slurm"'
    run alice "$show"
    assert_line 'root alice nobody'
    assert_line "$(alice id)"
    assert_line --regexp '^astro:x:[0-9]+:alice$'
    from=$(on c1 sed -n '$=' /var/log/slurm/slurmd.log)
    configure '$ a [etc]\nusers = ["munge", "slurm", "nosuch"]' c1
    run alice "$show"
    assert_success
    assert_line 'root alice munge slurm nobody'
    assert_line --regexp '^munge:x:[0-9]+:[0-9]+:munge:/nonexistent:/usr/sbin/nologin$'
    # No job fails for a name; the node's log says it.
    run on c1 tail -n "+$from" /var/log/slurm/slurmd.log
    assert_output --partial 'users: nosuch is left out: this node does not know it'
}

@test "files of /etc: the host's where the site says so, its own instead of ours, and else the image's" {
    on c1 sh -c 'mkdir -p /etc/shifter/test; echo "alice:x:1:1:of the site:/:/bin/sh" >/etc/shifter/test/passwd; echo motto >/etc/shifter/test/motto'
    configure '$ a [etc]\ncopy = ["/etc/hosts", "/etc/no-such-file"]\nreplace = { "/etc/passwd" = "/etc/shifter/test/passwd", "/etc/new/motto" = "/etc/shifter/test/motto" }' c1
    run alice 'srun -w c1 --image=debian:12 sh -c "cat /etc/passwd /etc/new/motto; grep -c alice /etc/group; cat /etc/os-release /etc/hosts; ls /etc/no-such-file /etc/resolv.conf; :" 2>&1'
    assert_line --index 0 'alice:x:1:1:of the site:/:/bin/sh'
    assert_line --index 1 motto
    assert_line --partial 'VERSION_CODENAME='
    assert_output --partial "$(on c1 sed -n '$p' /etc/hosts)"
    assert_line --partial "'/etc/no-such-file': No such file"
    # All other files of the image's /etc are there, as they are.
    list='cd /etc && find . -type f ! -name passwd ! -name group ! -name nsswitch.conf ! -name hosts ! -path "./new/*" -readable | sort | xargs sha256sum'
    inside=$(alice 'srun -w c1 --image=debian:12 sh -c "$1"' "$list")
    restore_config
    [[ $(wc -l <<<"$inside") -gt 50 ]]
    digest=$(alice 'shifterimg lookup debian:12')
    configure '$ a [etc]\ncopy = []' c1
    assert_equal "$(alice 'srun -w c1 --image="id:$2" sh -c "$1"' "$list" "$digest")" "$inside"
    restore_config
    on c1 rm /etc/shifter/test/motto
    configure '$ a [etc]\nreplace = { "/etc/motto" = "/etc/shifter/test/motto" }' c1
    run alice 'srun -w c1 --image=debian:12 true 2>&1'
    assert_failure 1
    assert_output --partial 'etc.replace: /etc/shifter/test/motto is not a file'
}

@test "a site's mount: from elsewhere, read-only, only where it exists, alone or with what is mounted below" {
    on c1 sh -c 'mkdir -p /run/site/below; touch /run/site/file; mount -t tmpfs site /run/site/below; touch /run/site/below/inner'
    configure '$ a [[mount]]\nfrom = "/run/site"\nto = "/site/all"\nread_only = true\n[[mount]]\nfrom = "/run/site"\nto = "/site/one"\nrecursive = false\n[[mount]]\nfrom = "/run/nowhere"\noptional = true' c1
    run alice 'srun -w c1 --image=tiny:1 sh -c "ls /site/all/file /site/all/below/inner /site/one/file; ls -A /site/one/below; touch /site/all/below/x; ls /run/nowhere" 2>&1'
    assert_line /site/all/below/inner
    assert_line /site/one/file
    refute_line inner
    assert_line --partial 'Read-only file system'
    assert_line --partial '/run/nowhere: No such file'
    on c1 sh -c 'umount /run/site/below; rm -r /run/site'
}
