# Heterogeneous jobs and steps: several components, one request.
load lib

@test "srun A : B runs both components in the image that the first one names" {
    run alice 'srun -Q --image=tiny:1 sh -c "echo \$SHIFTER_IMAGEREQUEST" : sh -c "echo \$SHIFTER_IMAGEREQUEST"'
    assert_success
    assert_output $'docker:docker.io/library/tiny:1\ndocker:docker.io/library/tiny:1'
}

@test "a component that asks for something else is refused, and none runs" {
    for other in --image=none --image=debian:12 --volume=/shared:/data --module=greeting; do
        run alice "srun --image=tiny:1 touch $SCRATCH/ran : $other touch $SCRATCH/ran"
        assert_failure 1
        one_message
        assert_output --partial "shifter: $other: all components of a heterogeneous job or step have one request"
    done
    run alice "srun touch $SCRATCH/ran : --image=tiny:1 touch $SCRATCH/ran"
    assert_failure 1
    one_message
    run on ctl ls "$SCRATCH/ran"
    assert_failure
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

@test "sbatch refuses a component with another image, and queues nothing" {
    run alice "sbatch --image=tiny:1 -n1 : --image=debian:12 -n1 --wrap 'srun true'"
    assert_failure 1
    assert_output --partial 'shifter: --image=debian:12: all components of a heterogeneous job or step have one request'
    run on ctl squeue -h -n wrap
    refute_output
}
