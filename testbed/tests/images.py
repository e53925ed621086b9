"""images.py DIRECTORY: OCI layouts of the images that pull.bats pushes: what registries have and should not,
and images that no other test has in the store. Same bytes at each run."""

import random
import sys
import tarfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "images.d" / "odd"))
from odd import Layer, Layout, base_layer  # noqa: E402


def note(text):
    """A layer of one small file."""
    layer = Layer()
    layer.file("note", text + "\n")
    return layer.bytes()


def noise(name, size):
    """A layer that cannot be compressed."""
    layer = Layer()
    layer.file("noise", random.Random(name).randbytes(size))
    return layer.bytes()


def devices():
    """What an image cannot bring: a device; and what it can: a named pipe."""
    layer = Layer()
    layer.add("disk", tarfile.BLKTYPE, mode=0o666)
    layer.add("pipe", tarfile.FIFOTYPE, mode=0o666)
    return layer.bytes()


def dangling():
    layer = Layer()
    layer.hardlink("etc/link", "etc/nothing")
    return layer.bytes()


def main(directory):
    def image(name, *layers):
        layout = Layout(f"{directory}/{name}")
        layout.index("1", layout.image("amd64", [(layer, "gzip") for layer in layers]))

    base = base_layer().bytes()
    image("mine", base, note("for my eyes"))
    image("other", base, note("not the same"))
    image("flipped", note("before the damage"), noise("flipped", 1 << 20))
    image("short", note("before the end"), noise("short", 1 << 20))
    image("devices", base, devices())
    image("dangling", note("before the link"), dangling())
    image("held", note("below the noise"), noise("held", 4 << 20))
    image("killed", note("below the noise"), noise("killed", 4 << 20))

    both = Layout(f"{directory}/both")
    manifests = [both.image(arch, [(note(arch), "gzip")]) for arch in ("arm64", "amd64")]
    manifests[0]["platform"]["variant"] = "v8"
    both.index("1", both.json({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    }, "index.v1+json"))


main(sys.argv[1])
