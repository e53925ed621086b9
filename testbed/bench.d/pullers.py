"""What a site would type to have an image, without us and with us: each from the same registry, to the same disk."""

import json
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from cluster import NAME, BenchError, Shell, image_file, note, store_on_host, wait_until
from counted import COUNT, DiskPeak, counted

PACKAGES = ["skopeo", "umoci", "squashfs-tools", "podman", "docker.io", "charliecloud", "python3-lark", "python3-requests", "pigz"]
# Charliecloud speaks TLS only: the same blobs once more, behind a certificate.
TLS_PORT = 5004
TLS = """version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: /var/lib/registry/open}
http: {addr: ":%d", tls: {certificate: /etc/registry/token.crt, key: /etc/registry/token.key}}
""" % TLS_PORT


def need_packages():
    missing = [package for package in PACKAGES if subprocess.run(
        ["dpkg", "-s", package], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode]
    if missing:
        note(f"installing {' '.join(missing)}")
        # The services that come with them are not ours to start.
        subprocess.run(["apt-get", "install", "-qqy", "--no-install-recommends", *missing],
                       stdout=subprocess.DEVNULL, check=True)


def registry(port=5000):
    address = subprocess.run(
        ["docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", f"{NAME}-registry"],
        capture_output=True, text=True, check=True).stdout.strip()
    return f"{address}:{port}"


@contextmanager
def registry_with_tls():
    inside = ["docker", "exec", "-i", f"{NAME}-registry", "sh", "-c"]
    subprocess.run([*inside, "cat >/tmp/bench-tls.yml"], input=TLS, text=True, check=True)
    server = subprocess.Popen(
        [*inside, "echo $$ >/tmp/bench-tls.pid; exec docker-registry serve /tmp/bench-tls.yml"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until("the registry with TLS", lambda: subprocess.run(
            ["curl", "-skf", f"https://{registry(TLS_PORT)}/v2/"], stdout=subprocess.DEVNULL).returncode == 0)
        yield
    finally:
        subprocess.run([*inside, "kill $(cat /tmp/bench-tls.pid)"], check=True)
        server.wait()


def by_hand(image, where):
    return (
        f"skopeo copy -q --src-tls-verify=false docker://{registry()}/{image} oci:layout:image && "
        "umoci unpack --image layout:image bundle && "
        "mksquashfs bundle/rootfs image.sqsh -comp zstd -Xcompression-level 3 -quiet -no-progress"
    )


def podman(image, where):
    return (
        f"podman --root {where}/root --runroot {where}/run --storage-driver overlay "
        f"pull -q --tls-verify=false {registry()}/{image}"
    )


def docker(image, where):
    """A daemon of its own, which has no other image and reaches no other network."""
    socket = f"unix://{where}/docker.sock"
    return (
        f"dockerd --data-root {where}/root --exec-root {where}/exec -H {socket} -p {where}/pid --bridge=none --iptables=false "
        f"--ip6tables=false --storage-driver overlay2 --insecure-registry {registry()} -l error & "
        f"until docker -H {socket} version >/dev/null 2>&1; do sleep 0.05; done; "
        f"date +%s.%N >begin; docker -H {socket} pull -q {registry()}/{image}; code=$?; date +%s.%N >end; "
        "kill $!; wait $!; exit $code"
    )


def ch_image(image, where):
    # Debian's interpreter, which has Debian's modules; certificates of the environment's own would be believed more than the option.
    return f"unset REQUESTS_CA_BUNDLE CURL_CA_BUNDLE; USER=root PATH=/usr/sbin:/usr/bin:/sbin:/bin ch-image -s {where}/storage pull --tls-no-verify {registry(TLS_PORT)}/{image}"


OTHERS = {
    "skopeo + umoci + mksquashfs zstd-3": by_hand,
    "podman pull": podman,
    "docker pull": docker,
    "ch-image pull": ch_image,
}


def theirs(tool, image):
    """What one of the others costs; nothing if it cannot do it."""
    where = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="bench-pull-"))
    try:
        with DiskPeak(where) as disk:
            out = subprocess.run(["python3", "-c", COUNT, "sh", "-c", OTHERS[tool](image, where)],
                                 capture_output=True, text=True, cwd=where)
        try:
            used = counted(out.stdout, tool)
        except (BenchError, ValueError, IndexError):
            words = (out.stderr.strip().splitlines() or ["?"])[-1]
            note(f"{tool} cannot: {words}")
            return None
        if (where / "begin").exists():
            used["wall"] = float((where / "end").read_text()) - float((where / "begin").read_text())
        used["disk"] = disk.megabytes
        packed = where / "image.sqsh"
        used["kept"] = packed.stat().st_size / 1e6 if packed.exists() else kept_by(where)
        return used
    finally:
        # Docker and Podman leave mounts in their directories.
        for mount in sorted(mounts_below(where), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False)
        # Whoever of them still ends may be cleaning up as well, which rm does not mind.
        subprocess.run(["rm", "-rf", where], check=True)


def kept_by(where):
    out = subprocess.run(["du", "-s", "-B1", where], capture_output=True, text=True).stdout
    return int(out.split()[0]) / 1e6


def mounts_below(where):
    return [line.split()[1] for line in open("/proc/self/mounts") if line.split()[1].startswith(f"{where}/")]


def forget(image, layers):
    """As if nobody had ever pulled it; its layers only if asked for."""
    store = store_on_host()
    repository, tag = image.split(":")
    ref = store / "refs/docker.io/library" / repository / f":{tag}"
    if ref.exists():
        digest = json.loads(ref.read_text())["platforms"]["linux/amd64"]["digest"].removeprefix("sha256:")
        file = store / image_file(image)
        ref.unlink()
        (store / "manifests" / digest[:2] / digest).unlink(missing_ok=True)
        file.unlink(missing_ok=True)
    if layers:
        for entry in (store / "layers").glob("*"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def ours(alice, image, layers_cached):
    forget(image, layers=not layers_cached)
    with DiskPeak(store_on_host()) as disk:
        used = counted(alice.text(f"python3 -c '{COUNT}' shifterimg pull docker:{image}"), "shifterimg pull")
    used["disk"] = disk.megabytes
    used["kept"] = (store_on_host() / image_file(image)).stat().st_size / 1e6
    return used


@contextmanager
def layers_kept(limit="50G"):
    """The site keeps layers, for as long as this takes; whether it can."""
    config = "/etc/shifter/shifter.toml"
    with Shell.on("ctl") as root:
        root.text(f"cp -p {config} {config}.bench && cp -p {config} {config}.new && "
                  f"{{ grep -q '^\\[images\\]' {config}.new || echo '[images]' >>{config}.new; }} && "
                  f"sed -i 's/^\\[images\\]/&\\nlayer_cache = \"{limit}\"/' {config}.new")
        try:
            known = root.attempt(f"shifterimg --config {config}.new images -q")[1] == 0
            if known:
                root.text(f"mv {config}.new {config}")
            yield known
        finally:
            root.text(f"mv {config}.bench {config}; rm -f {config}.new")
            shutil.rmtree(store_on_host() / "layers", ignore_errors=True)
