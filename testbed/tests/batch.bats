# sbatch and salloc: a job has an image, its steps inherit it, and each step may have another.
load lib

@test "the batch script runs on the host, as sbatch says, with the request in its environment" {
    run batch --image=debian:12 <<'SCRIPT'
#!/bin/bash
readlink /proc/self/ns/mnt
printenv SLURM_SHIFTER_IMAGE
type image-only
SCRIPT
    assert_line --index 0 --partial 'shifter: note: the script runs on the host, not in the image'
    assert_line --index 1 "$(on c1 readlink /proc/1/ns/mnt)"
    assert_line --index 2 --regexp '^docker:docker\.io/library/debian:12@sha256:[0-9a-f]{64}$'
    assert_line --partial 'image-only: not found'
}

@test "srun in the batch script enters the image without naming it again" {
    run batch -N2 -n4 --image=debian:12 <<'SCRIPT'
#!/bin/bash
srun image-only
SCRIPT
    assert_success
    [[ $(count 'only in the image') == 4 ]]
}

@test "#SBATCH --image is as good as the option" {
    run batch <<'SCRIPT'
#!/bin/bash
#SBATCH --image=debian:12
srun image-only
SCRIPT
    assert_success
    assert_output 'only in the image'
}

@test "sbatch's options come after those of #SBATCH lines: the last image counts, volumes add up, --module=none takes back" {
    run batch --image=debian:12 --module=none --volume=/shared:/b <<'SCRIPT'
#!/bin/bash
#SBATCH --image=tiny:1 --module=greeting --volume=/home:/a
srun sh -c 'echo "$SHIFTER_IMAGEREQUEST greeting: $GREETING"; ls -d /a/alice /b/scratch'
srun --module=none --module=greeting sh -c 'echo "greeting: $GREETING"'
srun --module=greeting,none sh -c 'echo "greeting: $GREETING"'
SCRIPT
    assert_output 'docker:docker.io/library/debian:12 greeting: 
/a/alice
/b/scratch
greeting: hello from the site
greeting: '
}

@test "a step may have another image, and the next step has the job's again" {
    run batch --image=debian:12 <<'SCRIPT'
#!/bin/bash
srun sh -c 'echo $SHIFTER_IMAGEREQUEST; readlink /proc/self/ns/mnt'
srun --image=tiny:1 sh -c 'echo $SHIFTER_IMAGEREQUEST; readlink /proc/self/ns/mnt'
srun sh -c 'echo $SHIFTER_IMAGEREQUEST; readlink /proc/self/ns/mnt'
SCRIPT
    assert_success
    assert_equal "${lines[0]}" docker:docker.io/library/debian:12
    assert_equal "${lines[2]}" docker:docker.io/library/tiny:1
    assert_equal "${lines[4]}" docker:docker.io/library/debian:12
    # The first and the third are one UDI, the second is private.
    assert_equal "${lines[1]}" "${lines[5]}"
    [[ ${lines[1]} != "${lines[3]}" ]]
}

@test "--image=none runs a step on the host, and only that step" {
    run batch --image=debian:12 <<'SCRIPT'
#!/bin/bash
srun --image=none sh -c 'readlink /proc/self/ns/mnt; env | grep -c "^SHIFTER_" || true'
srun image-only
SCRIPT
    assert_line --index 0 "$(on c1 readlink /proc/1/ns/mnt)"
    assert_line --index 1 0
    assert_line --index 2 'only in the image'
}

@test "a job without an image may have a step with one, and only that step" {
    run batch <<'SCRIPT'
#!/bin/bash
srun --image=debian:12 image-only
srun readlink /proc/self/ns/mnt
SCRIPT
    assert_success
    assert_line --index 0 'only in the image'
    assert_line --index 1 "$(on c1 readlink /proc/1/ns/mnt)"
}

@test "a step's own options replace the job's one by one" {
    run batch --image=debian:12 "--volume=$SCRATCH:/job" --module=greeting <<'SCRIPT'
#!/bin/bash
srun sh -c 'echo /[js]*[bp] "greeting: $GREETING"'
srun --volume=/shared/scratch:/step sh -c 'echo /[js]*[bp] "greeting: $GREETING"'
srun --module=none sh -c 'echo /[js]*[bp] "greeting: $GREETING"'
SCRIPT
    assert_success
    assert_output "/job greeting: hello from the site
/step greeting: hello from the site
/job greeting: "
}

@test "a nested sbatch does not inherit" {
    run batch --image=debian:12 --volume=/shared:/job <<'SCRIPT'
#!/bin/bash
job=$(sbatch --parsable --output=nested.out --wrap 'env | grep ^SLURM_SHIFTER; srun readlink /proc/self/ns/mnt')
until [[ ! $(squeue -h -j "$job") ]]; do sleep 0.1; done
cat nested.out; rm nested.out
SCRIPT
    assert_success
    assert_output "$(on c1 readlink /proc/1/ns/mnt)"
}

@test "a nested sbatch may ask for itself" {
    run batch --image=debian:12 <<'SCRIPT'
#!/bin/bash
job=$(sbatch --parsable --image=tiny:1 --output=nested.out --wrap 'for step in 1 2; do srun sh -c "echo \$SHIFTER_IMAGEREQUEST; readlink /proc/self/ns/mnt"; done')
until [[ ! $(squeue -h -j "$job") ]]; do sleep 0.1; done
cat nested.out; rm nested.out
SCRIPT
    assert_success
    assert_line --index 0 docker:docker.io/library/tiny:1
    # It is a job like any other: its steps share its mounts.
    assert_equal "${lines[3]}" "${lines[1]}"
}

@test "salloc gives its shell the request, and the steps in it the image" {
    run alice 'salloc -Q -N2 -n2 --image=debian:12 bash -c "readlink /proc/self/ns/mnt; srun image-only; srun --image=none hostname | sort"'
    assert_success
    assert_line --index 0 "$(on ctl readlink /proc/1/ns/mnt)"
    assert_line --index 1 'only in the image'
    assert_line --index 2 'only in the image'
    assert_line --index 3 c1
    assert_line --index 4 c2
}

@test "every task of an array has the image" {
    run alice '
        job=$(sbatch --parsable --array=1-3 --image=debian:12 --output=array.%a --wrap "srun sh -c \"image-only; echo \\\$SLURM_ARRAY_TASK_ID\"")
        until [[ ! $(squeue -h -j "$job") ]]; do sleep 0.1; done
        cat array.[123]; rm array.[123]'
    [[ $(count 'only in the image') == 3 ]]
    assert_line 1
    assert_line 2
    assert_line 3
}

@test "sbatch --export=NONE keeps the request for the job's steps" {
    run batch --export=NONE --image=debian:12 <<'SCRIPT'
#!/bin/bash
srun image-only
SCRIPT
    assert_success
    assert_output 'only in the image'
}

@test "the name means what it meant at submission: the job carries the digest" {
    digest=$(alice 'srun --image=debian:12 printenv SHIFTER_IMAGE')
    run batch --image=debian:12 <<'SCRIPT'
#!/bin/bash
srun printenv SHIFTER_IMAGE SLURM_SHIFTER_IMAGE
SCRIPT
    assert_line --index 0 "$digest"
    assert_line --index 1 "docker:docker.io/library/debian:12@$digest"
}

@test "several steps at once share the job's UDI" {
    run batch -n4 --image=debian:12 <<'SCRIPT'
#!/bin/bash
for i in 1 2 3 4; do srun --exact -n1 readlink /proc/self/ns/mnt & done
wait
SCRIPT
    assert_success
    assert_equal "${#lines[@]}" 4
    assert_equal "$(sort -u <<<"$output" | wc -l)" 1
}
