# shifterimg doctor: is a host fit for images, and if not, which command repairs it?
# Most tests give it a configuration of their own, so that nobody's jobs notice.
load lib

OWN=/etc/shifter-doctor/shifter.toml
RELEASE='plugin built for Slurm [0-9]*'

setup_file() {
    for node in ctl c1; do on "$node" bash -c 'mkdir -p /etc/shifter-doctor && rm -rf /usr/local/doctor'; done
    plugins=$(on c1 cat /etc/slurm/plugin-dir)
    export plugins
    mend
}
setup() { for node in ctl c1; do own "$node"; done; }
teardown() { mend; }
# What a test changed, or one that was cut off.
mend() {
    on ctl chmod 2711 /shared/shifter
    on ctl chown shifter:shifter /shared/shifter
    for node in ctl c1; do
        on "$node" bash -c 'for file in "$1"/{,job_submit_}shifter.so; do [[ ! -e $file.saved ]] || mv "$file.saved" "$file"; done
            slurm-configure' - "$plugins"
    done
}
teardown_file() {
    for node in ctl c1; do on "$node" rm -rf /etc/shifter-doctor /usr/local/doctor; done
}

# own NODE [SED-SCRIPT]: a copy of the site's configuration, changed.
own() {
    on "$1" bash -c 'install -D -m 0644 "$1" "$2"; chmod 755 "${2%/*}"; sed -i "$3" "$2"' - "$CONFIG" "$OWN" "${2:-}"
}
doctor() { on "$1" shifterimg --config "$OWN" doctor "${@:2}"; }
# remedy NODE CHECK: the command that the doctor names.
remedy() { doctor "$1" --json | jq -r --arg check "$2" '[.checks[] | select(.check == $check and .run)][0].run'; }

# mends NODE CHECK WORDS [CODE]: the doctor finds it, names a command, and after that command all is well.
mends() {
    local command
    run doctor "$1"
    assert_equal "$status" "${4:-3}"
    assert_line --regexp "^(failed |warning)  *$2 .*$3"
    command=$(remedy "$1" "$2")
    assert_line "         run: $command"
    on "$1" bash -c "$command"
    run doctor "$1"
    assert_success
    refute_line --regexp '^(failed|warning)'
}
# tells NODE CHECK WORDS TO-DO: … where there is more to do than to run a command.
tells() {
    run doctor "$1"
    assert_failure 3
    assert_line --regexp "^failed  *$2 .*$3"
    assert_line --regexp "^         to do: .*$4"
}

# --- what it says ---

@test "a compute node on which all is well: a line for each thing that matters there" {
    run on c1 shifterimg doctor
    assert_success
    assert_line --index 0 --regexp '^c1: compute node; Slurm [0-9.]+'
    for check in configuration slurm plugin plugstack.conf kernel 'file systems' 'loop devices' mounts /run/shifter spool "site's files" account store; do
        assert_line --regexp "^ok  *$check "
    done
    refute_line --regexp '^(failed|warning|unknown)'
    refute_output --partial job_submit
    assert_line --index $((${#lines[@]} - 1)) --regexp '^[0-9]+ ok$'
}

@test "the controller and login host: other things matter there" {
    run on ctl shifterimg doctor
    assert_success
    assert_line --index 0 --regexp '^ctl: controller and login host; '
    for check in configuration slurm plugin plugstack.conf job_submit shifter-check account shifterimg registries store pulling; do
        assert_line --regexp "^ok  *$check "
    done
    refute_line --regexp '^(failed|warning|unknown)'
    refute_output --partial 'loop devices'
}

@test "any user may ask, and learns what only root can see" {
    run alice 'shifterimg doctor'
    assert_success
    assert_line 'unknown  pulling         whether /shared/shifter can be written: only root can tell'
    assert_line --regexp 'run it as root to see the rest$'
    run on c1 as-user alice shifterimg doctor
    assert_success
    refute_line --regexp '^failed'
}

@test "--json: the same for a program, and the exit code is enough for a script" {
    run bash -c '"$1" c1 shifterimg doctor --json | jq -r ".host, .roles[0], .failed, (.checks | length > 10), (.checks[0] | .check, .state)"' - "$TESTBED/on"
    assert_output $'c1\ncompute\n0\ntrue\nconfiguration\nok'
    own c1 '1i nonsense ='
    run doctor c1 --json
    assert_failure 3
}

# --- the configuration ---

@test "a configuration that others may write, or whose directory they may" {
    on c1 chmod 0666 "$OWN"
    mends c1 configuration 'others than root can write it'
    on c1 chmod 0777 "${OWN%/*}"
    mends c1 configuration 'others than root can write it'
}

@test "a configuration of somebody else" {
    on c1 chown 1001 "$OWN"
    mends c1 configuration 'belongs to uid 1001, not to root'
}

@test "a configuration that users cannot read: srun reads it as they" {
    on ctl chmod 0600 "$OWN"
    mends ctl configuration 'users cannot read'
}

@test "an unknown key: line and column, and what depends on it is not guessed" {
    own c1 's/^image_linger = .*/image_lingers = 0/'
    tells c1 configuration 'shifter.toml:[0-9]+:[0-9]+: unknown field' 'correct /etc/shifter-doctor/shifter.toml'
    assert_line --regexp '^unknown  store .*must be repaired first'
}

@test "no configuration at all: that is the first thing it says" {
    on c1 rm "$OWN"
    run doctor c1
    assert_failure 3
    assert_line --index 1 --regexp "^failed   configuration .*$OWN: No such file"
    assert_line --index 2 "         run: install -D -m 0644 slurm-conf-examples/shifter.toml $OWN"
    assert_line --regexp '^ok       kernel '
}

@test "rules for registries that name none" {
    own ctl 's|^mirror = .*|mirror = "mirror/hub"|'
    tells ctl registries 'registry.mirror = "mirror/hub" is no registry' 'registry.example.org:5000/hub'
}

@test "a proxy that is none, or of a kind that is not spoken" {
    own ctl '1i [images]\nproxy = "ftp://proxy:1080"'
    tells ctl registries 'images.proxy is no proxy.s address' 'set it to http://HOST:PORT'
    own ctl '1i [images]\nproxy = "socks5://proxy:1080"'
    tells ctl registries 'images.proxy is a SOCKS proxy.s address' 'set it to http://HOST:PORT'
}

@test "what the site mounts is not on the node" {
    own c1 '$a [[mount]]\nfrom = "/no/such/project"'
    tells c1 "site's files" '/no/such/project \(\[\[mount\]\]\) is not on this node' 'mount it or put it there'
    own c1 '$a [[mount]]\nfrom = "/no/such/project"\noptional = true'
    run doctor c1
    assert_success
    assert_line --regexp "^ok  *site's files .*1 optional not here"
}

@test "a spool directory that is not slurmd's" {
    own c1 's|^\[node\]|[node]\nspool = "/var/spool/other"|'
    tells c1 spool 'SlurmdSpoolDir is /var/spool/slurmd, node.spool of shifter.toml /var/spool/other' 'set spool = "/var/spool/slurmd"'
}

@test "a hook that others may replace, or that is missing" {
    own c1 '$a [[hooks.before]]\ncommand = ["/usr/local/doctor/hook", "now"]'
    tells c1 hooks '/usr/local/doctor/hook: No such file' 'install it there'
    on c1 install -D -o alice -m 0755 /dev/null /usr/local/doctor/hook
    mends c1 hooks '/usr/local/doctor/hook: belongs to uid 1001'
    on c1 chmod 0757 /usr/local/doctor
    mends c1 hooks '/usr/local/doctor: others than root can write it'
    on c1 chmod 0644 /usr/local/doctor/hook
    mends c1 hooks 'cannot be run'
}

@test "a directory for caches: it is not there, others own it, others enter it" {
    own c1 '$a [cache]\ndirectories = ["/usr/local/doctor/cache"]'
    on c1 mkdir -p /usr/local/doctor
    run doctor c1
    assert_failure 3
    assert_line --regexp '^ok  *file systems .*xfs.*ext4'
    mends c1 caches '/usr/local/doctor/cache: No such file'
    on c1 chown alice /usr/local/doctor/cache
    mends c1 caches 'belongs to uid 1001, not to shifter'
    on c1 chmod 0755 /usr/local/doctor/cache
    mends c1 caches 'others than shifter can enter'
    on c1 chmod 0777 /usr/local/doctor
    mends c1 caches 'others can write /usr/local/doctor'
}

@test "a directory of local images that is not root's alone" {
    own c1 's|^\[node\]|[images]\nlocal = ["/usr/local/doctor/images"]\n&|'
    on c1 install -d -o alice /usr/local/doctor/images
    mends c1 'local images' 'belongs to uid 1001'
}

# --- the store and the tool ---

@test "a store that others may write, pass or list wrongly, or that belongs to root" {
    on ctl chmod 2733 /shared/shifter
    mends ctl store "others than its owner can write"
    on ctl chmod 2755 /shared/shifter
    mends c1 store 'users can list /shared/shifter'
    on ctl chmod 2700 /shared/shifter
    mends c1 store 'users cannot pass /shared/shifter'
    on ctl chmod g-s /shared/shifter
    mends ctl store 'no set-group-ID bit'
    on ctl chown root /shared/shifter
    mends ctl store 'belongs to uid 0, not to shifter'
    on ctl chmod 2711 /shared/shifter
}

@test "a store that is not mounted, and an owner that there is not" {
    own c1 's|^path = .*|path = "/shared/absent"|'
    tells c1 store 'cannot open the image store /shared/absent' 'install -d -o shifter -g shifter -m 2711 /shared/absent'
    own c1 's|^path = .*|&\nowner = "nemo"|'
    run doctor c1
    assert_failure 3
    assert_line --regexp '^failed   account .*there is no account nemo'
    assert_line --regexp '^         run: useradd --system .* nemo$'
    own c1 's|^path = .*|&\nowner = "root"|'
    tells c1 account 'store.owner is root' 'an account of its own'
}

@test "a file system that hangs is said to, and nothing else waits for it" {
    # A FUSE file system that nobody serves.
    on c1 bash -c 'mkdir -p /run/hung && exec 7<>/dev/fuse && mount -i -t fuse -o fd=7,rootmode=40000,user_id=0,group_id=0 hung /run/hung &&
        { sleep 120 <&7 >/dev/null 2>&1 & echo $! >/run/hung.pid; }'
    own c1 's|^path = .*|path = "/run/hung/store"|; $a [[mount]]\nfrom = "/run/hung/data"'
    run doctor c1
    on c1 bash -c 'kill "$(cat /run/hung.pid)"; umount -l /run/hung; rm -r /run/hung /run/hung.pid'
    assert_failure 3
    assert_line --regexp '^failed   store  *.*/run/hung/store does not answer within 5 s'
    assert_line --regexp "^failed   site's files .*/run/hung/data \(\[\[mount\]\]\) does not answer"
    assert_line '         to do: is the server of its file system up?'
    assert_line --regexp '^ok  *account '
}

@test "a tool that users cannot pull with, and one that would be root" {
    on ctl install -D -m 0755 /usr/bin/shifterimg /usr/local/doctor/tool
    run on ctl /usr/local/doctor/tool doctor
    assert_success
    assert_line --regexp '^warning  shifterimg .*is not set-user-ID to shifter: users cannot pull'
    assert_line '         run: chown shifter /usr/local/doctor/tool && chmod 4755 /usr/local/doctor/tool'
    on ctl chmod u+s /usr/local/doctor/tool
    run on ctl /usr/local/doctor/tool doctor
    assert_failure 3
    assert_line --regexp '^failed   shifterimg .*is set-user-ID to root'
    on ctl bash -c 'chown shifter /usr/local/doctor/tool && chmod 4755 /usr/local/doctor/tool'
    run on ctl /usr/local/doctor/tool doctor
    assert_success
    assert_line --regexp '^ok  *shifterimg '
}

# --- Slurm ---

@test "a plugin for another release of Slurm" {
    for plugin in shifter job_submit_shifter; do
        on ctl bash -c 'cp -p "$1" "$1.saved" && LC_ALL=C sed -i "s/$2/plugin built for Slurm 19/" "$1"' - "$plugins/$plugin.so" "$RELEASE"
    done
    tells ctl plugin 'shifter.so is for Slurm 19\.[0-9.]+, and this is Slurm' 'install the build for Slurm'
    assert_line --regexp '^failed   job_submit .*is for Slurm 19'
}

@test "a plugin that others may replace, and one that is not there" {
    on c1 bash -c 'cp -p "$1" "$1.saved" && chown alice "$1"' - "$plugins/shifter.so"
    mends c1 plugin 'shifter.so: belongs to uid 1001'
    on c1 rm "$plugins/shifter.so"
    tells c1 plugin "shifter.so is not in $plugins" 'install it there'
}

@test "plugstack.conf that does not name the plugin, or as optional" {
    on c1 sed -i 's/^required/optional/' /etc/slurm/plugstack.conf
    mends c1 plugstack.conf 'a job whose image fails runs on the bare host'
    on c1 sed -i '/shifter/d' /etc/slurm/plugstack.conf
    mends c1 plugstack.conf 'does not name shifter.so'
    # As distributions have it: a directory of files.
    on c1 bash -c 'mkdir -p /etc/slurm/doctor.d; echo "required shifter.so" >/etc/slurm/doctor.d/shifter.conf
        echo "include /etc/slurm/doctor.d/*.conf" >/etc/slurm/plugstack.conf'
    run doctor c1
    on c1 bash -c 'rm -r /etc/slurm/doctor.d; slurm-configure'
    assert_success
    assert_line --regexp '^ok  *plugstack.conf  /etc/slurm/doctor.d/shifter.conf: required shifter.so'
}

@test "a controller that is not told of job_submit" {
    on ctl bash -c 'sed -i "/^JobSubmitPlugins/d" /etc/slurm/slurm.conf && scontrol reconfigure'
    eventually 20 on ctl bash -c 'scontrol show config | grep -q "JobSubmitPlugins.*(null)"'
    run doctor ctl
    assert_failure 3
    assert_line --regexp '^failed   job_submit .*JobSubmitPlugins=\(null\)'
    command=$(remedy ctl job_submit)
    on ctl bash -c "$command"
    eventually 20 on ctl bash -c 'scontrol show config | grep -q "JobSubmitPlugins.*shifter"'
    run doctor ctl
    assert_success
}

@test "a controller that does not answer" {
    on c1 bash -c 'sed "s/^SlurmctldHost=.*/SlurmctldHost=c1/" /etc/slurm/slurm.conf >/etc/shifter-doctor/slurm.conf'
    run on c1 env SLURM_CONF=/etc/shifter-doctor/slurm.conf shifterimg doctor
    assert_success
    assert_line --regexp '^warning  slurm .*slurmctld does not answer'
    assert_line --regexp '^         run: .*/scontrol ping'
}

# --- the node's mounts ---

@test "a node whose / is private" {
    on c1 mount --make-private /
    mends c1 mounts 'what the host mounts later does not appear' 0
}

@test "a node on which slurmd has not loaded the plugin" {
    on c1 umount /run/shifter/images.ns /run/shifter
    run doctor c1
    on c1 restart-slurmd
    assert_failure 3
    assert_line --regexp '^failed   /run/shifter .*slurmd has not made it'
    assert_line '         run: systemctl restart slurmd'
    run doctor c1
    assert_success
}
