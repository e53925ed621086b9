"""Makes odd:1, an image with everything that real images do and tools get wrong.

usage: odd.py LAYOUT GZIP-LAYOUT TAG

Writes two OCI layouts: LAYOUT has one zstd layer, GNU's own sparse entries and an index with two platforms;
GZIP-LAYOUT is the amd64 image alone, which unpacks to the same, for tools that know none of these.
Same bytes at each run.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

WHEN = 1_400_000_000  # a date no build has by accident
GIB = 1 << 30


class Layer:
    """One layer's tar archive; entries appear in the order they are added."""

    def __init__(self):
        self.data = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.data, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name, kind, content=b"", mode=0o644, uid=0, gid=0, mtime=WHEN, link=""):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.uid, info.gid, info.mtime, info.linkname = kind, mode, uid, gid, mtime, link
        info.size = len(content)
        self.tar.addfile(info, io.BytesIO(content))

    def file(self, name, content, **more):
        self.add(name, tarfile.REGTYPE, content.encode() if isinstance(content, str) else content, **more)

    def dir(self, name, mode=0o755, **more):
        self.add(name, tarfile.DIRTYPE, mode=mode, **more)

    def symlink(self, name, target, **more):
        self.add(name, tarfile.SYMTYPE, mode=0o777, link=target, **more)

    def hardlink(self, name, target):
        self.add(name, tarfile.LNKTYPE, link=target)

    def bytes(self):
        self.tar.close()
        return self.data.getvalue()


def raw_name(data):
    """A file name of these very bytes: they need not be UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def base_layer():
    """A root that runs, and what the layers above will change."""
    layer = Layer()
    with open(shutil.which("busybox"), "rb") as busybox:
        layer.dir("bin")
        layer.file("bin/busybox", busybox.read(), mode=0o755)
    for applet in "sh ls cat id stat readlink sha256sum find env sleep true false echo wc head mount".split():
        layer.symlink(f"bin/{applet}", "busybox")
    layer.dir("etc")
    layer.file("etc/os-release", 'ID=odd\nNAME="odd"\nVERSION_ID=1\n')
    layer.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nodd:x:12345:54321:odd:/:/bin/sh\n")
    layer.file("etc/group", "root:x:0:\nodd:x:54321:\n")
    layer.file("etc/odd-arch", "amd64\n")
    layer.dir("tmp", mode=0o1777)

    layer.file("gone-file", "the layer above deletes me\n")
    layer.dir("gone-dir")
    layer.dir("gone-dir/below")
    layer.file("gone-dir/below/file", "and me\n")
    layer.dir("opaque", mode=0o750, uid=12345)
    layer.file("opaque/old", "hidden by the opaque whiteout\n")
    layer.dir("opaque/deep")
    layer.file("opaque/deep/old", "this too\n")
    layer.dir("opaque/kept-name")
    layer.file("opaque/kept-name/old", "the directory comes again, I do not\n")
    layer.file("again-file", "old content\n")
    layer.dir("again-dir")
    layer.file("again-dir/old", "must not be there\n")
    layer.file("becomes-dir", "I was a file\n")
    layer.dir("becomes-file")
    layer.file("becomes-file/inside", "I was in a directory\n")
    layer.dir("becomes-link")
    layer.file("becomes-link/inside", "I was in a directory\n")
    layer.file("link-becomes-file.target", "must not change\n")
    layer.symlink("link-becomes-file", "link-becomes-file.target")

    # The same path twice in one layer: the last one counts.
    layer.file("twice", "first, and longer than the second\n", mode=0o600, uid=1)
    layer.file("twice", "second\n", mode=0o640, uid=2, mtime=WHEN + 2)
    layer.dir("twice-dir", mode=0o700)
    layer.file("twice-dir/inside", "stays\n")
    layer.dir("twice-dir", mode=0o711, mtime=WHEN + 4)

    # Hard links: across directories, to a setuid file, and pairs that upper layers touch.
    layer.dir("links")
    layer.dir("links/a")
    layer.dir("links/b")
    layer.file("links/a/one", "one inode, three names\n", uid=12345, gid=54321)
    layer.hardlink("links/b/two", "links/a/one")
    layer.hardlink("links/three", "links/b/two")
    layer.file("links/lower", "a link of the layer above leads here\n")
    layer.file("links/deleted-name", "my other name is deleted above\n")
    layer.hardlink("links/kept-name", "links/deleted-name")
    layer.file("links/replaced-name", "my other name is replaced above\n")
    layer.hardlink("links/unreplaced-name", "links/replaced-name")

    # Symlinks out of the image, and in circles.
    layer.symlink("evil", "../../../../../../etc")
    layer.symlink("evil-file", "../../../../../../etc/hostname")
    layer.symlink("absolute", "/etc/passwd")
    layer.symlink("data", "/etc")
    layer.symlink("root-link", "/")
    layer.symlink("proc-root", "/proc/1/root/etc")
    layer.symlink("dangling", "/no/such/thing")
    layer.symlink("circle-a", "circle-b")
    layer.symlink("circle-b", "circle-a")
    layer.symlink("long-link", "x/" * 1000 + "end")

    # Names.
    layer.dir("names")
    layer.file("names/naïve Ελλάδα 文件 🚢", "not ASCII\n")
    layer.file(raw_name(b"names/latin1-\xe9"), "not UTF-8\n")
    layer.file("names/" + "n" * 255, "255 bytes\n")
    layer.file("names/" + "é" * 127 + "x", "255 bytes in 128 characters\n")
    layer.file("names/new\nline", "a line break in the name\n")
    layer.file("names/back\\slash \"quote\" 'quote' * ?", "for shells\n")
    layer.file("names/ leading and trailing ", "blanks\n")
    layer.file("names/-dash", "not an option\n")
    layer.file("names/.wh", "not a whiteout\n")
    layer.file("names/...", "not a parent\n")
    deep = "deep"
    for level in range(40):
        layer.dir(deep)
        deep += f"/level-{level:02}"
    layer.file(deep, "at the bottom\n")

    # Modes, owners, times.
    layer.dir("modes")
    layer.file("modes/setuid", "#!/bin/sh\nid\n", mode=0o4755)
    layer.file("modes/setgid", "#!/bin/sh\nid\n", mode=0o2755, gid=54321)
    layer.dir("modes/sticky-setgid", mode=0o3777)
    layer.file("modes/nothing", "nobody may read this\n", mode=0o000)
    layer.file("modes/large-ids", "", uid=4_000_000_000, gid=3_000_000_000)
    layer.file("modes/epoch", "", mtime=0)
    layer.file("modes/after-2038", "", mtime=3_000_000_000)
    layer.dir("modes/no-x", mode=0o644, uid=12345)
    layer.file("modes/no-x/inside", "below a directory without x\n")
    layer.dir("modes/no-x/further", mode=0o600)
    layer.file("modes/no-x/further/inside", "and further down\n")
    layer.dir("modes/no-mode", mode=0o000)
    layer.file("modes/no-mode/inside", "below a directory without any bit\n")
    layer.file("missing/parents/file", "no entry names my parents\n")

    # What a hostile or careless image brings: our own place.
    layer.dir(".shifter")
    layer.file(".shifter/image.json", '{"layers": "a lie of the image"}\n')
    layer.symlink(".shifter/escape", "/etc")
    return layer


def change_layer():
    """What a layer can do to the ones below it."""
    layer = Layer()
    layer.file(".wh.gone-file", b"")
    layer.file(".wh.gone-dir", b"")
    layer.dir("opaque", mode=0o755, mtime=WHEN + 6)
    layer.file("opaque/.wh..wh..opq", b"")
    layer.file("opaque/new", "only me, and kept-name\n")
    layer.dir("opaque/kept-name")
    layer.file(".wh.again-file", b"")
    layer.file("again-file", "new content\n", mode=0o600)
    layer.file(".wh.again-dir", b"")
    layer.dir("again-dir", mode=0o700)
    layer.file("again-dir/new", "only me\n")
    layer.dir("becomes-dir")
    layer.file("becomes-dir/inside", "I am in a directory now\n")
    layer.file("becomes-file", "I am a file now\n")
    layer.symlink("becomes-link", "etc")
    layer.file("link-becomes-file", "I am a file now\n")
    layer.hardlink("links/from-above", "links/lower")
    layer.file("links/.wh.deleted-name", b"")
    layer.file("links/replaced-name", "replaced\n")
    layer.file("links/above", "two names in the upper layer\n")
    layer.hardlink("links/b/above", "links/above")
    layer.file("names/.wh.-dash", b"")
    layer.file(".wh.never-was-there", b"")
    return layer


def many_layer():
    """20,000 entries in one directory."""
    layer = Layer()
    layer.dir("many")
    for number in range(20_000):
        layer.file(f"many/entry-{number:05}", f"{number}\n" if number % 2 else "")
    return layer


def zstd_layer():
    layer = Layer()
    layer.dir("zstd")
    layer.file("zstd/text", "this layer is compressed with zstd\n" * 1000)
    layer.file("zstd/noise", b"".join(hashlib.sha256(bytes([i])).digest() for i in range(256)))
    layer.file("zstd/.wh.nothing", b"")
    return layer


def arm_layer():
    layer = Layer()
    layer.dir("etc")
    layer.file("etc/odd-arch", "arm64\n")
    return layer


def sparse_layer(top, tar_format):
    """Sparse files and one above 4 GiB below `top`, as GNU tar writes them in this format."""
    with tempfile.TemporaryDirectory() as work:
        os.mkdir(os.path.join(work, top))
        pieces = {
            "holes": (3 << 20, {1 << 20: b"after a hole", (2 << 20) + 5: b"odd offset"}),
            "only-a-hole": (1 << 20, {}),
            "ends-in-data": (100_001, {100_000: b"!"}),
            "five-gib": (5 * GIB, {0: b"start", 4 * GIB + 12345: b"above 4 GiB", 5 * GIB - 3: b"end"}),
        }
        if top == "sparse-posix":
            pieces.pop("five-gib")  # once is enough for whoever reads it all
        for name, (size, data) in pieces.items():
            path = os.path.join(work, top, name)
            with open(path, "wb") as file:
                file.truncate(size)
                for offset, content in data.items():
                    file.seek(offset)
                    file.write(content)
        command = ["tar", "--create", "--sparse", f"--format={tar_format}", "--sort=name", f"--mtime=@{WHEN}",
                   "--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX"]
        if tar_format == "posix":
            command.append("--pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f")
        return subprocess.run(command + ["-C", work, top], check=True, stdout=subprocess.PIPE).stdout


class Layout:
    """An OCI layout on disk."""

    def __init__(self, path):
        self.path = path
        os.makedirs(os.path.join(path, "blobs", "sha256"))
        with open(os.path.join(path, "oci-layout"), "w") as file:
            file.write('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, data, media_type, **more):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(self.path, "blobs", "sha256", digest), "wb") as file:
            file.write(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data), **more}

    def json(self, value, media_type, **more):
        return self.blob(json.dumps(value).encode(), media_type, **more)

    def layer(self, archive, compression):
        if compression == "zstd":
            data = subprocess.run(["zstd", "-q", "-3", "-c"], input=archive, check=True, stdout=subprocess.PIPE).stdout
        else:
            data = gzip.compress(archive, 6, mtime=0)
        return self.blob(data, f"layer.v1.tar+{compression}")

    def image(self, architecture, layers):
        """layers: (archive, compression) from the bottom up."""
        config = self.json({
            "architecture": architecture,
            "os": "linux",
            "created": "2014-05-13T16:53:20Z",
            "config": {
                "Env": ["PATH=/bin", "ODD=yes", "EMPTY=", "WITH_EQUALS=a=b"],
                "Entrypoint": ["/bin/sh", "-c"],
                "Cmd": ["echo odd"],
                "WorkingDir": "/names",
                "Labels": {"odd": "label with ünïcode"},
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(a).hexdigest()}" for a, _ in layers]},
            "history": [{"created": "2014-05-13T16:53:20Z", "created_by": "odd.py"} for _ in layers],
        }, "config.v1+json")
        return self.json({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [self.layer(archive, compression) for archive, compression in layers],
        }, "manifest.v1+json", platform={"architecture": architecture, "os": "linux"})

    def index(self, tag, descriptor):
        descriptor["annotations"] = {"org.opencontainers.image.ref.name": tag}
        with open(os.path.join(self.path, "index.json"), "w") as file:
            json.dump({"schemaVersion": 2, "manifests": [descriptor]}, file)


def main(path, gzip_path, tag):
    base, change = base_layer().bytes(), change_layer().bytes()
    archives = [base, change, many_layer().bytes(), sparse_layer("sparse-gnu", "gnu"),
                sparse_layer("sparse-posix", "posix"), zstd_layer().bytes()]
    last = len(archives) - 1

    layout = Layout(path)
    amd = layout.image("amd64", [(a, "zstd" if i == last else "gzip") for i, a in enumerate(archives)])
    arm = layout.image("arm64", [(base, "gzip"), (arm_layer().bytes(), "gzip")])
    arm["platform"]["variant"] = "v8"
    layout.index(tag, layout.json({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [arm, amd],
    }, "index.v1+json"))

    # umoci 0.4 and docker 20.10 know no entry of type S, GNU's own sparse files; the POSIX form unpacks to the same.
    archives[3] = sparse_layer("sparse-gnu", "posix")
    plain = Layout(gzip_path)
    plain.index(tag, plain.image("amd64", [(a, "gzip") for a in archives]))


if __name__ == "__main__":
    main(*sys.argv[1:])
