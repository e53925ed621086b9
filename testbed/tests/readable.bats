# Files of an image that ordinary users cannot read: a pull counts them, inspect tells, pull --readable helps.
load lib

REGISTRY=${TESTBED_SUBNET:-198.18.57}.5:5000

setup_file() {
    python3 "$BATS_TEST_DIRNAME/images.py" "$BATS_FILE_TMPDIR/oci"
    skopeo copy -q --all --dest-tls-verify=false "oci:$BATS_FILE_TMPDIR/oci/closed:1" "docker://$REGISTRY/closed:1"
}
teardown_file() { on registry rm -rf /var/lib/registry/open/docker/registry/v2/repositories/closed; }
setup() { remove_closed; }
teardown() { remove_closed; }
remove_closed() {
    for user in alice bob; do as "$user" sh -c 'shifterimg rm closed:1; shifterimg rm closed:1' >/dev/null 2>&1 </dev/null || true; done
}

file_of() { alice 'shifterimg inspect --json closed:1 | jq -r .file.path'; }
# inside COMMAND…: alice's rank in closed:1.
inside() { run alice 'srun -w c1 --image=closed:1 "$@"' "$@"; }

@test "a rank's Permission denied is explained: by the pull, and by inspect later" {
    run alice 'shifterimg pull closed:1'
    assert_success
    assert_line '3 files (/app/data, /root/work, …) cannot be read by ordinary users; shifterimg pull --readable closed:1 makes them readable'
    inside /app/hello
    assert_failure
    assert_output --partial 'Permission denied'
    run bob 'shifterimg inspect closed:1'
    assert_line "modes:       the image's own"
    assert_line 'unreadable:  3 files (/app/data, /root/work, …); pull --readable helps'
    run bob 'shifterimg pull --json closed:1 2>/dev/null | jq -cS .readable,.unreadable'
    assert_output $'false\n{"examples":["/app/data","/root/work"],"files":3}'
}

@test "pull --readable: everybody can use the image from then on, under the same digest" {
    run alice 'shifterimg pull --quiet closed:1; shifterimg pull --readable closed:1'
    assert_success
    assert_line 'made readable: 3 files (/app/data, /root/work, …)'
    assert_line --partial "closed:1@${lines[0]}"
    inside sh -c '/app/hello; cat /app/data /root/work /etc/app.conf; stat -c "%a %n" /app /app/hello /app/data /root'
    assert_success
    assert_output 'hello from the app
for all
at home
a = 1
755 /app
755 /app/hello
644 /app/data
755 /root'
    run bob 'shifterimg inspect closed:1'
    assert_line 'modes:       made readable for everybody (pull --readable)'
}

@test "… but no secret is opened, nothing becomes writable, and no right is added to a set-user-ID program" {
    alice 'shifterimg pull -q --readable closed:1'
    inside sh -c 'for file in /etc/shadow /opt/u/.ssh/id; do cat $file 2>/dev/null && echo read; done
        stat -c "%a %n" /etc/shadow /opt/u/.ssh/id /bin/set; find / -xdev -type f -perm /022 2>/dev/null'
    assert_output '640 /etc/shadow
600 /opt/u/.ssh/id
4711 /bin/set'
}

@test "who pulls it as it is takes from nobody what is readable; rm removes both" {
    alice 'shifterimg pull -q closed:1'
    plain=$(file_of)
    bob 'shifterimg pull -q --readable closed:1'
    readable=$(file_of)
    [[ $readable != "$plain" ]]
    run alice 'shifterimg pull closed:1'
    assert_line 'it is in the store already'
    refute_output --partial 'cannot be read'
    assert_equal "$(file_of)" "$readable"
    alice 'shifterimg rm closed:1'
    run on ctl ls "$plain" "$readable"
    assert_failure
    refute_line "$plain"
    refute_line "$readable"
}

@test "the same image, packed in the same way, is the same file" {
    alice 'shifterimg pull -q --readable closed:1'
    readable=$(file_of)
    alice 'shifterimg rm closed:1; shifterimg pull -q closed:1'
    plain=$(file_of)
    bob 'shifterimg pull -q --readable closed:1'
    assert_equal "$(file_of)" "$readable"
    assert_equal "$(on ctl sha256sum <<<'' "$plain" | cut -d' ' -f1)" "$(basename "$plain" .squashfs)"
    assert_equal "$(on ctl sha256sum <<<'' "$readable" | cut -d' ' -f1)" "$(basename "$readable" .squashfs)"
}

@test "a private image made readable stays private" {
    alice 'shifterimg pull -q --private closed:1'
    run alice 'shifterimg pull --private closed:1'
    assert_line --partial 'shifterimg pull --readable --private closed:1 makes'
    alice 'shifterimg pull -q --readable --private closed:1'
    inside /app/hello
    assert_output 'hello from the app'
    run bob 'shifterimg lookup closed:1; cat "$1"' "$(file_of)"
    assert_line --partial 'no such image in the store'
    assert_line --partial 'Permission denied'
}

@test "a site may want all images readable" {
    configure '$a [images]\nmodes = "readable"' ctl
    run alice 'shifterimg pull closed:1'
    restore_config
    assert_line 'made readable: 3 files (/app/data, /root/work, …)'
    inside /app/hello
    assert_output 'hello from the app'
}

@test "what every distribution closes is not worth a word" {
    for image in debian:12 ubuntu:14.04 sci:1; do
        run alice "shifterimg pull $image"
        refute_output --partial 'cannot be read'
    done
}
