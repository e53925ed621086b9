# srun --image: what a rank sees, and what it does not notice.
load lib

@test "every rank on both nodes reads the image's os-release, not the host's" {
    run on c1 grep VERSION_CODENAME /etc/os-release
    refute_output VERSION_CODENAME=bullseye
    run alice 'srun -N2 -n8 --image=docker:ubuntu:14.04 sh -c "cat /etc/os-release | head -1; cat /etc/stand-in" 2>&1'
    assert_success
    host=$(on c1 head -1 /etc/os-release)
    [[ $(count "$host") == 0 && $(count PRETTY_NAME=) == 8 ]]
}

@test "a command that exists only in the image is found by its name, on both nodes" {
    run alice 'srun -N2 -n8 --image=debian:12 image-only'
    assert_success
    [[ $(count "only in the image") == 8 ]]
    run -127 on c1 sh -c image-only
}

@test "a command that exists only on the host is not found in the image" {
    run alice 'srun --image=debian:12 sinfo'
    assert_failure 2
    assert_output --partial 'sinfo: No such file or directory'
}

@test "I am myself, with all my groups, by name and by number" {
    host=$(alice 'srun id; srun id -G')
    run alice 'srun -N2 -n2 --image=debian:12 sh -c "id; id -G" | sort -u'
    assert_success
    assert_output "$(sort -u <<<"$host")"
    assert_output --partial '2001(science),2002(astro)'
}

@test "an image without glibc, bash and /etc/passwd knows me too" {
    run alice 'srun --image=tiny:1 sh -c "id -un; id -Gn; ls /lib /usr/bin/bash"'
    assert_line alice
    assert_line 'alice science astro'
    assert_line --partial '/lib: No such file or directory'
}

@test "the host name is the node's" {
    run alice 'srun -N2 -n2 --image=tiny:1 hostname | sort'
    assert_output $'c1\nc2'
}

@test "the working directory is the one I was in" {
    run alice "mkdir -p $SCRATCH/work.\$\$ && cd $SCRATCH/work.\$\$ && srun -N2 -n2 --image=debian:12 pwd; rm -r $SCRATCH/work.\$\$"
    assert_success
    assert_line --index 0 --regexp "^$SCRATCH/work\.[0-9]+$"
    assert_line --index 1 --regexp "^$SCRATCH/work\.[0-9]+$"
    run alice 'srun --chdir=/usr --image=debian:12 pwd'
    assert_output /usr
}

@test "a working directory that the image lacks: Slurm says so, and it is /tmp" {
    run alice 'cd /usr/share/doc && srun --image=tiny:1 pwd'
    assert_line /tmp
    assert_line --partial "couldn't chdir to \`/usr/share/doc': No such file or directory: going to /tmp instead"
}

@test "my home directory is there, and what I write in it stays mine" {
    run alice 'srun --image=debian:12 sh -c "cd; pwd; echo written > from-the-image; cat ~/from-the-image"
               stat -c %U from-the-image; rm from-the-image'
    assert_output $'/home/alice\nwritten\nalice'
}

@test "PATH and the other variables are the image's, and the job's where the image says nothing" {
    run alice 'PATH=/host/only:$PATH LD_PRELOAD= MINE=kept IMAGE_SAYS=overruled \
        srun --image=debian:12 sh -c "echo \$PATH; echo \$IMAGE_SAYS \$MINE"'
    assert_output $'/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nhello kept'
    run alice 'SHIFTERENV_IMAGE_SAYS=mine srun --image=debian:12 printenv IMAGE_SAYS'
    assert_output mine
}

@test "exported shell functions, umask and limits come along" {
    run alice 'hello() { echo "hello from a function"; }; export -f hello; umask 027; ulimit -n 777
        srun --image=debian:12 bash -c "hello; umask; ulimit -n"'
    assert_output $'hello from a function\n0027\n777'
}

@test "the image cannot be written, /tmp and my directories can" {
    run alice 'srun --image=debian:12 sh -c "touch /tmp/mine-\$\$ && rm /tmp/mine-\$\$ && touch /new-file"'
    assert_failure 1
    assert_output --partial "cannot touch '/new-file': Read-only file system"
}

@test "exit codes are the command's, the highest of all ranks" {
    run alice 'srun --image=tiny:1 true'
    assert_success
    run alice 'srun --image=tiny:1 sh -c "exit 7"'
    assert_failure 7
    run alice 'srun -n4 --image=tiny:1 sh -c "exit \$SLURM_PROCID"'
    assert_failure 3
}

@test "a rank that dies of a signal says so" {
    run alice 'srun --image=tiny:1 sh -c "kill -SEGV \$\$"'
    assert_failure 139
    assert_output --partial 'Segmentation fault'
}

@test "signals pass through to every rank" {
    run alice '
        srun -N2 -n2 --image=debian:12 bash -c "
            trap \"echo caught it; exit 5\" USR1; echo ready; while :; do sleep 0.05; done" >signals.$$ 2>&1 &
        until [[ $(grep -c ready signals.$$) == 2 ]]; do sleep 0.05; done
        kill -USR1 $!; wait $!; echo "exit $?"; cat signals.$$; rm signals.$$'
    assert_line 'exit 5'
    [[ $(count 'caught it') == 2 ]]
}

@test "standard input reaches the rank, binary and to its end" {
    run alice 'head -c 1000000 /dev/urandom >noise.$$
        srun --image=debian:12 sha256sum <noise.$$; sha256sum <noise.$$; rm noise.$$'
    assert_success
    assert_equal "${lines[0]}" "${lines[1]}"
}

@test "standard output and error stay apart" {
    run alice 'srun --image=tiny:1 sh -c "echo out; echo err >&2" 2>/dev/null'
    assert_output out
}

@test "--pty gives a terminal of the right size, with a name inside the image" {
    run alice 'script -qec "stty rows 33 cols 77; srun --pty --image=debian:12 sh -c \"tty; stty size; test -t 0 -a -t 1 && echo a terminal; ls -l \\\$(tty)\"" /dev/null </dev/null'
    assert_success
    assert_output --regexp '/dev/pts/[0-9]+'
    assert_output --partial '33 77'
    assert_output --partial 'a terminal'
    assert_output --regexp 'crw.* alice '
}

@test "--multi-prog runs each rank's own program inside" {
    run alice 'printf "0 image-only\n1-2 echo rank %%t\n" >multi.$$; srun -n3 --image=debian:12 --multi-prog multi.$$; rm multi.$$'
    assert_success
    assert_line 'only in the image'
    assert_line 'rank 2'
}

@test "64 ranks on a node all get in" {
    run alice 'srun -N1 -n64 --image=debian:12 image-only'
    assert_success
    [[ $(count "only in the image") == 64 ]]
}

@test "--export=NONE keeps the request, and loses the rest" {
    run alice 'LOST=1 srun --export=NONE --image=debian:12 bash -c "image-only; echo lost: \$LOST"'
    assert_success
    assert_output $'only in the image\nlost:'
}

@test "the same image by its short name, its long name and its digest" {
    digest=$(alice 'srun --image=debian:12 printenv SHIFTER_IMAGE')
    for name in docker:debian:12 docker.io/library/debian:12 "debian:12@$digest" "debian@$digest" "id:$digest"; do
        run alice 'srun --image="$1" printenv SHIFTER_IMAGE' "$name"
        assert_output "$digest"
    done
}

@test "SLURM_SHIFTER_IMAGE in my shell is the same as --image, and --image overrules it" {
    run alice 'SLURM_SHIFTER_IMAGE=debian:12 srun image-only'
    assert_output 'only in the image'
    run alice 'SLURM_SHIFTER_IMAGE=tiny:1 srun --image=debian:12 image-only'
    assert_output 'only in the image'
}

@test "empty ones ask for nothing" {
    run alice 'SLURM_SHIFTER_IMAGE= SLURM_SHIFTER_VOLUME= srun -w c1 readlink /proc/self/ns/mnt'
    assert_output "$(on c1 readlink /proc/1/ns/mnt)"
}

@test "without --image a step knows nothing of all this" {
    run alice 'srun -w c1 sh -c "readlink /proc/self/ns/mnt; env | grep SHIFTER || echo none"'
    assert_output "$(on c1 readlink /proc/1/ns/mnt)"$'\nnone'
}

@test "srun --help explains the options" {
    run alice 'srun --help'
    assert_output --partial '--image=NAME:TAG'
    assert_output --partial '--volume=FROM:TO[:FLAG]'
    for option in module=NAME image-writable=SIZE image-batch image-dry-run; do assert_output --partial "--$option"; done
    assert_output --partial '--module=NAME'
}
