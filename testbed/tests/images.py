"""images.py DIRECTORY: OCI layouts of the images that pull.bats and readable.bats push: what registries have and should not,
and images that no other test has in the store; and of an image that says what is not its to say. Same bytes at each run."""

import random
import shutil
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


def closed():
    """Made by root for root: programs and data that nobody else may read, secrets, and a set-user-ID program."""
    layer = Layer()
    layer.file("bin/busybox", Path(shutil.which("busybox")).read_bytes(), mode=0o755)
    for applet in ("sh", "cat", "stat", "find", "echo"):
        layer.symlink(f"bin/{applet}", "busybox")
    layer.dir("app", mode=0o700)
    layer.file("app/hello", "#!/bin/sh\necho hello from the app\n", mode=0o700)
    layer.file("app/data", "for all\n")
    layer.dir("root", mode=0o700)
    layer.file("root/.bashrc", "# root's\n", mode=0o600)
    layer.file("root/work", "at home\n", mode=0o600)
    layer.file("etc/shadow", "root:*:1::::::\n", mode=0o640)
    layer.file("etc/app.conf", "a = 1\n", mode=0o600)
    layer.dir("opt/u/.ssh", mode=0o700)
    layer.file("opt/u/.ssh/id", "a key\n", mode=0o600)
    layer.file("bin/set", "", mode=0o4711)
    return layer.bytes()


class Posing(Layout):
    """A layout whose image names a user, and sets what is not an image's to set."""

    NAMES = """IMAGE_SAYS HOME USER LOGNAME SHELL PWD SLURM SLURM_PROCID SLURM_JOB_ID PMI_RANK PMIX_RANK SHIFTER_RUNTIME
        SHIFTER_IMAGE SHIFTER_MODULES SHIFTERENV_X CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK"""

    def json(self, value, media_type, **more):
        if "config" in media_type:
            value["config"] |= {"User": "65534", "Env": [f"{name}=image" for name in self.NAMES.split()]}
        return super().json(value, media_type, **more)


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
    image("closed", closed())
    image("dangling", note("before the link"), dangling())
    image("held", note("below the noise"), noise("held", 4 << 20))
    posing = Posing(f"{directory}/posing")
    posing.index("1", posing.image("amd64", [(base, "gzip")]))
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
