# Slurm's task plugins and cgroups: what they give a rank and what they keep from it, an image changes nothing of it.
load lib

# Slurm's own cgroup plugin for v1, which is what the testbed can offer on a machine that has it.
HIERARCHIES='cpuset memory devices cpuacct'

setup_file() {
    [[ $(on c1 cat /etc/slurm/proctrack) == proctrack/cgroup ]] || return 0
    for node in "${NODES[@]}"; do
        on "$node" bash -c 'for name in $1; do mount -o remount,rw,bind "/sys/fs/cgroup/$name"; done
            cp -p /etc/slurm/cgroup.conf /etc/slurm/cgroup.conf.saved
            printf "%s\n" ConstrainCores=yes ConstrainRAMSpace=yes ConstrainDevices=yes >>/etc/slurm/cgroup.conf' - "$HIERARCHIES"
    done
    # Two devices, that Slurm gives to those who ask and lets nobody else open.
    for node in ctl "${NODES[@]}"; do
        on "$node" bash -c 'cd /etc/slurm; printf "Name=gpu File=/dev/%s\n" full random >gres.conf
            sed -i.saved "s/^NodeName=.*/GresTypes=gpu\n& Gres=gpu:2/" slurm.conf.in'
    done
    slurm_with 'TaskPlugin=task/cgroup,task/affinity
SelectTypeParameters=CR_Core_Memory
DefMemPerNode=500
JobAcctGatherType=jobacct_gather/cgroup
JobAcctGatherFrequency=1'
}
teardown_file() {
    for node in ctl "${NODES[@]}"; do
        on "$node" bash -c 'cd /etc/slurm; rm -f gres.conf
            for file in cgroup.conf slurm.conf.in; do [[ ! -e $file.saved ]] || mv $file.saved $file; done'
    done
    slurm_with ''
}
setup() {
    [[ $(on c1 cat /etc/slurm/proctrack) == proctrack/cgroup ]] || skip 'this machine has no cgroups of version 1'
    before=$(state_of_nodes)
}

@test "a rank has the CPUs that Slurm gave it, bound as asked, and cannot take another" {
    for binding in none cores map_cpu:1,0 mask_cpu:2,1; do
        cpus() { alice 'srun -w c1 -n2 --label --cpu-bind="$1" "${@:2}" sh -c "grep allowed_list /proc/self/status; nproc" | sort' $binding "$@"; }
        run cpus --image=debian:12
        assert_line --partial Cpus_allowed_list
        assert_output "$(cpus)"
    done
    run alice 'srun -w c1 -n1 --image=debian:12 sh -c "nproc; taskset -c 1 true"'
    assert_line 1
    assert_output --partial 'taskset: failed to set'
}

@test "memory beyond what was asked for: the rank is killed, the job's state is OUT_OF_MEMORY, the node is fine" {
    take='srun -J hungry -w c1 --image=debian:12 "$@" perl -e "\$x = q(x) x 150e6; print length \$x"'
    run alice "$take" --mem=50M
    assert_failure
    refute_line 150000000
    assert_output --regexp '[Oo]ut [Oo]f [Mm]emory|oom'
    state() { [[ $(on ctl sacct -n -X --name=hungry -o state -S now-5minutes) == *OUT_OF_ME* ]]; }
    eventually 20 state
    run alice "$take" --mem=600M
    assert_output 150000000
    nothing_is_left "$before"
}

@test "what is written into the image, and into a volume of memory, counts as memory of the job" {
    for options in '--image-writable=500M' '--volume=none:/opt:tmpfs=size=500M'; do
        run alice 'srun -w c1 --mem=600M --image=debian:12 "$1" sh -c "
            head -c 200M /dev/zero >/opt/big; cat /sys/fs/cgroup/memory/slurm*/uid_*/job_\$SLURM_JOB_ID/memory.usage_in_bytes"' "$options"
        assert_output --regexp '^[0-9]+$'
        ((output > 200 << 20))
    done
    nothing_is_left "$before"
}

@test "an image needs no memory of the job's that can be counted: 10 MB are enough for a command" {
    run alice 'srun -w c1 --mem=10M --image=tiny:1 echo inside'
    assert_output inside
    nothing_is_left "$before"
}

@test "devices: those that all may use, and none besides" {
    look='head -c1 /dev/zero | wc -c; echo x >/dev/null && echo written; head -c1 /dev/loop-control; for disk in /dev/loop[0-9]*; do head -c1 "$disk"; done 2>&1 | grep -c denied'
    run alice 'srun -w c1 --image=debian:12 sh -c "$1" 2>&1' "$look"
    assert_line written
    assert_output --partial "'/dev/loop-control' for reading: Permission denied"
    refute_line 0
}

@test "devices that are given to jobs: the ones it asked for, and no other, though the file modes let everybody" {
    opened() { alice 'srun -w c1 "$@" sh -c "for card in full random; do head -c1 /dev/\$card >/dev/null && echo opened \$card; done 2>&1; true"' "$@"; }
    for cards in 1 2; do
        run opened --gres=gpu:$cards --image=debian:12
        assert_equal "$(count opened)" "$cards"
        assert_equal "$(count 'Operation not permitted')" $((2 - cards))
        assert_output "$(opened --gres=gpu:$cards)"
    done
    run opened --image=debian:12
    assert_equal "$(count 'Operation not permitted')" 2
    nothing_is_left "$before"
}

@test "what a rank leaves behind ends with its step" {
    run alice 'srun -w c1 --image=debian:12 sh -c "setsid sleep 4711 >/dev/null 2>&1 & sleep 0.2; echo left"'
    assert_output left
    gone() { ! on c1 pgrep -f 'sleep 4711'; }
    eventually 10 gone
    nothing_is_left "$before"
}

@test "accounting measures the ranks" {
    job=$(alice 'srun -w c1 --image=debian:12 perl -e "\$x = q(x) x 100e6; print \$ENV{SLURM_JOB_ID}; sleep 3"')
    measured() {
        local size
        size=$(on ctl sacct -n -P --units=M -j "$job.0" -o MaxRSS)
        echo "MaxRSS $size" >&2
        ((${size%%[.M]*} > 50))
    }
    eventually 15 measured
}

@test "no cgroup of the job stays behind" {
    job=$(alice 'srun -N2 -n4 --image=debian:12 sh -c "[ \$SLURM_PROCID = 0 ] && echo \$SLURM_JOB_ID; :"')
    nothing_is_left "$before"
    for node in "${NODES[@]}"; do
        none() { [[ ! $(on "$node" find /sys/fs/cgroup -name "job_$job") ]]; }
        eventually 10 none
    done
}
