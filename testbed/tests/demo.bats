# The demo is the first thing that a newcomer runs: it has to show what it says.

load lib

setup_file() {
    export DEMO=$BATS_FILE_TMPDIR/demo
    "$BATS_TEST_DIRNAME/../demo" >"$DEMO" 2>&1 </dev/null || { cat "$DEMO" >&2; return 1; }
}

# shows TEXT…: lines of the demo, anywhere.
shows() { local text; for text; do grep -qF -- "$text" "$DEMO" || { echo "the demo lacks: $text"; cat "$DEMO"; return 1; }; done; }
# The image's own name for itself, and the nodes': the stand-in for ubuntu:14.04 is another system than theirs.
inside() { as alice srun --image=docker:ubuntu:14.04 sh -c '. /etc/os-release; echo "$PRETTY_NAME"' </dev/null; }

@test "the demo imports the image as an ordinary user" {
    shows 'alice@ctl:~/demo$ shifterimg pull docker:ubuntu:14.04' 'docker:docker.io/library/ubuntu:14.04@sha256:'
}

@test "the demo's batch job runs four ranks on two nodes in the image, and its script on the host" {
    local system rank
    system=$(inside)
    shows 'alice@ctl:~/demo$ sbatch --image=docker:ubuntu:14.04 job.sh' 'Submitted batch job '
    [[ $(grep -F "the script is on" "$DEMO") != *"$system"* ]]
    for rank in 0 1 2 3; do grep -E "^rank $rank on c[12]," "$DEMO" | grep -qF ", as alice, in $system"; done
    [[ $(grep -oE '^rank [0-9] on c[12]' "$DEMO" | cut -d' ' -f4 | sort -u) == $'c1\nc2' ]]
}

@test "the demo shows the job's image and digest in accounting" {
    grep -A1 -x 'image=docker:docker.io/library/ubuntu:14.04' "$DEMO" | grep -qE '^digest=sha256:[0-9a-f]{64}$'
}

@test "the demo shows a volume and a module" {
    grep -A1 -F -- '--volume=$PWD:/data:ro' "$DEMO" | grep -qx '1 2 3'
    grep -A1 -F -- '--module=greeting' "$DEMO" | grep -qx 'hello from the site'
}

@test "the demo's mistyped name is one message with the next step, and nothing is queued" {
    shows 'shifter: --image=docker:ubunut:14.04: no such image in the store' 'shifter: hint: shifterimg pull ubunut:14.04'
    [[ $(grep -c '^Submitted batch job' "$DEMO") == 1 ]]
}

@test "the demo marks the stand-in, where the image is one" {
    [[ -f ${SHIFTER_TESTBED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/shifter-testbed}/stand-ins ]] || skip "the real ubuntu:14.04 was pulled"
    shows '--- A stand-in'
}

@test "the demo is readable on 80 columns" {
    # What it says itself; what is typed and what programs print is as long as it is.
    [[ ! $(grep -E '^    [^ ].{76}' "$DEMO") ]]
}
