# Many at once.
load lib

setup() { before=$(state_of_nodes); }

@test "fifty overlapping steps in one job all get in, over one image mount" {
    run alice 'salloc -Q -w c1 -n1 --image=tiny:1 bash -c "
        for i in {1..50}; do srun -Q --overlap -n1 sh -c \"echo ran \\\$(readlink /proc/self/ns/mnt)\" & done; wait"' 3>&-
    assert_success
    assert_equal "$(count 'ran mnt:')" 50
    assert_equal "$(sort -u <<<"$output" | wc -l)" 1
    nothing_is_left "$before"
}

@test "five jobs of two users with two images at once" {
    for job in 1-alice-tiny:1 2-bob-debian:12 3-alice-tiny:1 4-bob-debian:12 5-alice-tiny:1; do
        IFS=- read -r number who image <<<"$job"
        "$who" 'srun -w c1 --image=$1 sh -c "sleep 0.3; echo \$SHIFTER_IMAGEREQUEST"' "$image" >"$BATS_TEST_TMPDIR/$number" 3>&- &
    done
    wait
    run cat "$BATS_TEST_TMPDIR"/[1-5]
    assert_equal "$(count 'library/tiny:1')" 3
    assert_equal "$(count 'library/debian:12')" 2
    nothing_is_left "$before"
}

@test "256 ranks on a node are in one namespace" {
    run alice 'srun -w c1 -n256 --overcommit --image=tiny:1 readlink /proc/self/ns/mnt | sort | uniq -c'
    assert_success
    assert_equal "${#lines[@]}" 1
    assert_output --regexp '^ *256 mnt:'
    nothing_is_left "$before"
}

@test "an array of 200 elements: each is in the image, and knows its number" {
    run alice 'mkdir -p array && cd array && sbatch --wait --array=1-200 --image=tiny:1 -o array.%a --wrap "srun -Q sh -c \"echo \\\$SLURM_ARRAY_TASK_ID \\\$SHIFTER_IMAGE\"" >/dev/null
        echo "exit $?"; cat array.* | sort -n; rm array.*; rmdir ../array'
    assert_line 'exit 0'
    digest=$(alice 'shifterimg lookup tiny:1')
    assert_equal "$(tail -n +2 <<<"$output")" "$(printf "%s $digest\n" {1..200})"
    nothing_is_left "$before"
}
