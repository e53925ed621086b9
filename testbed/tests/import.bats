# shifterimg import: images from files and directories, for whoever has them, and for jobs like any other.
load lib

# Layouts of the test images. Docker's archives cannot have zstd: images that do are there without it, too.
LAYOUTS=${SHIFTER_TESTBED_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/shifter-testbed}/oci

setup_file() {
    local image plain
    remove_imported
    for image in tiny odd; do
        cp -r "$LAYOUTS/$image" "$BATS_FILE_TMPDIR/$image"
        skopeo copy -q "oci:$LAYOUTS/$image:1" "oci-archive:$BATS_FILE_TMPDIR/$image.oci:1"
        plain=$LAYOUTS/$image
        [[ ! -d $plain-gzip ]] || plain+=-gzip
        skopeo copy -q "oci:$plain:1" "docker-archive:$BATS_FILE_TMPDIR/$image.tar:$image:1"
    done
    # An image that nobody has in the store.
    skopeo copy -q --dest-compress-format zstd "docker-archive:$BATS_FILE_TMPDIR/tiny.tar" "oci:$BATS_FILE_TMPDIR/fresh:1"
    tar -C "$BATS_FILE_TMPDIR" -c tiny odd fresh tiny.oci odd.oci tiny.tar odd.tar |
        on ctl bash -c 'rm -rf ~alice/files; mkdir ~alice/files && tar -xC ~alice/files && chown -R alice: ~alice/files'
}
teardown_file() {
    remove_imported
    on ctl rm -rf ~alice/files /home/bob/files
}

# Nothing that these tests import stays.
remove_imported() {
    local user
    for user in alice bob; do
        as "$user" bash -c 'for name in $(shifterimg images -q | grep "^user:$1/"); do shifterimg rm "$name"; done' - "$user" >/dev/null </dev/null
    done
}
teardown() { remove_imported; }

# as_known: what the store knows of the image NAME: digest and file.
as_known() { alice 'shifterimg inspect --json "$1"' "$1" | jq -r '.image.digest, .file.id'; }

@test "alice imports docker's archive, and runs in it" {
    run alice 'cd files; shifterimg import docker-archive:tiny.tar app:1'
    assert_success
    assert_line --regexp '^user:alice/app:1@sha256:[0-9a-f]{64}$'
    run alice 'srun --image=user:alice/app:1 busybox echo "from $(shifterimg lookup user:alice/app:1 | cut -c1-7)"'
    assert_output 'from sha256:'
    run alice 'srun -N2 --image=user:alice/app:1 sh -c "echo \$SHIFTER_IMAGEREQUEST"'
    assert_output $'user:alice/app:1\nuser:alice/app:1'
    run alice 'sbatch --wait -o files/out --image=user:alice/app:1 --wrap "srun busybox echo in a batch job"; cat files/out'
    assert_line 'in a batch job'
}

@test "an OCI layout or archive is the very image that the registry has: the same digest, the same file" {
    local image source known
    for image in tiny odd; do
        known=$(as_known "$image:1")
        for source in "oci:files/$image" "oci-archive:files/$image.oci:1"; do
            alice "shifterimg import -q $source app:1"
            [[ $(as_known user:alice/app:1) == "$known" ]]
        done
        # Not only said to be so: packed anew, in a store of its own.
        run on ctl bash -c 'store=$(mktemp -d /var/tmp/store.XXXX); trap "rm -rf $store" EXIT
            chown shifter $store; chmod 2711 $store
            sed "/^\[store\]/,/^\[/ s,^path.*,path = \"$store\"," /etc/shifter/shifter.toml >/root/other.toml
            cd ~alice; shifterimg --config /root/other.toml import -q "$1" docker:app:1 >/dev/null
            find $store/images -type f -printf "%f\n"' - "oci-archive:files/$image.oci"
        assert_output "$(sed -n '2s/sha256:\(.*\)/\1.squashfs/p' <<<"$known")"
    done
}

@test "docker's archive of an image that has everything is what umoci makes of it" {
    alice 'shifterimg import -q docker-archive:files/odd.tar:odd:1 app:1'
    cd "$BATS_TEST_TMPDIR"
    on ctl cat "$(alice 'shifterimg inspect --json user:alice/app:1' | jq -r .file.path)" >image
    # umoci of Debian 12 knows no zstd.
    skopeo copy -q "docker-archive:$BATS_FILE_TMPDIR/odd.tar" oci:odd:1
    run "$TESTBED/compare" --file image "$PWD/odd:1"
    assert_success
    assert_line --regexp '^[1-9][0-9]+ names compared, 0 differences$'
}

@test "a directory is an image whose files are root's, and an archive of it is the same image" {
    run alice 'mkdir -p files/root/bin; cp -r files/tiny files/root/opt; printf "#!/bin/busybox sh\necho made by alice\n" >files/root/bin/hello
        chmod +x files/root/bin/hello; srun -Q --image=tiny:1 busybox cat /bin/busybox >files/root/bin/busybox; chmod +x files/root/bin/busybox
        shifterimg import -q dir:files/root app:1 && srun --image=user:alice/app:1 /bin/hello && srun --image=user:alice/app:1 /bin/busybox stat -c %u /bin/hello'
    assert_success
    assert_line 'made by alice'
    assert_line 0
    run alice 'shifterimg lookup user:alice/app:1; tar -C files/root -c . | gzip | shifterimg import -q tar:- app:2'
    assert_success
    [[ ${lines[0]} == "${lines[1]}" ]]
}

@test "whose files are is the image's to say, or the site's" {
    alice 'mkdir -p files/theirs/bin; srun -Q --image=tiny:1 busybox cat /bin/busybox >files/theirs/bin/busybox; chmod +x files/theirs/bin/busybox
        tar -C files/theirs --owner=7 --group=8 -cf files/theirs.tar .; shifterimg import -q tar:files/theirs.tar app:1'
    run alice 'srun --image=user:alice/app:1 /bin/busybox stat -c %u:%g /bin/busybox; shifterimg rm user:alice/app:1'
    assert_line 7:8
    configure '$a [images]\nowners = "root"' ctl
    alice 'shifterimg import -q tar:files/theirs.tar app:1'
    restore_config
    run alice 'srun --image=user:alice/app:1 /bin/busybox stat -c %u:%g /bin/busybox'
    assert_output 0:0
}

@test "what alice imports is hers alone, until she says otherwise; nobody else writes her names" {
    alice 'shifterimg import -q oci:files/odd app:1'
    run bob 'shifterimg images -q | grep alice; srun --image=user:alice/app:1 true'
    assert_failure
    assert_line --partial 'no such image in the store'
    run bob 'mkdir -p files; shifterimg import tar:/etc/passwd user:alice/app:1'
    assert_failure 1
    assert_output --partial 'cannot name an image so'
    alice 'chmod 700 files'
    run bob 'shifterimg import dir:/home/alice/files app:1'
    assert_failure 1
    assert_output --partial 'Permission denied'
    run bob 'shifterimg import dir:/home/bob docker:tiny:1'
    assert_failure 1
    assert_output --partial 'only administrators'
    alice 'shifterimg rm user:alice/app:1; shifterimg import -q --public docker-archive:files/tiny.tar app:1'
    run bob 'srun --image=user:alice/app:1 busybox echo shared'
    assert_output shared
    run bob 'shifterimg rm user:alice/app:1'
    assert_failure 1
}

@test "a broken archive is told, and leaves nothing" {
    before=$(on ctl find /shared/shifter -type f | sort)
    run alice 'cd files; head -c 300000 tiny.tar >short.tar; shifterimg import docker-archive:short.tar app:1'
    assert_failure 1
    assert_line --regexp '^shifterimg: short.tar: .*: the archive ends in the middle of it$'
    assert_line 'hint: it is damaged: save or copy it once more'
    run alice 'cp -r files/fresh files/flipped; cd files/flipped/blobs/sha256; chmod -R u+w .; f=$(ls -S | head -n 1)
        printf X | dd of=$f bs=1 seek=4000 conv=notrunc status=none; cd; shifterimg import oci:files/flipped app:1'
    assert_failure 1
    assert_line --partial 'files/flipped: it has something else than sha256:'
    [[ $(on ctl find /shared/shifter -type f | sort) == "$before" ]]
}
