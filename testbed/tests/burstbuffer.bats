# A burst buffer, as Slurm's burst_buffer/lua makes one for a job: where it is, is known only when the job starts.
load lib

BUFFERS=/shared/burst

# Like a DataWarp: a directory for each job, whose path the job gets in BB_STRIPED.
setup_file() {
    on ctl sh -c 'install -d -o slurm -m 755 "$1"; cat >/etc/slurm/burst_buffer.lua' - "$BUFFERS" <<LUA
local function fine() return slurm.SUCCESS, "" end
slurm_bb_job_process, slurm_bb_data_in, slurm_bb_test_data_in, slurm_bb_pre_run = fine, fine, fine, fine
slurm_bb_post_run, slurm_bb_data_out, slurm_bb_test_data_out, slurm_bb_get_status = fine, fine, fine, fine
function slurm_bb_pools() return slurm.SUCCESS, '{"pools": [{"id": "wide", "quantity": 100, "granularity": 1}]}' end
function slurm_bb_real_size() return slurm.SUCCESS, "1" end
function slurm_bb_setup(job) os.execute("mkdir -m 1777 $BUFFERS/" .. job) return slurm.SUCCESS, "" end
function slurm_bb_job_teardown(job) os.execute("rm -rf $BUFFERS/" .. job) return slurm.SUCCESS, "" end
function slurm_bb_paths(job, script, path_file)
    local file = io.open(path_file, "w")
    file:write("BB_STRIPED=$BUFFERS/" .. job .. "\n")
    file:close()
    return slurm.SUCCESS, ""
end
LUA
    slurm_with 'BurstBufferType=burst_buffer/lua'
    configure '$ a [volumes]\nvariables = ["BB_*"]' ctl c1 c2
}
teardown_file() {
    restore_config
    slurm_with ''
    on ctl rm -rf "$BUFFERS" /etc/slurm/burst_buffer.lua
}

@test "#SBATCH --volume=\$BB_STRIPED:/data is the job's burst buffer, on all its nodes" {
    run batch -N2 -n2 <<'SCRIPT'
#!/bin/bash
#BB_LUA pool=wide capacity=1
#SBATCH --image=tiny:1
#SBATCH --volume=$BB_STRIPED:/data
srun sh -c 'echo "$SLURM_PROCID of $SLURM_JOB_ID" >/data/$SLURM_PROCID'
srun -n1 -N1 sh -c 'cat /data/*; test $(ls /data | wc -l) = 2 && touch /data/by-$(id -un)'
echo "$SLURM_JOB_ID: $(cd "$BB_STRIPED"; ls; pwd)"
SCRIPT
    job=$(sed -n 's/^\([0-9]*\): .*/\1/p' <<<"$output")
    assert_output "0 of $job
1 of $job
$job: 0
1
by-alice
$BUFFERS/$job"
    eventually 20 test -z "$(on ctl ls "$BUFFERS")"
}

@test "two jobs of one script have two" {
    script='#!/bin/bash
#BB_LUA pool=wide capacity=1
srun --image=tiny:1 --volume='\''$BB_STRIPED/:/data'\'' sh -c "ls /data; touch /data/mine; ls /data"'
    for _ in 1 2; do
        run batch <<<"$script"
        assert_output mine
    done
}

@test "without a burst buffer the job is told that the variable is not set" {
    run batch <<'SCRIPT'
#!/bin/bash
srun --image=tiny:1 '--volume=$BB_STRIPED:/data' true 2>&1
SCRIPT
    assert_failure
    assert_output --partial "BB_STRIPED is not set in the job's environment"
    one_message
}
