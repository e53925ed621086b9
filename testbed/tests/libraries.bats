# Libraries that a module brings: found by the image's loader without any variable, in place of the image's, or with the
# host's glibc. MPI's are in mpi.bats.
load lib

OWN=/opt/own/lib
LAYOUTS=${SHIFTER_TESTBED_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/shifter-testbed}/oci

# On the compute nodes: a library of their own, and one of a name that images have, too. At home: programs that need
# one of them, and one that needs the nodes' glibc.
setup_file() {
    alice 'mkdir -p own/lib && cd own &&
        echo "const char *own(void) { return \"the node'"'"'s own\"; }" | gcc -shared -fPIC -Wl,-soname,libown.so.1 -o lib/libown.so.1.2 -xc - &&
        ln -s libown.so.1.2 lib/libown.so && cp lib/libown.so.1.2 lib/libother.so.3 &&
        echo "void none(void) {}" | gcc -shared -fPIC -Wl,-soname,libcrypt.so.1 -o lib/libcrypt.so.1 -xc - &&
        printf "#include <stdio.h>\nconst char *own(void); int main(void) { puts(own()); return 0; }\n" | gcc -o app -xc - -xnone lib/libown.so.1.2 &&
        printf "#include <dlfcn.h>\n#include <stdio.h>\nint main(int c, char **v) { for (int i = 1; i < c; i++) puts(dlopen(v[i], RTLD_NOW) ? v[i] : dlerror()); return 0; }\n" | gcc -o open -xc - &&
        printf "#include <pthread.h>\nstatic void *f(void *x) { return x; }\nint main(void) { pthread_t t; return pthread_create(&t, 0, f, 0) || pthread_join(t, 0); }\n" | gcc -o new -xc - '
    for node in c1 c2; do
        on $node sh -c 'rm -rf /opt/own && mkdir -p /opt/own && cp -r --no-preserve=ownership /home/alice/own/lib /opt/own/'
    done
}
teardown_file() {
    alice 'rm -r own; for name in musl same bare; do shifterimg rm user:alice/$name:1; done'
    for node in c1 c2; do on $node rm -r /opt/own; done
}
teardown() { restore_config; }

# own_module [LINE]: the module `own`, which mounts the nodes' library at a place of its own.
own_module() { configure '$ a [modules.own]\n'"${1-ldcache = [\"/opt/site/own\"]}"'\n[[modules.own.mount]]\nfrom = "'$OWN'"\nto = "/opt/site/own"\nread_only = true' ctl c1 c2; }

@test "programs find a module's libraries, by their names and by dlopen, on both nodes, and no variable says where" {
    own_module
    run alice 'srun -N2 -n4 --image=debian:12 --module=own sh -c "own/app; own/open libown.so libother.so.3; echo \${LD_LIBRARY_PATH-unset}" | sort | uniq -c | tr -s " "'
    assert_output ' 4 libother.so.3
 4 libown.so
 4 the node'\''s own
 4 unset'
    run -127 alice 'srun --image=debian:12 own/app'
    assert_output --partial 'libown.so.1: cannot open shared object file'
}

@test "of a name that the image has, too, the module's is found, and all others are the image's" {
    own_module
    cache='/sbin/ldconfig -p | grep -v "^Cache\|libs found" | sort'
    alice 'srun --image=debian:12 sh -c "$1" >own/before; srun --image=debian:12 --module=own sh -c "$1" >own/after' "$cache"
    run alice 'diff own/before own/after | grep "^[<>]" | tr -s "\t " " "'
    assert_output '< libcrypt.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcrypt.so.1
> libcrypt.so.1 (libc6,x86-64) => /opt/site/own/libcrypt.so.1
> libother.so.3 (libc6,x86-64) => /opt/site/own/libother.so.3
> libown.so (libc6,x86-64) => /opt/site/own/libown.so
> libown.so.1 (libc6,x86-64) => /opt/site/own/libown.so.1.2
> libown.so.1.2 (libc6,x86-64) => /opt/site/own/libown.so.1.2'
}

@test "without such a module the image's cache is the image's, byte by byte, and nothing is mounted there" {
    # In the layers as they were pushed: the last one that has it counts.
    of_image=$(python3 - "$LAYOUTS/debian" <<'PYTHON'
import hashlib, json, pathlib, sys, tarfile
def blob(of): return pathlib.Path(sys.argv[1], "blobs", *of["digest"].split(":"))
manifest, = json.loads(pathlib.Path(sys.argv[1], "index.json").read_text())["manifests"]
layers = [tarfile.open(blob(layer)) for layer in json.loads(blob(manifest).read_text())["layers"]]
caches = [layer.extractfile(file) for layer in layers for file in layer if file.name.removeprefix("./") == "etc/ld.so.cache"]
print(hashlib.sha256(caches[-1].read()).hexdigest())
PYTHON
    )
    for module in none greeting; do
        run alice 'srun --image=debian:12 --module=$1 sh -c "sha256sum </etc/ld.so.cache; grep -c ld.so.cache /proc/self/mountinfo || true"' $module
        assert_output "$of_image  -"$'\n0'
    done
}

@test "it is so in the job's later steps, in a step's own image, and in an image that can be written" {
    own_module
    run batch --image=debian:12 --module=own <<<$'#!/bin/bash\nsrun own/app; srun own/app; srun --image=ubuntu:14.04 sh -c "/sbin/ldconfig -p | grep -c /opt/site/own"; srun --image-writable=1M own/app'
    assert_output $'the node\'s own\nthe node\'s own\n5\nthe node\'s own'
}

@test "an image of glibc without a cache gets one, and the node's log says so" {
    own_module
    alice 'mkdir -p own/bare/bin own/bare/lib64 own/bare/lib/x86_64-linux-gnu && cd own/bare && cp /lib64/ld-linux-x86-64.so.2 lib64 &&
        cp /lib/x86_64-linux-gnu/libc.so.6 lib/x86_64-linux-gnu && srun --image=tiny:1 cat /bin/busybox >bin/sh && chmod 755 bin/sh && shifterimg import --quiet dir:. bare:1'
    run alice 'srun -w c1 --image=user:alice/bare:1 sh -c "[ -e /etc/ld.so.cache ] || echo it has none"; srun -w c1 --image=user:alice/bare:1 --module=own own/app'
    assert_line 'it has none'
    assert_line "the node's own"
    run on c1 tail -n 30 /var/log/slurm/slurmd.log
    assert_output --partial "the image's /etc/ld.so.cache is made anew for its modules: it has none"
}

@test "an image whose loader reads no cache runs, and the node's log says that it finds nothing there" {
    own_module
    run alice 'srun -w c1 --image=tiny:1 --module=own ls /opt/site/own /etc/ld.so.cache'
    assert_line libown.so.1.2
    assert_line --partial '/etc/ld.so.cache: No such file'
    run on c1 tail -n 30 /var/log/slurm/slurmd.log
    assert_output --partial '--module=own: the image has no /lib64/ld-linux-x86-64.so.2, so nothing in it reads /etc/ld.so.cache'
}

@test "a library that does not suit the image, or that the node lacks: a message before anything runs" {
    own_module 'ldcache = []\n[[modules.own.library]]\nfrom = "'$OWN'/libown.so.1.2"'
    alice 'mkdir -p own/musl/lib own/musl/bin && cp /bin/busybox own/musl/bin/sh && cp /bin/busybox own/musl/lib/ld-musl-x86_64.so.1 && shifterimg import --quiet dir:own/musl musl:1'
    for image_and_why in \
        "debian:12 --module=own: the image has no libown.so.1 that the host's could replace" \
        "user:alice/musl:1 --module=own does not suit this image: the host's libown.so.1 needs glibc for x86_64, and the image is made with musl" \
        "tiny:1 --module=own does not suit this image: the host's libown.so.1 needs glibc for x86_64, and the image has no /lib64"; do
        run alice 'srun -w c1 --image=$1 --module=own sh -c "echo it ran"' "${image_and_why%% *}"
        assert_failure 1
        refute_output --partial 'it ran'
        assert_output --partial "${image_and_why#* }"
        one_message
    done
    on c1 rm $OWN/libown.so.1.2
    run alice 'srun -w c1 --image=debian:12 --module=own true'
    on c1 cp /home/alice/own/lib/libown.so.1.2 $OWN/
    assert_failure 1
    assert_output --partial 'modules.own.library: cannot open /opt/own/lib/libown.so.1.2: No such file'
    assert_output --partial 'This is a site problem'
    one_message
    no_drained_node
}

@test "glibc = true: a program of the nodes' runs in an older image, whose own programs run on" {
    configure '$ a [modules.glibc]\nglibc = true' ctl c1 c2
    hosts=$(on c1 getconf GNU_LIBC_VERSION)
    run alice 'srun --image=ubuntu:14.04 own/new'
    assert_failure
    assert_output --partial "version \`GLIBC_2.34' not found"
    run alice 'srun -N2 --image=ubuntu:14.04 --module=glibc sh -c "own/new && getconf GNU_LIBC_VERSION; perl -e \"print 6*7\" && echo; getent passwd alice | cut -d: -f1" | sort | uniq -c | tr -s " "'
    assert_output " 2 42
 2 alice
 2 $hosts"
    # One that has the nodes' already keeps its own.
    alice 'cd own; mkdir -p same/bin same/lib64 same/usr/lib/x86_64-linux-gnu; cp /bin/busybox same/bin/sh; ln -s sh same/bin/grep
        cp /lib64/ld-linux-x86-64.so.2 same/lib64/; cp /usr/lib/x86_64-linux-gnu/lib{c.so.6,resolv.so.2} same/usr/lib/x86_64-linux-gnu/; shifterimg import --quiet dir:same same:1'
    run alice 'srun --image=user:alice/same:1 --module=glibc sh -c "grep -c /libc.so /proc/self/mountinfo || true"'
    assert_output 0
}

@test "the plan says what a module gives the loader" {
    own_module 'ldcache = ["/opt/site/own"]\nglibc = true\n[[modules.own.library]]\nfrom = "'$OWN'/libown.so.1.2"'
    run alice 'srun --image-dry-run --image=debian:12 --module=own true | tr -s " "'
    assert_line "libown.so.1.2 $OWN/libown.so.1.2 library - --module=own"
    assert_line "glibc the host's, if newer library - --module=own"
    assert_line '/etc/ld.so.cache /opt/site/own ldcache - --module=own'
}
