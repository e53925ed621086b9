# What the documents show, run: every command of every session, and what it prints.
load lib

# What the sessions need of the site, besides what the testbed's has.
setup_file() {
    configure '$ a [inside]\nbatch = "ask"\n[volumes]\nvariables = ["SCRATCH"]\n[cache]\ndirectories = ["/local/shifter-caches"]' ctl c1 c2
    on ctl sh -c 'umask 77; echo wonderland >~alice/password; chown alice ~alice/password'
    local node
    for node in "${NODES[@]}"; do on "$node" install -d -o shifter -m 700 /local/shifter-caches; done
}
teardown_file() {
    restore_config
    on ctl rm -rf /home/alice/password /home/alice/.config/containers
    local node
    for node in "${NODES[@]}"; do on "$node" rm -r /local; done
}

sessions() {
    run python3 "$BATS_TEST_DIRNAME/sessions.py" "$BATS_TEST_DIRNAME/../../$1"
    assert_success
}

@test "the README's sessions are true" { sessions README.md; }
@test "those of the users' guide are" { sessions docs/users.md; }
@test "those of the administrators' guide are" { sessions docs/admins.md; }
