# What a module brings besides mounts and variables: copied files and accounts; which images it suits; and what
# is written down of it.
load lib

IMAGES=/srv/images

setup_file() {
    # Images of the node's own, each a static busybox: one that says that it has musl, one that it is for another processor.
    on c1 sh -c 'mkdir -p "$1" && cat >"$1/busybox" && chmod 755 "$1/busybox"' - "$IMAGES" <"$(command -v busybox)"
    on c1 sh -s "$IMAGES" <<'SETUP'
set -e
for name in plain musl arm; do
    mkdir -p $1/$name/bin $1/$name/lib $1/$name/.shifter
    cp $1/busybox $1/$name/bin
    ln -s busybox $1/$name/bin/sh
done
touch $1/musl/lib/ld-musl-x86_64.so.1
echo '{"platform": "linux/arm64"}' >$1/arm/.shifter/image.json
install -d /etc/shifter/files
printf '#!/bin/sh\necho "a tool of the site: $*"\n' >/etc/shifter/files/tool && chmod 4777 /etc/shifter/files/tool
echo secret >/etc/shifter/files/key && chmod 600 /etc/shifter/files/key
SETUP
}
teardown_file() { on c1 rm -r "$IMAGES" /etc/shifter/files; }
teardown() { restore_config; }

# module LINE…: the site has a module `m` with these lines.
module() {
    local lines
    printf -v lines '\\n%s' "$@"
    configure '$ a [images]\nlocal = ["'"$IMAGES"'"]\n[modules.m]'"$lines" ctl c1 c2
}

# --- copies ---

@test "a copied file is there for me, at any place, as the host has it, but nobody can write it or gain by it" {
    module 'copy = [{ from = "/etc/shifter/files/tool", to = "/opt/any/place/tool" }, { from = "/etc/shifter/files/key" }]'
    run alice 'srun -w c1 --image=tiny:1 --module=m sh -c "/opt/any/place/tool x; stat -c \"%a %U\" /opt/any/place/tool; cat /etc/shifter/files/key; echo >/opt/any/place/tool"'
    assert_line 'a tool of the site: x'
    assert_line '755 root'
    assert_line "cat: can't open '/etc/shifter/files/key': Permission denied"
    assert_line --partial '/opt/any/place/tool: '
    run alice 'srun -w c1 --image=tiny:1 sh -c "ls /opt"'
    assert_output --partial 'No such file'
}

@test "… it replaces the image's file of that name, and its permissions are the site's if it says so" {
    module 'copy = [{ from = "/etc/shifter/files/key", to = "/etc/debian_version", mode = "444" }]'
    run alice 'srun -w c1 --image=debian:12 --module=m cat /etc/debian_version'
    assert_output secret
}

@test "no volume of mine covers it, and the dry run shows it" {
    module 'copy = [{ from = "/etc/shifter/files/tool", to = "/opt/any/tool" }]'
    for to in /opt /opt/any /opt/any/tool; do
        run alice 'srun --image=tiny:1 --module=m --volume=$HOME:"$1" true' "$to"
        assert_failure 1
        assert_output --partial "/opt/any/tool is protected"
        one_message
    done
    run alice 'srun --image=tiny:1 --module=m --image-dry-run true | tr -s " "'
    assert_line '/opt/any/tool /etc/shifter/files/tool file - --module=m'
}

@test "what the node lacks fails the step by the site's fault, unless it is optional" {
    module 'copy = [{ from = "/no/such", to = "/opt/x" }]'
    run alice 'srun -w c1 --image=tiny:1 --module=m true'
    assert_failure 1
    assert_output --partial 'modules.m.copy: /no/such is not a file'
    assert_output --partial 'This is a site problem'
    restore_config
    module 'copy = [{ from = "/no/such", to = "/opt/x", optional = true }]'
    run alice 'srun -w c1 --image=tiny:1 --module=m sh -c "ls /opt || echo nothing"'
    assert_line nothing
    no_drained_node
}

@test "accounts of a module are known inside, with it only" {
    module 'users = ["munge", "nosuch"]'
    run alice 'for module in m none; do srun -w c1 --image=tiny:1 --module=$module sh -c "cut -d: -f1 /etc/passwd | xargs"; done'
    assert_output $'root alice munge nobody\nroot alice nobody'
}

# --- which images it suits ---

@test "a module for glibc refuses an image with musl, or with no C library, and says which it is" {
    module 'libc = "glibc"'
    run alice 'srun -w c1 -n2 --image=local:/srv/images/musl --module=m true'
    assert_failure 1
    assert_output --partial '--module=m: it is for images with glibc, and this one has musl, as Alpine'
    assert_output --partial 'hint: use an image of Debian, Ubuntu, Rocky Linux or the like, or do without the module'
    one_message
    run alice 'srun -w c1 --image=tiny:1 --module=m true'
    assert_output --partial 'this one has no C library: its programs are linked statically'
    run alice 'srun -w c1 --image=debian:12 --module=m echo fine; srun -w c1 --image=tiny:1 echo fine'
    assert_output $'fine\nfine'
    restore_config
    module 'libc = "musl"'
    run alice 'srun -w c1 --image=local:/srv/images/musl --module=m sh -c "echo fine"; srun -w c1 --image=debian:12 --module=m true'
    assert_line fine
    assert_output --partial 'it is for images with musl, and this one has glibc'
    no_drained_node
}

@test "a module for some architectures refuses images of others" {
    module 'arch = ["ppc64le", "arm64"]'
    run alice 'srun -w c1 --image=debian:12 --module=m true'
    assert_failure 1
    assert_output --partial '--module=m: it is for images of ppc64le, arm64, and this one is of amd64'
    assert_output --partial 'hint: pull the image for linux/ppc64le or linux/arm64, or'
}

@test "an image for other processors than the node's is refused in words" {
    module
    run alice 'srun -w c1 -n2 --image=local:/srv/images/arm true; srun -w c1 --image=local:/srv/images/plain sh -c "echo fine"'
    assert_line --partial 'this image is for linux/arm64, and this node is linux/amd64'
    assert_line --partial 'hint: shifterimg pull --platform linux/amd64 NAME:TAG'
    assert_line fine
    assert_equal "$(count 'this image is for')" 1
}

# --- provenance ---

# hash NAME: what any other tool makes of the module's table in the site's configuration.
hash() {
    on ctl cat "$CONFIG" | python3 -c 'import sys, tomllib, json, hashlib
table = tomllib.load(sys.stdin.buffer)["modules"][sys.argv[1]]
text = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
print(hashlib.sha256(text.encode()).hexdigest()[:12])' "$1"
}

@test "the job's record holds each module with a hash of its definition, in order, whoever submitted it how" {
    module 'requires = ["greeting"]' 'env.set = { NAME = "ü" }'
    modules="modules=greeting@$(hash greeting),m@$(hash m)"
    name=provenance-$RANDOM
    for command in 'srun -Q true' 'salloc -Q true' 'sbatch -Q --wait -o /dev/null --wrap "srun true"'; do
        alice "${command/ / -J $name --image=tiny:1 --module=m }"
    done
    run alice 'squeue -h -t all -n "$1" -o %A | xargs -n1 scontrol show job | grep AdminComment' "$name"
    assert_equal "$(count " $modules")" 3
    accounted() { [[ $(alice 'sacct -X -n -P -o AdminComment --name="$1"' "$name" | grep -c " $modules\$") -ge 3 ]]; }
    eventually 20 accounted
    run alice 'show="echo \${SHIFTER_MODULES-none}"; srun --image=tiny:1 --module=m sh -c "$show"; srun --image=tiny:1 sh -c "$show"'
    assert_output "${modules#modules=}"$'\nnone'
}

@test "the node's log says what it used, and that a module has changed since the job was submitted" {
    module 'env.set = { NAME = "before" }'
    was=$(hash m)
    job=$(alice 'sbatch --parsable -w c1 -H -o waited.out --image=tiny:1 --module=m --wrap "srun sh -c '\''echo \$NAME; echo \$SHIFTER_MODULES'\''"')
    restore_config
    module 'env.set = { NAME = "after" }'
    is=$(hash m)
    alice 'scontrol release "$1"; until [[ $(squeue -h -t all -j "$1" -o %T) =~ COMPLETED|FAILED ]]; do sleep 0.1; done' "$job"
    run alice 'cat waited.out; rm waited.out'
    assert_output $'after\n'"m@$is"
    run on c1 grep "shifter: job $job: " /var/log/slurm/slurmd.log
    assert_line --partial "modules=m@$is"
    assert_line --partial "module m is not what it was when the job was submitted: $was"
    # What was true then stays on record.
    run alice 'scontrol show job "$1" | grep AdminComment' "$job"
    assert_output --partial "modules=m@$was"
}
