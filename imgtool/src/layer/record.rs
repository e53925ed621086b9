//! What a layer says, entry by entry, without the contents; kept until all layers are read.

use squashfs::{Meta, Special};
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
    /// A device node: it hides what was there, and is not in the image.
    Device,
    /// What lower layers have at this path is not there.
    Whiteout,
    /// What lower layers have in this directory is not there.
    Opaque,
}

/// The entries of one layer, in order.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    /// Paths and targets, one after another.
    text: Vec<u8>,
    records: Vec<Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    at: u64,
    path: u16,
    target: u16,
    kind: Kind,
    meta: Meta,
    contents: u32,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Directory,
    File,
    Symlink,
    Hardlink,
    Fifo,
    Socket,
    Device,
    Whiteout,
    Opaque,
}

const NOT_SENT: u32 = u32::MAX;

impl Layer {
    pub(crate) fn push(&mut self, item: Item<'_>) -> Result<()> {
        let (kind, target, contents) = match item.what {
            What::Directory => (Kind::Directory, &[][..], 0),
            What::File(contents) => (Kind::File, &[][..], contents.unwrap_or(NOT_SENT)),
            What::Symlink(target) => (Kind::Symlink, target, 0),
            What::Hardlink(target) => (Kind::Hardlink, target, 0),
            What::Special(Special::Fifo) => (Kind::Fifo, &[][..], 0),
            What::Special(Special::Socket) => (Kind::Socket, &[][..], 0),
            What::Device => (Kind::Device, &[][..], 0),
            What::Whiteout => (Kind::Whiteout, &[][..], 0),
            What::Opaque => (Kind::Opaque, &[][..], 0),
        };
        let length =
            |text: &[u8]| u16::try_from(text.len()).map_err(|_| Error::user("a name is too long"));
        let at = self.text.len() as u64;
        let (path, target_length) = (length(item.path)?, length(target)?);
        self.text.extend(item.path);
        self.text.extend(target);
        self.records.push(Record {
            at,
            path,
            target: target_length,
            kind,
            meta: item.meta,
            contents,
        });
        Ok(())
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.records.iter().map(|record| self.item(record))
    }

    /// Says where the contents of a file are that were not sent at first.
    pub(crate) fn set_contents(&mut self, record: u32, contents: u32) {
        if let Some(record) = self.records.get_mut(record as usize) {
            record.contents = contents;
        }
    }

    fn item(&self, record: &Record) -> Item<'_> {
        let text = &self.text[record.at as usize..];
        let (path, rest) = text.split_at(usize::from(record.path));
        let target = &rest[..usize::from(record.target)];
        let what = match record.kind {
            Kind::Directory => What::Directory,
            Kind::File => What::File((record.contents != NOT_SENT).then_some(record.contents)),
            Kind::Symlink => What::Symlink(target),
            Kind::Hardlink => What::Hardlink(target),
            Kind::Fifo => What::Special(Special::Fifo),
            Kind::Socket => What::Special(Special::Socket),
            Kind::Device => What::Device,
            Kind::Whiteout => What::Whiteout,
            Kind::Opaque => What::Opaque,
        };
        Item { path, meta: record.meta, what }
    }
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
        fn entries_come_back_as_they_were(path in "[a-z/]{1,20}", target in "[a-z/]{1,20}", contents: Option<u16>) {
            let meta = Meta { mode: 1, uid: 2, gid: 3, mtime: 4 };
            let mut layer = Layer::default();
            let whats = [
                What::File(contents.map(u32::from)), What::Symlink(target.as_bytes()), What::Hardlink(target.as_bytes()),
                What::Directory, What::Device, What::Whiteout, What::Opaque, What::Special(Special::Socket),
            ];
            let items: Vec<Item<'_>> = whats.into_iter().map(|what| Item { path: path.as_bytes(), meta, what }).collect();
            for item in &items {
                layer.push(*item).unwrap();
            }
            prop_assert_eq!(layer.items().collect::<Vec<_>>(), items);
        }
    }
}
