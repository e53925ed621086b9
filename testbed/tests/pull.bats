# shifterimg pull: anybody brings an image into the store, and what goes wrong leaves nothing there.
load lib

REGISTRY=${TESTBED_SUBNET:-198.18.57}.5:5000
BLOBS=/var/lib/registry/open/docker/registry/v2/blobs/sha256
HELD=/run/held-registry
PUSHED=(mine other flipped short dangling devices held killed both listed)

setup_file() {
    local name
    remove_pushed
    python3 "$BATS_TEST_DIRNAME/images.py" "$BATS_FILE_TMPDIR/oci"
    for name in "${PUSHED[@]}"; do
        [[ -d $BATS_FILE_TMPDIR/oci/$name ]] || continue
        skopeo copy -q --all --dest-tls-verify=false "oci:$BATS_FILE_TMPDIR/oci/$name:1" "docker://$REGISTRY/$name:1"
    done
    # A second registry, which stops in the middle of large layers, for who wants to look at a pull.
    configure '$a [[registry]]\nprefix = "registry:5009"\nhttp = true' ctl
    on registry sh -c 'if [ -e $1/pid ]; then kill $(cat $1/pid); fi; mkdir -p $1; cat >$1/serve.py' - "$HELD" <"$BATS_TEST_DIRNAME/held_registry.py"
    on registry sh -c 'python3 $1/serve.py 5009 $1 >$1/said 2>&1 </dev/null & echo $! >$1/pid' - "$HELD"
    on ctl sh -c 'umask 77; echo "{\"auths\": {\"registry:5001\": {\"auth\": \"$1\"}, \"registry:5002\": {\"auth\": \"$1\"}}}" >~alice/login.json
        chown alice ~alice/login.json' - "$(printf alice:wonderland | base64)"
}
teardown_file() {
    restore_config
    on registry sh -c 'kill $(cat $1/pid); rm -rf $1; cd /var/lib/registry/open/docker/registry/v2/repositories && shift && rm -rf "$@"' \
        - "$HELD" "${PUSHED[@]}"
    on ctl rm -f /home/alice/login.json
}
setup() { on registry rm -f "$HELD/go" "$HELD/log"; }
teardown() {
    on registry touch "$HELD/go"
    wait
    remove_pushed
}

# Nothing that these tests pull stays. Private names are their owners' only.
remove_pushed() {
    local script='for name in $(shifterimg images --quiet | grep -E "(^|/)($1|secret)[:@]"); do shifterimg rm "$name"; done'
    local names user
    names=$(IFS='|'; echo "${PUSHED[*]}")
    for user in alice bob; do as "$user" bash -c "$script" - "$names" >/dev/null 2>&1 </dev/null; done
    return 0
}

# store PATH: all files below it.
store() { on ctl find "/shared/shifter/$1" -type f; }
digest_of() { skopeo inspect --raw --tls-verify=false "docker://$REGISTRY/$1" | sha256sum | cut -d' ' -f1; }

@test "alice and bob, who administrate nothing, pull by themselves" {
    run alice 'id -u; shifterimg pull mine:1'
    assert_success
    assert_line 1001
    assert_line --regexp '^docker:docker\.io/library/mine:1@sha256:[0-9a-f]{64}$'
    run bob 'shifterimg pull other:1 && srun --image=mine:1 cat /note && srun --image=other:1 cat /note'
    assert_success
    assert_line 'for my eyes'
    assert_line 'not the same'
}

@test "an image comes from where the site's mirror rule says" {
    run alice 'shifterimg pull docker:ubuntu:14.04'
    assert_success
    assert_line --partial 'from registry:5000/ubuntu'
    run alice 'shifterimg images --json | jq -r ".[] | select(.image == \"docker:docker.io/library/ubuntu:14.04\") | .from"'
    assert_output registry:5000/ubuntu
}

@test "what the mirror does not have comes from the registry itself, where the site says so" {
    configure '$a # for one test\n[[registry]]\nprefix = "registry:5000/mine"\nmirror = "registry:5009/not-there"\nhttp = true\nfallback = true' ctl
    run alice 'shifterimg pull registry:5000/mine:1; shifterimg rm registry:5000/mine:1'
    configure '/^# for one test/,$d' ctl
    assert_line --regexp '^the registry registry:5009 has no not-there:1.*; asking registry:5000 itself$'
    assert_line --regexp ' from registry:5000/mine$'
    assert_line --regexp '^docker:registry:5000/mine:1@sha256:[0-9a-f]{64}$'
}

@test "what is there is not fetched again" {
    run alice 'shifterimg pull debian:12 && shifterimg pull --json debian:12 2>/dev/null | jq .new'
    assert_success
    assert_line 'it is in the store already'
    assert_line false
}

# --- what a pull says ---

@test "elsewhere than on a terminal: a plain line per layer" {
    run alice 'shifterimg pull mine:1 | cat'
    assert_line --regexp '^docker:docker\.io/library/mine:1: [0-9a-f]{12} for linux/amd64, 2 layers, [0-9.]+ [kM]?B from registry:5000/mine$'
    assert_line --regexp '^layer 1/2 [0-9a-f]{12}: [0-9.]+ [kM]?B$'
    assert_line --regexp '^layer 2/2 [0-9a-f]{12}: [0-9.]+ B$'
    assert_line --regexp '^[0-9.]+ [kM]?B in [0-9.]+ s$'
    refute_output --partial $'\e'
}

@test "on a terminal: a bar per layer, which moves, in 80 columns" {
    as alice env TERM=xterm script -qec 'stty cols 80; shifterimg pull registry:5009/held:1' /dev/null >"$BATS_TEST_TMPDIR/screen" </dev/null 3>&- &
    eventually 10 on registry test -e "$HELD/log"
    eventually 5 grep -q 'layer 2/2' "$BATS_TEST_TMPDIR/screen"
    on registry touch "$HELD/go"
    wait
    # A bar is drawn again and again; we look at each as a line, without the blanks up to the edge.
    run sed 's/\x1b\[[0-9;]*[A-Za-z]/\n/g; s/\r/\n/g; s/layer /\n&/g; s/  *docker:/\n&/g' "$BATS_TEST_TMPDIR/screen"
    assert_line --regexp '^layer 1/2 [0-9a-f]{12} █+ '
    assert_line --regexp '^layer 2/2 [0-9a-f]{12} █+░+ .*2\.[0-9]+ MB/4\.'
    assert_line --regexp '^layer 2/2 [0-9a-f]{12} █{24} +4\.[0-9]+ MB/4\.'
    assert_equal "$(LC_ALL=C.UTF-8 grep -E '^layer .{74}.*[^ ]' <<<"$output")" ''
}

@test "--json: one document on standard output; --quiet: the digest only" {
    run alice 'shifterimg pull --json mine:1 2>progress | jq -r ".image, .digest, .platform, .private, .new, (.size > 500000)"; wc -l <progress; rm progress'
    assert_line --index 0 docker:docker.io/library/mine:1
    assert_line --index 1 "sha256:$(digest_of mine:1)"
    assert_line --index 2 linux/amd64
    assert_line --index 3 false
    assert_line --index 4 true
    assert_line --index 5 true
    # The name, two layers, the size, and that some of its files only root can read.
    assert_line --index 6 5
    run alice 'shifterimg pull --quiet mine:1'
    assert_output "sha256:$(digest_of mine:1)"
}

# --- registries that want to know who asks ---

@test "a registry that asks for a password takes the login that docker and podman keep" {
    run alice 'shifterimg pull registry:5001/secret:1'
    assert_failure 1
    assert_line 'shifterimg: the registry registry:5001 wants a login for secret (authentication required)'
    assert_line 'hint: log in with: shifterimg login registry:5001; then pull again'
    run alice 'REGISTRY_AUTH_FILE=~/login.json shifterimg pull registry:5001/secret:1'
    assert_success
    assert_line --partial 'the registry answered only with your login: the image will be yours alone (--public shares it)'
}

@test "… and one that sends us to a server of tokens does, too" {
    run alice 'shifterimg pull registry:5002/secret:1'
    assert_failure 1
    assert_line 'hint: log in with: shifterimg login registry:5002; then pull again'
    run alice 'mkdir -p .docker && cp login.json .docker/config.json && shifterimg pull registry:5002/secret:1; rm -r .docker'
    assert_success
}

@test "a wrong password is said to be one, and is not shown" {
    for port in 5001 5002; do
        run alice 'sed "s/\"auth\": \"[^\"]*\"/\"auth\": \"$(printf alice:looking-glass | base64)\"/g" login.json >wrong.json
            REGISTRY_AUTH_FILE=~/wrong.json shifterimg pull registry:'$port'/secret:1; code=$?; rm wrong.json; exit $code'
        assert_failure 1
        assert_line --partial "the registry registry:$port does not let you pull secret"
        assert_line --regexp '^hint: .*log in'
        refute_output --partial looking-glass
    done
}

@test "a file of logins that I may not read gives me nothing" {
    run bob 'REGISTRY_AUTH_FILE=/home/alice/login.json shifterimg pull registry:5001/secret:1'
    assert_failure 1
    assert_line --partial 'wants a login'
}

@test "a registry that is not there, an image that it does not have, a name that is none" {
    run alice 'shifterimg pull no-such-host.example:5000/x:1'
    assert_failure 1
    assert_line 'shifterimg: there is no registry no-such-host.example:5000: its name is not known'
    assert_line --regexp '^hint: '
    run alice 'shifterimg pull registry:4999/x:1'
    assert_failure 1
    assert_line --regexp '^hint: '
    run alice 'shifterimg pull debain:12'
    assert_failure 1
    assert_line 'shifterimg: the registry registry:5000 has no debain:12 (manifest unknown)'
    assert_line --partial 'hint: check name and tag'
    run alice 'shifterimg pull Debian:12'
    assert_failure 1
    assert_line --partial 'shifterimg: Debian:12: not an image name: '
    assert_line 'hint: use NAME:TAG, for example ubuntu:24.04'
    run alice 'shifterimg pull user:bob/app:1'
    assert_failure 1
    assert_line --partial 'only images of a registry can be pulled'
    assert_line --regexp '^hint: '
}

# --- platforms and digests ---

@test "of an index, the image for the compute nodes is taken, and another one when asked for" {
    run alice 'shifterimg pull both:1 2>/dev/null && shifterimg inspect both:1'
    assert_success
    assert_line 'platform:    linux/amd64'
    run alice 'shifterimg inspect --platform linux/arm64 both:1'
    assert_failure 1
    assert_line 'shifterimg: both:1: in the store for linux/amd64 only, not for linux/arm64'
    assert_line 'hint: shifterimg pull --platform linux/arm64 both:1'
    run alice 'shifterimg pull --platform linux/arm64 both:1 2>/dev/null && shifterimg inspect --platform linux/arm64 both:1
        shifterimg lookup both:1; shifterimg images'
    assert_line 'platform:    linux/arm64'
    assert_line "sha256:$(skopeo inspect --raw --tls-verify=false "docker://$REGISTRY/both:1" | jq -r '.manifests[] | select(.platform.architecture == "amd64") | .digest' | cut -d: -f2)"
    assert_line --regexp '^both:1 \(linux/amd64\) '
    assert_line --regexp '^both:1 \(linux/arm64\) '
    run alice 'shifterimg pull --platform arm64 both:1'
    assert_failure 2
    assert_line --partial 'a platform is OS/ARCHITECTURE[/VARIANT]'
    run alice 'shifterimg pull --platform plan9/mips both:1'
    assert_failure 1
    assert_line --partial 'linux/amd64'
    assert_line --regexp '^hint: '
}

@test "several platforms are pulled at once, each a file of its own; and none if one is missing" {
    alice 'shifterimg rm both:1 both:1' >/dev/null 2>&1 || true
    run alice 'shifterimg pull --json --platform linux/amd64,linux/arm64 --platform linux/amd64 both:1 2>/dev/null | jq -r ".[] | .platform, .digest"'
    assert_success
    assert_equal "${#lines[@]}" 4
    assert_equal "${lines[0]} ${lines[2]}" 'linux/amd64 linux/arm64'
    assert_not_equal "${lines[1]}" "${lines[3]}"
    assert_equal "$(alice 'shifterimg lookup --platform linux/arm64 both:1')" "${lines[3]}"
    run alice 'shifterimg pull --platform linux/amd64 --platform linux/arm64 both:1 2>&1'
    assert_line --regexp '^docker:docker\.io/library/both:1@sha256:[0-9a-f]{64} \(linux/arm64\)$'
    before=$(store images; store manifests)
    run alice 'shifterimg pull --platform linux/amd64,linux/riscv64 both:1'
    assert_failure 1
    assert_line --regexp '^shifterimg: the image is for .* only, not for linux/riscv64$'
    assert_equal "$(store images; store manifests)" "$before"
    assert_equal "$(store leases)" ''
}

@test "… and of a manifest list, Docker's form of an index" {
    skopeo copy -q --all --format v2s2 --dest-tls-verify=false "oci:$BATS_FILE_TMPDIR/oci/both:1" "docker://$REGISTRY/listed:1"
    run skopeo inspect --raw --tls-verify=false "docker://$REGISTRY/listed:1"
    assert_output --partial 'application/vnd.docker.distribution.manifest.list.v2+json'
    run alice 'shifterimg pull --platform linux/arm64 listed:1 2>/dev/null && shifterimg inspect --platform linux/arm64 listed:1'
    assert_success
    assert_line 'platform:    linux/arm64'
}

@test "odd:1 is an index of two platforms; on the nodes it is the nodes'" {
    run alice 'srun --image=odd:1 cat /etc/odd-arch'
    assert_output amd64
}

@test "an image is pulled by its digest, and is that one for ever" {
    digest=sha256:$(digest_of mine:1)
    run alice "shifterimg pull mine@$digest 2>/dev/null; shifterimg lookup mine@$digest; srun --image=mine@$digest cat /note"
    assert_success
    assert_line "$digest"
    assert_line 'for my eyes'
    # By its digest only: nobody said what the tag means.
    run alice 'shifterimg lookup mine:1'
    assert_failure 1
    run alice "shifterimg pull mine@${digest/:?/:0}"
    assert_failure 1
    assert_line --partial "has no mine@${digest/:?/:0}"
}

# --- what a registry sends that is not what it should be ---

# layer IMAGE NUMBER: the digest of a layer, without sha256:.
# Fails when there is none: without a digest the tests would damage whatever the registry has.
layer() { skopeo inspect --raw --tls-verify=false "docker://$REGISTRY/$1" | jq -r ".layers[$2].digest" | cut -d: -f2 | grep -xE '[0-9a-f]{64}'; }

nothing_came() { # NAME
    run alice "shifterimg lookup $1"
    assert_failure 1
    assert_equal "$(store tmp)" ''
    assert_equal "$(store leases)" ''
    assert_equal "$(store images; store manifests)" "$before"
}

@test "a layer with a wrong byte is found by its digest: nothing is published, nothing stays" {
    before=$(store images; store manifests)
    hex=$(layer flipped:1 1)
    on registry sh -c 'printf X | dd of=$1 bs=1 seek=500000 conv=notrunc status=none' - "$BLOBS/${hex:0:2}/$hex/data"
    run alice 'shifterimg pull flipped:1 2>&1'
    on registry rm -r "$BLOBS/${hex:0:2}/$hex"
    assert_failure 1
    assert_line --partial "sent something else than sha256:$hex"
    assert_line --regexp '^hint: '
    nothing_came flipped:1
}

@test "a layer that is cut off is named: nothing is published, nothing stays" {
    before=$(store images; store manifests)
    hex=$(layer short:1 1)
    on registry truncate -s -1000 "$BLOBS/${hex:0:2}/$hex/data"
    run alice 'shifterimg pull short:1 2>&1'
    on registry rm -r "$BLOBS/${hex:0:2}/$hex"
    assert_failure 1
    assert_line "shifterimg: the registry registry:5000 has less of sha256:$hex of registry:5000/short than the image says"
    assert_line 'hint: the image is damaged: push it again'
    nothing_came short:1
}

@test "a layer that makes no sense is named, with what in it" {
    before=$(store images; store manifests)
    run alice 'shifterimg pull dangling:1 2>&1'
    assert_failure 1
    hex=$(layer dangling:1 1)
    assert_line --regexp "^shifterimg: layer ${hex:0:12}: etc/link: .*etc/nothing"
    assert_line --regexp '^hint: '
    nothing_came dangling:1
}

@test "a full store is the site's problem, and what was begun is removed" {
    on ctl sh -c 'mkdir -p /run/small && mount -t tmpfs -o size=2m,mode=2711,uid=990,gid=990 small /run/small
        cp -p $1 $1.whole && sed -i "s|^path = .*|path = \"/run/small\"|" $1' - "$CONFIG"
    run alice 'shifterimg pull registry:5000/held:1'
    left=$(on ctl find /run/small -type f)
    on ctl sh -c 'mv $1.whole $1; umount /run/small; rmdir /run/small' - "$CONFIG"
    assert_failure 3
    assert_line --regexp '^shifterimg: cannot write .*No space left on device'
    assert_line 'hint: the image store is full: make room, or raise the quota'
    assert_line 'This is a site problem: please send these lines to your HPC support.'
    assert_equal "$left" ''
}

@test "devices of an image are left out, and that is said" {
    run alice 'shifterimg pull devices:1 && srun --image=devices:1 sh -c "ls -d /disk /pipe; stat -c %F /pipe"'
    assert_line "left out 1 device node: /dev is the host's"
    assert_line --partial '/disk: No such file or directory'
    assert_line fifo
}

# --- several pulls, and pulls that die ---

# pull_held USER IMAGE: a pull that is in the middle of a layer when we return; its pid in $!, what it says in USER.
pull_held() {
    as "$1" shifterimg pull "registry:5009/$2" >"$BATS_TEST_TMPDIR/$1" 2>&1 </dev/null 3>&- &
    eventually 10 on registry test -e "$HELD/log"
    eventually 10 writing
}
writing() { [[ $(store tmp) ]]; }
no_pull() { ! on ctl pgrep -r R,S,D -x shifterimg >/dev/null; }

@test "two pulls of one image at once are one pull, and both succeed" {
    pull_held alice held:1
    first=$!
    as bob shifterimg pull registry:5009/held:1 >"$BATS_TEST_TMPDIR/bob" 2>&1 </dev/null 3>&- &
    second=$!
    eventually 10 grep -q 'alice on ctl is pulling the same image; waiting' "$BATS_TEST_TMPDIR/bob"
    on registry touch "$HELD/go"
    wait "$first"
    wait "$second"
    grep -q 'it is in the store already' "$BATS_TEST_TMPDIR/bob"
    assert_equal "$(on registry grep -c . "$HELD/log")" 1
    assert_equal "$(bob 'shifterimg lookup registry:5009/held:1')" "$(alice 'shifterimg lookup registry:5009/held:1')"
}

@test "Ctrl-C: nothing stays, at once, also of one who waits for somebody else's pull" {
    before=$(store images; store manifests)
    pull_held alice killed:1
    first=$!
    as bob shifterimg pull registry:5009/killed:1 >"$BATS_TEST_TMPDIR/bob" 2>&1 </dev/null 3>&- &
    eventually 10 grep -q waiting "$BATS_TEST_TMPDIR/bob"
    # The terminal sends it to both processes of a pull.
    on ctl pkill -INT -U bob -x shifterimg
    on ctl pkill -INT -u shifter -x shifterimg
    refute wait $!
    on ctl pkill -INT -x shifterimg
    refute wait "$first"
    eventually 5 no_pull
    nothing_came registry:5009/killed:1
}

@test "a pull whose reader is killed leaves nothing" {
    before=$(store images; store manifests)
    pull_held alice killed:1
    on ctl pkill -KILL -u alice -x shifterimg
    refute wait $!
    eventually 10 no_pull
    nothing_came registry:5009/killed:1
}

@test "a pull whose writer is killed says so, and the next pull cleans up and works" {
    before=$(store images; store manifests)
    pull_held alice killed:1
    on ctl pkill -KILL -u shifter -x shifterimg
    on registry touch "$HELD/go"
    refute wait $!
    run cat "$BATS_TEST_TMPDIR/alice"
    assert_line --partial 'the writer is gone'
    run bob 'shifterimg pull tiny:1'
    assert_success
    nothing_came registry:5009/killed:1
    run bob 'shifterimg pull registry:5009/killed:1 && srun true'
    assert_success
}

@test "a pull that is killed as a whole leaves what the next one removes, and that one works" {
    before=$(store images; store manifests)
    pull_held alice killed:1
    # Both at once, as a machine that stops does it.
    on ctl pkill -STOP -x shifterimg
    on ctl pkill -KILL -x shifterimg
    wait $! || true
    [[ $(store tmp) && $(store leases) ]]
    on registry touch "$HELD/go"
    run bob 'shifterimg pull registry:5009/killed:1'
    assert_success
    assert_equal "$(store tmp)$(store leases)" ''
    run bob 'shifterimg lookup registry:5009/killed:1'
    assert_success
}

# --- who does what ---

@test "shifterimg is set-user-ID to the store's owner, not to root, and there is no other such program of ours" {
    run on ctl stat -c '%U %a' /usr/bin/shifterimg
    assert_output 'shifter 4755'
    run on ctl find / -xdev -perm /6000 -user shifter
    assert_output /usr/bin/shifterimg
}

@test "a pull is two processes: a reader with my rights and the network, a writer with the store and no network" {
    pull_held alice held:1
    reader=$(on ctl pgrep -r R,S,D -u alice -x shifterimg)
    writer=$(on ctl pgrep -r R,S,D -u shifter -x shifterimg)
    run on ctl grep -HE '^(Uid|Gid|NoNewPrivs|CapPrm|CapEff)' "/proc/$reader/status" "/proc/$writer/status"
    assert_line "/proc/$reader/status:Uid:"$'\t1001\t1001\t1001\t1001'
    assert_line "/proc/$writer/status:Uid:"$'\t990\t990\t990\t990'
    assert_equal "$(count $'NoNewPrivs:\t1')" 2
    assert_equal "$(count $'CapPrm:\t0000000000000000')$(count $'CapEff:\t0000000000000000')" 22
    run on ctl ss -Hntp
    assert_line --regexp "\"shifterimg\",pid=$reader,"
    refute_line --regexp "\"shifterimg\",pid=$writer,"
    # The reader cannot be looked into, or led, by whoever started it; the writer cannot be stopped.
    run alice "cat /proc/$reader/environ; kill -STOP $writer"
    assert_line --partial 'Permission denied'
    assert_line --partial 'Operation not permitted'
}

@test "… and both are confined by Landlock first, and run no program; the writer makes no connection in its life" {
    run on ctl sh -c 'cd / && strace -qq -f -u alice -e trace=landlock_restrict_self,execve,execveat,socket,connect,setresuid -o /tmp/calls \
        shifterimg pull mine:1 >/dev/null 2>&1; cat /tmp/calls; rm /tmp/calls'
    reader=${lines[0]%% *}
    writer=$(sed -n 's/^\([0-9]*\) *setresuid(990, 990, 990) *= 0$/\1/p' <<<"$output")
    assert_equal "$(grep -oE 'exec[a-z]*\(' <<<"$output")" 'execve('
    assert_line --regexp "^$writer +landlock_restrict_self\(.*= 0$"
    assert_equal "$(grep -E "^$writer " <<<"$output" | grep -cE 'socket\(|connect\(')" 0
    # No connection before it has nothing left but what alice has, and less.
    run sed -n "/^$reader .*setresuid(1001, 1001, 1001) *= 0/,\$p" <<<"$output"
    assert_line --regexp "^$reader +landlock_restrict_self\(.*= 0$"
    run sed "/landlock_restrict_self/q" <<<"$output"
    refute_output --partial AF_INET
}

# --- whose an image is ---

@test "--private: only I see the image, and only I reach it" {
    run alice 'shifterimg pull --private mine:1 2>/dev/null && srun --image=mine:1 cat /note && shifterimg images'
    assert_success
    assert_line 'for my eyes'
    assert_line --regexp '^mine:1 .* private$'
    digest=$(alice 'shifterimg lookup mine:1')
    file=$(alice 'shifterimg inspect --json mine:1 | jq -r .file.path')
    # The file is open to its owner, by an access list entry to alice, and to nobody else.
    run on ctl getfacl -cpE "$file"
    assert_output $'user::rw-\nuser:alice:r--\ngroup::---\nmask::r--\nother::---'
    run bob 'shifterimg images'
    refute_output --partial mine:1
    run on ctl shifterimg images
    assert_line --regexp '^mine:1 .* alice +private$'
    # What bob is told is what he would be told if it did not exist.
    for names in 'mine:1 none:1' "mine@$digest none@$digest" "id:$digest id:sha256:$(printf 0%.0s {1..64})"; do
        run bob 'for command in lookup inspect rm; do shifterimg $command $1; echo $?; done; srun --image=$1 true; echo $?' ${names% *}
        mine=${output//${names% *}/NAME}
        run bob 'for command in lookup inspect rm; do shifterimg $command $1; echo $?; done; srun --image=$1 true; echo $?' ${names#* }
        assert_equal "$mine" "${output//${names#* }/NAME}"
        assert_equal "$(count 'no such image in the store')$(grep -cx 1 <<<"$output")" 44
    done
    run bob "cat $file"
    assert_failure
    assert_output --partial 'Permission denied'
}

@test "a private image of mine and a public one of the same name: I have mine, others have theirs" {
    alice 'shifterimg pull --private mine:1' >/dev/null
    run bob 'shifterimg pull mine:1 && srun --image=mine:1 cat /note'
    assert_success
    run alice 'shifterimg rm mine:1 && srun --image=mine:1 cat /note'
    assert_success
    run alice 'shifterimg rm mine:1'
    assert_failure 1
    assert_line 'shifterimg: mine:1 was pulled by bob, not by you'
}

@test "rm: I remove what I pulled, and nobody else's" {
    alice 'shifterimg pull mine:1' >/dev/null
    run bob 'shifterimg rm mine:1'
    assert_failure 1
    assert_line 'shifterimg: mine:1 was pulled by alice, not by you'
    assert_line 'hint: ask them or a store administrator to remove it'
    # Pulling it again does not make it his.
    run bob 'shifterimg pull mine:1; shifterimg rm mine:1'
    assert_failure 1
    run alice 'shifterimg rm mine:1; shifterimg lookup mine:1'
    assert_line --regexp '^removed mine:1, [0-9.]+ [kM]B$'
    assert_line 'shifterimg: mine:1: no such image in the store'
}

@test "nothing that bob does changes what a name means to alice" {
    meant=$(alice 'shifterimg pull --quiet mine:1')
    run bob '
        shifterimg pull --private mine:1
        shifterimg pull --platform linux/arm64 mine:1
        shifterimg pull registry:5000/other:1
        HTTP_PROXY=http://registry:5009 http_proxy=http://registry:5009 ALL_PROXY=http://registry:5009 shifterimg pull mine:1
        printf "[store]\npath = \"/shared/shifter\"\n[[registry]]\nprefix = \"docker.io/library/mine\"\nmirror = \"registry:5000/other\"\nhttp = true\n" >mine.toml
        shifterimg --config mine.toml pull mine:1; rm mine.toml
        cd /shared/shifter && echo x >refs/docker.io/library/mine/:1; mv refs refs2; ln -s /tmp tmp/x; ls refs'
    assert_line 'shifterimg: --config=mine.toml: only root may use another configuration'
    assert_equal "$(count 'Permission denied')" 4
    assert_equal "$(alice 'shifterimg lookup mine:1')" "$meant"
    run alice 'srun --image=mine:1 cat /note'
    assert_output 'for my eyes'
}
