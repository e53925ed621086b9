//! What a layer says, entry by entry, without the contents; kept until all layers are read.
//!
//! Of an image with a million files these are a million entries, so they are kept as bytes: a
//! path as what it has that the one before has not, owner and mode as a number, time and
//! contents as the difference to the entry before.

use std::collections::{HashMap, VecDeque};

use squashfs::{Device, Meta, Special};
use udi::{Error, Result};

/// One entry of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    /// Relative to the root, which is the empty path; no component is empty, `.` or `..`.
    pub(crate) path: &'a [u8],
    pub(crate) meta: Meta,
    pub(crate) what: What<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What<'a> {
    Directory,
    /// The number of the contents that the writer has, if it has them.
    File(Option<u32>),
    Symlink(&'a [u8]),
    /// Another name for what stands at this path.
    Hardlink(&'a [u8]),
    Special(Special),
    /// A device node that is not kept: it hides what was there, and is not in the image.
    Device,
    /// What lower layers have at this path is not there.
    Whiteout,
    /// What lower layers have in this directory is not there.
    Opaque,
}

/// The entries of one layer, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    chunks: VecDeque<Vec<u8>>,
    owners: Owners,
    /// The entry before.
    last: Last,
}

/// Bytes of a chunk, about: each is given back when it has been read.
const CHUNK: usize = 1 << 20;

/// What differences are taken of.
#[derive(Clone, Debug, Default)]
struct Last {
    path: Vec<u8>,
    mtime: u32,
    contents: u32,
}

/// Who may do what with a file, and its attributes: of a million files there are a few.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners {
    all: Vec<(u16, u32, u32, u32)>,
    numbers: HashMap<(u16, u32, u32, u32), u32>,
}

impl Owners {
    pub(crate) fn number(&mut self, meta: Meta) -> u32 {
        let owner = (meta.mode, meta.uid, meta.gid, meta.xattrs);
        // Fewer than there are entries, which are fewer than 2^32.
        *self.numbers.entry(owner).or_insert_with(|| {
            self.all.push(owner);
            self.all.len() as u32 - 1
        })
    }

    pub(crate) fn meta(&self, number: u32, mtime: u32) -> Meta {
        let (mode, uid, gid, xattrs) = self.all.get(number as usize).copied().unwrap_or_default();
        Meta { mode, uid, gid, mtime, xattrs }
    }
}

impl Layer {
    pub(crate) fn push(&mut self, item: Item<'_>) -> Result<()> {
        let (kind, target) = match item.what {
            What::Directory => (0, None),
            What::File(_) => (1, None),
            What::Symlink(target) => (2, Some(target)),
            What::Hardlink(target) => (3, Some(target)),
            What::Special(Special::Fifo) => (4, None),
            What::Special(Special::Socket) => (5, None),
            What::Device => (6, None),
            What::Whiteout => (7, None),
            What::Opaque => (8, None),
            What::Special(Special::Character(_)) => (9, None),
            What::Special(Special::Block(_)) => (10, None),
        };
        if item.path.len().max(target.map_or(0, <[u8]>::len)) > squashfs::TARGET_MAX {
            return Err(Error::user("a name is too long"));
        }
        if self.chunks.back().is_none_or(|chunk| chunk.len() >= CHUNK) {
            self.chunks.push_back(Vec::with_capacity(CHUNK + 2 * squashfs::TARGET_MAX + 64));
        }
        let owner = self.owners.number(item.meta);
        let Some(to) = self.chunks.back_mut() else { return Ok(()) };
        let last = &mut self.last;
        let same = last.path.iter().zip(item.path).take_while(|(a, b)| a == b).count();
        to.push(kind);
        put(to, same as u64);
        text(to, &item.path[same..]);
        put(to, u64::from(owner));
        put(to, difference(item.meta.mtime, last.mtime));
        if let Some(target) = target {
            text(to, target);
        }
        if let What::Special(Special::Character(device) | Special::Block(device)) = item.what {
            put(to, u64::from(device.0));
        }
        if let What::File(contents) = item.what {
            put(to, contents.map_or(0, |contents| 1 + difference(contents, last.contents)));
            last.contents = contents.unwrap_or(last.contents);
        }
        last.mtime = item.meta.mtime;
        last.path.truncate(same);
        last.path.extend(&item.path[same..]);
        Ok(())
    }

    /// Hands out all entries, in order; what was handed out takes no memory any more.
    pub(crate) fn each(mut self, mut see: impl FnMut(Item<'_>) -> Result<()>) -> Result<()> {
        let mut last = Last::default();
        while let Some(chunk) = self.chunks.pop_front() {
            let mut bytes = &chunk[..];
            while !bytes.is_empty() {
                see(last.next(&mut bytes, &self.owners)?)?;
            }
        }
        Ok(())
    }
}

impl Last {
    fn next<'a, 'b: 'a>(&'a mut self, bytes: &mut &'b [u8], owners: &Owners) -> Result<Item<'a>> {
        let broken = || Error::bug("the list of a layer's entries is broken");
        let kind = bytes.split_off_first().copied().ok_or_else(broken)?;
        let mut field = || take(bytes).ok_or_else(broken);
        let (same, length) = (field()? as usize, field()? as usize);
        self.path.truncate(same);
        self.path.extend(bytes.split_off(..length).ok_or_else(broken)?);
        let mut field = || take(bytes).ok_or_else(broken);
        let owner = field()? as u32;
        self.mtime = sum(self.mtime, field()?);
        let mut target = || {
            let length = take(bytes).ok_or_else(broken)? as usize;
            bytes.split_off(..length).ok_or_else(broken)
        };
        let what = match kind {
            0 => What::Directory,
            1 => What::File(match take(bytes).ok_or_else(broken)? {
                0 => None,
                number => {
                    self.contents = sum(self.contents, number - 1);
                    Some(self.contents)
                }
            }),
            2 => What::Symlink(target()?),
            3 => What::Hardlink(target()?),
            4 => What::Special(Special::Fifo),
            5 => What::Special(Special::Socket),
            6 => What::Device,
            7 => What::Whiteout,
            8 => What::Opaque,
            9 => What::Special(Special::Character(Device(take(bytes).ok_or_else(broken)? as u32))),
            10 => What::Special(Special::Block(Device(take(bytes).ok_or_else(broken)? as u32))),
            _ => return Err(broken()),
        };
        Ok(Item { path: &self.path, meta: owners.meta(owner, self.mtime), what })
    }
}

/// A number in as many bytes as it needs, seven bits in each.
fn put(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn take(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *from.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn text(to: &mut Vec<u8>, text: &[u8]) {
    put(to, text.len() as u64);
    to.extend(text);
}

/// What leads from `old` to `new`: small if they are close, whichever is larger.
fn difference(new: u32, old: u32) -> u64 {
    let difference = i64::from(new) - i64::from(old);
    ((difference << 1) ^ (difference >> 63)) as u64
}

fn sum(old: u32, difference: u64) -> u32 {
    let difference = (difference >> 1) as i64 ^ -((difference & 1) as i64);
    (i64::from(old) + difference) as u32
}

/// The components of a path in an archive, joined by single slashes; the root is empty.
///
/// What leads out of the image is an error, never repaired: an archive that has it was made
/// to do harm, or by something that will surprise its user anyway.
pub(crate) fn clean(path: &[u8], absolute: bool) -> Result<Vec<u8>> {
    let shown = || String::from_utf8_lossy(path).into_owned();
    let is_root = path.iter().all(|&b| b == b'/');
    if path.first() == Some(&b'/') && !is_root && !absolute {
        return Err(Error::user(format!("{}: an absolute name", shown())));
    }
    let mut clean = Vec::with_capacity(path.len());
    for component in path.split(|&b| b == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(Error::user(format!("{}: leads out of the image", shown()))),
            _ => {}
        }
        if component.len() > squashfs::NAME_MAX || component.contains(&0) {
            return Err(Error::user(format!("{}: not a file name", shown())));
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend(component);
    }
    if clean.len() > squashfs::TARGET_MAX {
        return Err(Error::user(format!("{}…: too long", String::from_utf8_lossy(&clean[..64]))));
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_lead_out_of_the_image_are_refused() {
        for bad in ["../x", "a/../../x", "a/..", "/etc/passwd", "..", "a\0b", &"x".repeat(256)] {
            assert!(clean(bad.as_bytes(), false).is_err(), "{bad}");
        }
        for (name, meant) in
            [("./a/b/", "a/b"), ("a//b", "a/b"), ("./", ""), ("/", ""), (".", ""), ("..a", "..a")]
        {
            assert_eq!(clean(name.as_bytes(), false).unwrap(), meant.as_bytes(), "{name}");
        }
        assert_eq!(clean(b"/a/b", true).unwrap(), b"a/b");
    }

    proptest! {
        #[test]
        fn a_clean_path_has_plain_components_only(path: Vec<u8>, absolute: bool) {
            if let Ok(clean) = clean(&path, absolute)
                && !clean.is_empty()
            {
                for component in clean.split(|&b| b == b'/') {
                    let plain = !matches!(component, b"" | b"." | b"..") && !component.contains(&0);
                    prop_assert!(plain);
                }
            }
        }

        #[test]
        fn entries_come_back_as_they_were(
            entries in prop::collection::vec(("[a-c/]{0,6}", "[a-z/]{1,20}", any::<u32>(), any::<(u16, u32, u32, u32)>(), 0u8..11), 0..20),
        ) {
            let items: Vec<Item<'_>> = entries.iter().map(|(path, target, number, (mode, uid, gid, xattrs), kind)| {
                let what = match kind {
                    0 => What::File(Some(*number)),
                    1 => What::File(None),
                    2 => What::Symlink(target.as_bytes()),
                    3 => What::Hardlink(target.as_bytes()),
                    4 => What::Directory,
                    5 => What::Device,
                    6 => What::Whiteout,
                    7 => What::Opaque,
                    8 => What::Special(Special::Character(Device(*number))),
                    9 => What::Special(Special::Block(Device(*number))),
                    _ => What::Special(Special::Socket),
                };
                Item { path: path.as_bytes(), meta: Meta { mode: *mode, uid: *uid, gid: *gid, mtime: *number, xattrs: *xattrs }, what }
            }).collect();
            let mut layer = Layer::default();
            for item in &items {
                layer.push(*item).unwrap();
            }
            let mut expected = items.iter();
            layer.each(|item| {
                assert_eq!(Some(&item), expected.next());
                Ok(())
            }).unwrap();
            prop_assert!(expected.next().is_none());
        }
    }
}
