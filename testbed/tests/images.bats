# shifterimg images, lookup, inspect, rm, and what somebody sees who tries the tool for the first time.
load lib

# on_terminal COLUMNS COMMAND: what alice sees on a terminal of that width.
on_terminal() {
    as alice env TERM=xterm script -qec "stty cols $1; $2" /dev/null </dev/null | tr -d '\r'
}
too_wide() { LC_ALL=C.UTF-8 grep -E "^.{$(($1 + 1))}" <<<"$output" || true; }

@test "images: a line for each image that I can use, by the name that I would type" {
    run alice 'shifterimg images'
    assert_success
    assert_line --index 0 --regexp '^IMAGE +DIGEST +SIZE +PULLED +BY +ACCESS$'
    for image in debian:12 odd:1 sci:1 tiny:1 ubuntu:14.04; do
        assert_line --regexp "^$image +[0-9a-f]{12} +[0-9.]+ [kM]B +[0-9a-z ]+ ago +[a-z]+ +public$"
    done
    run bob 'shifterimg images --quiet | while read -r name; do shifterimg lookup "$name" >/dev/null && echo "ok $name"; done'
    assert_line 'ok ubuntu:14.04'
    assert_equal "$(grep -vc '^ok ' <<<"$output")" 0
}

@test "images and inspect fit a terminal of 80 columns, and one of 60" {
    for columns in 80 60; do
        run on_terminal $columns 'shifterimg images'
        assert_line --regexp '^debian:12( |$)'
        assert_equal "$(too_wide $columns)" ''
        run on_terminal $columns 'shifterimg inspect sci:1'
        assert_line --regexp '^layers: +1[0-9]$'
        assert_equal "$(too_wide $columns)" ''
        run on_terminal $columns 'shifterimg --help; shifterimg pull --help; man shifterimg | cat'
        assert_line --partial 'SHIFTERIMG(1)'
    done
}

@test "into a file or a pipe a line stays a line" {
    run alice 'shifterimg inspect debian:12'
    assert_line --regexp '^digest:      sha256:[0-9a-f]{64}$'
    assert_line --regexp '^file:        /shared/shifter/images/[0-9a-f]{2}/[0-9a-f]{64}\.squashfs$'
    assert_line --regexp '^  PATH=/'
}

@test "lookup: the digest that a name means, which is the one that jobs get" {
    run alice 'shifterimg lookup debian:12; shifterimg lookup --json docker:debian:12 | jq -r .digest; srun --image=debian:12 printenv SHIFTER_IMAGE'
    assert_success
    assert_line --index 0 --regexp '^sha256:[0-9a-f]{64}$'
    assert_equal "${lines[1]}" "${lines[0]}"
    assert_equal "${lines[2]}" "${lines[0]}"
    run alice 'shifterimg lookup debain:12'
    assert_failure 1
    assert_output 'shifterimg: debain:12: no such image in the store
hint: shifterimg pull debain:12'
}

@test "inspect: what the image says of itself, the same as inside" {
    run alice 'shifterimg inspect --json odd:1 | jq -S .image; srun --image=odd:1 cat /.shifter/image.json | jq -S .'
    assert_success
    half=$((${#lines[@]} / 2))
    assert_equal "$(head -n $half <<<"$output")" "$(tail -n $half <<<"$output")"
    assert_output --partial '"ODD=yes"'
    refute_output --partial 'a lie of the image'
}

@test "what an image says of itself cannot write to my terminal" {
    run alice 'shifterimg inspect odd:1'
    assert_line '  odd=label with ünïcode'
    [[ $output != *$'\e'* ]]
}

@test "rm: all names are looked at before the first is removed, and each removal is said" {
    alice 'shifterimg pull registry:5000/tiny:1' >/dev/null
    run alice 'shifterimg rm registry:5000/tiny:1 Not-A-Name; shifterimg lookup registry:5000/tiny:1'
    assert_line --partial 'Not-A-Name'
    assert_line --regexp '^sha256:'
    run alice 'shifterimg rm registry:5000/tiny:1 none:1'
    assert_failure 1
    assert_line 'removed the name registry:5000/tiny:1; the image has other names'
    assert_line 'shifterimg: none:1: no such image in the store'
}

@test "help: without a command, for each command, and as a manual page" {
    run alice shifterimg
    assert_failure 2
    for command in pull images lookup inspect rm doctor; do assert_line --regexp "^  $command +[A-Z]"; done
    for command in pull images lookup inspect rm doctor; do
        run alice "shifterimg $command --help && man shifterimg | grep 'shifterimg $command '"
        assert_success
    done
    run alice 'shifterimg pull'
    assert_failure 2
    assert_line --partial '<IMAGE>'
    run alice 'shifterimg puul tiny:1'
    assert_failure 2
    assert_line --partial "'pull'"
    run alice 'shifterimg images | head -n 1 >/dev/full; shifterimg images >/dev/full'
    assert_failure 1
    assert_line 'shifterimg: cannot write the output: No space left on device (os error 28)'
}

@test "the store: nobody but its owner lists or writes it, and all in it is of its owner and group" {
    run on ctl find /shared/shifter -type d -not -perm 2711
    assert_output ''
    run on ctl find /shared/shifter -not \( -user shifter -group shifter \)
    assert_output ''
    run on ctl find /shared/shifter/images -type f -not -perm 644 -not -perm 640 -not -perm 600
    assert_output ''
    for directory in . refs refs/docker.io images manifests leases tmp; do
        run alice "ls /shared/shifter/$directory"
        assert_failure 2
        run alice "touch /shared/shifter/$directory/x"
        assert_failure 1
    done
}

@test "a store that would lose its group is not written to, and the command to repair it is named" {
    on ctl chmod g-s /shared/shifter
    run alice 'shifterimg pull tiny:1'
    on ctl chmod g+s /shared/shifter
    assert_failure 3
    assert_line --partial 'the image store /shared/shifter has no set-group-ID bit'
    assert_line 'hint: chmod 2711 /shared/shifter'
    assert_line --partial 'send these lines to your HPC support'
}
