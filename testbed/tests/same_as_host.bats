# Inside, I may do what I may do on the host: not more, not less.
load lib

setup_file() {
    # Every mode, for files and directories of every owner and group: what Charliecloud's suite calls the matrix.
    on ctl bash -c '
        rm -rf "$1"; mkdir "$1"; cd "$1"
        for owner in root alice bob; do for group in root alice astro bob; do
            mkdir $owner.$group && (
                cd $owner.$group
                for mode in {0..7}{0..7}{0..7}; do
                    echo x >f$mode; mkdir d$mode; echo y >d$mode/below
                done
                chown -R $owner:$group .
                for mode in {0..7}{0..7}{0..7}; do chmod $mode f$mode d$mode; done)
        done; done' - "$SCRATCH/matrix"
}
teardown_file() { on ctl rm -rf "$SCRATCH/matrix"; }

# matrix WHO DIRECTORY [OPTION…]: what each file there is to WHO, and what that one can reach.
matrix() {
    "$1" 'directory=$1; shift
        srun -w c1 "$@" find "$directory" -printf "%P %M %U %G " \( -readable -printf r -o -printf - \) \
            \( -writable -printf w -o -printf - \) \( -executable -printf x -o -printf - \) -printf "\n" 2>&1 |
            sed "s|$directory|DIR|" | LC_ALL=C sort' "${@:2}"
}

@test "12,288 files and directories of every owner, group and mode are to me what they are on the host" {
    for who in alice bob; do
        matrix $who "$SCRATCH/matrix" >"$BATS_TEST_TMPDIR/host"
        (($(wc -l <"$BATS_TEST_TMPDIR/host") > 12288))
        matrix $who "$SCRATCH/matrix" --image=debian:12 | diff "$BATS_TEST_TMPDIR/host" -
        matrix $who /mnt/matrix --image=debian:12 --volume="$SCRATCH/matrix:/mnt/matrix" | diff "$BATS_TEST_TMPDIR/host" -
    done
}

# What only root may do, tried: a line for each, with what the kernel says. (Perl is in Debian's base.)
TRIES='
    sub try { my ($what, $ok) = @_; print "$what: ", ($ok ? "it works" : "$!"), "\n" }
    use POSIX; use Socket;
    my ($null, $slash, $none, $tmpfs, $mnt, $proc, $x) = ("/tmp/null-$$", "/", "none", "tmpfs", "/mnt", "/proc", "x");
    try("mknod", syscall(133, $null, 0020666, 0x103) == 0); unlink $null;
    try("chroot", chroot("/tmp"));
    try("setuid", POSIX::setuid(0)); try("setgid", POSIX::setgid(0));
    try("setgroups", syscall(116, 1, my $ids = pack("L", 0)) == 0);
    try("seteuid", do { $> = 0; $> == 0 });
    try("chown", do { open F, ">/tmp/mine-$$"; close F; my $done = chown 0, 0, "/tmp/mine-$$"; unlink "/tmp/mine-$$"; $done });
    socket S, PF_INET, SOCK_STREAM, 0; try("port 80", bind S, sockaddr_in(80, INADDR_ANY));
    socket R, PF_INET, SOCK_RAW, 1 or print "raw socket: $!\n";
    try("mount", syscall(165, $none, $mnt, $tmpfs, 0, 0) == 0);
    try("remount /", syscall(165, $none, $slash, 0, 32, 0) == 0);
    try("umount /proc", syscall(166, $proc, 2) == 0);
    try("pivot_root", syscall(155, $slash, $slash) == 0);
    try("kill another", kill 0, 1);
    try("nice", POSIX::nice(-5));
    try("hostname", syscall(170, $x, 1) == 0);
    try("reboot", syscall(169, 0, 0, 0, 0) == 0);
    try("kernel log", syscall(103, 5, 0, 0) == 0);
    try("core pattern", open F, ">/proc/sys/kernel/core_pattern");
    try("memory", open F, "</dev/mem"); try("disk", open F, "</dev/loop-control");
    try("namespace of init", open(F, "</proc/1/ns/mnt")); try("root of init", opendir D, "/proc/1/root");
    try("unshare mounts", syscall(272, 0x20000) == 0);
'

@test "what only root may do fails as it fails on the host" {
    try() { alice 'srun -w c1 "${@:2}" perl -e "$1"' "$TRIES" "$@"; }
    try >"$BATS_TEST_TMPDIR/host"
    try --image=debian:12 | diff "$BATS_TEST_TMPDIR/host" -
    # Containers, which the nodes are here, let everybody have low ports.
    run grep -v '^port 80: ' "$BATS_TEST_TMPDIR/host"
    assert_equal "$(count 'it works')" 0
    ((${#lines[@]} >= 20))
}

@test "CPUs, limits, cgroups, priorities, user namespace and signals are the step's own, as without an image" {
    look='grep -E "^(Cpus|Mems)_allowed|^Sig(Blk|Ign)|^(Uid|Gid|Groups|Umask)" /proc/self/status
        cat /proc/self/uid_map /proc/self/gid_map /proc/self/limits /proc/self/oom_score_adj
        sed -E "s/(job|step|task)_?[0-9]+/\1/g" /proc/self/cgroup; cut -d" " -f18,19 /proc/self/stat; readlink /proc/self/ns/{user,pid,net,ipc,uts,cgroup}'
    for options in '' '-c2' '--cpu-bind=none'; do
        alice 'srun -w c1 $2 bash -c "$1"' "$look" "$options" >"$BATS_TEST_TMPDIR/host"
        alice 'srun -w c1 $2 --image=debian:12 bash -c "$1"' "$look" "$options" | diff "$BATS_TEST_TMPDIR/host" -
    done
}

@test "a umask that lets nobody do anything does not spoil the image, for me or for others" {
    for umask in 000 777; do
        run alice 'umask $1; srun -w c1 --image=debian:12 --volume=/shared:/new/place sh -c "umask; ls -ld / /etc /etc/passwd /new /new/place; cat /etc/passwd"' $umask
        assert_success
        assert_line --partial "$umask"
        assert_line --regexp '^-rw-r--r-- .* /etc/passwd$'
        assert_line --regexp '^drwxr-xr-x .* /new$'
    done
}
