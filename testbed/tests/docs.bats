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

# blocks LANGUAGE: all that the administrators' guide has in it.
blocks() { sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/{/^\`\`\`/!p}" "$BATS_TEST_DIRNAME/../../docs/admins.md"; }

@test "its program for the hash of a module says what a rank finds in SHIFTER_MODULES" {
    on c1 cat "$CONFIG" >"$BATS_TEST_TMPDIR/shifter.toml"
    run python3 -c "import hashlib, json, tomllib
name = 'greeting'
$(blocks python | sed "s|$CONFIG|$BATS_TEST_TMPDIR/shifter.toml|")"
    assert_output --regexp '^greeting@[0-9a-f]{12}$'
    assert_output "$(alice 'srun --image=debian:12 --module=greeting printenv SHIFTER_MODULES')"
}

@test "its modules are modules" {
    [[ $(blocks toml | grep -c '^\[modules\.[a-z]*\]') == 2 ]]
    { printf '[store]\npath = "/shared/shifter"\n'; blocks toml; } | on c1 sh -c 'mkdir -p /etc/shifter-docs; cat >/etc/shifter-docs/shifter.toml'
    run on c1 shifterimg --config /etc/shifter-docs/shifter.toml doctor
    on c1 rm -r /etc/shifter-docs
    assert_line --regexp '^ok +configuration .*every key known$'
}
