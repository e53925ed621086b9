//! Inodes as bytes.

use std::io;

use crate::data::{Extent, NO_FRAGMENT};
use crate::invalid;
use crate::metadata::Place;

/// What every inode says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Meta {
    /// Permission bits, set-user-ID, set-group-ID, sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change, in seconds since 1970.
    pub mtime: u32,
    /// The set of extended attributes, as [`crate::Tree::xattrs`] numbers them, or 0. Only
    /// files and directories have those of users.
    pub xattrs: u32,
}

/// The number of a device, as Linux stores it: 12 bits major, 20 bits minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device(pub u32);

impl Device {
    /// Nothing for numbers that Linux does not have.
    pub fn new(major: u32, minor: u32) -> Option<Self> {
        let fits = major < 1 << 12 && minor < 1 << 20;
        fits.then_some(Self(minor & 0xff | major << 8 | (minor & !0xff) << 12))
    }

    /// The driver's number.
    pub fn major(self) -> u32 {
        self.0 >> 8 & 0xfff
    }

    /// The device's number for its driver.
    pub fn minor(self) -> u32 {
        self.0 & 0xff | self.0 >> 12 & !0xff
    }
}

/// What is neither file, directory nor link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    Character(Device),
    /// A block device.
    Block(Device),
}

/// The type as directory entries have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory = 1,
    File = 2,
    Symlink = 3,
    Block = 4,
    Character = 5,
    Fifo = 6,
    Socket = 7,
}

const EXTENDED: u16 = 7;

/// The common start of an inode; `ids` are places in the id table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) meta: Meta,
    pub(crate) uid: u16,
    pub(crate) gid: u16,
    pub(crate) number: u32,
}

impl Head {
    fn write(&self, to: &mut Vec<u8>, kind: u16) {
        to.extend(kind.to_le_bytes());
        to.extend((self.meta.mode & 0o7777).to_le_bytes());
        to.extend(self.uid.to_le_bytes());
        to.extend(self.gid.to_le_bytes());
        to.extend(self.meta.mtime.to_le_bytes());
        to.extend(self.number.to_le_bytes());
    }

    /// The place of its extended attributes; all ones if it has none.
    fn xattrs(&self) -> u32 {
        self.meta.xattrs.wrapping_sub(1)
    }

    pub(crate) fn file(&self, extent: &Extent, words: &[u32], links: u32) -> Vec<u8> {
        let mut to = Vec::with_capacity(64 + words.len() * 4);
        let basic = links == 1 && extent.sparse == 0 && self.meta.xattrs == 0;
        match (u32::try_from(extent.start), u32::try_from(extent.size)) {
            (Ok(start), Ok(size)) if basic => {
                self.write(&mut to, Kind::File as u16);
                for field in [start, extent.fragment, extent.offset, size] {
                    to.extend(field.to_le_bytes());
                }
            }
            _ => {
                self.write(&mut to, Kind::File as u16 + EXTENDED);
                for field in [extent.start, extent.size, extent.sparse] {
                    to.extend(field.to_le_bytes());
                }
                for field in [links, extent.fragment, extent.offset, self.xattrs()] {
                    to.extend(field.to_le_bytes());
                }
            }
        }
        debug_assert!(extent.fragment == NO_FRAGMENT || words.is_empty());
        words.iter().for_each(|word| to.extend(word.to_le_bytes()));
        to
    }

    pub(crate) fn symlink(&self, target: &[u8], links: u32) -> io::Result<Vec<u8>> {
        if target.is_empty() || target.len() > crate::TARGET_MAX || target.contains(&0) {
            return Err(invalid("not a symbolic link's target"));
        }
        let mut to = Vec::with_capacity(24 + target.len());
        self.write(&mut to, Kind::Symlink as u16);
        to.extend(links.to_le_bytes());
        to.extend((target.len() as u32).to_le_bytes());
        to.extend(target);
        Ok(to)
    }

    pub(crate) fn special(&self, kind: Kind, device: Option<Device>, links: u32) -> Vec<u8> {
        let mut to = Vec::with_capacity(24);
        self.write(&mut to, kind as u16);
        to.extend(links.to_le_bytes());
        if let Some(device) = device {
            to.extend(device.0.to_le_bytes());
        }
        to
    }

    /// `length` is that of the listing, at `place`; `index` its index.
    pub(crate) fn directory(
        &self,
        place: Place,
        length: u32,
        links: u32,
        parent: u32,
        index: &Index,
    ) -> io::Result<Vec<u8>> {
        // The listing does not hold "." and "..": readers count three bytes for them.
        let size = length.checked_add(3).ok_or_else(|| invalid("a directory is too large"))?;
        let mut to = Vec::with_capacity(40 + index.bytes.len());
        match u16::try_from(size) {
            Ok(size) if index.count == 0 && self.meta.xattrs == 0 => {
                self.write(&mut to, Kind::Directory as u16);
                to.extend(place.block.to_le_bytes());
                to.extend(links.to_le_bytes());
                to.extend(size.to_le_bytes());
                to.extend(place.offset.to_le_bytes());
                to.extend(parent.to_le_bytes());
            }
            _ => {
                self.write(&mut to, Kind::Directory as u16 + EXTENDED);
                for field in [links, size, place.block, parent] {
                    to.extend(field.to_le_bytes());
                }
                to.extend(index.count.to_le_bytes());
                to.extend(place.offset.to_le_bytes());
                to.extend(self.xattrs().to_le_bytes());
                to.extend(&index.bytes);
            }
        }
        Ok(to)
    }
}

/// The index of a large directory: which metadata block starts with which name.
#[derive(Debug, Default)]
pub(crate) struct Index {
    count: u16,
    bytes: Vec<u8>,
}

impl Index {
    /// The header at `offset` of the listing, in the metadata block `block`, is followed by
    /// `name`. What does not fit any more is found by reading on from the last entry.
    pub(crate) fn add(&mut self, offset: u32, block: u32, name: &[u8]) {
        let Some(count) = self.count.checked_add(1) else { return };
        self.count = count;
        self.bytes.extend(offset.to_le_bytes());
        self.bytes.extend(block.to_le_bytes());
        self.bytes.extend((name.len() as u32 - 1).to_le_bytes());
        self.bytes.extend(name);
    }
}
