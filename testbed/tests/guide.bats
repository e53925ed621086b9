# docs/users.md, line by line, where no other file has it.
load lib

setup_file() {
    alice 'mkdir -p guide/sub/x guide/other && echo mine >guide/file && echo below >guide/other/below'
    alice 'for image in debian:12 tiny:1; do shifterimg pull -q "$image"; done'
}
teardown_file() { alice 'rm -rf guide'; }
teardown() { restore_config; }

# value_of NAME [VARIABLE=VALUE…] -- [OPTION…]: what NAME is for a rank of alice's.
value_of() {
    local name=$1 given=()
    shift
    while [[ ${1:---} != -- ]]; do given+=("$1"); shift; done
    shift
    as alice env "${given[@]}" srun --image=debian:12 "$@" printenv "$name" </dev/null
}
# The image's own variables, as `shifterimg inspect` tells them: debian:12 has IMAGE_SAYS=hello.

@test "environment 1: the job's variables get in, but PATH and LD_* do not" {
    [[ $(value_of MINE MINE=job --) == job ]]
    run value_of LD_LIBRARY_PATH LD_LIBRARY_PATH=/nowhere --
    assert_failure
    [[ $(value_of PATH PATH=/usr/bin:/bin:/mine --) != *mine* ]]
}

@test "environment 2: the image's variables win over the job's, but do not say who I am" {
    [[ $(value_of IMAGE_SAYS IMAGE_SAYS=job --) == hello ]]
    [[ $(value_of HOME --) == /home/alice ]]
    [[ $(value_of USER --) == alice ]]
}

@test "environment 3: SHIFTERENV_NAME sets NAME, whatever it is" {
    [[ $(value_of IMAGE_SAYS SHIFTERENV_IMAGE_SAYS=mine --) == mine ]]
    [[ $(value_of PATH SHIFTERENV_PATH=/mine:/usr/bin:/bin --) == /mine:/usr/bin:/bin ]]
    [[ $(value_of LD_LIBRARY_PATH SHIFTERENV_LD_LIBRARY_PATH=/mine --) == /mine ]]
}

@test "environment 4: a module wins over mine, and prepends to the image's" {
    [[ $(value_of GREETING SHIFTERENV_GREETING=mine -- --module=greeting) == 'hello from the site' ]]
    [[ $(value_of PATH -- --module=greeting) == /opt/site/bin:/usr/local/sbin:* ]]
}

@test "environment 5: the site has the last word" {
    configure '$ a [environment]\nset = { GREETING = "the last word" }\nunset = ["MINE"]' ctl c1 c2
    [[ $(value_of GREETING -- --module=greeting) == 'the last word' ]]
    run value_of MINE MINE=job --
    assert_failure
}

@test "environment 6: a rank can tell which image it is in" {
    [[ $(value_of SHIFTER_RUNTIME SHIFTER_RUNTIME=0 --) == 1 ]]
    [[ $(value_of SHIFTER_IMAGE --) == "$(alice 'shifterimg lookup debian:12')" ]]
    [[ $(value_of SHIFTER_IMAGEREQUEST --) == docker:docker.io/library/debian:12 ]]
}

@test "TaskProlog runs inside, TaskEpilog on the host" {
    alice 'printf "#!/bin/sh\n[ -e /.shifter ] && echo in >guide/where || echo out >guide/where\n" >guide/task; chmod +x guide/task'
    alice 'srun --image=debian:12 --task-prolog="$HOME/guide/task" true; cat guide/where' | grep -x in
    alice 'srun --image=debian:12 --task-epilog="$HOME/guide/task" true; cat guide/where' | grep -x out
}

@test "the entrypoint, user and working directory of the image are not used" {
    run alice 'cd guide && srun --image=debian:12 sh -c "pwd; id -un"'
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
    [[ $(value_of USUAL --) == yes ]]
    run value_of USUAL -- --module=none
    assert_failure
    run value_of USUAL -- --module=greeting
    assert_failure
}
