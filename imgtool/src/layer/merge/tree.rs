//! A tree of names in as little memory as a million of them ask for: some 60 bytes each.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use squashfs::{Device, Meta, Special};
use udi::{Error, Result};

use super::Origin;
use crate::layer::record::Owners;

/// A file, directory or link: what several names may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Inode(u32);

impl Inode {
    pub(super) const ROOT: Self = Self(0);

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u32);

/// A place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// The number of its contents.
    File(u32),
    /// A file whose contents were not sent.
    Missing(Origin),
    Symlink(Text),
    Special(Special),
    Device,
}

#[derive(Clone, Copy, Debug)]
struct InodeData {
    owner: u32,
    mtime: u32,
    /// Of a directory the first entry, of a file the contents or the record, of a link the target, of
    /// a device its number.
    what: u32,
    layer: u16,
    tag: Tag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Directory,
    File,
    Missing,
    Symlink,
    Fifo,
    Socket,
    Character,
    Block,
    Device,
}

#[derive(Clone, Copy, Debug)]
struct EntryData {
    parent: u32,
    /// The next one of the directory.
    next: u32,
    name: Text,
    /// `NONE` if it was removed: the name may come back.
    inode: u32,
    /// The last layer that had this name, or something below it.
    layer: u16,
}

const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Tree {
    inodes: Vec<InodeData>,
    entries: Vec<EntryData>,
    /// Names and targets, each behind its length.
    text: Vec<u8>,
    owners: Owners,
    /// All entries, by directory and name. Names are an attacker's: the hash has a key.
    names: HashTable<u32>,
    key: RandomState,
}

impl Tree {
    pub(super) fn new(root: Meta) -> Self {
        let mut owners = Owners::default();
        let owner = owners.number(root);
        let root =
            InodeData { owner, mtime: root.mtime, what: NONE, layer: 0, tag: Tag::Directory };
        Self {
            inodes: vec![root],
            entries: Vec::new(),
            text: Vec::new(),
            owners,
            names: HashTable::new(),
            key: RandomState::new(),
        }
    }

    pub(super) fn add(&mut self, meta: Meta, kind: Kind) -> Result<Inode> {
        let (tag, what, layer) = match kind {
            Kind::Directory => (Tag::Directory, NONE, 0),
            Kind::File(contents) => (Tag::File, contents, 0),
            Kind::Missing(origin) => (Tag::Missing, origin.record, origin.layer),
            Kind::Symlink(target) => (Tag::Symlink, target.0, 0),
            Kind::Special(Special::Fifo) => (Tag::Fifo, 0, 0),
            Kind::Special(Special::Socket) => (Tag::Socket, 0, 0),
            Kind::Special(Special::Character(device)) => (Tag::Character, device.0, 0),
            Kind::Special(Special::Block(device)) => (Tag::Block, device.0, 0),
            Kind::Device => (Tag::Device, 0, 0),
        };
        let number = number(self.inodes.len())?;
        let owner = self.owners.number(meta);
        self.inodes.push(InodeData { owner, mtime: meta.mtime, what, layer, tag });
        Ok(Inode(number))
    }

    pub(super) fn symlink(&mut self, meta: Meta, target: &[u8]) -> Result<Inode> {
        let text = self.keep(target)?;
        self.add(meta, Kind::Symlink(text))
    }

    /// The number of inodes that there ever were.
    pub(super) fn len(&self) -> usize {
        self.inodes.len()
    }

    pub(super) fn meta(&self, inode: Inode) -> Meta {
        let inode = &self.inodes[inode.index()];
        self.owners.meta(inode.owner, inode.mtime)
    }

    pub(super) fn set_meta(&mut self, inode: Inode, meta: Meta) {
        let owner = self.owners.number(meta);
        let inode = &mut self.inodes[inode.index()];
        (inode.owner, inode.mtime) = (owner, meta.mtime);
    }

    pub(super) fn set_contents(&mut self, inode: Inode, contents: u32) {
        let inode = &mut self.inodes[inode.index()];
        (inode.tag, inode.what) = (Tag::File, contents);
    }

    pub(super) fn kind(&self, inode: Inode) -> Kind {
        let InodeData { what, layer, tag, .. } = self.inodes[inode.index()];
        match tag {
            Tag::Directory => Kind::Directory,
            Tag::File => Kind::File(what),
            Tag::Missing => Kind::Missing(Origin { layer, record: what }),
            Tag::Symlink => Kind::Symlink(Text(what)),
            Tag::Fifo => Kind::Special(Special::Fifo),
            Tag::Socket => Kind::Special(Special::Socket),
            Tag::Character => Kind::Special(Special::Character(Device(what))),
            Tag::Block => Kind::Special(Special::Block(Device(what))),
            Tag::Device => Kind::Device,
        }
    }

    pub(super) fn is_directory(&self, inode: Inode) -> bool {
        self.inodes[inode.index()].tag == Tag::Directory
    }

    /// Where a symbolic link points.
    pub(super) fn target(&self, target: Text) -> &[u8] {
        self.text(target)
    }

    pub(super) fn inode(&self, entry: Entry) -> Inode {
        Inode(self.entries[entry.0 as usize].inode)
    }

    pub(super) fn name(&self, entry: Entry) -> &[u8] {
        self.text(self.entries[entry.0 as usize].name)
    }

    pub(super) fn layer(&self, entry: Entry) -> u16 {
        self.entries[entry.0 as usize].layer
    }

    pub(super) fn touch(&mut self, entry: Entry, layer: u16) {
        self.entries[entry.0 as usize].layer = layer;
    }

    pub(super) fn find(&self, directory: Inode, name: &[u8]) -> Option<Entry> {
        self.slot(directory, name).filter(|entry| self.entries[entry.0 as usize].inode != NONE)
    }

    /// Gives `inode` this name, whatever had it before. Sorting is left for later.
    pub(super) fn insert(&mut self, directory: Inode, name: &[u8], inode: Inode) -> Result<Entry> {
        if let Some(entry) = self.slot(directory, name) {
            self.entries[entry.0 as usize].inode = inode.0;
            return Ok(entry);
        }
        let number = number(self.entries.len())?;
        let name_text = self.keep(name)?;
        let next = std::mem::replace(&mut self.inodes[directory.index()].what, number);
        let parent = directory.0;
        self.entries.push(EntryData { parent, next, name: name_text, inode: inode.0, layer: 0 });
        let (entries, text, key) = (&self.entries, &self.text, &self.key);
        self.names.insert_unique(hash(key, parent, name), number, |&other| {
            let other = &entries[other as usize];
            hash(key, other.parent, at(text, other.name))
        });
        Ok(Entry(number))
    }

    pub(super) fn remove(&mut self, entry: Entry) {
        self.entries[entry.0 as usize].inode = NONE;
    }

    /// Removes all names of a directory that `layer` has not touched.
    pub(super) fn retain(&mut self, directory: Inode, layer: u16) {
        let mut at = self.inodes[directory.index()].what;
        while let Some(entry) = self.entries.get_mut(at as usize) {
            if entry.layer != layer {
                entry.inode = NONE;
            }
            at = entry.next;
        }
    }

    pub(super) fn children(&self, directory: Inode) -> impl Iterator<Item = Entry> {
        let InodeData { what, tag, .. } = self.inodes[directory.index()];
        let mut at = if tag == Tag::Directory { what } else { NONE };
        std::iter::from_fn(move || {
            let found = at;
            at = self.entries.get(found as usize)?.next;
            Some(Entry(found))
        })
        .filter(|entry| self.entries[entry.0 as usize].inode != NONE)
    }

    /// Calls `see` for each name of the tree.
    pub(super) fn visit(&self, directory: Inode, see: &mut impl FnMut(Inode)) {
        for entry in self.children(directory) {
            see(self.inode(entry));
            self.visit(self.inode(entry), see);
        }
    }

    /// Puts the names of each directory in order. The table of names stays: some may follow.
    pub(super) fn sort(&mut self) {
        for number in 0..self.inodes.len() as u32 {
            self.sort_directory(Inode(number));
        }
    }

    pub(super) fn sort_directory(&mut self, directory: Inode) {
        if !self.is_directory(directory) {
            return;
        }
        let mut all: Vec<Entry> = self.children(directory).collect();
        all.sort_unstable_by(|a, b| self.name(*a).cmp(self.name(*b)));
        let mut next = NONE;
        for entry in all.into_iter().rev() {
            self.entries[entry.0 as usize].next = next;
            next = entry.0;
        }
        self.inodes[directory.index()].what = next;
    }

    /// All inodes, whether they have a name or not.
    pub(super) fn inodes(&self) -> impl Iterator<Item = Inode> + use<> {
        (0..self.inodes.len() as u32).map(Inode)
    }

    fn slot(&self, directory: Inode, name: &[u8]) -> Option<Entry> {
        let hash = hash(&self.key, directory.0, name);
        let found = self.names.find(hash, |&entry| {
            let entry = &self.entries[entry as usize];
            entry.parent == directory.0 && self.text(entry.name) == name
        });
        found.map(|entry| Entry(*entry))
    }

    fn keep(&mut self, text: &[u8]) -> Result<Text> {
        let place = u32::try_from(self.text.len())
            .map_err(|_| Error::user("the image's file names have more than 4 GiB"))?;
        let length = u16::try_from(text.len()).map_err(|_| Error::user("a name is too long"))?;
        self.text.extend(length.to_le_bytes());
        self.text.extend(text);
        Ok(Text(place))
    }

    fn text(&self, text: Text) -> &[u8] {
        at(&self.text, text)
    }
}

fn at(all: &[u8], text: Text) -> &[u8] {
    let rest = &all[text.0 as usize..];
    match rest.split_first_chunk() {
        Some((length, rest)) => &rest[..usize::from(u16::from_le_bytes(*length))],
        None => &[],
    }
}

fn hash(key: &RandomState, directory: u32, name: &[u8]) -> u64 {
    key.hash_one((directory, name))
}

fn number(length: usize) -> Result<u32> {
    let number = u32::try_from(length).ok().filter(|&number| number != NONE);
    number.ok_or_else(|| Error::user("too many files"))
}
