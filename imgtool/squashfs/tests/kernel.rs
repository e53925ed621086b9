//! The kernel and unsquashfs read what we write: `cargo test -p squashfs -- --ignored` as root.
// A test that cannot go on panics; in helpers of integration tests clippy does not see the test.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process::Command;

use squashfs::{Device, Meta, Options, Special, Writer, Xattrs};

const META: Meta = Meta { mode: 0o644, uid: 1000, gid: 70_000, mtime: 1_700_000_000, xattrs: 0 };
const DIR: Meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: 1_600_000_000, xattrs: 0 };
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

/// Sets of attributes, one of them as large as there may be, and more than one block of each table.
fn attributed(path: &Path) {
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).open(path).unwrap();
    let mut writer = Writer::new(file, Options::default()).unwrap();
    writer.begin().unwrap();
    writer.write(b"contents").unwrap();
    let contents = writer.end().unwrap();
    let mut tree = writer.into_tree().unwrap();
    let pair = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
    let several = Xattrs::from([pair("a", b"1"), pair("b.c", b"two\nlines"), pair("none", b"")]);
    let several = tree.xattrs(&several).unwrap();
    let large = tree.xattrs(&Xattrs::from([pair("large", &[b'x'; 65_000])])).unwrap();
    for n in 0..3000u32 {
        tree.xattrs(&Xattrs::from([pair("n", n.to_string().as_bytes())])).unwrap();
    }
    let last = tree.xattrs(&Xattrs::from([pair("n", b"last")])).unwrap();
    tree.enter(b"", Meta { xattrs: several, ..DIR }).unwrap();
    tree.special(b"block", META, Special::Block(Device::new(8, 300).unwrap()), 1).unwrap();
    tree.special(b"char", META, Special::Character(Device::new(1, 3).unwrap()), 1).unwrap();
    tree.enter(b"dir", Meta { xattrs: last, ..DIR }).unwrap();
    tree.leave().unwrap();
    tree.file(b"large", Meta { xattrs: large, ..META }, contents, 1).unwrap();
    tree.file(b"none", META, contents, 1).unwrap();
    let shared = tree.file(b"several", Meta { xattrs: several, ..META }, contents, 2).unwrap();
    tree.link(b"several-too", shared).unwrap();
    tree.leave().unwrap();
    let (file, size) = tree.finish().unwrap();
    file.set_len(size).unwrap();
}

#[test]
#[ignore = "mounts, so it needs root"]
fn the_kernel_shows_attributes_and_devices() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    attributed(&path);
    let seen = sh(
        r#"unshare -m --propagation private sh -ec '
        mkdir -p "$1.mnt"; mount -t squashfs -o loop,ro,nodev,nosuid "$1" "$1.mnt"; cd "$1.mnt"
        stat -c "%n %F %t:%T" block char; ! cat char 2>/dev/null; cat several
        exec python3 -c "
import os
for name in [\".\", \"dir\", \"none\", \"several\", \"several-too\"]:
    print(name, [(key, os.getxattr(name, key)) for key in os.listxattr(name)])
assert os.listxattr(\"large\") == [\"user.large\"]
assert os.getxattr(\"large\", \"user.large\") == b\"x\" * 65000
"
        ' sh "$1""#,
        &path,
    );
    let several = r"[('user.a', b'1'), ('user.b.c', b'two\nlines'), ('user.none', b'')]";
    let expected = format!(
        "block block special file 8:12c\nchar character special file 1:3\ncontents. {several}\n\
         dir [('user.n', b'last')]\nnone []\nseveral {several}\nseveral-too {several}\n"
    );
    assert_eq!(seen, expected);
}

#[test]
#[ignore = "needs unsquashfs, and root to make devices"]
fn unsquashfs_unpacks_attributes_and_devices() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = dir.path().join("image");
    attributed(&path);
    // Not the large ones, for which no disk has room.
    let seen = sh(
        r#"unsquashfs -no-progress -quiet -d "$1.d" "$1" block char dir several-too >/dev/null; cd "$1.d"; stat -c "%n %F %t:%T" block char
        python3 -c 'import os; print([(n, os.listxattr(n)) for n in ("dir", "several-too")])'"#,
        &path,
    );
    assert_eq!(
        seen,
        "block block special file 8:12c\nchar character special file 1:3\n\
         [('dir', ['user.n']), ('several-too', ['user.a', 'user.b.c', 'user.none'])]\n"
    );
}

/// A file that has holes where filler is written: as many gigabytes as it takes, and no disk.
#[derive(Debug)]
struct Light(std::fs::File);

const FILLER: u8 = 0xf1;

impl Read for Light {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for Light {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

impl Write for Light {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let (first, last) = (bytes.first(), bytes.last());
        if bytes.len() == 1 << 20 && (first, last) == (Some(&FILLER), Some(&FILLER)) {
            self.0.seek_relative(1 << 20)?;
            return Ok(bytes.len());
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
#[ignore = "mounts, so it needs root"]
fn an_image_of_more_than_4_gib_is_read_from_end_to_end() {
    use std::os::unix::fs::MetadataExt;

    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = dir.path().join("image");
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).open(&path).unwrap();
    // What is not compressed has the size that it takes.
    let options = Options { level: None, block_size: 1 << 20, threads: 2 };
    let mut writer = Writer::new(Light(file), options).unwrap();
    let lines = |seed: u32| -> Vec<u8> {
        (0..400_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761 ^ seed).to_le_bytes()).collect()
    };
    let mut add = |bytes: &[u8]| {
        writer.begin().unwrap();
        writer.write(bytes).unwrap();
        writer.end().unwrap()
    };
    let (low, low_small) = (add(&lines(1)), add(b"low"));
    writer.begin().unwrap();
    let filler = vec![FILLER; 1 << 20];
    for _ in 0..(4 << 10) + 200 {
        writer.write(&filler).unwrap();
    }
    let large = writer.end().unwrap();
    let mut add = |bytes: &[u8]| {
        writer.begin().unwrap();
        writer.write(bytes).unwrap();
        writer.end().unwrap()
    };
    let high = add(&lines(2));
    // More than a fragment block, so that one stands behind all of it.
    let small: Vec<_> = (0..2000u32).map(|n| add(&n.to_le_bytes().repeat(200))).collect();
    // What came before, once more, is found on either side.
    let (twin, high_twin) = (add(&lines(1)), add(&lines(2)));
    let mut tree = writer.into_tree().unwrap();
    tree.enter(b"", DIR).unwrap();
    for (name, contents) in [
        ("high", high),
        ("high-twin", high_twin),
        ("large", large),
        ("low", low),
        ("low-small", low_small),
    ] {
        tree.file(name.as_bytes(), META, contents, 1).unwrap();
    }
    tree.enter(b"small", DIR).unwrap();
    for (n, contents) in small.iter().enumerate() {
        tree.file(format!("{n:04}").as_bytes(), META, *contents, 1).unwrap();
    }
    tree.leave().unwrap();
    tree.file(b"twin", META, twin, 1).unwrap();
    tree.leave().unwrap();
    let (file, size) = tree.finish().unwrap();
    file.0.set_len(size).unwrap();
    let (first, last) = ((4 << 30) + (200 << 20), (4 << 30) + (220 << 20));
    assert!((first..last).contains(&size), "{size}");
    assert!(file.0.metadata().unwrap().blocks() * 512 < 64 << 20, "it takes disk");

    for (name, bytes) in [("1", lines(1)), ("2", lines(2))] {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let seen = sh(
        r#"unshare -m --propagation private sh -ec '
        mkdir -p "$1.mnt"; mount -t squashfs -o loop,ro "$1" "$1.mnt"; above=$(dirname "$1"); cd "$1.mnt"
        cmp low "$above/1"; cmp twin "$above/1"; cmp high "$above/2"; cmp high-twin "$above/2"; cat low-small; echo
        stat -c %s large; for n in 0000 1234 1999; do od -An -tu4 -N4 small/$n; stat -c %s small/$n; done
        ' sh "$1""#,
        &path,
    );
    let numbers: Vec<&str> = seen.split_whitespace().collect();
    let large = (((4u64 << 10) + 200) << 20).to_string();
    assert_eq!(numbers, ["low", &large, "0", "800", "1234", "800", "1999", "800"]);
    let listed = sh(
        r#"unsquashfs -no-progress -cat "$1" high | md5sum; md5sum <"$(dirname "$1")/2""#,
        &path,
    );
    let sums: Vec<&str> = listed.lines().collect();
    assert_eq!(sums[0], sums[1]);
}
