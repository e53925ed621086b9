# What an image, its user and other users cannot do: DESIGN §9 on the mini-Slurm. Where a test says that nothing
# is there, the same look sees something where there is something.
load lib

setup_file() {
    alice 'shifterimg pull -q trap:1 && mkdir -p closet && echo mine >closet/file'
    # A program that says who it is, on the host as in the image, and is root's and set-user-ID.
    as alice srun --image=trap:1 cat /bin/rights </dev/null | on ctl sh -c 'cat >"$1"; chmod 6755 "$1"' - "$SCRATCH/rights"
}
teardown_file() {
    alice 'rm -rf closet race over'
    on ctl rm -f "$SCRATCH/rights"
}
teardown() {
    on c1 chmod 755 /etc/shifter
    restore_config
}

# --- what a rank is ---

# rights OPTION…: what /proc says of the rights of alice's ranks, each line with the number of ranks.
rights() {
    as alice srun "$@" grep -E '^(Cap|NoNewPrivs|Uid|Gid|Groups)' /proc/self/status </dev/null | tr '\t' ' ' | sed 's/ $//' | sort | uniq -c | sed 's/^ *//'
}
none=0000000000000000
rights_of() {
    local line
    for line in "CapAmb: $none" "CapBnd: $none" "CapEff: $none" "CapInh: $none" "CapPrm: $none" \
        'Gid: 1001 1001 1001 1001' 'Groups: 1001 2001 2002' 'NoNewPrivs: 1' 'Uid: 1001 1001 1001 1001'; do
        echo "$1 $line"
    done
}

@test "a rank has no capability in any set and cannot gain one; user, group and groups are exactly mine" {
    run rights -N2 -n8 --image=debian:12
    assert_output "$(rights_of 8)"
    # A step on the host has what every process of mine has.
    run rights
    assert_line '1 NoNewPrivs: 0'
    assert_line '1 Groups: 1001 2001 2002'
    refute_line "1 CapBnd: $none"
}

@test "… and so in an image of the step's own, with a volume and a module" {
    run alice 'salloc -Q -n2 --image=debian:12 srun --image=tiny:1 --volume=/shared:/mnt --module=greeting \
        grep -E "^(Cap|NoNewPrivs|Uid|Gid|Groups)" /proc/self/status'
    output=$(tr '\t' ' ' <<<"$output" | sed 's/ $//' | sort | uniq -c | sed 's/^ *//')
    assert_output "$(rights_of 2)"
}

@test "a rank holds no file of ours open" {
    host=$(alice 'srun ls /proc/self/fd')
    run alice 'srun --image=debian:12 ls /proc/self/fd'
    assert_output "$host"
}

# too_free: the mounts of a table that are not nosuid, or not nodev outside /dev.
too_free() { awk '$6 !~ /(^|,)nosuid(,|$)/ || ($6 !~ /(^|,)nodev(,|$)/ && $5 !~ /^\/dev(\/|$)/)'; }

@test "every mount is nosuid and, but for /dev, nodev: volumes, modules, and what is mounted below them" {
    for job in 'srun' 'salloc -Q --image=debian:12 srun'; do
        run alice "$job --image=tiny:1 '--volume=/:/host;/home/alice:/data:ro;/home/alice/closet/file:/one' --module=greeting cat /proc/self/mountinfo"
        assert_success
        for point in / /proc /dev /home /data /one /opt/site/licenses /host /host/dev /host/dev/shm /host/shared; do
            assert_line --regexp "^([^ ]+ ){4}$point "
        done
        assert_equal "$(too_free <<<"$output")" ""
    done
    # On the host many are not.
    [[ $(on c1 cat /proc/1/mountinfo | too_free) == *' /shared '* ]]
}

# --- set-user-ID ---

@test "a set-user-ID program of the image gives nothing" {
    run alice 'srun --image=trap:1 sh -c "stat -c \"%a %u %g\" /bin/setuid-rights /bin/setgid-rights; setuid-rights; setgid-rights"'
    assert_output '4755 0 0
2755 0 0
as it starts: uid 1001 1001 1001, gid 1001 1001 1001
as it starts: uid 1001 1001 1001, gid 1001 1001 1001'
}

@test "nor does one of the host, which on the host makes me root" {
    run alice 'srun "$1"' "$SCRATCH/rights"
    assert_output 'as it starts: uid 1001 0 0, gid 1001 0 0
and then: uid 0 0 0, gid 0 0 0'
    run alice 'srun --image=tiny:1 --volume=$(dirname "$1"):/mnt sh -c "$1; /mnt/rights"' "$SCRATCH/rights"
    assert_output 'as it starts: uid 1001 1001 1001, gid 1001 1001 1001
as it starts: uid 1001 1001 1001, gid 1001 1001 1001'
}

@test "no program of ours is set-user-ID to root" {
    for node in ctl c1; do
        # All that are, but those that came with Debian, whose lists know /usr/bin as /bin.
        run on "$node" sh -c 'cat /var/lib/dpkg/info/*.list | sed p\;s,^/,/usr/, >/tmp/known
            find / -xdev -type f -perm /6000 | grep -vxFf /tmp/known | xargs stat -c "%n %a %U %G"; rm /tmp/known'
        assert_output '/usr/bin/shifterimg 4755 shifter shifter'
    done
}

# --- links ---

@test "links of the image cannot lead the site's files in /etc out of it" {
    on c1 sh -c "echo untouched >$SCRATCH/victim; chmod 666 $SCRATCH/victim"
    run alice 'srun -w c1 --image=trap:1 sh -c "id -un; readlink /etc; cd /trap-etc; stat -c \"%F %n\" passwd group hosts resolv.conf; grep -l c1 hosts"'
    assert_output 'alice
../../../../../../trap-etc
regular file passwd
regular file group
regular file hosts
regular file resolv.conf
hosts'
    assert_equal "$(on c1 cat "$SCRATCH/victim")" untouched
    # What is not there is not made either.
    on c1 rm "$SCRATCH/victim"
    alice 'srun -w c1 --image=trap:1 true'
    run on c1 ls "$SCRATCH/victim"
    assert_failure
}

# lands TO: where in trap:1 a volume at TO is.
lands() { as alice srun -w c1 --image=trap:1 --volume=/home/alice/closet:"$1" awk '$4 ~ /closet/ { print $5 }' /proc/self/mountinfo </dev/null; }

@test "a link of the image is followed inside it" {
    [[ $(lands /opt-link) == /opt/made ]]
    [[ $(lands /opt-link/deep/er) == /opt/made/deep/er ]]
    [[ $(lands /free) == /free ]]
}

@test "links of the image cannot lead a volume out of it, nor to a protected place by another name" {
    to() {
        run alice 'srun -w c1 --image=trap:1 --volume=$HOME/closet:"$1" touch /home/alice/ran 2>&1; echo "exit $?"; rm ran' "$1"
        assert_line 'exit 1'
        assert_output --partial "$2"
        assert_output --partial "cannot remove 'ran'"
        one_message
    }
    to /data 'inside the image that is /home/bob, which is protected'
    to /shm 'inside the image that is /dev/shm, which is protected'
    to /top/ 'inside the image that is /, which is protected'
    to /top/etc 'inside the image that is /trap-etc, which is protected'
    to /settings 'inside the image that is /trap-etc, which is protected'
    to /trap-etc 'inside the image that is /trap-etc, which is protected'
    to /out 'cannot reach /out inside'
    to /fd 'cannot reach /fd inside'
    no_drained_node
}

@test "a volume from a link into /proc is refused: it would be slurmstepd's, or root's" {
    alice 'cd closet; ln -s file plain; ln -s /proc/self/fd/3 fd; ln -s /proc/1/root root; ln -s /proc/thread-self/root thread'
    # An ordinary link is followed.
    run alice 'srun --image=tiny:1 --volume=$HOME/closet/plain:/mnt cat /mnt'
    assert_output mine
    refused_with() {
        local from
        for from in "${@:2}"; do
            run alice 'srun -w c1 --image=tiny:1 --volume="$1":/mnt true 2>&1; echo "exit $?"' "$from"
            assert_line 'exit 1'
            assert_output --partial "cannot open $from: $1"
            one_message
        done
    }
    # Who looks it up is a thread of slurmstepd, which may follow its own links.
    refused_with 'Too many levels of symbolic links' /home/alice/closet/{fd,thread} /proc/self/fd/0 /proc/self/root
    refused_with 'Permission denied' /home/alice/closet/root /proc/1/root/etc
    no_drained_node
}

@test "a source that I exchange for a link while nodes look it up shows nothing of root's, and nothing that the site excludes" {
    on c1 sh -c 'mkdir -p /mnt/race/root/in /mnt/race/site/in; echo secret | tee /mnt/race/root/in/token >/mnt/race/site/in/token; chmod 700 /mnt/race/root'
    configure '$ a [volumes]\nfrom = ["/home"]' c1
    run batch -w c1 <<'SCRIPT'
#!/bin/bash
for whose in root site; do
    mkdir -p race/mine/in && echo mine >race/mine/in/token && ln -s /mnt/race/$whose race/link
    python3 -c 'if True:
        import ctypes, os
        libc, done = ctypes.CDLL(None, use_errno=True), 0
        while os.path.exists("race/mine"): done += libc.renameat2(-100, b"race/mine", -100, b"race/link", 2) == 0
        print("at least 1000 exchanges" if done >= 1000 else done)' &
    let_in=0 refused=0
    for ((try = 0; try < 10 || (try < 100 && (!let_in || !refused)); try++)); do
        said=$(srun -Q --image=tiny:1 --volume="$PWD/race/mine/in:/v" cat /v/token 2>&1)
        case $said in
            mine) let_in=1 ;;
            *secret*) echo "$whose: $said" ;;
            *': Permission denied'* | *'this site does not allow volumes from'*) refused=1 ;;
            *) echo "$whose: $said" ;;
        esac
    done
    echo "$whose: let in $let_in, refused $refused"
    mv race over && wait && rm -r over
done
SCRIPT
    on c1 rm -r /mnt/race
    assert_output 'root: let in 1, refused 1
at least 1000 exchanges
site: let in 1, refused 1
at least 1000 exchanges'
    no_drained_node
}

# --- the site's configuration ---

@test "a shifter.toml that is not root's, or in a directory that others may write, is not trusted" {
    run alice 'srun -w c1 --image=tiny:1 true'
    assert_success
    configure '' c1
    on c1 chown bob "$CONFIG"
    run alice 'srun -w c1 --image=tiny:1 true 2>&1'
    assert_failure 1
    assert_output --partial "$CONFIG: belongs to uid 1002, not to root"
    restore_config
    on c1 chmod 777 /etc/shifter
    run alice 'srun -w c1 --image=tiny:1 true 2>&1'
    assert_failure 1
    assert_output --partial '/etc/shifter: others than root can write it'
}
