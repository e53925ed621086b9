# --image-dry-run: what would be where inside, and because of whom. Nothing is run.
load lib

setup_file() { alice 'mkdir -p dry/a; echo a >dry/a/name'; }
teardown_file() { alice 'rm -r dry'; }
teardown() { restore_config; }

@test "the table has what the image is, the site's mounts, the module's and mine, each with its reason" {
    digest=$(alice 'shifterimg lookup debian:12')
    run alice 'srun --image=debian:12 --volume=$HOME/dry/a:/data:ro --module=greeting --image-writable=1G --image-dry-run ./solve'
    assert_success
    assert_line --index 0 "--image=docker:docker.io/library/debian:12@$digest --volume=/home/alice/dry/a:/data:ro --module=greeting --image-writable=1G"
    run tr -s ' ' <<<"$output"
    assert_line 'TARGET SOURCE TYPE OPTIONS BECAUSE OF'
    assert_line "/ store image ro --image=docker:docker.io/library/debian:12@$digest"
    assert_line '/ size=1G tmpfs rw,over-the-image --image-writable=1G'
    assert_line '/etc/passwd made file - every image'
    assert_line '/dev /dev bind dev,rec,slave every image'
    assert_line '/home /home bind rec,slave site'
    assert_line '/opt/site/licenses /usr/share/common-licenses bind ro,rec,slave,optional --module=greeting'
    assert_line '/data /home/alice/dry/a bind ro,rec,slave,as-user --volume=/home/alice/dry/a:/data:ro'
}

@test "what it says is mounted is what a job finds mounted" {
    options='--image=debian:12 --volume=/home/alice/dry/a:/data --volume=none:/mem:tmpfs=size=1M'
    alice "srun $options --image-dry-run true" | awk '$3 ~ /bind|tmpfs/ { print $1 }' | sort >"$BATS_TEST_TMPDIR/said"
    alice "srun $options cat /proc/self/mountinfo" | awk '{ print $5 }' | sort -u >"$BATS_TEST_TMPDIR/found"
    assert [ "$(wc -l <"$BATS_TEST_TMPDIR/said")" -ge 9 ]
    run comm -23 "$BATS_TEST_TMPDIR/said" "$BATS_TEST_TMPDIR/found"
    assert_output ''
}

@test "srun, sbatch and salloc end with 0, queue nothing and run nothing" {
    for command in srun 'sbatch' salloc; do
        run alice 'cd dry; echo "#!/bin/sh
touch ran" >job; chmod +x job; '"$command"' -J dry-$$ --image=debian:12 --image-dry-run ./job; echo "exit $?"; ls ran; squeue -h -t all -n dry-$$ -o "QUEUED %A"'
        assert_line 'exit 0'
        assert_line --partial "cannot access 'ran'"
        refute_output --partial QUEUED
        assert_line --regexp '^/home  '
    done
}

@test "its first line is the request as it can be typed again" {
    run alice 'asked=$(srun --image=debian:12 "--volume=$HOME/dry:/with blank;$HOME/dry/a:/a" --image-dry-run true | head -n1); echo "$asked"; eval "srun $asked cat \"/with blank/a/name\" /a/name"'
    assert_line --index 0 --partial "'--volume=/home/alice/dry/a:/a;/home/alice/dry:/with blank'"
    assert_line --index 1 a
    assert_line --index 2 a
}

@test "defaults, #SBATCH lines and what a job has asked for are in it" {
    run alice 'SHIFTER_IMAGE=debian:12 SHIFTER_MODULE=greeting srun --image-dry-run true | head -n1'
    assert_output --partial ' --module=greeting'
    run alice 'printf "#!/bin/bash\n#SBATCH --image=debian:12 --volume=/home/alice/dry/a:/a\nsrun true\n" >dry/job; sbatch --image-dry-run dry/job | head -n1'
    assert_output --partial ' --volume=/home/alice/dry/a:/a'
    run batch --image=debian:12 --volume=/home/alice/dry/a:/a <<'SCRIPT'
#!/bin/bash
srun --module=greeting --image-dry-run true | head -n1
SCRIPT
    assert_output --regexp '^--image=docker:docker.io/library/debian:12@sha256:[0-9a-f]{64} --volume=/home/alice/dry/a:/a --module=greeting$'
}

@test "--image=none: it would run on the host" {
    run alice 'SHIFTER_IMAGE=debian:12 srun --image=none --image-dry-run true'
    assert_success
    assert_output --partial 'it would run on the host'
}

@test "mistakes are told as always, and without an image there is nothing to show" {
    run alice 'srun --image=nope:1 --image-dry-run true'
    assert_failure 1
    assert_output --partial '--image=nope:1: no such image in the store'
    run alice 'srun --image-dry-run true'
    assert_failure 1
    assert_output --partial $'--image-dry-run needs an image\nshifter: hint: add --image=NAME:TAG'
}

@test "a variable that only the job will have can be set by hand" {
    configure '$ a [volumes]\nvariables = ["BB_*"]' ctl
    run alice 'srun --image=tiny:1 '"'"'--volume=$BB_1/in:/in'"'"' --image-dry-run true'
    assert_failure 1
    assert_output --partial '--volume=${BB_1}/in:/in: BB_1 is not set'
    assert_output --partial 'can be set by hand for a dry run'
    run alice 'BB_1=/mnt/bb srun --image=tiny:1 '"'"'--volume=$BB_1/in:/in'"'"' --image-dry-run true | tail -n1 | tr -s " "'
    assert_output '/in /mnt/bb/in bind rec,slave,as-user --volume=${BB_1}/in:/in'
}
