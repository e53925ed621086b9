# --volume=IMAGE:TO:squashfs: a data image of the store.
load lib

teardown() { restore_config; }
teardown_file() { on ctl rm -f "$SCRATCH/bare.conf"; }

# A client of Slurm that knows nothing of us.
bare_client() {
    BARE=$SCRATCH/bare.conf
    on ctl bash -c "sed 's|^PlugStackConfig=.*|PlugStackConfig=/dev/null|' /etc/slurm/slurm.conf >$BARE"
}

@test "the image's content is at TO, for reading, on every node and by any of its names" {
    digest=$(alice 'shifterimg lookup tiny:1')
    for name in tiny:1 docker:tiny:1 "tiny:1@$digest" "id:$digest"; do
        run alice 'srun -N2 -n2 --image=debian:12 --volume="$1":/data:squashfs sh -c "ls /data/bin/busybox; touch /data/new"' "$name"
        assert_equal "$(count '/data/bin/busybox')" 2
        assert_equal "$(count 'Read-only file system')" 2
    done
}

@test "several, beside other volumes; what they hold has no privilege inside" {
    run alice 'srun --image=tiny:1 "--volume=debian:12:/d:squashfs;ubuntu:14.04:/u:squashfs;$HOME:/h" sh -c "ls -d /d/etc /u/etc /h; grep \" /[du] \" /proc/self/mountinfo"'
    assert_line /d/etc
    assert_line /u/etc
    assert_line /h
    for at in /d /u; do assert_line --regexp " $at ro,nosuid,nodev"; done
}

@test "the name means what it meant at submission: the job and accounting have the digest" {
    digest=$(alice 'shifterimg lookup tiny:1')
    run batch --image=debian:12 --volume=tiny:1:/data:squashfs <<<$'#!/bin/bash\nprintenv SLURM_SHIFTER_VOLUME; srun true; scontrol show job $SLURM_JOB_ID | grep AdminComment'
    assert_line --index 0 "docker:docker.io/library/tiny:1@$digest:/data:squashfs"
    assert_line --index 1 --partial " data=docker:docker.io/library/tiny:1@$digest"
}

@test "… also from a client that knows nothing of us, whom slurmctld pins it for" {
    digest=$(alice 'shifterimg lookup tiny:1')
    bare_client
    run alice '
        job=$(SLURM_CONF='$SCRATCH/bare.conf' SLURM_SHIFTER_IMAGE=debian:12 SLURM_SHIFTER_VOLUME="/home:/x;tiny:1:/data:squashfs" sbatch --parsable --output=bare.out --wrap "printenv SLURM_SHIFTER_VOLUME; srun ls /data/bin/busybox")
        until [[ ! $(squeue -h -j "$job") ]]; do sleep 0.1; done; cat bare.out; rm bare.out
        SLURM_CONF='$SCRATCH/bare.conf' SLURM_SHIFTER_IMAGE=debian:12 SLURM_SHIFTER_VOLUME="nope:1:/data:squashfs" sbatch --wrap "srun true"; echo "exit $?"'
    assert_line "docker:docker.io/library/tiny:1@$digest:/data:squashfs;/home:/x"
    assert_line /data/bin/busybox
    assert_line --partial 'shifter: --volume=docker:docker.io/library/nope:1:/data:squashfs: docker:docker.io/library/nope:1: no such image in the store'
    assert_line 'exit 1'
}

@test "one that is not there is a mistake at submission" {
    for command in 'srun true' 'sbatch --wrap true' 'salloc true'; do
        run alice "${command%% *} --image=debian:12 --volume=nope:1:/data:squashfs ${command#* }"
        assert_failure 1
        assert_output --partial '--volume=docker:docker.io/library/nope:1:/data:squashfs: docker:docker.io/library/nope:1: no such image in the store'
        assert_output --partial 'hint: shifterimg pull docker.io/library/nope:1'
        one_message
    done
}

@test "one that is mine alone is there for me, and for nobody else: at submission, in slurmctld, on the node" {
    secret=registry:5001/secret:1
    alice 'auth=$(printf alice:wonderland | base64); echo "{\"auths\":{\"registry:5001\":{\"auth\":\"$auth\"}}}" >login.json
        REGISTRY_AUTH_FILE=$HOME/login.json shifterimg pull -q --private '$secret
    digest=$(alice "shifterimg lookup $secret")
    run alice "srun --image=tiny:1 --volume=$secret:/data:squashfs ls -d /data/bin"
    assert_output /data/bin
    bare_client
    for name in $secret "id:$digest"; do
        run bob 'srun --image=tiny:1 --volume="$1":/data:squashfs true' "$name"
        assert_failure 1
        assert_output --partial 'no such image in the store'
        run bob 'SLURM_CONF="$2" SLURM_SHIFTER_IMAGE=tiny:1 SLURM_SHIFTER_VOLUME="$1:/data:squashfs" sbatch --wrap true' "$name" "$BARE"
        assert_failure 1
        assert_output --partial 'no such image in the store'
    done
    WHO=bob run batch --image=tiny:1 <<<"#!/bin/bash
SLURM_SHIFTER_VOLUME=id:$digest:/data:squashfs srun true 2>&1"
    assert_failure 1
    assert_output --partial 'no such image in the store'
    no_drained_node
    alice "shifterimg rm $secret; rm login.json"
}

@test "a protected place, a file of the image, a local: image, a kind that the site does not allow" {
    try() {
        run alice 'srun --image=debian:12 --volume="$1" true' "$2"
        assert_failure 1
        assert_output --partial "$1"
        one_message
    }
    try '/etc is protected' tiny:1:/etc:squashfs
    try 'one is a directory and the other is not' tiny:1:/usr/bin/id:squashfs
    try 'a local: image cannot be a volume' local:/srv:/data:squashfs
    configure '$ a [images]\ntypes = ["docker"]' ctl
    try 'this site does not allow images of this kind' "id:sha256:$(printf '%064d' 0):/data:squashfs"
}
