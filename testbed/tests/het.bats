# Heterogeneous jobs and steps: several components, with one request, or with several.
load lib

@test "srun A : B runs both components in the image that the first one names" {
    run alice 'srun -Q --image=tiny:1 sh -c "echo \$SHIFTER_IMAGEREQUEST" : sh -c "echo \$SHIFTER_IMAGEREQUEST"'
    assert_success
    assert_output $'docker:docker.io/library/tiny:1\ndocker:docker.io/library/tiny:1'
}

@test "… or each in an image of its own, or on the host, side by side in one step" {
    run alice 'say="echo \$SLURM_PROCID \${SHIFTER_IMAGEREQUEST:-host} \$(ls -d /data 2>&1)"
        srun -Q --image=tiny:1 --volume=/shared:/data sh -c "$say" : --image=debian:12 -n2 sh -c "$say" | sort'
    assert_output '0 docker:docker.io/library/tiny:1 /data
1 docker:docker.io/library/debian:12 /data
2 docker:docker.io/library/debian:12 /data'
    run alice 'srun sh -c "echo \${SHIFTER_IMAGEREQUEST:-host}" : --image=tiny:1 sh -c "echo \$SHIFTER_IMAGEREQUEST" | sort
        srun --image=tiny:1 sh -c "echo \$SHIFTER_IMAGEREQUEST" : --image=none sh -c "echo \${SHIFTER_IMAGEREQUEST:-host}" | sort'
    assert_output $'docker:docker.io/library/tiny:1\nhost\ndocker:docker.io/library/tiny:1\nhost'
}

@test "… and accounting has the image of each" {
    run alice 'salloc -Q --image=tiny:1 : --image=debian:12 sh -c "scontrol show job \$SLURM_JOB_ID_HET_GROUP_0" | grep -o "shifter: image=[^ ]*"'
    assert_output $'shifter: image=docker:docker.io/library/tiny:1\nshifter: image=docker:docker.io/library/debian:12'
}

@test "steps of a salloc have the image of the components that they run on; one of their own is for all of these" {
    run alice 'say="echo \$SHIFTER_IMAGEREQUEST \$(readlink /proc/self/ns/mnt)"
        salloc -Q --image=tiny:1 --volume=/shared:/data : --image=debian:12 bash -c "say=\"\$1\"
            srun -Q --het-group=0,1 sh -c \"\$say\" | sort
            srun -Q --het-group=1 sh -c \"\$say\"
            srun -Q --het-group=1 --image=tiny:1 sh -c \"\$say; [ -e /data ] || echo no volume\"
            srun -Q --het-group=1 --module=greeting true" - "$say"'
    assert_line --index 0 --partial 'debian:12'
    assert_line --index 1 --partial 'tiny:1'
    # The same component's: one UDI.
    assert_equal "${lines[2]}" "${lines[0]}"
    assert_line --index 3 --partial 'tiny:1'
    refute [ "${lines[3]}" = "${lines[1]}" ]
    assert_line 'no volume'
    assert_line --partial 'shifter: --module needs an image'
}

@test "… what a component does not say is as the first one says it, all of it" {
    run alice 'salloc -Q --image=debian:12 --volume=/shared:/a --volume=/home:/b : -n1 bash -c "
        for group in 0 1; do srun -Q --het-group=\$group sh -c \"echo \\\$SHIFTER_IMAGEREQUEST; ls -d /a /b\"; done"'
    assert_output 'docker:docker.io/library/debian:12
/a
/b
docker:docker.io/library/debian:12
/a
/b'
}

@test "a batch job has one request; each of its components may have steps in an image of their own" {
    run alice "sbatch --image=tiny:1 -n1 : --image=debian:12 -n1 --wrap 'srun true'"
    assert_failure 1
    assert_output --partial 'shifter: --image=debian:12: all components have one request here, that of the first'
    assert_output --partial 'or name it in the script: srun --het-group=1 --image='
    run on ctl squeue -h -n wrap
    refute_output
    run alice '
        job=$(sbatch --parsable --output=%j.out --image=debian:12 -n1 : -n1 <<"SCRIPT"
#!/bin/bash
srun -Q --het-group=0 sh -c "echo \$SLURM_JOB_ID \$SHIFTER_IMAGEREQUEST" &
srun -Q --het-group=1 --image=tiny:1 sh -c "echo \$SLURM_JOB_ID \$SHIFTER_IMAGEREQUEST" &
wait
srun --het-group=0 true : --het-group=1 --image=tiny:1 true
SCRIPT
        ) || exit
        until [[ ! $(squeue -h -j "$job") ]]; do sleep 0.1; done
        cat "$job.out"; rm "$job.out"'
    assert_line --partial ' docker:docker.io/library/debian:12'
    assert_line --partial ' docker:docker.io/library/tiny:1'
    # Nothing tells srun's plugins which component is which, in a job.
    assert_output --partial 'shifter: --image=tiny:1: all components have one request here'
    assert_output --partial 'or start another srun for it, with --het-group'
}

@test "a heterogeneous job has one image, and a step of all its components may have another" {
    run alice '
        job=$(sbatch --parsable --output=%j.out --image=debian:12 -n1 : -n1 <<"SCRIPT"
#!/bin/bash
say="echo \$SHIFTER_IMAGEREQUEST \$(readlink /proc/self/ns/mnt)"
srun -Q --het-group=0,1 sh -c "$say"
srun -Q --het-group=0,1 --image=tiny:1 sh -c "$say"
srun -Q --het-group=0,1 sh -c "$say"
SCRIPT
        ) || exit
        until [[ ! $(squeue -h -j "$job") ]]; do sleep 0.1; done
        cat "$job.out"; rm "$job.out"'
    assert_success
    images=$(cut -d' ' -f1 <<<"$output")
    assert_equal "$images" "$(printf 'docker:docker.io/library/%s\n' debian:12{,} tiny:1{,} debian:12{,})"
    # The step of its own left the job's UDIs alone.
    assert_equal "$(sed -n 5,6p <<<"$output" | sort)" "$(sed -n 1,2p <<<"$output" | sort)"
}
