# Moving over: scripts of the original Shifter, options in pyxis' names, mpirun.
load lib

setup_file() { alice 'mkdir -p moving/data; echo data >moving/data/file; printf "#!/bin/sh\necho \"hello from \$SHIFTER_IMAGEREQUEST\"\n" >moving/a.out; chmod +x moving/a.out'; }
teardown_file() { alice 'rm -r moving'; }
teardown() {
    restore_config
    local node
    for node in ctl "${NODES[@]}"; do on "$node" sed -i 's/^\(required .*shifter\.so\) .*/\1/' /etc/slurm/plugstack.conf; done
}

# An image whose PATH finds it; tiny:1 has no libraries at all, and /bin alone in its PATH.
HERE='hello from docker:docker.io/library/debian:12'
TINY='hello from docker:docker.io/library/tiny:1'

@test "srun shifter ./a.out of an old script runs ./a.out, as srun ./a.out does, in any image" {
    run batch -N2 -n4 --image=debian:12 <<'SCRIPT'
#!/bin/bash
cd moving
srun -Q shifter ./a.out
srun -Q shifter --image=debian:12 -- ./a.out
srun -Q --image=tiny:1 /usr/bin/shifter ./a.out
SCRIPT
    assert_success
    [[ $(count "$HERE") == 8 && $(count "$TINY") == 4 && ${#lines[@]} == 12 ]]
}

@test "inside, what an old script asks of shifter is there already, or it is told what to write" {
    run alice 'cd moving; for options in -v -eSHIFTER_IMAGEREQUEST=mine "--image=tiny:1" "--volume=/a:/b" --module=mpich --clearenv --entrypoint; do
            echo "== $options"; srun -Q --image=debian:12 shifter $options $PWD/a.out 2>&1 | grep -v ^srun:; done'
    assert_output "== -v
$HERE
== -eSHIFTER_IMAGEREQUEST=mine
hello from mine
== --image=tiny:1
shifter: --image=tiny:1: this step is in docker:docker.io/library/debian:12 already
shifter: hint: choose the image by srun: srun --image=tiny:1 ./program
== --volume=/a:/b
shifter: --volume=/a:/b: this step does not have it
shifter: hint: give it to srun or #SBATCH: srun --volume=/a:/b ./program
== --module=mpich
shifter: --module=mpich: this step does not have it
shifter: hint: give it to srun or #SBATCH: srun --module=mpich ./program
== --clearenv
shifter: --clearenv: too late, for the program is in the image already
shifter: hint: give it to srun: srun --export=NONE ./program
== --entrypoint
shifter: --entrypoint: too late, for the program is in the image already
shifter: hint: give it to srun: srun --image-entrypoint ./program"
    run alice 'srun -Q --image=debian:12 shifter -w/usr pwd; srun -Q --image=debian:12 shifter --entrypoint=/bin/echo word'
    assert_output $'/usr\nword'
}

@test "on the host of a job shifter has srun run it, once, with what an old script asked for" {
    run batch -N2 -n4 --image=tiny:1 <<'SCRIPT'
#!/bin/bash
cd moving; export SLURM_DEBUG=quiet
shifter ./a.out
shifter --image=debian:12 --volume=/home/alice/moving/data:/data -e IMAGE_SAYS=mine sh -c './a.out; cat /data/file; echo $IMAGE_SAYS'
shifter --image=odd:1 --workdir readlink /proc/self/cwd
shifter false 2>/dev/null; echo "exit $?"
shifter no-such-program 2>/dev/null; echo "exit $?"
SCRIPT
    assert_line --index 0 "$TINY"
    assert_line --index 1 "$HERE"
    assert_line --index 2 data
    assert_line --index 3 mine
    assert_line --index 4 /names
    assert_line --index 5 'exit 1'
    assert_line --index 6 'exit 2'
}

@test "#!/usr/bin/shifter as the first line of a batch script runs it inside" {
    run batch --image=tiny:1 <<'SCRIPT'
#!/usr/bin/shifter /bin/sh
echo "hello from $SHIFTER_IMAGEREQUEST"
SCRIPT
    assert_output "$TINY"
}

@test "outside of a job, in a job without an image, and in a step on the host it says what to do" {
    run alice 'shifter --image=tiny:1 ./a.out; echo "exit $?"; salloc shifter ./a.out; srun shifter ./a.out'
    assert_line 'shifter: this is not a job, and programs run in images in jobs only'
    assert_line 'exit 1'
    assert_line 'shifter: this job has no image'
    assert_line 'shifter: this step runs on the host: each of its ranks would start a step of its own'
}

@test "a node without the program, or with one that is not root's alone, runs images all the same" {
    local broken mended
    for broken in 'mv /usr/libexec/shifter/shifter /usr/libexec/shifter/away' 'chmod o+w /usr/libexec/shifter/shifter'; do
        mended='if [ -e /usr/libexec/shifter/away ]; then mv /usr/libexec/shifter/away /usr/libexec/shifter/shifter; fi; chmod o-w /usr/libexec/shifter/shifter'
        on c1 sh -c "$broken"
        run alice 'srun -w c1 --image=tiny:1 sh -c "ls /usr/bin/shifter; moving/a.out" 2>&1'
        on c1 sh -c "$mended"
        assert_output --partial 'No such file'
        assert_output --partial "$TINY"
    done
}

@test "pyxis' names are there where the site says so, and mean the same" {
    run alice 'srun --container-image=tiny:1 true 2>&1; echo "exit $?"'
    refute_line 'exit 0'
    refute_output --partial 'shifter:'
    local node
    for node in ctl "${NODES[@]}"; do on "$node" sed -i 's/^required .*shifter\.so$/& container-options/' /etc/slurm/plugstack.conf; done
    run alice 'srun --help'
    assert_output --partial '--container-image=[REGISTRY#]IMAGE[:TAG]'
    run alice 'srun -N2 --container-image=docker://tiny:1 --container-mounts=$PWD/moving/data:/data:ro,/home:/mnt/home --container-workdir=/data sh -c "\$HOME/moving/a.out; cat file /mnt/home/alice/moving/data/file; touch new" 2>&1'
    [[ $(count "$TINY") == 2 && $(count data) == 4 && $(count 'Read-only file system') == 2 ]]
    run batch --container-image=docker.io#library/debian:12 <<'SCRIPT'
#!/bin/bash
srun -Q moving/a.out
srun -Q --image=tiny:1 moving/a.out
srun -Q --container-image=none sh -c 'echo host: $SHIFTER_IMAGEREQUEST'
SCRIPT
    assert_output "$HERE"$'\n'"$TINY"$'\nhost:'
    run alice 'srun --container-image=/data/x.sqsh true; echo "exit $?"; srun --container-image=tiny:1 --container-mounts=/a:/b:unbindable true; echo "exit $?"; srun --container-mounts=/a:/b true; echo "exit $?"'
    assert_line --partial 'shifter: --container-image=/data/x.sqsh: files are no images here'
    assert_line --partial 'shifter: --container-mounts=/a:/b:unbindable: unbindable means nothing here'
    assert_line --partial 'shifter: --volume needs an image'
    [[ $(count 'exit 1') == 3 ]]
    # A step of a job that knows nothing of all this is as ever.
    [[ $(alice 'srun -w c1 readlink /proc/self/ns/mnt') == "$(on c1 readlink /proc/1/ns/mnt)" ]]
}

@test "any other word behind shifter.so in plugstack.conf is refused to who wants an image, as the site's fault" {
    on ctl sed -i 's/^required .*shifter\.so$/& container-option/' /etc/slurm/plugstack.conf
    run alice 'srun --image=tiny:1 true; echo "exit $?"; srun echo without'
    assert_line 'exit 1'
    assert_line --partial 'shifter.so has no such argument'
    assert_line --partial 'This is a site problem'
    assert_line without
}

@test "mpirun of the host is refused in a sentence, and goes on the host if I say so" {
    # As mpirun of Open MPI (4: orted, 5: prted) and of MPICH (hydra_pmi_proxy) starts its helpers in a Slurm job.
    alice 'for helper in orted prted hydra_pmi_proxy; do printf "#!/bin/sh\necho \"$helper ran \$*\"\n" >moving/$helper; done; chmod +x moving/*'
    run batch -N2 -n2 --image=debian:12 <<'SCRIPT'
#!/bin/bash
PATH=$PWD/moving:$PATH
srun -Q --ntasks-per-node=1 --kill-on-bad-exit --nodes=2 --ntasks=2 orted -mca ess slurm; echo "exit $?"
srun -Q --ntasks-per-node=1 --kill-on-bad-exit --mpi=none --nodes=2 --ntasks=2 prted --prtemca ess slurm >/dev/null 2>&1; echo "exit $?"
srun -Q --nodelist c1,c2 -N 2 -n 2 "$PWD/moving/hydra_pmi_proxy" --control-port c1:1 >/dev/null 2>&1; echo "exit $?"
SLURM_SHIFTER_IMAGE=none srun -N2 -n2 orted on the host
srun -Q --image=debian:12 "$PWD/moving/orted" typed by hand
srun -Q ls "$PWD/moving/orted"
SCRIPT
    assert_line --partial 'shifter: mpirun of the host cannot start ranks in an image: its orted is not in there'
    # Open MPI's and MPICH's mpirun let nobody read what these say: it is told to who reads mpirun's own words.
    assert_line --partial 'its prted is not in there'
    assert_line --partial 'its hydra_pmi_proxy is not in there'
    [[ $(count 'shifter: hint: start the program by srun') == 3 ]]
    [[ $(count 'exit 1') == 3 && $(count 'orted ran on the host') == 2 && $(count 'orted ran typed by hand') == 2 && $(count '/moving/orted') == 2 ]]
}

# open_mpi: the image's Open MPI for programs of the host, in moving/usr, with what it needs besides the C library.
open_mpi() {
    alice 'cd moving; srun --image=sci:1 bash -c "cd /; tar -c usr/bin/orte* usr/share/openmpi \
        usr/lib/x86_64-linux-gnu/{openmpi/lib/openmpi3,libopen-{rte,pal}.so.*,libevent_{core,pthreads}-*,libhwloc.so.*,libpmix.so.*,libudev.so.*}" | tar -x'
}

@test "Open MPI's own mpirun is refused so on two nodes; on one it asks nobody, and runs the host's program on the host" {
    open_mpi
    script='#!/bin/bash
cd moving; export OPAL_PREFIX=$PWD/usr LD_LIBRARY_PATH=$PWD/usr/lib/x86_64-linux-gnu PATH=$PWD/usr/bin:$PATH
export OMPI_MCA_plm=^rsh # Nodes have no ssh here.
orterun -n 2 ./a.out'
    run batch -t 1 -N2 -n2 --image=debian:12 <<<"$script"
    assert_failure
    assert_line --partial 'shifter: mpirun of the host cannot start ranks in an image: its orted is not in there'
    assert_line --partial 'shifter: hint: start the program by srun'
    refute_output --partial 'hello from'
    run batch -N1 -n2 --image=debian:12 <<<"$script"
    assert_success
    [[ $(count 'hello from') == 2 && $(count "$HERE") == 0 ]]
    assert_line --partial 'note: the script runs on the host'
}

@test "mpirun of an image starts ranks inside, on one node, where the batch script is inside" {
    configure '$ a [inside]\nbatch = "ask"' ctl c1 c2
    for command in 'mpirun.openmpi -n 2 hello.openmpi' 'mpirun.mpich -launcher fork -n 2 hello.mpich'; do
        run batch -t 1 -n2 --image=sci:1 --image-batch <<<$'#!/bin/sh\n'"$command"
        assert_line 'rank 1 of 2, sum of ranks 1'
    done
}
