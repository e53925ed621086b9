"""Images that are too large to keep: made, pushed to the testbed's registry, and purged after.

many:1 has 100,000 small files in 1,000 directories; bulk:1 has 5 GB in five layers, of which about half is noise.
Both are the same bytes at each run.
"""

import gzip
import hashlib
import io
import json
import random
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path

from cluster import NAME, note
from pullers import registry

FILES = 100_000
GB = 1_000_000_000


def many(tar):
    chance = random.Random(1)
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz_", k=chance.randint(2, 9))) for _ in range(2000)]
    for number in range(FILES):
        # Mostly a few hundred bytes, as the files of Python's packages are, and some of many KB.
        size = int(chance.lognormvariate(7, 1.3))
        text = b" ".join(chance.choices(words, k=size // 6 + 1))
        add(tar, f"many/{number // 100:03}/module_{number}.py", text)


def bulk(layer):
    def make(tar):
        chance = random.Random(layer)
        piece = 1 << 16
        text = b"".join(b"%d %f\n" % (n, n / 7) for n in range(8000))[:piece]
        for number in range(10):
            parts = (chance.randbytes(piece) if chance.random() < 0.5 else text[chance.randrange(4096):] for _ in range(GB // 10 // piece))
            add(tar, f"bulk/{layer}/data_{number}", b"".join(parts))
    return make


IMAGES = {"many:1": [many], "bulk:1": [bulk(layer) for layer in range(5)]}


def add(tar, name, contents):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(contents), 0o644, 1_400_000_000
    tar.addfile(entry, io.BytesIO(contents))


class Hashing:
    """A file that is hashed on its way."""

    def __init__(self, file):
        self.file, self.hash, self.size = file, hashlib.sha256(), 0

    def write(self, data):
        self.hash.update(data)
        self.size += len(data)
        return self.file.write(data)

    def flush(self):
        self.file.flush()


def blob(layout, contents):
    digest = hashlib.sha256(contents).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(contents)
    return {"digest": f"sha256:{digest}", "size": len(contents)}


def layer_blob(layout, make):
    temp = layout / "layer"
    with temp.open("wb") as file:
        packed = Hashing(file)
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as zipped:
            plain = Hashing(zipped)
            with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                make(tar)
    digest = packed.hash.hexdigest()
    temp.rename(layout / "blobs/sha256" / digest)
    return {"digest": f"sha256:{digest}", "size": packed.size}, f"sha256:{plain.hash.hexdigest()}"


def write_layout(layout, layers):
    (layout / "blobs/sha256").mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    made = [layer_blob(layout, make) for make in layers]
    kind = "application/vnd.oci.image."
    config = blob(layout, json.dumps({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in made]},
        "history": [{"created_by": "testbed/bench"} for _ in made],
    }).encode())
    manifest = blob(layout, json.dumps({
        "schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
        "config": {"mediaType": kind + "config.v1+json", **config},
        "layers": [{"mediaType": kind + "layer.v1.tar+gzip", **descriptor} for descriptor, _ in made],
    }).encode())
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        {"mediaType": kind + "manifest.v1+json", "annotations": {"org.opencontainers.image.ref.name": "image"}, **manifest}]}))


@contextmanager
def in_registry(name):
    """The image, for as long as it is needed."""
    if name not in IMAGES:
        yield
        return
    note(f"making {name}")
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="bench-bulk-") as top:
        layout = Path(top) / "layout"
        write_layout(layout, IMAGES[name])
        subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:image", f"docker://{registry()}/{name}"], check=True)
        blobs = [path.name for path in (layout / "blobs/sha256").iterdir()]
    try:
        yield
    finally:
        purge(name, blobs)


def purge(name, blobs):
    """Takes the image out of the registry, whose own collector would have to be stopped for it."""
    storage = Path(subprocess.run(
        ["docker", "inspect", "-f", "{{range .Mounts}}{{if eq .Destination \"/var/lib/registry\"}}{{.Source}}{{end}}{{end}}", f"{NAME}-registry"],
        capture_output=True, text=True, check=True).stdout.strip()) / "open/docker/registry/v2"
    shutil.rmtree(storage / "repositories" / name.split(":")[0], ignore_errors=True)
    for digest in blobs:
        shutil.rmtree(storage / "blobs/sha256" / digest[:2] / digest, ignore_errors=True)
