"""layouts.py SEED COUNT LAYOUT: makes an OCI layout with COUNT random images, tagged i0, i1, …

Their layers have what makes flattening hard: whiteouts, opaque directories, links of both kinds,
names that change their type, the same name twice, in every order.
"""

import gzip
import hashlib
import io
import json
import os
import random
import sys
import tarfile

# Mostly directories, and mostly not: else one is in the other's way so often that umoci gives up.
DIRECTORIES = ["a", "b", "l"]
OTHERS = ["f", "g", "h"]
TARGETS = ["a", "/a/b", "../b", "b/a", "/", "/a", "f"]


def path(rand, last):
    return "/".join([rand.choice(DIRECTORIES) for _ in range(rand.randint(0, 2))] + [rand.choice(last)])


def add(tar, rand, number, files):
    what = rand.choices(["dir", "file", "symlink", "link", "fifo", "whiteout", "opaque"], [4, 5, 2, 2, 1, 2, 1])[0]
    usual = DIRECTORIES if what in ("dir", "opaque") or what == "symlink" and rand.random() < 0.3 else OTHERS
    name = path(rand, rand.choice([usual] * 9 + [DIRECTORIES + OTHERS]))
    head = tarfile.TarInfo(name)
    head.mode = rand.choice([0o644, 0o755, 0o4755, 0o700, 0o1777, 0o2755])
    head.uid, head.gid = rand.choice([0, 1000]), rand.choice([0, 70000])
    head.mtime = 1_500_000_000 + number
    data = b""
    if what == "dir":
        head.type = tarfile.DIRTYPE
        # In a set-group-ID directory those that umoci makes on its own get the bit, too.
        head.mode &= ~0o2000
    elif what == "file":
        data = f"content {number}".encode() * rand.choice([0, 1, 1, 40_000])
        head.size = len(data)
    elif what == "symlink":
        head.type, head.linkname = tarfile.SYMTYPE, rand.choice(TARGETS)
    elif what == "link":
        head.type, head.linkname = tarfile.LNKTYPE, rand.choice(files or [path(rand, OTHERS)])
    elif what == "fifo":
        head.type = tarfile.FIFOTYPE
    else:
        parent = os.path.dirname(name)
        base = ".wh..wh..opq" if what == "opaque" else ".wh." + os.path.basename(name)
        head.name = os.path.join(parent, base)
    if what in ("file", "fifo"):
        files.append(name)
    tar.addfile(head, io.BytesIO(data))


def layer(rand, start, files):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=rand.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])) as tar:
        for number in range(rand.randint(1, 12)):
            add(tar, rand, start + number, files)
    return plain.getvalue()


def main():
    seed, count, layout = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.makedirs(f"{layout}/blobs/sha256")

    def blob(data):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{layout}/blobs/sha256/{digest}", "wb") as file:
            file.write(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    manifests = []
    for image in range(count):
        rand = random.Random(f"{seed} {image}")
        files = []
        plain = [layer(rand, image * 1000 + n * 100, files) for n in range(rand.randint(1, 4))]
        diff_ids = ["sha256:" + hashlib.sha256(p).hexdigest() for p in plain]
        config = {
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created_by": "random"} for _ in plain],
        }
        config = blob(json.dumps(config).encode()) | {"mediaType": "application/vnd.oci.image.config.v1+json"}
        layers = [
            blob(gzip.compress(p, mtime=0)) | {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"} for p in plain
        ]
        media_type = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers}
        manifests.append(
            blob(json.dumps(manifest).encode())
            | {"mediaType": media_type, "annotations": {"org.opencontainers.image.ref.name": f"i{image}"}}
        )
    with open(f"{layout}/oci-layout", "w") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)
    with open(f"{layout}/index.json", "w") as file:
        json.dump({"schemaVersion": 2, "manifests": manifests}, file)


main()
