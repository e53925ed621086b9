# --volume: what of the host appears where, for whom, and in which steps. docs/users.md has the rules; guide.bats
# has the ones that are not here.
load lib

setup_file() {
    alice 'mkdir -p vol/{a,b,c}/below; for d in a b c; do echo "$d" >vol/$d/name; done; printf "#!/bin/sh\necho mine\n" >vol/tool; chmod +x vol/tool'
    on ctl sh -c 'install -d -g astro -m 750 "$1"; echo stars >"$1/name"' - "$SCRATCH/astro"
}
teardown_file() {
    alice 'rm -r vol'
    on ctl rm -r "$SCRATCH/astro"
}
teardown() { restore_config; }

# A line of the batch scripts below: what is at /1, /2 and /3 of a rank on each node.
LOOK='srun -N2 -n2 sh -c "cat /[123]/name" 2>&1 | sort | uniq -c | tr -s " "'
THREE=' 2 a
 2 b
 2 c'

@test "repeated options and several in one add up, in srun on every node" {
    run alice 'srun -N2 -n2 --image=tiny:1 "--volume=$HOME/vol/a:/1;$HOME/vol/b:/2" --volume="$HOME/vol/c:/3" --volume="$HOME/vol/c:/3" cat /1/name /2/name /3/name | sort | uniq -c | tr -s " "'
    assert_output "$THREE"
}

@test "sbatch's volumes are those of its steps, on every node" {
    run batch -N2 --image=tiny:1 "--volume=/home/alice/vol/a:/1;/home/alice/vol/b:/2" --volume=/home/alice/vol/c:/3 <<<"#!/bin/bash
ls /1; $LOOK"
    assert_output "ls: cannot access '/1': No such file or directory
$THREE"
}

@test "#SBATCH --volume as well, one a line" {
    run batch -N2 <<<"#!/bin/bash
#SBATCH --image=tiny:1
#SBATCH --volume=/home/alice/vol/a:/1
#SBATCH --volume=/home/alice/vol/b:/2;/home/alice/vol/c:/3
$LOOK"
    assert_output "$THREE"
}

@test "salloc's as well" {
    run alice 'salloc -QN2 --image=tiny:1 --volume=$HOME/vol/a:/1 --volume="$HOME/vol/b:/2;$HOME/vol/c:/3" bash -c "$1"' "$LOOK"
    assert_output "$THREE"
}

@test "SLURM_SHIFTER_VOLUME counts as the option, and the option wins" {
    run alice 'export SLURM_SHIFTER_VOLUME="$HOME/vol/a:/1"; srun --image=tiny:1 cat /1/name; srun --image=tiny:1 --volume=$HOME/vol/b:/1 cat /1/name'
    assert_output $'a\nb'
}

@test "a step's own volume is in that step alone, which has mounts of its own" {
    run batch -n2 --image=tiny:1 --volume=/home/alice/vol/a:/1 <<'SCRIPT'
#!/bin/bash
look() { srun "$@" sh -c 'echo $(cat /1/name) $(readlink /proc/self/ns/mnt)' | sort -u; }
look; look --volume=$HOME/vol/b:/1; look --volume=$HOME/vol/b:/1; look --volume=$HOME/vol/a:/1
SCRIPT
    # One line for two ranks: those of a step share its mounts.
    assert_equal "${#lines[@]}" 4
    assert_regex "${lines[0]}" '^a mnt:'
    assert_regex "${lines[1]}" '^b mnt:'
    assert_regex "${lines[2]}" '^b mnt:'
    job=${lines[0]#a }
    refute_regex "${lines[1]}${lines[2]}" "$job"
    # What is typed again is the job's.
    assert_equal "${lines[3]}" "${lines[0]}"
}

@test "the order in which volumes are given does not matter: the step shares the job's mounts" {
    run batch -n1 "--volume=/home/alice/vol/a:/1;/home/alice/vol/b:/1/below" --image=tiny:1 <<'SCRIPT'
#!/bin/bash
look() { srun "$@" sh -c 'echo $(cat /1/name /1/below/name) $(readlink /proc/self/ns/mnt)'; }
look; look "--volume=$HOME/vol/b:/1/below" --volume="$HOME/vol/a:/1"
SCRIPT
    assert_regex "${lines[0]}" '^a b mnt:'
    assert_equal "${lines[1]}" "${lines[0]}"
}

@test "a place behind a link of the image is where the link leads, in the image" {
    run alice 'srun --image=debian:12 --volume=$HOME/vol/a:/lib/new/place --volume=$HOME/vol/tool:/bin/id sh -c "cat /usr/lib/new/place/name; /usr/bin/id; ls -ld /lib /bin | cut -c1"'
    assert_output $'a\nmine\nl\nl'
}

@test "names with blanks, colons, semicolons, backslashes and letters of all kinds" {
    for name in 'a b' 'a:b;c' 'a\b' 'naïve 文件' "it's \"a\" \$name *"; do
        escaped=$(sed 's/[\\:;]/\\&/g' <<<"$name")
        run alice 'mkdir "vol/$1" && echo "in $1" >"vol/$1/name"; srun --image=tiny:1 --volume="$HOME/vol/$2:/mnt/$2;$HOME/vol/a:/a" cat "/mnt/$1/name" /a/name; rm -r "vol/$1"' "$name" "$escaped"
        assert_output "in $name"$'\na'
    done
}

@test "a file or a directory where the image has nothing, at any depth, and beside what it has" {
    run alice 'srun --image=tiny:1 "--volume=$HOME/vol/a/name:/no/such/file;$HOME/vol/b:/no/other/place;$HOME/vol/tool:/bin/tool" sh -c "cat /no/such/file /no/other/place/name; tool; ls /bin/busybox"'
    assert_output $'a\nb\nmine\n/bin/busybox'
}

@test "a file over a file of the image, a directory over a directory" {
    run alice 'srun --image=debian:12 "--volume=$HOME/vol/tool:/usr/bin/id;$HOME/vol/a:/usr/share" sh -c "id; ls /usr/share"'
    assert_output $'mine\nbelow\nname'
}

@test "a place that is there in what comes from the host, and none that is not" {
    alice 'srun -w c1 mkdir -p /tmp/vol-there'
    run alice 'srun -w c1 --image=tiny:1 --volume=$HOME/vol/a:/tmp/vol-there cat /tmp/vol-there/name'
    assert_output a
    run alice 'srun -w c1 --image=tiny:1 --volume=$HOME/vol/a:/tmp/vol-absent true 2>&1; srun -w c1 ls -d /tmp/vol-absent /tmp/vol-there 2>&1'
    assert_output --partial '/tmp/vol-absent does not exist there'
    assert_output --partial "cannot access '/tmp/vol-absent'"
    assert_line /tmp/vol-there
    on c1 rmdir /tmp/vol-there
}

@test "what is mounted below comes along, and with ro none of it can be written" {
    run alice 'srun --image=tiny:1 --volume=/:/host:ro --volume=$HOME/vol/tool:/one:ro sh -c "cat /host/home/alice/vol/a/name; touch /host/home/alice/no /host/tmp/no; echo >>/one"'
    assert_line a
    assert_equal "$(count 'Read-only file system')" 3
    run alice 'srun --image=tiny:1 --volume=/:/host sh -c "touch /host/home/alice/yes"; stat -c "%U %n" yes; rm yes'
    assert_output 'alice yes'
}

@test "my groups open what they open on the host, and not to others" {
    run alice 'srun --image=tiny:1 --volume="$1":/mnt cat /mnt/name' "$SCRATCH/astro"
    assert_output stars
    run bob 'srun --image=tiny:1 --volume="$1/name":/mnt cat /mnt' "$SCRATCH/astro"
    assert_failure 1
    assert_output --partial "cannot open $SCRATCH/astro/name: Permission denied"
    one_message
}

@test "a pipe as a volume is a pipe inside, and holds nobody up" {
    run alice 'mkfifo vol/pipe; timeout 20 srun -n2 --image=tiny:1 --volume=$HOME/vol/pipe:/pipe sh -c "if [ \$SLURM_PROCID = 0 ]; then echo through >/pipe; else cat /pipe; fi"; rm vol/pipe'
    assert_success
    assert_output through
}

@test "a separator too many at the end, or between, is nothing" {
    run alice 'srun --image=tiny:1 "--volume=;$HOME/vol/a:/1;;$HOME/vol/b:/2;" cat /1/name /2/name'
    assert_output $'a\nb'
}

@test "what I may not read on the host I may not read inside" {
    run alice 'srun --image=tiny:1 --volume=/etc/shadow:/shadow sh -c "ls -l /shadow; cat /shadow"'
    assert_output --partial "can't open '/shadow': Permission denied"
    assert_line --regexp '^-rw-r----- .*root .*/shadow$'
}

@test "a device is refused: the host's /dev is there anyway" {
    run alice 'srun --image=tiny:1 --volume=/dev/null:/null true'
    assert_failure 1
    assert_output --partial 'FROM is a device'
    one_message
}

@test "beside what is protected there is room: /etcetera, /home2, /variable" {
    run alice 'srun --image=tiny:1 "--volume=$HOME/vol/a:/etcetera;$HOME/vol/b:/home2/;$HOME/vol/c:/variable/tmp/" cat /etcetera/name /home2/name /variable/tmp/name'
    assert_output $'a\nb\nc'
}

@test "one bad volume among good ones: the step fails, and names it" {
    run alice 'srun --image=tiny:1 "--volume=$HOME/vol/a:/1;/no/such:/2;$HOME/vol/c:/3" true 2>&1'
    assert_failure 1
    assert_output --partial '--volume=/no/such:/2: cannot open /no/such: No such file or directory'
    one_message
}

@test "the site may list sources and targets, or exclude them, also through a link or '..'; or volumes altogether" {
    configure '$ a [volumes]\nfrom = ["/home"]\nnot_from = ["/home/alice/vol/b"]' ctl c1
    run alice 'srun -w c1 --image=tiny:1 --volume=$HOME/vol/a:/1 cat /1/name'
    assert_output a
    alice 'ln -s b vol/link'
    for from in /shared/scratch /home/alice/vol/b /home/alice/vol/b/below /home/alice/vol/link /home/alice/vol/a/../b; do
        run alice 'srun -w c1 --image=tiny:1 --volume="$1":/1 true 2>&1' "$from"
        assert_failure 1
        assert_output --partial 'this site does not allow volumes from'
    done
    restore_config
    configure '$ a [volumes]\nto = ["/mnt", "/data"]\nprotected = ["/data/site"]' ctl c1
    run alice 'srun -w c1 --image=tiny:1 "--volume=$HOME/vol/a:/mnt/1;$HOME/vol/b:/data" cat /mnt/1/name /data/name'
    assert_output --partial '/data/site is protected'
    run alice 'srun -w c1 --image=tiny:1 "--volume=$HOME/vol/a:/mnt/1;$HOME/vol/b:/data/mine" cat /mnt/1/name /data/mine/name'
    assert_output $'a\nb'
    run alice 'srun -w c1 --image=tiny:1 --volume=$HOME/vol/a:/opt/a true'
    assert_failure 1
    assert_output --partial 'this site does not allow volumes at /opt/a'
    restore_config
    configure '$ a [volumes]\nallowed = false' ctl
    run alice 'srun --image=tiny:1 --volume=$HOME/vol/a:/1 true 2>&1'
    assert_failure 1
    assert_output --partial 'this site does not allow volumes'
}

@test "none:TO:tmpfs=size=SIZE is memory: empty, mine alone, no larger, one for the job's steps, gone with it" {
    run batch -n2 --image=debian:12 --volume=none:/mem/own:tmpfs=size=2M <<'SCRIPT'
#!/bin/bash
srun -n1 bash -c 'ls -A /mem/own; stat -c "%A %U:%G" /mem/own; grep " /mem/own " /proc/self/mounts; echo here >/mem/own/step; head -c 3M /dev/zero >/mem/own/large'
srun -n2 cat /mem/own/step
srun -n1 --volume=none:/mem/own:tmpfs=size=3M ls -A /mem/own
SCRIPT
    assert_line --index 0 'drwx------ alice:alice'
    assert_line --partial 'tmpfs rw,nosuid,nodev'
    assert_output --partial 'No space left on device'
    assert_equal "$(grep -cx here <<<"$output")" 2
    refute_line step
    run alice 'srun --image=debian:12 --volume=none:/mem/own:tmpfs=size=17G true'
    assert_failure 1
    assert_output --partial 'this site allows 16G at most'
    one_message
}
