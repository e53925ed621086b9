//! Squashfs files of users: parsed here, and written again by the store's owner.
//!
//! Nobody's own file is ever mounted: the kernel trusts what it mounts.

use backhand::{BackhandError, FilesystemReader, InnerNode, Node, Squashfs, SquashfsFileReader};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use squashfs::{Device, Meta, Special};
use udi::{Error, Result};

use super::archive::Section;
use super::sif;
use crate::layer::archive::Contents;
use crate::layer::record::{Item, What, clean};
use crate::layer::sparse::Map;

/// Bytes of fragments that the parser may keep.
const FRAGMENTS: usize = 64 << 20;
/// The index of no fragment.
const NO_FRAGMENT: usize = 0xffff_ffff;

/// Takes an entry, and its contents if it is a file.
type Visitor<'a> = dyn FnMut(Item<'_>, Option<&mut Contents<'_>>) -> Result<()> + 'a;

/// Hands out what is in the squashfs file, or in the one that an Apptainer image has inside.
/// Messages call it `path`. Device nodes are told as such only if `devices`.
pub(crate) fn read(file: File, path: &str, devices: bool, visit: &mut Visitor<'_>) -> Result<()> {
    let cannot = |e| Error::user(format!("{path} cannot be read")).because(e);
    let length = file.metadata().map_err(cannot)?.len();
    let mut start =
        vec![0; usize::try_from(length).map_or(sif::MAX_HEAD, |l| l.min(sif::MAX_HEAD))];
    file.read_exact_at(&mut start, 0).map_err(cannot)?;
    let payload = sif::payload(&start, length).map_err(|e| e.about(format!("{path}: ")))?;
    let (file, range) = (Arc::new(file), payload.unwrap_or((0, length)));
    // The parser is somebody else's, and its input may be anything.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut visit = |item: Item<'_>, contents: Option<&mut Contents<'_>>| match item.what {
        What::Special(Special::Character(_) | Special::Block(_)) if !devices => {
            visit(Item { what: What::Device, ..item }, contents)
        }
        _ => visit(item, contents),
    };
    let result = catch_unwind(AssertUnwindSafe(|| all(&file, range, path, &mut visit)));
    std::panic::set_hook(hook);
    result.unwrap_or_else(|_| {
        Err(Error::user(format!("{path} is broken, so that its parser gives up")))
    })
}

fn all(file: &Arc<File>, range: (u64, u64), path: &str, visit: &mut Visitor<'_>) -> Result<()> {
    let mut buffer = Vec::new();
    let mut done = 0;
    let mut links = Links::default();
    // The parser keeps each fragment block that it has read, for ever: when there are enough of
    // them, it starts anew.
    loop {
        let section = BufReader::new(Section::of(file, range.0, range.1));
        let system: FilesystemReader<'_> = Squashfs::from_reader_with_offset(section, 0)
            .and_then(Squashfs::into_filesystem_reader)
            .map_err(|e| broken(path, &e))?;
        let most = (FRAGMENTS / system.block_size.max(1) as usize).max(1);
        let mut kept = HashSet::new();
        let mut nodes = system.files().skip(done);
        loop {
            let Some(node) = nodes.next() else { return Ok(()) };
            add(&system, node, &mut buffer, &mut links, visit)?;
            done += 1;
            if let InnerNode::File(file) = &node.inner
                && file.frag_index() != NO_FRAGMENT
                && kept.insert(file.frag_index())
                && kept.len() >= most
            {
                break;
            }
        }
    }
}

fn add(
    system: &FilesystemReader<'_>,
    node: &Node<SquashfsFileReader>,
    buffer: &mut Vec<u8>,
    links: &mut Links,
    visit: &mut Visitor<'_>,
) -> Result<()> {
    let path = clean(node.fullpath.as_os_str().as_bytes(), true)?;
    let header = &node.header;
    let meta = Meta {
        mode: header.permissions & 0o7777,
        uid: header.uid,
        gid: header.gid,
        mtime: header.mtime,
        xattrs: 0,
    };
    let item = |what| Item { path: &path, meta, what };
    match &node.inner {
        InnerNode::File(file) => {
            if let Some(first) = links.first(file, &meta, &path) {
                return visit(item(What::Hardlink(&first)), None);
            }
            let size = file.file_len() as u64;
            let shown = || format!("/{}", String::from_utf8_lossy(&path));
            let mut data = system.file(file).reader_checked().map_err(|e| broken(&shown(), &e))?;
            let map = Map { size, pieces: vec![(0, size)] };
            let mut contents = Contents::of(&mut data, map, buffer);
            visit(item(What::File(None)), Some(&mut contents))
        }
        InnerNode::Symlink(link) => {
            visit(item(What::Symlink(link.link.as_os_str().as_bytes())), None)
        }
        InnerNode::Dir(_) => visit(item(What::Directory), None),
        InnerNode::NamedPipe => visit(item(What::Special(Special::Fifo)), None),
        InnerNode::Socket => visit(item(What::Special(Special::Socket)), None),
        InnerNode::CharacterDevice(device) => {
            visit(item(What::Special(Special::Character(Device(device.device_number)))), None)
        }
        InnerNode::BlockDevice(device) => {
            visit(item(What::Special(Special::Block(Device(device.device_number)))), None)
        }
    }
}

/// Files with several names.
///
/// The parser tells of each name as of a file of its own, with how many names it has. Names of
/// which all else is the same, too, and where its bytes are, are one file's.
#[derive(Debug, Default)]
struct Links {
    /// The first name, and how many are to come.
    known: HashMap<(Meta, [u64; 3]), (Vec<u8>, u32)>,
}

impl Links {
    /// The first name of the file, if this is another one.
    fn first(&mut self, file: &SquashfsFileReader, meta: &Meta, path: &[u8]) -> Option<Vec<u8>> {
        let SquashfsFileReader::Extended(inode) = file else { return None };
        if inode.link_count < 2 {
            return None;
        }
        let fragment = u64::from(inode.frag_index) << 32 | u64::from(inode.block_offset);
        let key = (*meta, [inode.blocks_start, fragment, inode.file_size]);
        match self.known.get_mut(&key) {
            Some((first, left)) => {
                let first = first.clone();
                *left -= 1;
                if *left == 0 {
                    // Those that come are of another file that is the same in all of this.
                    self.known.remove(&key);
                }
                Some(first)
            }
            None => {
                self.known.insert(key, (path.to_vec(), inode.link_count - 1));
                None
            }
        }
    }
}

fn broken(path: &str, error: &BackhandError) -> Error {
    let error = error.to_string();
    Error::user(format!("{path} is no squashfs file, or a broken one")).because(error)
}
