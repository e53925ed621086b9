# Before the first test of any run: what a freshly made testbed lacks, and what an earlier run that was
# cut off left behind. What a test leaves in the ordinary way, its own teardown removes.

IMAGES=(debian:12 tiny:1 ubuntu:14.04 odd:1 sci:1 mpich:3.4 trap:1)
LOGIN_NODE_FILES=(/home/bob/closed /shared/scratch/{bare.conf,held,rights,victim,ran,started,go,held-alice,held-bob,store-of-bob})

setup_suite() {
    local testbed image broken
    testbed=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    "$testbed/on" ctl test -x /usr/bin/shifterimg ||
        { echo 'the testbed does not run, or has nothing of ours: testbed/up && testbed/images && testbed/reinstall' >&2; return 1; }

    for node in ctl c1 c2; do
        "$testbed/on" "$node" sh -c 'if [ -e "$1.saved" ]; then mv "$1.saved" "$1"; fi' - /etc/shifter/shifter.toml
    done
    if "$testbed/on" ctl grep -qsx '# of a test' /etc/slurm/local.conf; then (
        BATS_TEST_DIRNAME=$testbed/tests
        # shellcheck source=/dev/null
        source "$testbed/tests/lib.bash"
        slurm_with ''
    ); fi
    "$testbed/on" ctl rm -rf "${LOGIN_NODE_FILES[@]}"
    # Names that tests give to damaged files.
    "$testbed/on" ctl rm -rf /shared/shifter/refs/docker.io/library/damaged

    # Anybody can pull, and whoever comes first does it for all. What is there is not fetched again, but an
    # image that was built anew is.
    for image in "${IMAGES[@]}"; do
        "$testbed/as" alice shifterimg pull --quiet "$image" >/dev/null </dev/null || return
    done
}
