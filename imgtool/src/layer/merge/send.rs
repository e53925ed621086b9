//! Telling the writer of the tree.

use std::collections::HashMap;

use squashfs::Meta;
use udi::{Error, Result};

use super::tree::{Inode, Kind};
use super::{Image, ROOT};
use crate::layer::extras::Extras;
use crate::wire::ToWriter;

impl Image {
    /// Sends the tree, the sets of attributes in `extras` before whatever has them; gives the
    /// number of names and that of device nodes left out.
    pub(crate) fn send(
        &self,
        extras: &Extras,
        mut give: impl FnMut(ToWriter) -> Result<()>,
    ) -> Result<(u64, u64)> {
        let mut links = vec![0u32; self.tree.len()];
        self.tree.visit(ROOT, &mut |inode| links[inode.index()] += 1);
        let mut sender = Sender {
            image: self,
            extras,
            links,
            shared: HashMap::new(),
            sets: HashMap::new(),
            names: 0,
            devices: 0,
        };
        sender.directory(ROOT, b"", &mut give)?;
        Ok((sender.names, sender.devices))
    }
}

struct Sender<'a> {
    image: &'a Image,
    extras: &'a Extras,
    links: Vec<u32>,
    /// Inodes with several names that were announced, in order.
    shared: HashMap<Inode, u32>,
    /// Sets of attributes by their numbers here, and as they were announced.
    sets: HashMap<u32, u32>,
    names: u64,
    devices: u64,
}

impl Sender<'_> {
    fn directory(
        &mut self,
        inode: Inode,
        name: &[u8],
        give: &mut impl FnMut(ToWriter) -> Result<()>,
    ) -> Result<()> {
        let tree = &self.image.tree;
        let meta = self.announced(tree.meta(inode), give)?;
        give(ToWriter::Enter { name: name.to_vec(), meta })?;
        for entry in tree.children(inode) {
            self.names += 1;
            self.entry(tree.inode(entry), tree.name(entry), give)?;
        }
        give(ToWriter::Leave)
    }

    /// The same, with the set of attributes that the writer knows.
    fn announced(
        &mut self,
        meta: Meta,
        give: &mut impl FnMut(ToWriter) -> Result<()>,
    ) -> Result<Meta> {
        let Some(set) = self.extras.set(meta.xattrs) else { return Ok(Meta { xattrs: 0, ..meta }) };
        let next = self.sets.len() as u32 + 1;
        let xattrs = *self.sets.entry(meta.xattrs).or_insert(next);
        if xattrs == next {
            give(ToWriter::Xattrs(set.to_vec()))?;
        }
        Ok(Meta { xattrs, ..meta })
    }

    fn entry(
        &mut self,
        inode: Inode,
        name: &[u8],
        give: &mut impl FnMut(ToWriter) -> Result<()>,
    ) -> Result<()> {
        let tree = &self.image.tree;
        let (meta, links, owned) = (tree.meta(inode), self.links[inode.index()], name.to_vec());
        if links > 1
            && let Some(nth) = self.shared.get(&inode)
        {
            return give(ToWriter::Link { name: owned, nth: *nth });
        }
        let message = match tree.kind(inode) {
            Kind::Directory => return self.directory(inode, name, give),
            Kind::Device => {
                self.devices += 1;
                return Ok(());
            }
            Kind::Missing(_) => return Err(Error::bug("a file's contents were never sent")),
            Kind::File(contents) => {
                let meta = self.announced(meta, give)?;
                ToWriter::File { name: owned, meta, contents, links }
            }
            Kind::Symlink(target) => {
                let target = tree.target(target).to_vec();
                ToWriter::Symlink { name: owned, meta, target, links }
            }
            Kind::Special(special) => ToWriter::Special { name: owned, meta, special, links },
        };
        if links > 1 {
            let nth = self.shared.len() as u32;
            self.shared.insert(inode, nth);
        }
        give(message)
    }
}
