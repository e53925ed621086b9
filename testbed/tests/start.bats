# Where a rank starts, and what runs its command: --image-workdir, --image-entrypoint.
load lib

teardown() { restore_config; }

# odd:1 has ENTRYPOINT ["/bin/sh", "-c"] and WORKDIR /names; debian:12 has no entrypoint and WORKDIR /usr; tiny:1 has neither.

@test "the entrypoint of an image is run only when I ask for it, with my command as its arguments" {
    run alice 'srun --image=odd:1 "echo from a shell: \$0 \$1" one two; echo "exit $?"
        srun -Q -n2 --image=odd:1 --image-entrypoint "echo from a shell: \$0 \$1" one two'
    assert_line 'exit 2'
    [[ $(count 'from a shell: one two') == 2 ]]
}

@test "the entrypoint is that of each rank with --multi-prog, where Slurm can do that, and never of none" {
    # Only a shell makes two words of it.
    alice 'printf "0 echo\${IFS}zero\n1 echo\${IFS}one\n" >programs'
    run alice 'srun -n2 --image=odd:1 --image-entrypoint --multi-prog programs | sort; rm programs'
    if [[ $(alice 'srun --version') == 'slurm-wlm 22.05'* ]]; then
        assert_output --partial 'shifter: on c1: --image-entrypoint: not with --multi-prog on this release of Slurm'
    else
        assert_output $'one\nzero'
    fi
}

@test "a job's entrypoint is that of its steps, its script runs without, and nothing of it is left in the environment" {
    run batch --image=odd:1 --image-entrypoint <<'SCRIPT'
#!/bin/bash
echo script
srun -Q 'echo step; env | busybox grep -c ^SHIFTER_ARGV; true'
SLURM_SHIFTER_ENTRYPOINT= srun -Q echo without
srun -Q --image=debian:12 true 2>&1 | grep -o 'image-entrypoint: .*'
SCRIPT
    assert_output 'script
step
0
without
image-entrypoint: docker:docker.io/library/debian:12 has no entrypoint'
}

@test "an entrypoint that the image lacks is told, once, and with what to do" {
    run alice 'srun -n2 --image=tiny:1 --image-entrypoint true'
    assert_failure 1
    one_message
    assert_output --partial '--image-entrypoint: docker:docker.io/library/tiny:1 has no entrypoint'
    no_drained_node
}

@test "--image-workdir: in a directory that I name, in the image's, in the job's" {
    run alice 'cd /shared; for directory in /etc image job; do srun --image=odd:1 --image-workdir=$directory sh -c "echo \$PWD; pwd"; done; srun --image=odd:1 readlink /proc/self/cwd'
    assert_output $'/etc\n/etc\n/names\n/names\n/shared\n/shared\n/shared'
    # What it says counts for the command's own name.
    run alice 'srun --image=debian:12 --image-workdir=/usr/local/bin ./image-only'
    assert_output 'only in the image'
}

@test "--image-workdir wins over the site's, and over the job's in a step" {
    configure '$ a [inside]\nworkdir = "image"' ctl c1 c2
    run batch --image=odd:1 --image-workdir=/etc <<'SCRIPT'
#!/bin/bash
cd /shared
pwd
srun -Q readlink /proc/self/cwd
srun -Q --image-workdir=image readlink /proc/self/cwd
srun -Q --image-workdir=job readlink /proc/self/cwd
SCRIPT
    assert_output $'/shared\n/etc\n/names\n/shared'
}

@test "a directory that is not there, or not mine to enter, or that the image does not name, is told" {
    for case in 'odd:1 /nowhere|cannot start in /nowhere: No such file' 'odd:1 /bin/busybox|cannot start in /bin/busybox: Not a directory' \
        'tiny:1 image|--image-workdir=image: docker:docker.io/library/tiny:1 names no working directory'; do
        run alice 'srun -n2 --image='"${case%% *}"' --image-workdir='"$(cut -d'|' -f1 <<<"${case#* }")"' true'
        assert_failure 1
        one_message
        assert_output --partial "${case#*|}"
    done
    run alice 'srun --image=odd:1 --image-workdir=relative true; srun --image=odd:1 --image-workdir=/a/../b true; srun --image=odd:1 --image-workdir= true'
    assert_line 'shifter: --image-workdir=relative: a path inside the image must start with /'
    assert_line 'shifter: --image-workdir=/a/../b: a path inside the image must not contain ..'
    assert_line 'shifter: --image-workdir=: nothing is named'
    no_drained_node
}

@test "steps that start elsewhere, or by the entrypoint, share the job's one namespace" {
    run batch -w c1 --image=odd:1 <<'SCRIPT'
#!/bin/bash
srun -Q readlink /proc/self/ns/mnt
srun -Q --image-workdir=/etc readlink /proc/self/ns/mnt
srun -Q --image-entrypoint 'readlink /proc/self/ns/mnt'
SCRIPT
    [[ $(sort -u <<<"$output" | grep -c '^mnt:') == 1 && ${#lines[@]} == 3 ]]
}

@test "SLURM_SHIFTER_WORKDIR, …_ENTRYPOINT, …_WRITABLE and …_BATCH in my shell are the same as the options, which win" {
    configure '$ a [inside]\nbatch = "ask"' ctl c1 c2
    run alice 'export SLURM_SHIFTER_WORKDIR=/names SLURM_SHIFTER_ENTRYPOINT=1 SLURM_SHIFTER_WRITABLE=1M
        srun --image=odd:1 "readlink /proc/self/cwd; echo written >new; cat new"; srun --image=odd:1 --image-workdir=/etc "readlink /proc/self/cwd"'
    assert_output $'/names\nwritten\n/etc'
    run alice 'printf "#!/bin/sh\necho script in \$SHIFTER_IMAGEREQUEST\n" >script
        SLURM_SHIFTER_BATCH=1 sbatch -Q --wait --image=tiny:1 -o out script; cat out; rm script out'
    assert_output 'script in docker:docker.io/library/tiny:1'
}
