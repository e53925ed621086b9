//! The kernel and unsquashfs read what we write: `cargo test -p squashfs -- --ignored` as root.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use squashfs::{Meta, Options, Special, Writer};

const META: Meta = Meta { mode: 0o644, uid: 1000, gid: 70_000, mtime: 1_700_000_000 };
const DIR: Meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: 1_600_000_000 };
/// Larger than what 32 bits hold, nearly all of it a hole.
const HUGE: u64 = (5 << 30) + 12_345;
const ENTRIES: u32 = 20_000;

fn build(path: &Path) {
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).open(path).unwrap();
    let mut writer = Writer::new(file, Options { threads: 3, ..Options::default() }).unwrap();
    writer.begin().unwrap();
    writer.write(b"start").unwrap();
    writer.hole(HUGE - 8).unwrap();
    writer.write(b"end").unwrap();
    let huge = writer.end().unwrap();
    writer.begin().unwrap();
    for n in 0..300_000u32 {
        writer.write(&n.to_le_bytes()).unwrap();
    }
    let large = writer.end().unwrap();
    writer.begin().unwrap();
    writer.hole(1 << 20).unwrap();
    let zeros = writer.end().unwrap();
    writer.begin().unwrap();
    let empty = writer.end().unwrap();
    let small: Vec<_> = (0..ENTRIES)
        .map(|n| {
            writer.begin().unwrap();
            writer.write(format!("content of {n}").as_bytes()).unwrap();
            writer.end().unwrap()
        })
        .collect();

    // What was written before, once more: the last bytes of the file are cut off again.
    writer.begin().unwrap();
    for n in 0..300_000u32 {
        writer.write(&n.to_le_bytes()).unwrap();
    }
    let twin = writer.end().unwrap();
    writer.begin().unwrap();
    writer.write(b"content of 7").unwrap();
    let small_twin = writer.end().unwrap();

    let mut tree = writer.into_tree().unwrap();
    tree.enter(b"", DIR).unwrap();
    tree.enter(b"dir", Meta { mode: 0o1777, ..DIR }).unwrap();
    let shared = tree.file(b"a", META, large, 3).unwrap();
    tree.link(b"b", shared).unwrap();
    tree.leave().unwrap();
    tree.file(b"empty", META, empty, 1).unwrap();
    tree.enter(b"empty.d", DIR).unwrap();
    tree.leave().unwrap();
    tree.special(b"fifo", META, Special::Fifo, 1).unwrap();
    tree.file(b"huge", META, huge, 1).unwrap();
    tree.link(b"large", shared).unwrap();
    tree.symlink(b"link", META, b"dir/a", 1).unwrap();
    let mut names: Vec<_> =
        (0..ENTRIES).map(|n| (format!("a-rather-long-name-of-entry-{n}"), n)).collect();
    names.sort();
    tree.enter(b"many", DIR).unwrap();
    for (name, n) in names {
        tree.file(name.as_bytes(), META, small[n as usize], 1).unwrap();
    }
    tree.leave().unwrap();
    tree.special(b"socket", META, Special::Socket, 1).unwrap();
    tree.file(b"suid", Meta { mode: 0o6755, ..META }, empty, 1).unwrap();
    tree.file(b"twin", META, twin, 1).unwrap();
    tree.file(b"twin-small", META, small_twin, 1).unwrap();
    tree.file("é".as_bytes(), META, zeros, 1).unwrap();
    tree.leave().unwrap();
    let (file, size) = tree.finish().unwrap();
    file.set_len(size).unwrap();
}

fn sh(script: &str, path: &Path) -> String {
    let output = Command::new("sh").args(["-ec", script, "sh"]).arg(path).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{}{}", text(output.stdout), text(output.stderr));
    text(output.stdout)
}

#[test]
#[ignore = "mounts, so it needs root"]
fn the_kernel_sees_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    build(&path);
    let seen = sh(
        r#"unshare -m --propagation private sh -ec '
        mkdir -p "$1.mnt"; mount -t squashfs -o loop,ro "$1" "$1.mnt"; cd "$1.mnt"
        stat -c "%n %F %a %u:%g %Y %h %s" . dir dir/a empty empty.d fifo huge link socket suid é
        test "$(stat -c %i dir/a)" = "$(stat -c %i large)" -a "$(stat -c %i dir/b)" = "$(stat -c %i large)"
        head -c5 huge; tail -c3 huge; echo; du -k huge é | tr "\t" " "
        cmp -n 1048576 é /dev/zero; stat -c %s é
        ls -f many | grep -c name; cat many/*-0 many/*-19999 many/*-777; echo
        test ! -e many/a-rather; test ! -e many/zzz; test ! -e many/a-rather-long-name-of-entry-9a
        for n in $(seq 0 97 19999); do test "$(cat many/a-rather-long-name-of-entry-$n)" = "content of $n"; done
        md5sum < dir/a; cmp dir/a twin; cat twin-small
        ' sh "$1""#,
        &path,
    );
    let bytes: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let plain = dir.path().join("plain");
    std::fs::write(&plain, bytes).unwrap();
    let sum = sh(r#"md5sum < "$1""#, &plain);
    let expected = format!(
        "\
. directory 755 0:0 1600000000 5 {root}
dir directory 1777 0:0 1600000000 2 {dir}
dir/a regular file 644 1000:70000 1700000000 3 1200000
empty regular empty file 644 1000:70000 1700000000 1 0
empty.d directory 755 0:0 1600000000 2 3
fifo fifo 644 1000:70000 1700000000 1 0
huge regular file 644 1000:70000 1700000000 1 {HUGE}
link symbolic link 777 1000:70000 1700000000 1 5
socket socket 644 1000:70000 1700000000 1 0
suid regular empty file 6755 1000:70000 1700000000 1 0
é regular file 644 1000:70000 1700000000 1 1048576
startend
141 huge
0 é
1048576
{ENTRIES}
content of 0content of 19999content of 777
{sum}content of 7",
        root = seen.lines().next().unwrap().rsplit(' ').next().unwrap(),
        dir = seen.lines().nth(1).unwrap().rsplit(' ').next().unwrap(),
    );
    assert_eq!(seen, expected);
}

#[test]
#[ignore = "needs unsquashfs, and root to set owners"]
fn unsquashfs_sees_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    build(&path);
    let listed = sh(r#"unsquashfs -lls "$1""#, &path);
    assert_eq!(listed.lines().filter(|l| l.contains("many/a-rather")).count(), ENTRIES as usize);
    assert!(listed.contains("squashfs-root/link -> dir/a"), "{listed}");
    sh(
        r#"unsquashfs -no-progress -d "$1.d" "$1" && test "$(cat "$1.d"/many/*-777)" = "content of 777""#,
        &path,
    );
}
