# GPUs: a module that brings devices as their vendor's spec (CDI) describes them. The spec is as nvidia-ctk writes it;
# the driver's files are made for the test, and its devices are /dev/null and /dev/zero by other names.
load lib

LIBRARIES=/usr/lib/x86_64-linux-gnu
# What a program with CUDA does first: the driver's library, by its soname and by the name that linkers use.
DLOPEN='import ctypes
for name in "libcuda.so.1", "libcuda.so":
    version = ctypes.c_int()
    print(name, ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(version)), version.value)'

setup_file() {
    local node
    cat >"$BATS_FILE_TMPDIR/cuda.c" <<<'int cuDriverGetVersion(int *version) { *version = 12040; return 0; }'
    cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$BATS_FILE_TMPDIR/libcuda.so.550.54.15" "$BATS_FILE_TMPDIR/cuda.c"
    printf '#!/bin/sh\necho "NVIDIA-SMI for tests"\n' >"$BATS_FILE_TMPDIR/nvidia-smi"
    cp "$BATS_TEST_DIRNAME/nvidia.yaml" "$BATS_FILE_TMPDIR"
    for node in "${NODES[@]}"; do
        tar -C "$BATS_FILE_TMPDIR" -c libcuda.so.550.54.15 nvidia-smi nvidia.yaml | on "$node" bash -c 'set -e
            dir=$(mktemp -d); tar -xC "$dir" --no-same-owner
            install -m 644 -t "$1" "$dir"/libcuda*; install -t /usr/bin "$dir/nvidia-smi"
            install -d /etc/cdi /run/nvidia-persistenced /opt/nvidia-test/dev; install -m 644 -t /etc/cdi "$dir/nvidia.yaml"; rm -r "$dir"
            touch /run/nvidia-persistenced/socket
            for name in null:test0 zero:test1 null:testctl; do
                [[ -e /dev/nvidia-${name#*:} ]] || mknod -m 666 "/dev/nvidia-${name#*:}" c 1 "$([[ $name == null* ]] && echo 3 || echo 5)"
            done
            mknod -m 666 /opt/nvidia-test/dev/channel0 c 1 5
            # Whoever runs it leaves word of that.
            printf "#!/bin/sh\ntouch /run/hook-ran\n" >/usr/bin/nvidia-cdi-hook; chmod 755 /usr/bin/nvidia-cdi-hook' - "$LIBRARIES"
    done
}
teardown_file() {
    local node
    for node in "${NODES[@]}"; do
        on "$node" bash -c 'rm -rf /etc/cdi "$1"/libcuda* /usr/bin/nvidia-smi /usr/bin/nvidia-cdi-hook /run/nvidia-persistenced /opt/nvidia-test /dev/nvidia-test* /run/hook-ran' - "$LIBRARIES"
    done
    as alice shifterimg rm user:alice/tell:1 >/dev/null 2>&1 </dev/null || true
}

# gpu [NAMES [MORE]]: the site has a module `gpu` with these devices, all if none is named, and with more keys.
gpu() { configure "\$ a [modules.gpu]\\ncdi = [${1-\"nvidia.com/gpu=all\"}]\\n${2-}" ctl c1 c2; }
# spec SED-SCRIPT: another spec on c1, made of the first one, until the end of the test.
spec() { on c1 bash -c 'cd /etc/cdi; [[ -e nvidia.saved ]] || cp -p nvidia.yaml nvidia.saved; sed "$1" nvidia.saved >nvidia.yaml' - "$1"; }
teardown() {
    restore_config
    on c1 bash -c 'cd /etc/cdi; [[ ! -e nvidia.saved ]] || mv nvidia.saved nvidia.yaml'
}

@test "a program finds the driver's library by its soname, on both nodes, in an image that never heard of it" {
    gpu
    run alice 'srun -N2 --image=sci:1 --module=gpu python3 -c "$1" | sort | uniq -c | tr -s " "' "$DLOPEN"
    assert_line ' 2 libcuda.so.1 0 12040'
    assert_line ' 2 libcuda.so 0 12040'
    run alice 'srun --image=sci:1 python3 -c "$1"' "$DLOPEN"
    assert_failure
    assert_output --partial 'libcuda.so.1: cannot open shared object file'
}

@test "an image's own, later libraries of CUDA take the place of the node's, if I say where they are" {
    gpu
    # At the place where NVIDIA's package has them.
    sed s/12040/12080/ "$BATS_FILE_TMPDIR/cuda.c" | as alice sh -c 'mkdir -p compat && gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o compat/libcuda.so.1 -xc - && ln -sf libcuda.so.1 compat/libcuda.so'
    run alice 'SHIFTERENV_LD_LIBRARY_PATH=/usr/local/cuda/compat srun -N2 --image=sci:1 --volume=$HOME/compat:/usr/local/cuda/compat --module=gpu python3 -c "$1" | sort | uniq -c | tr -s " "
        srun --image=sci:1 --volume=$HOME/compat:/usr/local/cuda/compat --module=gpu python3 -c "$1"; rm -r compat' "$DLOPEN"
    assert_output ' 2 libcuda.so 0 12080
 2 libcuda.so.1 0 12080
libcuda.so.1 0 12040
libcuda.so 0 12040'
}

@test "the spec's files, links and variables are there, and the image's own libraries as before" {
    gpu
    run alice 'srun --image=sci:1 --module=gpu sh -c "
        nvidia-smi; readlink '$LIBRARIES'/libcuda.so '$LIBRARIES'/libcuda.so.1; ls /run/nvidia-persistenced/socket
        echo \$NVIDIA_VISIBLE_DEVICES \$NVIDIA_CTK_LIBCUDA_DIR
        python3 -c \"import numpy; print(numpy.arange(4).sum())\""'
    assert_output "NVIDIA-SMI for tests
libcuda.so.1
libcuda.so.550.54.15
/run/nvidia-persistenced/socket
void $LIBRARIES
6"
}

@test "its devices work, also one that is not in /dev, and nothing else that is mounted lets any work" {
    gpu
    run alice 'srun --image=sci:1 --module=gpu sh -c "
        head -c1 /dev/nvidia-test1 | od -An -tx1; head -c1 /opt/nvidia-test/channel0 | od -An -tx1; echo x >/dev/nvidia-testctl && echo written"'
    assert_output $' 00\n 00\nwritten'
    run alice 'srun --image=sci:1 --module=gpu cut -d" " -f5,6 /proc/self/mountinfo'
    assert_line --regexp '^/opt/nvidia-test/channel0 .*nosuid'
    for line in "${lines[@]}"; do
        [[ $line == *nosuid* ]]
        [[ $line == *nodev* || $line == /dev* || $line == "/opt/nvidia-test/channel0 "* ]]
    done
}

@test "devices by their own names bring what is theirs, and all name each other once" {
    gpu '"nvidia.com/gpu=0"'
    run alice 'srun -w c1 --image=sci:1 --module=gpu sh -c "echo \"second: \$NVIDIA_TEST_SECOND\"; python3 -c \"\$1\"" - "$1"' "$DLOPEN"
    assert_output 'second: 
libcuda.so.1 0 12040
libcuda.so 0 12040'
    restore_config
    gpu '"nvidia.com/gpu=0", "nvidia.com/gpu=1"'
    run alice 'srun -w c1 --image=sci:1 --module=gpu sh -c "echo \"second: \$NVIDIA_TEST_SECOND\"; grep -c libcuda /proc/self/mountinfo"'
    assert_output 'second: here
1'
}

@test "nothing of the image or the vendor is run as root for it: neither ldconfig nor a hook" {
    gpu
    # An image whose ldconfig would tell, and whose loader reads a cache that it does not have.
    alice 'mkdir -p tell/bin tell/sbin tell/etc tell/usr/lib tell/lib64; cd tell; cp /lib64/ld-linux-x86-64.so.2 lib64; srun --image=tiny:1 cat /bin/busybox >bin/busybox; chmod 755 bin/busybox
        for name in sh touch id ls cat grep true; do ln -sf busybox bin/$name; done
        printf "#!/bin/sh\ntouch /tmp/ldconfig-ran-by-\$(id -u)\n" >sbin/ldconfig; chmod 755 sbin/ldconfig
        shifterimg import -q dir:. tell:1; cd; rm -r tell'
    run alice 'srun -w c1 --image=user:alice/tell:1 --module=gpu sh -c "/sbin/ldconfig; ls /tmp/ldconfig-ran* /usr/lib/x86_64-linux-gnu; rm -f /tmp/ldconfig-ran*; grep -q libcuda.so.1 /etc/ld.so.cache && echo the cache is made"'
    # The rank's own run tells, and is the only one that does.
    assert_output '/tmp/ldconfig-ran-by-1001

/usr/lib/x86_64-linux-gnu:
libcuda.so
libcuda.so.1
libcuda.so.550.54.15
the cache is made'
    run on c1 bash -c 'ls /run/hook-ran /tmp/ldconfig-ran*; true'
    refute_line --regexp '^/'
}

@test "a dry run on a host without specs names the devices" {
    gpu
    run alice 'srun --image=tiny:1 --module=gpu --image-dry-run true | tr -s " "'
    assert_line -- '- nvidia.com/gpu=all cdi of-the-node --module=gpu'
}

@test "a node without the spec, the device or the file says what to do, and is not drained" {
    gpu
    spec 's/name: all/name: most/'
    run alice 'srun -w c1 --image=tiny:1 --module=gpu true'
    assert_failure 1
    assert_output --partial 'nvidia.com/gpu=all: the specs of this node have only 0, 1, most'
    one_message
    spec 's/nvidia-test1/nvidia-none/'
    run alice 'srun -w c1 --image=tiny:1 --module=gpu true'
    assert_output --partial '--module=gpu: no device /dev/nvidia-none'
    assert_output --partial 'hint: load the driver on this node'
    one_message
    spec 's/550.54.15/535.1/'
    run alice 'srun -w c1 --image=tiny:1 --module=gpu true'
    assert_output --partial "cannot open $LIBRARIES/libcuda.so.535.1"
    spec ''
    # Nobody else is the worse for it.
    run alice 'srun -w c1 --image=tiny:1 --module=gpu echo fine; srun -w c1 --image=tiny:1 echo fine'
    assert_output $'fine\nfine'
    no_drained_node
}

@test "a spec that others than root can write is refused, for it decides what root mounts" {
    gpu
    spec ''
    on c1 chmod 666 /etc/cdi/nvidia.yaml
    run alice 'srun -w c1 --image=tiny:1 --module=gpu true'
    assert_failure 1
    assert_output --partial '/etc/cdi/nvidia.yaml: others than root can write it'
    assert_output --partial 'hint: chmod go-w /etc/cdi/nvidia.yaml'
    run on c1 bash -c 'shifterimg doctor | grep -A1 "^failed"'
    assert_line --regexp '^failed .*/etc/cdi/nvidia.yaml: others than root can write it'
    assert_line --partial 'chmod go-w /etc/cdi/nvidia.yaml'
}

@test "a hook that nobody knows is refused by name, until the site says that it does without it" {
    gpu
    spec 's/disable-device-node-modification/bake-cake/'
    run alice 'srun -w c1 --image=tiny:1 --module=gpu true'
    assert_failure 1
    assert_output --partial 'hooks: bake-cake (/usr/bin/nvidia-cdi-hook) is not known here'
    assert_output --partial "list \"bake-cake\" in the module's cdi_without"
    restore_config
    gpu '"nvidia.com/gpu=all"' 'cdi_without = ["bake-cake"]'
    run alice 'srun -w c1 --image=tiny:1 --module=gpu echo fine'
    assert_output fine
}

@test "specs are where the site says, and of two for a device the one in the later directory counts" {
    gpu
    configure 's|^image_linger = 0|&\ncdi = ["/etc/cdi", "/root/cdi"]|' c1
    on c1 bash -c 'mkdir /root/cdi; chmod 700 /root; cat >/root/cdi/other.json' \
        <<<'{"cdiVersion":"0.6.0","kind":"nvidia.com/gpu","devices":[{"name":"all","containerEdits":{"env":["WHICH=the later one"]}}]}'
    run alice 'srun -w c1 --image=tiny:1 --module=gpu sh -c "echo \$WHICH; ls /usr/bin/nvidia-smi; true"'
    on c1 rm -r /root/cdi
    assert_line --index 0 'the later one'
    assert_line --index 1 --partial 'No such file'
}
