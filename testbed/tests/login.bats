# shifterimg login and logout: against real registries, and with the files and helpers of other tools.
load lib

ADDRESS=${TESTBED_SUBNET:-198.18.57}.5
LOGINS=.config/containers/auth.json

setup_file() { on ctl sh -c 'umask 77; echo wonderland >~alice/password; chown alice ~alice/password'; }
teardown_file() { on ctl rm -f /home/alice/password; }
setup() { on ctl sh -c 'rm -rf ~alice/.config/containers ~alice/.docker ~alice/tools'; }
teardown() {
    setup
    alice 'for name in $(shifterimg images -q | grep "secret"); do shifterimg rm $name; done' >/dev/null
}

@test "with a login kept by shifterimg I pull what the registry does not give to strangers" {
    for port in 5001 5002; do
        run alice "shifterimg login -u alice --password-stdin registry:$port <password && stat -c '%U %a' $LOGINS
            shifterimg pull registry:$port/secret:1 2>&1 && shifterimg images"
        assert_success
        assert_line "logged in to registry:$port as alice, kept in /home/alice/$LOGINS"
        assert_line 'alice 600'
        assert_line --regexp "^registry:$port/secret:1 .* private$"
    done
    run alice "shifterimg logout registry:5001 && shifterimg pull registry:5001/secret:1; shifterimg pull -q registry:5002/secret:1"
    assert_line "logged out of registry:5001, forgotten in /home/alice/$LOGINS"
    assert_line 'hint: log in with: shifterimg login registry:5001; then pull again'
    assert_line --regexp '^sha256:'
}

@test "a password that the registry does not take is not kept, and nowhere shown" {
    for port in 5001 5002; do
        run alice "echo looking-glass | shifterimg login -u alice --password-stdin registry:$port; ls -A .config/containers"
        assert_line "shifterimg: the registry registry:$port does not accept this name with this password"
        assert_line --regexp '^hint: '
        refute_output --partial looking-glass
        refute_output --partial auth.json
    done
}

@test "nor does a registry get one that has no logins, or that is none" {
    run alice 'shifterimg login -u alice --password-stdin registry:5000 <password'
    assert_failure 1
    assert_line --partial 'lets everybody in'
    run alice 'shifterimg login -u alice --password-stdin no-such-host.example <password'
    assert_failure 1
    assert_line --partial 'its name is not known'
    run alice 'shifterimg login alice'
    assert_failure 1
    assert_line 'shifterimg: alice: not a registry'"'"'s name'
}

@test "what skopeo and podman have kept I use, and they what I have" {
    skopeo login --tls-verify=false --authfile "$BATS_TEST_TMPDIR/theirs" -u alice -p wonderland "$ADDRESS:5001" >/dev/null
    on ctl sh -c 'install -d -o alice ~alice/.config ~alice/.config/containers; cat >~alice/$1; chown alice ~alice/$1' - "$LOGINS" \
        < <(sed "s/$ADDRESS/registry/" "$BATS_TEST_TMPDIR/theirs")
    run alice "shifterimg pull -q registry:5001/secret:1; shifterimg login -u alice --password-stdin registry:5002 <password"
    assert_line --regexp '^sha256:'
    alice "cat $LOGINS" >"$BATS_TEST_TMPDIR/ours"
    for port in 5001 5002; do
        run skopeo login --get-login --authfile "$BATS_TEST_TMPDIR/ours" "registry:$port"
        assert_output alice
    done
}

@test "on a terminal I am asked, and what I type as the password is not shown" {
    run alice 'mkfifo typed; exec 3<>typed
        script -qfec "shifterimg login registry:5001" screen <typed >/dev/null & child=$!
        seen() { for _ in $(seq 200); do if grep -q "$1" screen; then return; fi; sleep 0.05; done; }
        seen Username; echo alice >&3; seen Password; sleep 0.2; cat password >&3
        wait $child; cat screen; rm typed screen'
    assert_line --partial 'logged in to registry:5001 as alice'
    assert_line --partial 'Password: '
    refute_output --partial wonderland
}

@test "my credential helper keeps it, run as me; no file has it then" {
    alice 'mkdir -p tools .docker; echo "{\"credsStore\":\"box\"}" >.docker/config.json
        cat >tools/docker-credential-box <<"END"
#!/bin/sh
id -un >>~/tools/who; echo "$PPID $*" >>~/tools/how
case $1 in store) cat >~/tools/box;; get) cat ~/tools/box 2>/dev/null || { echo credentials not found; exit 1; };; erase) rm ~/tools/box;; esac
END
        chmod +x tools/docker-credential-box'
    run alice "PATH=~/tools:\$PATH; shifterimg login -u alice --password-stdin registry:5001 <password; shifterimg pull -q registry:5001/secret:1; ls $LOGINS
        sort -u tools/who; grep -c wonderland tools/how; shifterimg logout registry:5001; ls tools/box"
    assert_line 'logged in to registry:5001 as alice, kept in docker-credential-box'
    assert_line --regexp '^sha256:'
    assert_line --partial "$LOGINS': No such file"
    assert_line alice
    assert_line 0
    assert_line 'logged out of registry:5001, forgotten in docker-credential-box'
    assert_line --partial "tools/box': No such file"
    # Whoever has no such program pulls what needs no login.
    run alice 'shifterimg pull -q tiny:1; shifterimg pull registry:5001/secret:1'
    assert_line --regexp '^sha256:'
    assert_line --partial 'there is no "docker-credential-box" in your PATH'
}
