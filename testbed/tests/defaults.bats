# SHIFTER_IMAGE, SHIFTER_VOLUME, SHIFTER_MODULE: what I mean when I say nothing.
load lib

setup_file() { alice 'mkdir -p def/{a,b}; echo a >def/a/name; echo b >def/b/name'; }
teardown_file() { alice 'rm -r def'; }

HOST='readlink /proc/self/ns/mnt'

@test "SHIFTER_IMAGE is the image of srun, sbatch and salloc" {
    run alice 'export SHIFTER_IMAGE=debian:12; srun image-only; salloc srun image-only'
    assert_output $'only in the image\nonly in the image'
    run as alice env SHIFTER_IMAGE=debian:12 bash -c 'sbatch --wait -o def/out --wrap "srun image-only" >/dev/null; cat def/out'
    assert_output 'only in the image'
}

@test "an option replaces its default, and leaves the others" {
    run alice 'export SHIFTER_IMAGE=debian:12 SHIFTER_VOLUME=$HOME/def/a:/a SHIFTER_MODULE=greeting
        srun sh -c "cat /[ab]/name; echo \$SHIFTER_IMAGEREQUEST \$GREETING"
        srun --volume=$HOME/def/b:/b sh -c "cat /[ab]/name; echo \$SHIFTER_IMAGEREQUEST \$GREETING"
        srun --image=tiny:1 --module=none sh -c "cat /[ab]/name; echo \$SHIFTER_IMAGEREQUEST \$GREETING"'
    assert_output 'a
docker:docker.io/library/debian:12 hello from the site
b
docker:docker.io/library/debian:12 hello from the site
a
docker:docker.io/library/tiny:1'
}

@test "--image=none replaces all of them, for a step and for a job with its steps" {
    run alice 'export SHIFTER_IMAGE=debian:12 SHIFTER_VOLUME=$HOME/def/a:/a; srun -w c1 --image=none '"$HOST"'
        sbatch --wait -w c1 --image=none -o def/out --wrap "srun '"$HOST"'" >/dev/null; cat def/out'
    host=$(on c1 readlink /proc/1/ns/mnt)
    assert_output "$host"$'\n'"$host"
}

@test "without an image the others ask for nothing" {
    run alice 'SHIFTER_VOLUME=/no/such:/etc SHIFTER_MODULE=cuda srun -w c1 '"$HOST"
    assert_output "$(on c1 readlink /proc/1/ns/mnt)"
}

@test "what SLURM_SHIFTER_IMAGE says counts more than the default, and less than the option" {
    run alice 'export SHIFTER_IMAGE=debian:12 SLURM_SHIFTER_IMAGE=tiny:1
        srun sh -c "echo \$SHIFTER_IMAGEREQUEST"; srun --image=ubuntu:14.04 printenv SHIFTER_IMAGEREQUEST'
    assert_output 'docker:docker.io/library/tiny:1
docker:docker.io/library/ubuntu:14.04'
}

@test "in a job the job's request counts, not the default: it may have changed since" {
    run batch --image=debian:12 --volume=/home/alice/def/a:/a <<'SCRIPT'
#!/bin/bash
export SHIFTER_IMAGE=tiny:1 SHIFTER_VOLUME=/home/alice/def/b:/b SHIFTER_MODULE=greeting
srun sh -c 'cat /[ab]/name; echo $SHIFTER_IMAGEREQUEST $GREETING'
srun --module=none sh -c 'cat /[ab]/name; echo $SHIFTER_IMAGEREQUEST'
SCRIPT
    assert_output 'a
docker:docker.io/library/debian:12
a
docker:docker.io/library/debian:12'
}

@test "in a job without an image the default is that of its steps" {
    run batch <<'SCRIPT'
#!/bin/bash
export SHIFTER_IMAGE=debian:12
srun image-only
SCRIPT
    assert_output 'only in the image'
}

@test "a mistake in a default names the variable" {
    run alice 'SHIFTER_IMAGE=Debian:12 srun true; echo "exit $?"; SHIFTER_IMAGE=debian:12 SHIFTER_MODULE=cuda sbatch --wrap true; echo "exit $?"'
    assert_line 'shifter: SHIFTER_IMAGE: --image=Debian:12: not an image name: "Debian" has upper-case letters, which registries do not allow'
    assert_line 'shifter: SHIFTER_MODULE: --module=cuda: no such module'
    assert_equal "$(count 'exit 1')" 2
}

@test "inside, SHIFTER_IMAGE is the digest: commands that get it from there have no default" {
    # As if they were started inside: with all that a rank finds in its environment.
    run alice 'srun --image=debian:12 env | grep ^SHIFTER_ >def/inside; set -a; . def/inside; set +a; printenv SHIFTER_RUNTIME
        srun -w c1 sh -c "'"$HOST"'; env | grep ^SHIFTER_ || true"
        sbatch --wait -w c1 -o def/out --wrap "srun '"$HOST"'; env | grep ^SHIFTER_" >/dev/null; cat def/out'
    host=$(on c1 readlink /proc/1/ns/mnt)
    assert_output $'1\n'"$host"$'\n'"$host"
}
