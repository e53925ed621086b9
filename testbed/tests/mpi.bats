# MPI: the image's own, on two nodes, started by srun. images.d/mpich/ranks.c tries what MPI promises.
load lib

# alice compiles in the image, with its own compilers, what will run there.
setup_file() {
    as alice sh -c 'mkdir -p mpi && cat >mpi/ranks.c' <"$TESTBED/images.d/mpich/ranks.c"
    alice 'cd mpi; for of in openmpi mpich; do srun --image=sci:1 mpicc.$of -O2 -o ranks.$of ranks.c; done; ls ranks.openmpi ranks.mpich'
}
teardown_file() {
    # Where only some tests were run, not all are there.
    alice 'rm -r mpi; for name in later other openmpi; do shifterimg rm user:alice/$name:1; done; true'
}
teardown() { restore_config; }

# nodes_mpich: the version of the nodes' MPICH; Debian's may be 4.3.0+really4.2.1.
nodes_mpich() { on c1 dpkg-query -W -f '${Version}' libmpich12 | sed 's/.*really//' | grep -o '^[0-9.]*'; }

# all_is_right NODES RANKS LIBRARY: all ranks found each other, and whatever they tried was right.
all_is_right() {
    assert_success
    assert_line "allreduce: the ranks' sum is $(($2 * ($2 - 1) / 2))"
    assert_line "point to point: a message went round $2 ranks"
    assert_line "shared memory: $(($2 / $1)) ranks on the first of $1 nodes"
    assert_line --regexp "^all is right with $2 ranks and $3"
}

@test "the image's Open MPI, by --mpi=pmix: allreduce, point to point, memory shared on a node; two nodes" {
    run alice 'srun -N2 --ntasks-per-node=2 --mpi=pmix --image=sci:1 mpi/ranks.openmpi'
    all_is_right 2 4 'Open MPI v4'
}

@test "the image's MPICH, by --mpi=pmi2; the image has the library and no compiler or launcher" {
    run alice 'srun -N2 --ntasks-per-node=2 --mpi=pmi2 --image=mpich:3.4 ranks'
    all_is_right 2 4 'MPICH Version: 3\.4'
}

# With UCX and no fast network, more than two ranks of MPICH before 4.2 do not always come back from MPI_Finalize, in an
# image or without (pmodels/mpich#6596). So here two are tried, and more only told who they are.
@test "a newer MPICH with UCX: between nodes, and on a node" {
    run alice 'srun -N2 --mpi=pmi2 --image=sci:1 mpi/ranks.mpich'
    all_is_right 2 2 'MPICH Version: 4\.0'
    run alice 'srun -N1 -n2 --mpi=pmi2 --image=sci:1 mpi/ranks.mpich'
    all_is_right 1 2 'MPICH Version: 4\.0'
}

@test "the image's mpi4py" {
    run alice 'srun -N2 -n4 --ntasks-per-node=2 --mpi=pmix --image=sci:1 pi.py'
    assert_output 'pi is 3.1415926536, said 4 ranks'
}

# Ranks that wait give the CPU away: here they have two for all. For gds, see the MPI chapter of docs/users.md.
@test "16 ranks on each node" {
    run alice 'OMPI_MCA_mpi_yield_when_idle=1 PMIX_MCA_gds=hash srun -N2 --ntasks-per-node=16 --mpi=pmix --image=sci:1 mpi/ranks.openmpi'
    all_is_right 2 32 'Open MPI'
    run alice 'srun -N2 --ntasks-per-node=16 --mpi=pmi2 --image=mpich:3.4 ranks -v'
    assert_equal "$(count 'of 32 on c1: MPICH')" 16
    assert_equal "$(count 'of 32 on c2: MPICH')" 16
}

@test "steps at the same time are worlds of their own" {
    run batch -N2 --ntasks-per-node=4 <<'SCRIPT'
#!/bin/bash
step() { srun -Q --overlap -N2 -n2 --ntasks-per-node=1 "$@" 2>&1; }
for i in 1 2; do
    step --mpi=pmix --image=sci:1 mpi/ranks.openmpi >mpi/step.$i &
    step --mpi=pmi2 --image=mpich:3.4 ranks >mpi/step.-$i &
done
wait
cat mpi/step.*
SCRIPT
    assert_equal "$(count 'all is right with 2 ranks and Open MPI')" 2
    assert_equal "$(count 'all is right with 2 ranks and MPICH')" 2
    assert_equal "$(count 'shared memory: 1 ranks on the first of 2 nodes')" 4
}

@test "two programs of one world, each with its own command" {
    run alice 'printf "0 mpi/ranks.openmpi -v\n1-3 mpi/ranks.openmpi -v\n" >mpi/multi
        srun -N2 --ntasks-per-node=2 --mpi=pmix --image=sci:1 --multi-prog mpi/multi | sort'
    assert_line --index 0 --regexp '^rank 0 of 4 on c1: '
    assert_line --index 3 --regexp '^rank 3 of 4 on c2: '
}

@test "without the right --mpi each rank is alone, and says that it is the only one" {
    run alice 'srun -n2 --mpi=none --image=sci:1 mpi/ranks.mpich -v'
    assert_equal "$(count 'rank 0 of 1 ')" 2
}

@test "with srun -K a rank that dies ends the others, who wait for it" {
    run alice 'srun -N2 -n4 -K --mpi=pmi2 --image=mpich:3.4 sh -c "[ \$SLURM_PROCID = 3 ] && exit 9; exec ranks"'
    assert_failure
    eventually 20 nodes_are_idle
}

# --- what ranks find of Slurm ---

@test "PMIx: each rank has its number, the server's directory, and the address where the server answers" {
    run alice 'srun -N2 -n4 --ntasks-per-node=2 --mpi=pmix --image=debian:12 bash -c "echo rank \$PMIX_RANK; ls -d \"\$PMIX_SERVER_TMPDIR\"; test -O \"\$PMIX_SERVER_TMPDIR\" && echo mine
        address=\$(env | sed -n \"s|^PMIX_SERVER_URI.*tcp4://||p\" | head -n 1); exec 3<>/dev/tcp/\${address/:/\/} && echo answers" | sort'
    for rank in 0 1 2 3; do assert_line "rank $rank"; done
    assert_equal "$(count mine)" 4
    assert_equal "$(count answers)" 4
    assert_equal "$(count /var/spool/slurmd/pmix.)" 4
}

@test "PMIx: what I set for it reaches the ranks" {
    run alice 'PMIX_MCA_gds=hash srun -n2 --mpi=pmix --image=debian:12 printenv PMIX_MCA_gds'
    assert_output $'hash\nhash'
}

@test "PMI-2: each rank has its number, and an open socket to speak to Slurm" {
    run alice 'srun -N2 -n4 --ntasks-per-node=2 --mpi=pmi2 --image=debian:12 sh -c "echo \$PMI_RANK of \$PMI_SIZE; test -S /proc/self/fd/\$PMI_FD && echo a socket" | sort'
    for rank in 0 1 2 3; do assert_line "$rank of 4"; done
    assert_equal "$(count 'a socket')" 4
}

@test "PMIx keeps its files where I say" {
    for directory in /dev/shm /var/tmp; do
        run alice 'SLURM_PMIX_TMPDIR=$1 srun -N2 --ntasks-per-node=2 --mpi=pmix --image=sci:1 sh -c "
            find \$SLURM_PMIX_TMPDIR/spmix_appdir_*\$SLURM_JOB_ID.\$SLURM_STEP_ID -prune -user alice; exec mpi/ranks.openmpi"' "$directory"
        all_is_right 2 4 'Open MPI'
        assert_equal "$(count "$directory/spmix_appdir_")" 4
    done
}

# Without the network or a file between: process_vm_readv, as MPI libraries do it for long messages. (Perl is in Debian's base.)
@test "ranks of a node copy from each other's memory" {
    run alice 'srun -w c1 -n2 --image=debian:12 perl -e "$1"' '
        my ($mine, $dir, $me) = ("of rank $ENV{SLURM_PROCID}", "$ENV{HOME}/mpi/cma", $ENV{SLURM_PROCID});
        # Who may read it: prctl(PR_SET_PTRACER, any), where the kernel asks for that (Yama).
        syscall(157, 0x59616d61, -1, 0, 0, 0);
        mkdir $dir; open F, ">", "$dir/new.$me"; print F "$$ ", unpack("J", pack("p", $mine)); close F; rename "$dir/new.$me", "$dir/$me";
        my $other = "$dir/" . (1 - $me); select undef, undef, undef, 0.05 until -e $other;
        open F, $other; my ($pid, $there) = split " ", <F>; my $got = "." x length $mine;
        my ($here, $there_) = (pack("pJ", $got, length $mine), pack("JJ", $there, length $mine));
        my $bytes = syscall(310, $pid + 0, $here, 1, $there_, 1, 0); print "$me has $got: $bytes $!\n";
        open F, ">", "$dir/done.$me"; close F; select undef, undef, undef, 0.05 until -e "$dir/done." . (1 - $me)'
    assert_line --regexp '^0 has of rank 1: 9'
    assert_line --regexp '^1 has of rank 0: 9'
}

@test "where /tmp is memory of the image's own, PMIx works too" {
    configure '$ a [inside]\ntmp = "tmpfs=64M"'
    run alice 'srun -N2 --ntasks-per-node=2 --mpi=pmix --image=sci:1 mpi/ranks.openmpi'
    all_is_right 2 4 'Open MPI'
}

# --- the host's MPICH in place of the image's ---

# library_image NAME FILE SONAME: alice's image user:alice/NAME:1, which has busybox, glibc's loader, and a library of
# that name and soname.
library_image() {
    as alice bash -c 'set -e
        root=mpi/$1; mkdir -p "$root"/{bin,lib64,usr/lib/x86_64-linux-gnu}
        cp /bin/busybox "$root/bin/sh"; cp /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
        echo "int mpi;" | gcc -shared -o "$root/usr/lib/x86_64-linux-gnu/$2" -Wl,-soname,"$3" -x c -
        [[ $2 == "$3" ]] || ln -s "$2" "$root/usr/lib/x86_64-linux-gnu/$3"
        shifterimg import --quiet "dir:$root" "$1:1" >/dev/null' - "$@" </dev/null
}
# refused_for IMAGE WORDS: with the module a step in it fails before anything runs, in these words.
refused_for() {
    run alice 'srun -w c1 --image=$1 --module=mpich sh -c "echo it ran"' "$1"
    assert_failure 1
    refute_output --partial 'it ran'
    assert_output --partial "--module=mpich$2"
    one_message
}

@test "--module=mpich: a program built with MPICH 3.4 in an image of 2021 runs with the nodes' own, on two nodes" {
    version=$(nodes_mpich)
    run alice 'srun -N2 --ntasks-per-node=2 --mpi=pmi2 --image=mpich:3.4 ranks -v'
    assert_equal "$(count 'MPICH Version: 3.4')" 4
    run alice 'srun -N2 --ntasks-per-node=2 --mpi=pmi2 --image=mpich:3.4 --module=mpich ranks -v'
    assert_equal "$(grep -c "MPICH Version: *$version" <<<"$output")" 4
    assert_line --regexp '^rank 3 of 4 on c2: '
    run alice 'srun -N2 --mpi=pmi2 --image=mpich:3.4 --module=mpich ranks'
    all_is_right 2 2 "MPICH Version: *$version"
    run alice 'srun -N1 -n2 --mpi=pmi2 --image=mpich:3.4 --module=mpich ranks'
    all_is_right 1 2 "MPICH Version: *$version"
}

@test "… and the rest of the image is as it was" {
    run alice 'srun --image=mpich:3.4 --module=mpich sh -c ". /etc/os-release; echo \$VERSION_CODENAME; perl -e \"print 6*7\""'
    assert_output $'bullseye\n42'
}

@test "… an image with the MPICH of Debian 12, which is the nodes' or older, keeps working, and so does its Open MPI" {
    run alice 'srun -N2 --mpi=pmi2 --image=sci:1 --module=mpich mpi/ranks.mpich'
    all_is_right 2 2 "MPICH Version: *$(nodes_mpich)"
    run alice 'srun -N2 --mpi=pmix --image=sci:1 --module=mpich mpi/ranks.openmpi'
    all_is_right 2 2 'Open MPI'
}

@test "… an image that wants a later MPICH than the nodes have is refused, with both versions" {
    library_image later libmpich.so.12.99.0 libmpich.so.12
    refused_for user:alice/later:1 ": the image's libmpich.so.12 has ABI version 12.99.0 "
}

@test "… so is one with another ABI, with Open MPI, or without any MPI" {
    library_image other libmpich.so.11.0.0 libmpich.so.11
    library_image openmpi libmpi.so.40.30.4 libmpi.so.40
    for image in user:alice/other:1 user:alice/openmpi:1 debian:12; do
        refused_for $image ": the image has no libmpich.so.12 that the host's could replace"
    done
    refused_for tiny:1 ' does not suit this image'
}

@test "… and without glibc = true one with an older glibc" {
    configure '/^glibc = true$/d'
    refused_for mpich:3.4 " does not suit this image: the host's lib"
    assert_output --regexp 'needs glibc 2\.[0-9]+, and the image has glibc 2\.31'
}
