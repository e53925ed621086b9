# What a job has for itself: Slurm's job_container/tmpfs, which gives each job a /tmp and a /dev/shm of its own.
load lib

setup_file() {
    for node in "${NODES[@]}"; do
        on "$node" sh -c 'printf "AutoBasePath=true\nBasePath=/var/spool/job-tmp\n" >/etc/slurm/job_container.conf'
    done
    slurm_with 'JobContainerType=job_container/tmpfs
PrologFlags=Alloc,Contain'
    on c1 sh -c 'mkdir -p /tmp/mine /dev/shm/mine && echo "the host" | tee /tmp/mine/name >/dev/shm/mine/name; chmod -R a+rwX /tmp/mine /dev/shm/mine'
}
teardown_file() {
    on c1 rm -r /tmp/mine /dev/shm/mine
    slurm_with ''
    for node in "${NODES[@]}"; do on "$node" rm -rf /var/spool/job-tmp /etc/slurm/job_container.conf; done
}

teardown() { alice 'scancel -n holds-tmp'; }

# The first step makes what the later ones mount.
MAKE='srun -n1 mkdir /tmp/mine /dev/shm/mine; srun -n1 sh -c "echo the job | tee /tmp/mine/name >/dev/shm/mine/name"'

@test "the image's /tmp and /dev/shm are the job's, as without an image" {
    before=$(state_of_nodes)
    run batch -w c1 -n2 <<SCRIPT
#!/bin/bash
$MAKE
srun --image=tiny:1 sh -c 'cat /tmp/mine/name /dev/shm/mine/name; touch /tmp/from-\$SLURM_PROCID'
ls /tmp
srun -n1 --image=tiny:1 --volume=/home/alice:/data ls /tmp
SCRIPT
    assert_output 'the job
the job
the job
the job
from-0
from-1
mine
from-0
from-1
mine'
    run on c1 ls /tmp/from-0
    assert_failure
    nothing_is_left "$before"
}

@test "a volume from there is the job's, in its first step and in later ones" {
    run batch -w c1 -n2 --image=tiny:1 --volume=/tmp/mine:/data --volume=/dev/shm/mine:/shm:ro <<SCRIPT
#!/bin/bash
${MAKE//srun/srun --image=none}
srun sh -c 'cat /data/name /shm/name; touch /data/from-\$SLURM_PROCID; touch /shm/no 2>/dev/null || echo read-only' | sort | uniq -c
srun -n1 ls /data
SCRIPT
    assert_output '      2 read-only
      4 the job
from-0
from-1
name'
    run on c1 ls /tmp/mine
    assert_output name
}

@test "also where the host has nothing of the name; and what the job lacks is a mistake, said once" {
    run batch -w c1 -n2 <<'SCRIPT'
#!/bin/bash
srun -n1 sh -c 'mkdir /tmp/only; echo "only the job" >/tmp/only/name'
for step in 1 2; do srun --image=tiny:1 --volume=/tmp/only:/data cat /data/name; done
srun --image=tiny:1 --volume=/tmp/mine:/data cat /data/name 2>&1
SCRIPT
    assert_equal "$(count 'only the job')" 4
    assert_output --partial '--volume=/tmp/mine:/data: cannot open /tmp/mine: No such file or directory'
    refute_line 'the host'
    output=$(grep -v '^only' <<<"$output")
    one_message
}

@test "a single file that only the job has is there as well, and what the host has of its name does not matter" {
    on c1 sh -c 'mkdir -p /tmp/settings; echo "the host" >/tmp/parts'
    run batch -w c1 -n2 <<'SCRIPT'
#!/bin/bash
srun -n1 sh -c 'cd /tmp; echo "only the job" | tee only-mine.txt >settings; mkdir parts; cp settings parts/name'
for step in 1 2; do
    srun --image=tiny:1 --volume='/tmp/only-mine.txt:/data/x.txt;/tmp/settings:/etc-of-mine/settings:ro;/tmp/parts:/data/parts' \
        sh -c 'cat /data/x.txt /etc-of-mine/settings /data/parts/name; touch /data/y 2>/dev/null && echo writable; ls /data'
done
srun -n1 --image=tiny:1 --volume=/tmp/only-mine.txt:/bin true 2>&1
SCRIPT
    on c1 rm -r /tmp/settings /tmp/parts
    assert_equal "$(count 'only the job')" 12
    assert_equal "$(count x.txt)" 4
    refute_line writable
    refute_line 'the host'
    assert_output --partial '/bin: one is a directory and the other is not'
    output=$(grep shifter <<<"$output")
    one_message
}

@test "another job, mine or somebody else's, sees nothing of it" {
    alice 'sbatch -Q -J holds-tmp -w c1 -o /dev/null --image=tiny:1 --volume=/tmp/mine:/data --wrap="srun --image=none mkdir -m 777 /tmp/mine; srun sh -c \"echo secret >/data/name; touch /data/ready; sleep 60\""'
    eventually 10 on c1 sh -c 'find /var/spool/job-tmp -name ready | grep -q .'
    for user in alice bob; do
        run "$user" 'srun -w c1 --image=tiny:1 sh -c "ls /tmp"; srun -w c1 --image=tiny:1 --volume=/tmp/mine:/data cat /data/name'
        refute_output --partial secret
        refute_line mine
        assert_output --partial 'cannot open /tmp/mine: No such file or directory'
    done
}

@test "a volume at a place in the job's own /tmp is there, and not below it" {
    run batch -w c1 -n2 <<'SCRIPT'
#!/bin/bash
srun -n1 mkdir /tmp/place
srun --image=tiny:1 --volume=/usr/share/common-licenses:/tmp/place:ro sh -c 'ls /tmp/place/GPL-3'
srun -n1 --image=tiny:1 --volume=/usr/share/common-licenses:/tmp/absent:ro true 2>&1
SCRIPT
    assert_equal "$(grep -cx /tmp/place/GPL-3 <<<"$output")" 2
    assert_output --partial '--volume=/usr/share/common-licenses:/tmp/absent:ro: cannot reach /tmp/absent'
    assert_output --partial 'make it there first'
    output=$(grep -v '^/tmp' <<<"$output")
    one_message
}

@test "what a step has mounted for itself is inside the others of the job, and nowhere else" {
    run batch -w c1 -n2 <<'SCRIPT'
#!/bin/bash
mkdir ~/job-fuse
srun -n1 --overlap sh -c 'mkdir /tmp/from && echo "by FUSE" >/tmp/from/name && exec bindfs -f --no-allow-other /tmp/from ~/job-fuse' &
until srun -n1 --overlap test -e ~/job-fuse/name; do sleep 0.1; done
srun -n1 --overlap --image=tiny:1 --volume=$HOME/job-fuse:/data cat /data/name /home/alice/job-fuse/name
kill %1
SCRIPT
    assert_equal "$(count 'by FUSE')" 2
    run on c1 ls /home/alice/job-fuse
    assert_output ''
    alice 'rmdir job-fuse'
}

@test "srun --bcast and sbcast put their file into the job's /tmp, and it is run inside" {
    run batch -w c1 --image=debian:12 <<'SCRIPT'
#!/bin/bash
printf '#!/bin/sh\nimage-only; echo $0\n' >program; chmod +x program
sbcast program /tmp/sbcast-mine && srun /tmp/sbcast-mine
srun --bcast=/tmp/bcast-mine ./program
rm program
SCRIPT
    assert_output $'only in the image\n/tmp/sbcast-mine\nonly in the image\n/tmp/bcast-mine'
    run on c1 sh -c 'ls /tmp | grep cast-mine'
    assert_failure
}

@test "MPI's ranks find each other and share memory, by PMI-2 and by PMIx" {
    run batch -N2 --ntasks-per-node=2 <<'SCRIPT'
#!/bin/bash
srun --mpi=pmi2 --image=mpich:3.4 ranks
srun --mpi=pmix --image=sci:1 hello.openmpi
SCRIPT
    assert_success
    assert_line 'shared memory: 2 ranks on the first of 2 nodes'
    assert_line --partial 'all is right with 4 ranks'
    assert_equal "$(count 'of 4, sum of ranks 6')" 4
}
