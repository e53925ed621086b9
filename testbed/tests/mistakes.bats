# Every mistake costs its maker one message: the command exits 1, says what is wrong and what to do next,
# and nothing is queued.
load lib

teardown() { restore_config; }
teardown_file() { on ctl rm -rf /home/bob/closed "$SCRATCH/bare.conf"; }

# refused WORDS OPTION…: srun says WORDS, once, and what to do; nothing ran, nothing is queued.
refused() { refused_by srun "$@"; }
# refused_everywhere WORDS OPTION…: srun, sbatch and salloc all do.
refused_everywhere() {
    local command
    for command in srun sbatch salloc; do refused_by "$command" "$@"; done
}
refused_by() {
    local words=$2
    run alice 'name=$1 command=$2; shift 2
        case $command in
            sbatch) sbatch -J $name "$@" --wrap "touch $name" ;;
            *) $command -J $name "$@" touch $name ;;
        esac
        echo "exit $?"
        [[ ! -e $name ]] || { echo "IT RAN"; rm $name; }
        squeue -h -t all -n $name -o "QUEUED %A"' "mistake-$BATS_TEST_NUMBER-$$" "$1" "${@:3}"
    assert_line 'exit 1'
    refute_output --partial 'IT RAN'
    refute_output --partial QUEUED
    one_message
    assert_output --partial "$words"
}

@test "an image that is not in the store: the message says how to get it" {
    refused_everywhere "--image=nope:1: no such image in the store
shifter: hint: shifterimg pull nope:1" --image=nope:1
}

@test "… so is one that SLURM_SHIFTER_IMAGE in my shell names" {
    run alice 'SLURM_SHIFTER_IMAGE=nope:1 sbatch -J "$1" --wrap true; echo "exit $?"; squeue -h -t all -n "$1" -o "QUEUED %A"' "by-variable-$$"
    assert_line 'exit 1'
    refute_output --partial QUEUED
    one_message
    assert_output --partial 'nope:1: no such image in the store'
}

@test "a digest that is not in the store is not replaced by another image of the same name" {
    refused 'no such image' "--image=debian:12@sha256:$(printf '%064d' 0)"
}

@test "a malformed name: capital letters, paths, blanks, an empty tag, a typo in the digest" {
    refused_everywhere '--image=Debian:12: not an image name: "Debian" has upper-case letters' --image=Debian:12
    refused 'not an image name' --image=../../etc/passwd
    refused 'not an image name' --image=/dev/urandom
    refused 'not an image name' '--image=debian 12'
    refused 'not an image name' --image=debian:
    refused 'is not sha256:' --image=debian@sha256:12
}

@test "no name at all never means the host" {
    refused_everywhere '--image=: nothing is named' --image=
}

@test "noise as a name: the message stays short and leaves the terminal alone" {
    noise=$(printf '\033[2J\a%.0s' {1..300})
    refused 'not an image name' "--image=$noise"
    refute_output --partial $'\033'
    ((${#output} < 4000))
}

@test "a malformed volume" {
    refused_everywhere '--volume=/shared: TO is missing' --image=tiny:1 --volume=/shared
    refused '--volume=' --image=tiny:1 --volume=:/mnt
    refused '--volume=' --image=tiny:1 --volume=/shared:
    refused '--volume=' --image=tiny:1 --volume=shared:/mnt
    refused '--volume=' --image=tiny:1 --volume=/shared:mnt
    refused '--volume=' --image=tiny:1 --volume=/shared:/mnt:rx
    refused '--volume=' --image=tiny:1 --volume=/shared:/mnt/../etc
    refused '--volume=: nothing is named' --image=tiny:1 --volume=
}

# each OPTION < TABLE: every line of the table, `VALUE | WORDS`, is a mistake that is told in these words.
each() {
    local value words
    while IFS='|' read -r value words; do
        value=${value%"${value##*[! ]}"} words=${words# }
        refused "--$1=$value: $words" --image=tiny:1 "--$1=$value"
    done
}

@test "every way to misspell a volume has words of its own" {
    each volume <<'TABLE'
/a:/b:rw                            | unknown flag "rw"
/a:/b:slave                         | the flag slave is for the site's own mounts
/a:/b:private                       | the flag private is for the site's own mounts
/a:/b\                              | a backslash at the end
$HOME:/b                            | FROM must be an absolute path
none:/b                             | none needs tmpfs=size=SIZE or perNodeCache=size=SIZE
/a:/b:tmpfs=size=1G                 | a tmpfs comes from nowhere: write none as FROM
none:/b:tmpfs=1G                    | unknown setting "1G"
none:/b:tmpfs=size=much             | "much" is not a size like 200G
none:/b:tmpfs=size=1G,fs=xfs        | a tmpfs has no fs=
none:/b:tmpfs=size=1G:ro            | it begins empty, so ro is of no use
none:/b:perNodeCache=fs=xfs         | size=SIZE is missing
none:/b:perNodeCache=size=1G,fs=zfs | "zfs" is not xfs or ext4
a:/b:perNodeCache=size=1G           | FROM must be an absolute path on the storage that shall hold it, or none
local:/srv/x:/b:squashfs            | a local: image cannot be a volume; mount its directory
TABLE
}

@test "more memory than the site allows, for a volume or for what is written into the image" {
    refused '--volume=none:/b:tmpfs=size=1T: this site allows 16G at most' --image=tiny:1 --volume=none:/b:tmpfs=size=1T
    each image-writable <<'TABLE'
1T   | this site allows 16G at most
much | "much" is not a size like 200G
0    | "0" is not a size like 200G
TABLE
    refused '--image-writable=: nothing is named' --image=tiny:1 --image-writable=
}

@test "more volumes than the site allows" {
    refused '--volume: 65 volumes, and this site allows 64' --image=tiny:1 "--volume=$(printf '/home:/v%s;' {1..65})"
}

@test "a kind of image that the site does not have" {
    refused_everywhere '--image=local:/srv/image: this site has no local: images' --image=local:/srv/image
    configure '$ a [images]\ntypes = ["id"]\nlocal = ["/srv"]' ctl
    refused '--image=docker:docker.io/library/tiny:1: this site does not allow images of this kind' --image=tiny:1
    restore_config
    configure '$ a [images]\nlocal = ["/srv"]' ctl
    refused '--image=local:/etc: it is not below a directory that this site lists
shifter: hint: local: images are below /srv' --image=local:/etc
    restore_config
}

@test "one bad volume among good ones" {
    refused '--volume=/shared:/etc: /etc is protected' --image=tiny:1 '--volume=/shared:/a;/shared:/etc' --volume=/shared:/b
}

@test "a protected target, however it is spelled" {
    for target in / /etc/passwd /proc /sys /dev/shm /var /var/spool /run /home/x //etc /./etc/; do
        refused 'is protected' --image=tiny:1 "--volume=/shared:$target"
        assert_output --partial 'hint: mount it somewhere else, for example under /mnt'
    done
    refused_everywhere 'is protected' --image=tiny:1 --volume=/shared:/etc
}

@test "two volumes at the same place" {
    refused '--volume: both /home and /shared want to be /mnt' --image=tiny:1 '--volume=/shared:/mnt;/home:/mnt'
}

@test "an unknown module: the message lists those that there are" {
    refused_everywhere "--module=cuda: no such module
shifter: hint: this site has: greeting, mpich" --image=tiny:1 --module=cuda
    refused '--module=: nothing is named' --image=tiny:1 --module=
}

@test "a volume, a module, a size, or a table of it all without an image" {
    refused_everywhere '--volume needs an image
shifter: hint: add --image=NAME:TAG' --volume=/shared:/mnt
    refused '--module needs an image' --module=greeting
    refused '--image-writable needs an image' --image-writable=1G
    refused '--image-dry-run needs an image' --image-dry-run
}

@test "a batch script inside, where the site does not want it, or where there is none" {
    refused_by sbatch '--image-batch: this site runs batch scripts on the host
shifter: hint: leave it out, and start programs in the image by srun' --image=tiny:1 --image-batch
    refused '--image-batch: srun has no batch script' --image=tiny:1 --image-batch
    refused_by salloc '--image-batch: salloc has no batch script
shifter: hint: leave it out, and start programs in the image by srun' --image=tiny:1 --image-batch
}

@test "a volume that does not exist on the node: the step fails, once per node, the node is fine" {
    run alice 'srun -N2 -n8 --image=tiny:1 --volume=/no/such:/mnt touch ran; echo "exit $?"; ls ran'
    assert_line 'exit 1'
    assert_line --partial "cannot access 'ran'"
    assert_line 'shifter: on c1: --volume=/no/such:/mnt: cannot open /no/such: No such file or directory (os error 2)'
    assert_line 'shifter: on c2: --volume=/no/such:/mnt: cannot open /no/such: No such file or directory (os error 2)'
    assert_equal "$(count 'hint: check the spelling; it must exist on the compute node')" 2
    no_drained_node
}

@test "a volume that I may not reach: the step fails with the kernel's reason" {
    bob 'mkdir -p -m 700 closed; mkdir -p closed/below'
    run alice 'srun --image=tiny:1 --volume=/home/bob/closed/below:/mnt true 2>&1'
    assert_failure 1
    assert_output --partial '--volume=/home/bob/closed/below:/mnt: cannot open /home/bob/closed/below: Permission denied'
    one_message
    no_drained_node
}

@test "a volume gives me no more than I have on the host" {
    run alice 'srun --image=tiny:1 --volume=/root:/mnt ls /mnt'
    assert_failure 1
    assert_output --partial "can't open '/mnt': Permission denied"
    no_drained_node
}

# --- requests that our plugin in srun, sbatch and salloc has not seen ---

# A client of Slurm without the plugin: another plugstack.conf.
bare_client() {
    on ctl bash -c "sed 's|^PlugStackConfig=.*|PlugStackConfig=/dev/null|' /etc/slurm/slurm.conf >$SCRATCH/bare.conf"
    export BARE=$SCRATCH/bare.conf
}

@test "the plugin cannot be avoided: a client without it that asks for a missing image is refused by slurmctld" {
    bare_client
    run alice 'SLURM_CONF='$BARE' SLURM_SHIFTER_IMAGE=nope:1 sbatch -J bare-$$ --wrap "touch ran"; echo "exit $?"
        squeue -h -t all -n bare-$$ -o "QUEUED %A"'
    assert_line 'exit 1'
    refute_output --partial QUEUED
    assert_output --partial 'nope:1: no such image in the store'
    assert_output --partial 'shifterimg pull'
}

@test "… and so are a malformed name, a malformed volume, a protected target, an unknown module" {
    bare_client
    try() {
        run alice 'SLURM_CONF='$BARE' env "${@:2}" sbatch -J bare-$$ --wrap "touch ran"; echo "exit $?"
            squeue -h -t all -n bare-$$ -o "QUEUED %A"' "$@"
        assert_line 'exit 1'
        refute_output --partial QUEUED
        assert_output --partial "$1"
        assert_output --partial 'hint: '
    }
    # The first word is for the eye of `try`, the rest are variables.
    try 'not an image name' SLURM_SHIFTER_IMAGE=Debian:12
    try 'TO is missing' SLURM_SHIFTER_IMAGE=tiny:1 SLURM_SHIFTER_VOLUME=/shared
    try '/etc is protected' SLURM_SHIFTER_IMAGE=tiny:1 SLURM_SHIFTER_VOLUME=/shared:/etc
    try 'no such module' SLURM_SHIFTER_IMAGE=tiny:1 SLURM_SHIFTER_MODULE=cuda
    try '--volume needs an image' SLURM_SHIFTER_VOLUME=/shared:/mnt
}

@test "… and a good request is pinned there, and its steps run in the image" {
    bare_client
    run alice '
        job=$(SLURM_CONF='$BARE' SLURM_SHIFTER_IMAGE=debian:12 sbatch --parsable --output=bare.out --wrap "srun image-only; printenv SLURM_SHIFTER_IMAGE")
        until [[ ! $(squeue -h -j "$job") ]]; do sleep 0.1; done; cat bare.out; rm bare.out'
    assert_line 'only in the image'
    assert_line --regexp '^docker:docker\.io/library/debian:12@sha256:[0-9a-f]{64}$'
}

@test "a request that I change after submission gains nothing: the node checks it again" {
    run batch --image=tiny:1 <<'SCRIPT'
#!/bin/bash
SLURM_SHIFTER_VOLUME=/shared:/etc srun touch ran 2>&1
SLURM_SHIFTER_MODULE=cuda srun touch ran 2>&1
SLURM_SHIFTER_IMAGE=id:sha256:0000000000000000000000000000000000000000000000000000000000000000 srun touch ran 2>&1
SLURM_SHIFTER_IMAGE=debian:12 srun touch ran 2>&1
ls ran
SCRIPT
    assert_output --partial '--volume=/shared:/etc: /etc is protected'
    assert_output --partial '--module=cuda: no such module'
    assert_output --partial 'no such image'
    assert_output --partial 'nobody pinned the image to its digest'
    assert_output --partial "cannot access 'ran'"
    no_drained_node
}

@test "root's own jobs are refused, unless the site says otherwise" {
    run on ctl srun --image=tiny:1 touch /tmp/ran
    assert_failure 1
    assert_output --partial "shifter: root's"
    assert_output --partial 'hint: submit as an ordinary user'
    run on ctl squeue -h -u root
    assert_output ''
    no_drained_node
}
