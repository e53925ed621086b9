//! Images are read back by an independent reader (backhand); the kernel's reader and
//! unsquashfs have their turn in `tests/kernel.rs`.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use backhand::{FilesystemReader, InnerNode};
use proptest::prelude::*;

use super::*;

const META: Meta = Meta { mode: 0o640, uid: 1000, gid: 70000, mtime: 1_700_000_000, xattrs: 0 };

#[derive(Clone, Debug)]
enum Node {
    File(Vec<Piece>),
    Symlink(String),
    Fifo,
    Directory(BTreeMap<String, Node>),
}

#[derive(Clone, Debug)]
enum Piece {
    Bytes(Vec<u8>),
    Repeat(u8, u32),
    Hole(u32),
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Piece::Bytes),
        (any::<u8>(), 0..20_000u32).prop_map(|(b, n)| Piece::Repeat(b, n)),
        (0..20_000u32).prop_map(Piece::Hole),
    ]
}

fn tree() -> impl Strategy<Value = BTreeMap<String, Node>> {
    let leaf = prop_oneof![
        prop::collection::vec(piece(), 0..5).prop_map(Node::File),
        "[a-z/.]{1,20}".prop_map(Node::Symlink),
        Just(Node::Fifo),
    ];
    let node = leaf.prop_recursive(4, 60, 12, |node| {
        prop::collection::btree_map("[a-zA-Zé-]{1,12}", node, 0..12).prop_map(Node::Directory)
    });
    prop::collection::btree_map("[a-zA-Z]{1,6}", node, 0..12)
}

fn bytes(pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().fold(Vec::new(), |mut all, piece| {
        match piece {
            Piece::Bytes(bytes) => all.extend(bytes),
            Piece::Repeat(byte, n) => all.resize(all.len() + *n as usize, *byte),
            Piece::Hole(n) => all.resize(all.len() + *n as usize, 0),
        }
        all
    })
}

fn contents(
    writer: &mut Writer<Cursor<Vec<u8>>>,
    nodes: &BTreeMap<String, Node>,
    out: &mut Vec<Contents>,
) {
    for node in nodes.values() {
        match node {
            Node::File(pieces) => {
                writer.begin().unwrap();
                for piece in pieces {
                    match piece {
                        Piece::Hole(n) => writer.hole(u64::from(*n)).unwrap(),
                        other => writer.write(&bytes(std::slice::from_ref(other))).unwrap(),
                    }
                }
                out.push(writer.end().unwrap());
            }
            Node::Directory(nodes) => contents(writer, nodes, out),
            _ => {}
        }
    }
}

fn names(
    tree: &mut Tree<Cursor<Vec<u8>>>,
    nodes: &BTreeMap<String, Node>,
    from: &mut impl Iterator<Item = Contents>,
) {
    for (name, node) in nodes {
        let name = name.as_bytes();
        match node {
            Node::File(_) => drop(tree.file(name, META, from.next().unwrap(), 1).unwrap()),
            Node::Symlink(target) => drop(tree.symlink(name, META, target.as_bytes(), 1).unwrap()),
            Node::Fifo => drop(tree.special(name, META, Special::Fifo, 1).unwrap()),
            Node::Directory(nodes) => {
                tree.enter(name, META).unwrap();
                names(tree, nodes, from);
                tree.leave().unwrap();
            }
        }
    }
}

/// Blocks so small that most files have some.
const SMALL: Options = Options { block_size: 4096, level: Some(1), threads: 1 };

fn image(nodes: &BTreeMap<String, Node>, threads: usize) -> Vec<u8> {
    image_with(nodes, Options { threads, ..SMALL })
}

fn image_with(nodes: &BTreeMap<String, Node>, options: Options) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), options).unwrap();
    let mut all = Vec::new();
    contents(&mut writer, nodes, &mut all);
    let mut tree = writer.into_tree().unwrap();
    tree.enter(b"", META).unwrap();
    names(&mut tree, nodes, &mut all.into_iter());
    tree.leave().unwrap();
    cut(tree)
}

/// The image alone.
fn cut(tree: Tree<Cursor<Vec<u8>>>) -> Vec<u8> {
    let (out, size) = tree.finish().unwrap();
    let mut image = out.into_inner();
    image.truncate(size as usize);
    image
}

fn flatten(at: &str, nodes: &BTreeMap<String, Node>, out: &mut BTreeMap<String, Option<Vec<u8>>>) {
    for (name, node) in nodes {
        let path = format!("{at}/{name}");
        match node {
            Node::File(pieces) => drop(out.insert(path, Some(bytes(pieces)))),
            Node::Symlink(target) => drop(out.insert(path, Some(target.clone().into_bytes()))),
            Node::Fifo => drop(out.insert(path, None)),
            Node::Directory(nodes) => {
                out.insert(path.clone(), None);
                flatten(&path, nodes, out);
            }
        }
    }
}

fn read_back(image: Vec<u8>) -> BTreeMap<String, Option<Vec<u8>>> {
    let reader = FilesystemReader::from_reader(Cursor::new(image)).unwrap();
    let mut found = BTreeMap::new();
    for node in reader.files().filter(|node| node.fullpath.as_os_str() != "/") {
        let header = node.header;
        let meta = (header.permissions, header.uid, header.gid, header.mtime);
        let link = matches!(node.inner, InnerNode::Symlink(_));
        assert_eq!(meta, (if link { 0o777 } else { META.mode }, META.uid, META.gid, META.mtime));
        let bytes = match &node.inner {
            InnerNode::File(file) => {
                let mut bytes = Vec::new();
                reader.file(file).reader().read_to_end(&mut bytes).unwrap();
                Some(bytes)
            }
            InnerNode::Symlink(link) => Some(link.link.to_str().unwrap().as_bytes().to_vec()),
            _ => None,
        };
        found.insert(node.fullpath.to_str().unwrap().to_owned(), bytes);
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn another_reader_finds_what_was_written(nodes in tree()) {
        let mut expected = BTreeMap::new();
        flatten("", &nodes, &mut expected);
        prop_assert_eq!(read_back(image(&nodes, 2)), expected);
    }

    #[test]
    fn the_image_does_not_depend_on_the_threads(nodes in tree()) {
        prop_assert_eq!(image(&nodes, 1), image(&nodes, 4));
    }
}

/// Bytes that do not compress, of which `seed` says which.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = seed;
    let next = |_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 56) as u8
    };
    (0..length).map(next).collect()
}

fn tree_of(files: impl Iterator<Item = Vec<u8>>) -> BTreeMap<String, Node> {
    let file = |bytes| Node::File(vec![Piece::Bytes(bytes)]);
    files.enumerate().map(|(n, bytes)| (format!("file-{n:04}"), file(bytes))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn files_that_come_again_are_read_back_as_they_are(
        files in prop::collection::vec((0..4u64, prop::sample::select(vec![0, 1, 900, 4095, 4096, 4097, 9000, 12_288])), 0..40),
        threads in 1usize..4,
    ) {
        let nodes = tree_of(files.into_iter().map(|(seed, length)| match seed {
            // Some are empty blocks, or have them.
            0 => vec![0; length],
            1 => [vec![0; length / 4096 * 4096], noise(1, length % 4096)].concat(),
            seed => noise(seed, length),
        }));
        let mut expected = BTreeMap::new();
        flatten("", &nodes, &mut expected);
        prop_assert_eq!(read_back(image(&nodes, threads)), expected);
    }
}

#[test]
fn a_file_that_comes_again_takes_no_place() {
    for length in [3000, 4096, 50_000] {
        let files = |copies: u64| {
            // Many others between, so that it is not in memory any more.
            let others = (10..60).map(|seed| noise(seed, 3000));
            let nodes = tree_of((0..copies).map(|_| noise(7, length)).chain(others));
            image(&nodes, 2).len()
        };
        // Names and inodes are all that is added.
        assert!(files(40) - files(1) < 2000 + 4096, "{length}: {} and {}", files(1), files(40));
    }
    // A difference in the last byte is one.
    for length in [3000, 50_000] {
        let mut other = noise(7, length);
        other[length - 1] ^= 1;
        let nodes = tree_of([noise(7, length), other].into_iter());
        let mut expected = BTreeMap::new();
        flatten("", &nodes, &mut expected);
        assert_eq!(read_back(image(&nodes, 2)), expected);
    }
}

#[test]
fn contents_may_be_left_as_they_are() {
    let nodes = tree_of([vec![7; 50_000], vec![8; 300]].into_iter());
    let mut expected = BTreeMap::new();
    flatten("", &nodes, &mut expected);
    let plain = image_with(&nodes, Options { level: None, threads: 2, ..SMALL });
    assert!(plain.len() > 50_000);
    assert_eq!(read_back(plain), expected);
}

#[test]
fn a_large_directory_is_read_back_whole() {
    let nodes = (0..20_000).map(|n| (format!("entry-number-{n}"), Node::Fifo)).collect();
    let mut expected = BTreeMap::new();
    flatten("", &nodes, &mut expected);
    assert_eq!(read_back(image(&nodes, 2)), expected);
}

#[test]
fn names_that_are_none_or_come_twice_are_refused() {
    let mut writer = Writer::new(Cursor::new(Vec::new()), Options::default()).unwrap();
    writer.begin().unwrap();
    let contents = writer.end().unwrap();
    let mut tree = writer.into_tree().unwrap();
    assert!(tree.file(b"x", META, contents, 1).is_err(), "outside of the root");
    tree.enter(b"", META).unwrap();
    let long = [b'x'; 256];
    for bad in [&b""[..], b".", b"..", b"a/b", b"a\0", &long] {
        assert!(tree.file(bad, META, contents, 1).is_err());
        assert!(tree.enter(bad, META).is_err());
    }
    tree.file(b"b", META, contents, 1).unwrap();
    for late in [b"a", b"b"] {
        assert!(tree.file(late, META, contents, 1).is_err());
    }
    assert!(tree.symlink(b"c", META, b"", 1).is_err());
    assert!(tree.symlink(b"c", META, &[b'x'; 4096], 1).is_err());
    assert!(tree.file(b"c", META, Contents(1), 1).is_err(), "contents that are not there");
}

#[test]
fn the_number_of_names_must_be_what_was_announced() {
    for names in 1..4u8 {
        let mut tree =
            Writer::new(Cursor::new(Vec::new()), Options::default()).unwrap().into_tree().unwrap();
        tree.enter(b"", META).unwrap();
        let inode = tree.special(b"a", META, Special::Fifo, 2).unwrap();
        let more = (1..names).try_for_each(|n| tree.link(&[b'a' + n], inode));
        assert_eq!(more.is_ok(), names <= 2);
        tree.leave().unwrap();
        assert_eq!(tree.finish().is_ok(), names >= 2);
    }
}

#[test]
fn the_number_of_a_device_is_told_as_linux_does() {
    for (major, minor, number) in [(1, 3, 0x103), (8, 17, 0x811), (0xfff, 0xfffff, u32::MAX)] {
        let device = Device::new(major, minor).unwrap();
        assert_eq!((device.0, device.major(), device.minor()), (number, major, minor));
    }
    assert_eq!((Device::new(1 << 12, 0), Device::new(0, 1 << 20)), (None, None));
}

#[test]
fn attributes_that_no_kernel_takes_are_refused() {
    let mut tree =
        Writer::new(Cursor::new(Vec::new()), Options::default()).unwrap().into_tree().unwrap();
    let one = |name: &[u8], bytes| Xattrs::from([(name.to_vec(), vec![1; bytes])]);
    for bad in
        [Xattrs::new(), one(b"", 1), one(b"a\0", 1), one(&[b'x'; 251], 1), one(b"a", 1 << 16)]
    {
        assert!(tree.xattrs(&bad).is_err());
    }
    assert_eq!(tree.xattrs(&one(b"a", (1 << 16) - 1)).unwrap(), 1);
    assert!(tree.enter(b"", META).is_ok());
    assert!(tree.special(b"x", Meta { xattrs: 2, ..META }, Special::Fifo, 1).is_err());
}

#[test]
fn an_image_with_attributes_and_devices_is_read_by_who_knows_neither() {
    let mut tree =
        Writer::new(Cursor::new(Vec::new()), Options::default()).unwrap().into_tree().unwrap();
    // More than one block of each table.
    for n in 0..2000u32 {
        tree.xattrs(&Xattrs::from([(b"n".to_vec(), n.to_le_bytes().to_vec())])).unwrap();
    }
    tree.enter(b"", Meta { xattrs: 2000, ..META }).unwrap();
    let device = Device::new(8, 300).unwrap();
    tree.special(b"block", META, Special::Block(device), 1).unwrap();
    tree.special(b"character", META, Special::Character(device), 1).unwrap();
    tree.leave().unwrap();
    let reader = FilesystemReader::from_reader(Cursor::new(cut(tree))).unwrap();
    let numbers: Vec<_> = reader
        .files()
        .filter_map(|node| match &node.inner {
            InnerNode::BlockDevice(block) => Some(block.device_number),
            InnerNode::CharacterDevice(character) => Some(character.device_number),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, [device.0, device.0]);
}
