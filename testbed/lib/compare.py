"""compare.py OURS THEIRS START: prints how two trees differ; THEIRS was unpacked after file START."""

import os
import stat
import sys

IGNORED = {b".shifter"}
PIECE = 4 << 20


def same_content(*paths):
    """Piece by piece: twice as fast as two checksums, and it matters for files of gigabytes."""
    with open(paths[0], "rb", 0) as first, open(paths[1], "rb", 0) as second:
        while block := first.read(PIECE):
            if block != second.read(len(block)):
                return False
        return not second.read(1)


def walk(root):
    """Path to what is there; hard links share the number of their first name."""
    found, groups = {}, {}
    stack = [b""]
    while stack:
        path = stack.pop()
        full = os.path.join(root, path)
        info = os.lstat(full)
        if stat.S_ISBLK(info.st_mode) or stat.S_ISCHR(info.st_mode):
            continue
        what = {
            "type": stat.S_IFMT(info.st_mode),
            "mode": oct(stat.S_IMODE(info.st_mode)),
            "owner": (info.st_uid, info.st_gid),
            "time": int(info.st_mtime),
        }
        if stat.S_ISDIR(info.st_mode):
            names = os.listdir(full)
            stack.extend(os.path.join(path, name) for name in names if path or name not in IGNORED)
        elif stat.S_ISLNK(info.st_mode):
            what["target"] = os.readlink(full)
        elif stat.S_ISREG(info.st_mode):
            what["size"] = info.st_size
        if not stat.S_ISDIR(info.st_mode):
            groups.setdefault(info.st_ino, []).append(path)
        found[path] = what
    for names in groups.values():
        names.sort()
        for name in names:
            found[name]["names"] = names
    return found


def main():
    ours_root, theirs_root, start = sys.argv[1:]
    start = os.lstat(start).st_mtime
    ours, theirs = walk(os.fsencode(ours_root)), walk(os.fsencode(theirs_root))
    differences = 0

    def differ(path, what):
        nonlocal differences
        differences += 1
        if differences <= 50:
            print(f"/{os.fsdecode(path)}: {what}")

    for path in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(path), theirs.get(path)
        if here is None or there is None:
            differ(path, "only umoci has it" if here is None else "only we have it")
            continue
        if stat.S_ISDIR(there["type"]) and there["time"] >= int(start):
            # A directory that no layer mentions, or in which umoci made such a one.
            there["time"] = here["time"]
        for key in sorted(here.keys() | there.keys()):
            if here.get(key) != there.get(key):
                differ(path, f"{key}: ours {here.get(key)}, umoci's {there.get(key)}")
        if stat.S_ISREG(here["type"]) and here["size"] == there.get("size") and here["names"][0] == path:
            if not same_content(*(os.path.join(os.fsencode(root), path) for root in (ours_root, theirs_root))):
                differ(path, "the content differs")
    print(f"{len(ours)} names compared, {differences} differences")
    if not ours or differences:
        sys.exit(1)


main()
