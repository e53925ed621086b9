# What the documents show, run: every command of every session, and what it prints.
load lib

sessions() {
    run python3 "$BATS_TEST_DIRNAME/sessions.py" "$BATS_TEST_DIRNAME/../../$1"
    assert_success
}

@test "the README's sessions are true" { sessions README.md; }
