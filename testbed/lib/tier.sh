# Tiers of tests: each ends in one line, and the counts add up.

PASSED=0 FAILED=0
TIERS=()

# tier NAME FUNCTION: FUNCTION sets passed and failed.
tier() {
    local name=$1 passed=0 failed=0 rc=0 start=$SECONDS
    say "$name"
    "$2" || rc=$?
    # Failing without a failed test, and running no test, are failures.
    if ((failed == 0 && (rc || passed == 0))); then failed=1; fi
    ((PASSED += passed, FAILED += failed)) || true
    TIERS+=("$(printf '%-52s %4d passed %4d failed %5d s' "$name" "$passed" "$failed" $((SECONDS - start)))")
    printf '%s\n' "${TIERS[-1]}"
}

# one NAME CMD…: a check that counts as one test.
one() {
    local name=$1 log=$LOGS/test-${1//[^a-z]/-}.log
    shift
    if quietly "$log" "$@"; then
        ((++passed))
        note "ok: $name"
    else
        ((++failed))
        note "not ok: $name"
    fi
}

# cargo_tests LOG ARG…: counts what the test programs say in their last lines.
cargo_tests() {
    local log=$LOGS/$1.log rc=0 p f
    shift
    cargo test --no-fail-fast "$@" 2>&1 </dev/null | tee "$log" |
        grep --line-buffered -E '^ +Running|^   Doc-tests|^test result|^test .* FAILED$|panicked at|^error' >&2 || rc=$?
    rc=${PIPESTATUS[0]}
    while read -r p f; do ((passed += p, failed += f)) || true; done < <(
        sed -nE 's/^test result: [a-zA-Z]+\. ([0-9]+) passed; ([0-9]+) failed;.*/\1 \2/p' "$log")
    if ((rc)); then tail -n 60 "$log" >&2; fi
    return "$rc"
}

# bats_tests DIRECTORY
bats_tests() {
    local log=$LOGS/bats.log rc
    bats --tap --timing "$1" </dev/null 2>&1 | tee "$log" >&2 || true
    rc=${PIPESTATUS[0]}
    # A skipped test has not passed.
    passed=$(grep -E '^ok ' "$log" | grep -cvE '# skip' || true)
    failed=$(grep -cE '^not ok ' "$log" || true)
    return "$rc"
}

# summary: the tiers again, and the line that counts.
summary() {
    printf '\n%s\n' "${TIERS[@]}"
    printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
    ((FAILED == 0))
}
