# Layers become one file system: what is in the image is what `umoci unpack`, the reference of the
# Open Container Initiative, makes of the same layers.
load lib

# Names, types, contents, modes, owners, times, link targets, hard links; exceptions in docs/images.md.
same_as_umoci() {
    run "$TESTBED/compare" "$1"
    assert_success
    assert_line --regexp '^[1-9][0-9]+ names compared, 0 differences$'
}

@test "tiny:1 is what umoci makes of it" { same_as_umoci tiny; }
@test "debian:12, with Docker's own manifest, is what umoci makes of it" { same_as_umoci debian; }
@test "ubuntu:14.04 is what umoci makes of it" { same_as_umoci ubuntu; }
@test "sci:1, a dozen layers, is what umoci makes of it" { same_as_umoci sci; }
@test "odd:1, all that tools get wrong, is what umoci makes of it" { same_as_umoci odd; }
@test "trap:1, made to do harm, is what umoci makes of it" { same_as_umoci trap; }

@test "the comparison finds what differs" {
    cd "$BATS_TEST_TMPDIR"
    mkdir ours theirs
    for tree in ours theirs; do
        echo same >$tree/file; ln -s file $tree/link; ln $tree/file $tree/other; mkdir $tree/dir
        touch -d @1000000000 $tree/* $tree; touch -h -d @1000000000 $tree/link
    done
    touch start
    compare() { run python3 "$TESTBED/lib/compare.py" ours theirs start; }
    differs() {
        compare
        assert_failure 1
        assert_output --partial "$1"
    }
    compare
    assert_success
    chmod 600 ours/dir;                                  differs '/dir: mode'; chmod 755 ours/dir
    chown 5 ours/dir;                                    differs '/dir: owner'; chown 0 ours/dir
    ln -sfn other ours/link;                             differs '/link: target'
    ln -sfn file ours/link; touch -h -d @1000000001 ours/link; differs '/link: time'
    touch -h -d @1000000000 ours/link; touch ours/more;  differs '/more: only we have it'
    rm ours/more; echo SAME >ours/file;                  touch -d @1000000000 ours/file; differs '/file: the content differs'
    rm ours/other; echo same >ours/file; echo same >ours/other; touch -d @1000000000 ours/*; differs '/file: names'
}

@test "the kernel and squashfs-tools read the same from our file" {
    cd "$BATS_TEST_TMPDIR"
    on ctl cat "$(on ctl shifterimg inspect --json ubuntu:14.04 | jq -r .file.path)" >image
    unsquashfs -no-progress -d tools image >log 2>&1 || { cat log; false; }
    touch -d tomorrow start
    mkdir kernel
    run unshare -m --propagation private bash -c '
        mount -t squashfs -o ro,loop image kernel && python3 "$1/lib/compare.py" kernel tools start' - "$TESTBED"
    assert_success
    assert_output --partial ' 0 differences'
}
