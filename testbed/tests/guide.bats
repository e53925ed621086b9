# docs/users.md, line by line, where no other file has it.
load lib

setup_file() {
    alice 'mkdir -p guide/sub/x guide/other && echo mine >guide/file && echo below >guide/other/below'
    alice 'for image in debian:12 tiny:1; do shifterimg pull -q "$image"; done'
}
teardown_file() { alice 'rm -rf guide'; }
teardown() { restore_config; }

@test "TaskProlog runs inside, TaskEpilog on the host" {
    alice 'printf "#!/bin/sh\n[ -e /.shifter ] && echo in >guide/where || echo out >guide/where\n" >guide/task; chmod +x guide/task'
    alice 'srun --image=debian:12 --task-prolog="$HOME/guide/task" true; cat guide/where' | grep -x in
    alice 'srun --image=debian:12 --task-epilog="$HOME/guide/task" true; cat guide/where' | grep -x out
}

@test "the entrypoint, user and working directory of the image are not used" {
    # It has all three: ["/bin/sh", "-c"], 65534, /names.
    made_image posing
    run alice 'cd guide && srun --image=user:alice/posing:1 sh -c "readlink /proc/self/cwd; id -un"; shifterimg rm user:alice/posing:1 >/dev/null'
    assert_output $'/home/alice/guide\nalice'
}

@test "a volume appears where the image has nothing, with the directories above it" {
    run alice 'srun --image=tiny:1 --volume=$HOME/guide:/a/b/c busybox cat /a/b/c/file'
    assert_output mine
}

@test "a file onto a file, a directory onto a directory, and not otherwise" {
    run alice 'srun --image=debian:12 --volume=$HOME/guide/file:/etc2/passwd cat /etc2/passwd'
    assert_output mine
    run alice 'srun --image=debian:12 --volume=$HOME/guide/file:/mnt true 2>&1'
    assert_failure 1
    assert_output --partial 'one is a directory and the other is not'
}

@test "a read-only volume cannot be written, the same place outside can" {
    run alice 'srun --image=debian:12 --volume=$HOME/guide:/data:ro touch /data/new 2>&1'
    assert_failure
    assert_output --partial 'Read-only file system'
    alice 'srun --image=debian:12 --volume=$HOME/guide:/data:ro touch guide/new'
}

@test "volumes one below the other: parents first, and the directory must be there" {
    run alice 'srun --image=debian:12 --volume=$HOME/guide/other:/data/x --volume=$HOME/guide/sub:/data cat /data/x/below'
    assert_output below
    run alice 'srun --image=debian:12 --volume=$HOME/guide/other:/data/y --volume=$HOME/guide/sub:/data true 2>&1'
    assert_failure 1
    assert_output --partial '/data/y does not exist there'
}

@test "several volumes in one option, and a backslash before what separates them" {
    alice 'mkdir -p "guide/a:b;c" && echo odd >"guide/a:b;c/f"'
    run alice 'srun --image=debian:12 "--volume=$HOME/guide:/one;$HOME/guide/a\:b\;c:/two" cat /one/file /two/f'
    assert_output $'mine\nodd'
}

@test "--module=none takes the site's defaults away, and naming others does too" {
    configure '$ a [modules.usual]\ndefault = true\nenv.set = { USUAL = "yes" }' ctl c1 c2
    run alice 'srun --image=debian:12 printenv USUAL; srun --image=debian:12 --module=none printenv USUAL 2>/dev/null || echo without
        srun --image=debian:12 --module=greeting printenv USUAL 2>/dev/null || echo without'
    assert_output $'yes\nwithout\nwithout'
}
