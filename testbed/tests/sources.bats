# Where volumes come from: file systems on which root has fewer rights than the user, directories that an
# automounter mounts, directories that the job has for itself.
load lib

PLACE=/mnt/sources

setup_file() {
    # On the nodes only: what is shown is mounted there by the user and the site, not by Slurm.
    on c1 sh -s "$PLACE" <<'SETUP'
set -e
mkdir -p $1/fuse $1/auto $1/homes/alice $1/homes/bob
chown alice $1/fuse && chown alice $1/homes/alice && chown bob $1/homes/bob && chmod 700 $1/homes/*
for user in alice bob; do echo "home of $user" >$1/homes/$user/name; done
printf '%s %s --timeout=60\n' $1/auto /etc/auto.sources >/etc/auto.master.sources
printf '* -fstype=bind :%s/homes/&\n' $1 >/etc/auto.sources
! command -v automount || automount --pid-file /run/automount.sources /etc/auto.master.sources
SETUP
    on c1 runuser -u alice -- sh -c 'mkdir -p /tmp/fuse-of-alice/below && echo "only alice" >/tmp/fuse-of-alice/name &&
        bindfs --no-allow-other /tmp/fuse-of-alice "$1/fuse"' - "$PLACE"
    alice 'mkdir -p sources && echo beside >sources/name'
}
teardown_file() {
    on c1 runuser -u alice -- sh -c 'fusermount3 -u "$1/fuse" && rm -r /tmp/fuse-of-alice' - "$PLACE"
    on c1 sh -c '[ ! -e /run/automount.sources ] || kill $(cat /run/automount.sources); while mountpoint -q "$1/auto"; do sleep 0.1; done
        rm -r "$1" /etc/auto.master.sources /etc/auto.sources' - "$PLACE"
    alice 'rm -r sources'
}
teardown() { restore_config; }

needs_automount() { on c1 sh -c 'command -v automount' || skip 'this release of Debian has no autofs'; }

@test "a FUSE file system of mine, where root has no rights, is a volume for me" {
    run on c1 cat "$PLACE/fuse/name"
    assert_output --partial 'Permission denied'
    run alice 'srun -w c1 -n2 --image=tiny:1 --volume="$1":/data sh -c "cat /data/name; echo \$SLURM_PROCID >/data/from-\$SLURM_PROCID" | sort -u; srun -Q -w c1 cat "$1"/from-0 "$1"/from-1' "$PLACE/fuse"
    assert_output $'only alice\n0\n1'
}

@test "so is a file of it, a directory of it, and a place in it for another volume" {
    run alice 'srun -w c1 --image=tiny:1 "--volume=$1/name:/file;$1/below:/dir;$1:/data;$HOME/sources:/data/below" sh -c "cat /file; touch /dir/new; ls /data; cat /data/below/name"' "$PLACE/fuse"
    assert_output $'only alice\nbelow\nfrom-0\nfrom-1\nname\nbeside'
}

@test "and for nobody else, who is told why" {
    for path in fuse fuse/name; do
        run bob 'srun -w c1 --image=tiny:1 --volume="$1":/data cat /data/name' "$PLACE/$path"
        assert_failure 1
        assert_output --partial "cannot open $PLACE/$path: Permission denied"
        one_message
    done
}

@test "a home that is mounted when it is asked for: naming it as a volume asks for it" {
    needs_automount
    run on c1 findmnt -rno TARGET "$PLACE/auto/alice"
    assert_failure
    run alice 'srun -w c1 --image=tiny:1 --volume="$1":/data cat /data/name' "$PLACE/auto/alice"
    assert_output 'home of alice'
    # The automounter asks for bob's as well, but only he may enter it.
    run alice 'srun -w c1 --image=tiny:1 --volume="$1":/data cat /data/name' "$PLACE/auto/bob"
    assert_output --partial 'Permission denied'
    run bob 'srun -w c1 --image=tiny:1 --volume="$1/name":/name cat /name' "$PLACE/auto/bob"
    assert_output 'home of bob'
    run bob 'srun -w c1 --image=tiny:1 --volume="$1":/data true' "$PLACE/auto/nobody"
    assert_output --partial "cannot open $PLACE/auto/nobody: No such file or directory"
    one_message
}

@test "looking at it from inside, through a mount of the site's, asks for it too" {
    needs_automount
    configure "\$ a [[mount]]\nfrom = \"$PLACE/auto\"\nto = \"/homes\"" c1
    on c1 umount "$PLACE/auto/bob"
    run bob 'srun -w c1 --image=tiny:1 sh -c "is_there() { grep -c \" /homes/bob \" /proc/self/mountinfo; }; is_there; cat /homes/bob/name; is_there"'
    assert_output $'0\nhome of bob\n1'
}
