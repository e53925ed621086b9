# When the site's installation is broken, jobs with an image fail with a message for the administrator,
# never run on the bare host, and no job without an image notices.
load lib

setup() { on ctl rm -f "$SCRATCH/ran"; }
teardown() {
    restore_config
    on ctl rm -rf "$SCRATCH/store-of-bob"
    # What the damaged image's test puts into the store.
    on ctl bash -c 'cd /shared/shifter && rm -rf refs/docker.io/library/damaged manifests/"${1:0:2}/$1" images/"${2:0:2}/$2".squashfs' \
        - "$(printf d-digest | sha256sum | cut -c1-64)" "$(printf damaged | sha256sum | cut -c1-64)"
}

# Both fail where the ranks would start; the batch script itself runs on the host by design.
image_jobs_fail() {
    run alice "srun -N2 -n4 --image=tiny:1 touch $SCRATCH/ran; echo exit \$?"
    refute_line 'exit 0'
    srun_said=$output
    run on ctl ls "$SCRATCH/ran"
    assert_failure
    run batch --image=tiny:1 <<<"#!/bin/bash
srun touch $SCRATCH/ran"
    assert_failure
    run on ctl ls "$SCRATCH/ran"
    assert_failure
    output=$srun_said
}

for_the_administrator() {
    assert_output --partial "$1"
    assert_output --partial 'shifter: This is a site problem: please send these lines to your HPC support.'
}

for_us() {
    assert_output --regexp 'shifter: (on c[12]: )?this is a bug in shifter'
    assert_output --partial 'please tell your HPC support'
}

# Without an image nothing is read, nothing is said, and every node stays in service.
other_jobs_run() {
    run alice 'srun -N2 -n2 hostname | sort'
    assert_output $'c1\nc2'
    run batch <<<$'#!/bin/bash\nsrun hostname'
    assert_success
    assert_output c1
    no_drained_node
    nodes_are_up
}
nodes_are_up() { [[ ! $(on ctl sinfo -h -N -o %T | grep -vE 'idle|mixed|alloc|compl') ]]; }

@test "a broken shifter.toml on the nodes" {
    configure '1i nonsense ='
    image_jobs_fail
    for_the_administrator '/etc/shifter/shifter.toml'
    other_jobs_run
}

@test "a key that does not exist, on the nodes: the message says which line" {
    configure 's/^image_linger.*/image_lingers = 0/'
    image_jobs_fail
    for_the_administrator 'image_lingers'
    other_jobs_run
}

@test "a broken shifter.toml on the login node: the command itself refuses" {
    configure '1i nonsense =' ctl
    run alice "srun --image=tiny:1 touch $SCRATCH/ran"
    assert_failure 1
    for_the_administrator '/etc/shifter/shifter.toml'
    run alice "sbatch --image=tiny:1 --wrap 'touch $SCRATCH/ran'"
    assert_failure 1
    for_the_administrator '/etc/shifter/shifter.toml'
    other_jobs_run
}

@test "a shifter.toml that others may write is not trusted" {
    configure '' "${NODES[@]}"
    for node in "${NODES[@]}"; do on "$node" chmod 666 "$CONFIG"; done
    image_jobs_fail
    for_the_administrator '/etc/shifter/shifter.toml'
    other_jobs_run
}

@test "a shifter.toml that is not there" {
    configure '' "${NODES[@]}"
    for node in "${NODES[@]}"; do on "$node" rm "$CONFIG"; done
    image_jobs_fail
    for_the_administrator '/etc/shifter/shifter.toml'
    other_jobs_run
}

@test "slurmd starts with a broken shifter.toml, and needs no other start when it is mended" {
    configure '1i nonsense =' c1
    on c1 umount /run/shifter/images.ns /run/shifter
    on c1 restart-slurmd
    other_jobs_run
    run on c1 find /run/shifter -maxdepth 1
    assert_line /run/shifter/images.ns
    restore_config
    run alice 'srun -w c1 --image=tiny:1 echo inside'
    assert_output inside
}

@test "a missing store, on the nodes" {
    configure 's|^path = .*|path = "/shared/absent"|'
    image_jobs_fail
    for_the_administrator 'cannot open the image store /shared/absent'
    other_jobs_run
}

@test "a store that belongs to somebody else is not trusted" {
    on ctl install -d -o bob -m 755 "$SCRATCH/store-of-bob"
    configure "s|^path = .*|path = \"$SCRATCH/store-of-bob\"|"
    image_jobs_fail
    for_the_administrator "the image store $SCRATCH/store-of-bob belongs to uid 1002, not to shifter"
    other_jobs_run
}

@test "a directory of the site's that a node lacks" {
    configure '$a [[mount]]\nfrom = "/no/such/project"'
    image_jobs_fail
    for_the_administrator 'cannot open /no/such/project'
    other_jobs_run
}

@test "a panic while the image is staged" {
    configure 's/^\[node\]/[node]\ndebug_panic = "stage"/'
    image_jobs_fail
    for_us
    other_jobs_run
}

@test "a panic while a rank enters" {
    configure 's/^\[node\]/[node]\ndebug_panic = "enter"/'
    image_jobs_fail
    for_us
    other_jobs_run
}

@test "a panic while a rank gets its environment" {
    configure 's/^\[node\]/[node]\ndebug_panic = "environment"/'
    image_jobs_fail
    for_us
    other_jobs_run
}

@test "a panic in srun, sbatch and salloc" {
    configure 's/^\[node\]/[node]\ndebug_panic = "submit"/' ctl
    for command in "srun --image=tiny:1 touch $SCRATCH/ran" "sbatch --image=tiny:1 --wrap 'touch $SCRATCH/ran'" "salloc --image=tiny:1 touch $SCRATCH/ran"; do
        run alice "$command"
        assert_failure 1
        for_us
    done
    run on ctl ls "$SCRATCH/ran"
    assert_failure
    other_jobs_run
}

@test "an image file that is damaged" {
    # A file of the right name, owner and mode that is no file system, under a name of its own.
    on ctl bash -c 'cd /shared/shifter && set -e
        id=$(printf damaged | sha256sum | cut -c1-64) digest=$(printf d-digest | sha256sum | cut -c1-64)
        mkdir -p images/${id:0:2} manifests/${digest:0:2} refs/docker.io/library/damaged
        head -c 65536 /dev/zero >images/${id:0:2}/$id.squashfs
        echo "{\"info\":{\"digest\":\"sha256:$digest\",\"platform\":\"linux/amd64\",\"env\":[]},\"files\":{\"squashfs-2\":{\"id\":\"sha256:$id\",\"format\":\"squashfs\",\"size\":65536}}}" >manifests/${digest:0:2}/$digest
        echo "{\"platforms\":{\"linux/amd64\":{\"digest\":\"sha256:$digest\",\"when\":0,\"by\":\"root\",\"uid\":0,\"from\":\"a test\"}}}" >refs/docker.io/library/damaged/:1
        chown -R shifter:shifter images manifests refs; find images manifests refs -type d -exec chmod 2711 {} +'
    before=$(state_of_nodes)
    run alice "srun --image=damaged:1 touch $SCRATCH/ran"
    assert_failure 1
    for_the_administrator 'cannot mount the image'
    run on ctl ls "$SCRATCH/ran"
    assert_failure
    other_jobs_run
    nothing_is_left "$before"
}
