//! What layers make together.
//!
//! Layers are applied from the base up, as `umoci unpack` applies them to a directory: parents
//! that are symbolic links are followed, inside the image; whiteouts hide only what lower
//! layers brought; a later entry of a layer replaces an earlier one.

mod modes;

use std::collections::BTreeMap;

use squashfs::{Meta, Special};
use udi::{Error, Result};

use super::record::{Item, Layer, What};
use crate::wire::ToWriter;

/// Links followed in one name, as Linux has it.
const MAX_LINKS: usize = 40;
const MAX_DEPTH: usize = 1000;
/// A directory that a layer has files in but does not mention.
const IMPLIED: Meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: 0 };

/// The files of an image.
#[derive(Debug)]
pub(crate) struct Image {
    inodes: Vec<Inode>,
    /// The parent found last, and the way to it: entries come directory by directory.
    cached: Option<(Vec<u8>, Vec<Step>)>,
    layer: u16,
}

#[derive(Debug)]
struct Inode {
    meta: Meta,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Directory(BTreeMap<Box<[u8]>, Name>),
    File { contents: Option<u32>, origin: Origin },
    Symlink(Box<[u8]>),
    Special(Special),
    Device,
}

/// Where a file was defined: the layer from the base, the entry in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) layer: u16,
    pub(crate) record: u32,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    inode: u32,
    /// The last layer that had this name, or something below it.
    layer: u16,
}

/// One step into a directory.
#[derive(Clone, Debug)]
struct Step {
    parent: u32,
    name: Box<[u8]>,
    inode: u32,
}

const ROOT: u32 = 0;

impl Image {
    /// Applies `layers`, the base first; `named` gives a layer's name for messages.
    pub(crate) fn of(layers: &[Layer], named: impl Fn(usize) -> String) -> Result<Self> {
        let root = Inode { meta: IMPLIED, kind: Kind::Directory(BTreeMap::new()) };
        let mut image = Self { inodes: vec![root], cached: None, layer: 0 };
        for (number, layer) in layers.iter().enumerate() {
            image.layer = u16::try_from(number + 1).map_err(|_| Error::user("too many layers"))?;
            image.cached = None;
            for (record, item) in layer.items().enumerate() {
                image.apply(item, record as u32).map_err(|error| {
                    let path = String::from_utf8_lossy(item.path);
                    Error::user(format!("layer {}: {path}: {}", named(number), error.what()))
                })?;
            }
        }
        image.cached = None;
        Ok(image)
    }

    fn apply(&mut self, item: Item<'_>, record: u32) -> Result<()> {
        if item.path.is_empty() {
            return self.apply_to_root(item);
        }
        let (parent, name) = split(item.path);
        let create = item.what != What::Whiteout;
        let steps = match item.what {
            What::Opaque => self.walk(item.path, false)?,
            _ => self.walk(parent, create)?,
        };
        let Some(steps) = steps else { return Ok(()) };
        let directory = steps.last().map_or(ROOT, |step| step.inode);
        match item.what {
            What::Opaque => {
                self.hide_below(directory);
                return Ok(());
            }
            What::Whiteout => {
                self.hide(directory, name);
                return Ok(());
            }
            _ => {}
        }
        let inode = match item.what {
            What::Hardlink(target) => Some(self.target(target)?),
            _ => None,
        };
        let old = self.children(directory).and_then(|c| c.get(name)).copied();
        if inode.is_some() && inode == old.map(|old| old.inode) {
            // A link to itself.
        } else if let (What::Directory, Some(old)) = (item.what, old)
            && let Some(Inode { meta, kind: Kind::Directory(_) }) =
                self.inodes.get_mut(old.inode as usize)
        {
            *meta = item.meta;
        } else {
            let inode = match inode {
                Some(inode) => inode,
                None => self.add(item, record)?,
            };
            let layer = self.layer;
            if old.is_some() {
                self.cached = None;
            }
            if let Some(children) = self.children_mut(directory) {
                children.insert(name.into(), Name { inode, layer });
            }
        }
        self.touch(directory, name);
        for step in &steps {
            self.touch(step.parent, &step.name);
        }
        Ok(())
    }

    fn apply_to_root(&mut self, item: Item<'_>) -> Result<()> {
        match item.what {
            What::Directory => self.inodes[ROOT as usize].meta = item.meta,
            What::Opaque => self.hide_below(ROOT),
            _ => return Err(Error::user("the root is not a directory")),
        }
        Ok(())
    }

    fn add(&mut self, item: Item<'_>, record: u32) -> Result<u32> {
        let kind = match item.what {
            What::Directory => Kind::Directory(BTreeMap::new()),
            What::File(contents) => {
                Kind::File { contents, origin: Origin { layer: self.layer - 1, record } }
            }
            What::Symlink(target) => Kind::Symlink(target.into()),
            What::Special(special) => Kind::Special(special),
            What::Device => Kind::Device,
            What::Hardlink(_) | What::Whiteout | What::Opaque => {
                return Err(Error::bug("an entry that is no inode was to become one"));
            }
        };
        self.new_inode(item.meta, kind)
    }

    fn new_inode(&mut self, meta: Meta, kind: Kind) -> Result<u32> {
        let number = u32::try_from(self.inodes.len()).map_err(|_| Error::user("too many files"))?;
        self.inodes.push(Inode { meta, kind });
        Ok(number)
    }

    /// What a hard link's target stands for; the last component is not followed.
    fn target(&mut self, path: &[u8]) -> Result<u32> {
        let missing = || {
            Error::user(format!(
                "a hard link to {}, which is not there",
                String::from_utf8_lossy(path)
            ))
        };
        let (parent, name) = split(path);
        let steps = self.walk(parent, false)?.ok_or_else(missing)?;
        let directory = steps.last().map_or(ROOT, |step| step.inode);
        let inode = self.children(directory).and_then(|c| c.get(name)).ok_or_else(missing)?.inode;
        if matches!(self.inodes[inode as usize].kind, Kind::Directory(_)) {
            return Err(Error::user(format!(
                "a hard link to the directory {}",
                String::from_utf8_lossy(path)
            )));
        }
        Ok(inode)
    }

    /// The way to the directory `path`, following links inside the image. Missing directories
    /// are made, and what is in their way is replaced, if `create`; else there is no way.
    fn walk(&mut self, path: &[u8], create: bool) -> Result<Option<Vec<Step>>> {
        if let Some((cached, steps)) = &self.cached
            && cached == path
        {
            return Ok(Some(steps.clone()));
        }
        let mut todo: Vec<Box<[u8]>> = components(path).map(Into::into).collect();
        todo.reverse();
        let mut steps: Vec<Step> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            match &*name {
                b"" | b"." => continue,
                b".." => {
                    steps.pop();
                    continue;
                }
                _ => {}
            }
            let parent = steps.last().map_or(ROOT, |step| step.inode);
            let found = self.children(parent).and_then(|c| c.get(&name)).map(|n| n.inode);
            let inode = match found.map(|inode| (inode, &self.inodes[inode as usize].kind)) {
                Some((inode, Kind::Directory(_))) => inode,
                Some((_, Kind::Symlink(target))) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::user("too many symbolic links in its path"));
                    }
                    if target.first() == Some(&b'/') {
                        steps.clear();
                    }
                    todo.extend(target.rsplit(|&b| b == b'/').map(Into::into));
                    continue;
                }
                _ if !create => return Ok(None),
                _ => {
                    if name.len() > squashfs::NAME_MAX {
                        return Err(Error::user("a symbolic link in its path leads nowhere"));
                    }
                    let inode = self.new_inode(IMPLIED, Kind::Directory(BTreeMap::new()))?;
                    let layer = self.layer;
                    if let Some(children) = self.children_mut(parent) {
                        children.insert(name.clone(), Name { inode, layer });
                    }
                    inode
                }
            };
            steps.push(Step { parent, name, inode });
            if steps.len() > MAX_DEPTH {
                return Err(Error::user("its path is too deep"));
            }
        }
        if create {
            self.cached = Some((path.to_vec(), steps.clone()));
        }
        Ok(Some(steps))
    }

    fn touch(&mut self, directory: u32, name: &[u8]) {
        let layer = self.layer;
        if let Some(entry) = self.children_mut(directory).and_then(|c| c.get_mut(name)) {
            entry.layer = layer;
        }
    }

    /// Removes what lower layers have at `name`; what this layer brought stays.
    fn hide(&mut self, directory: u32, name: &[u8]) {
        let layer = self.layer;
        let Some(entry) = self.children(directory).and_then(|c| c.get(name)).copied() else {
            return;
        };
        self.cached = None;
        if entry.layer == layer {
            self.hide_below(entry.inode);
        } else if let Some(children) = self.children_mut(directory) {
            children.remove(name);
        }
    }

    fn hide_below(&mut self, directory: u32) {
        self.cached = None;
        let layer = self.layer;
        let Some(children) = self.children_mut(directory) else { return };
        children.retain(|_, entry| entry.layer == layer);
        let kept: Vec<u32> = children.values().map(|entry| entry.inode).collect();
        for inode in kept {
            self.hide_below(inode);
        }
    }

    fn children(&self, directory: u32) -> Option<&BTreeMap<Box<[u8]>, Name>> {
        match &self.inodes[directory as usize].kind {
            Kind::Directory(children) => Some(children),
            _ => None,
        }
    }

    fn children_mut(&mut self, directory: u32) -> Option<&mut BTreeMap<Box<[u8]>, Name>> {
        match &mut self.inodes[directory as usize].kind {
            Kind::Directory(children) => Some(children),
            _ => None,
        }
    }

    /// Removes what stands at `/.shifter`: it says nothing of the tree.
    pub(crate) fn drop_description(&mut self) {
        if let Some(root) = self.children_mut(ROOT) {
            root.remove(&b".shifter"[..]);
        }
    }

    /// Replaces whatever layers brought at `/.shifter` by our description of the image.
    pub(crate) fn describe(&mut self, contents: u32) -> Result<()> {
        let origin = Origin { layer: u16::MAX, record: 0 };
        let file = Kind::File { contents: Some(contents), origin };
        let file = self.new_inode(Meta { mode: 0o644, ..IMPLIED }, file)?;
        let name = Name { inode: file, layer: 0 };
        let directory = Kind::Directory([(b"image.json"[..].into(), name)].into());
        let directory = self.new_inode(IMPLIED, directory)?;
        if let Some(root) = self.children_mut(ROOT) {
            root.insert(b".shifter"[..].into(), Name { inode: directory, layer: 0 });
        }
        Ok(())
    }

    /// Files of the image whose contents were not sent.
    pub(crate) fn missing(&self) -> Vec<Origin> {
        let mut missing = Vec::new();
        self.visit(ROOT, &mut |inode| {
            if let Kind::File { contents: None, origin } = self.inodes[inode as usize].kind {
                missing.push(origin);
            }
        });
        missing.sort();
        missing.dedup();
        missing
    }

    fn visit(&self, directory: u32, see: &mut impl FnMut(u32)) {
        for entry in self.children(directory).into_iter().flat_map(BTreeMap::values) {
            see(entry.inode);
            self.visit(entry.inode, see);
        }
    }

    /// Sends the tree; gives the number of names and that of device nodes left out.
    pub(crate) fn send(&self, mut give: impl FnMut(ToWriter) -> Result<()>) -> Result<(u64, u64)> {
        let mut links = vec![0u32; self.inodes.len()];
        self.visit(ROOT, &mut |inode| links[inode as usize] += 1);
        let mut sender =
            Sender { image: self, links, shared: BTreeMap::new(), names: 0, devices: 0 };
        sender.directory(ROOT, b"", &mut give)?;
        Ok((sender.names, sender.devices))
    }
}

struct Sender<'a> {
    image: &'a Image,
    links: Vec<u32>,
    /// Inodes with several names that were announced, in order.
    shared: BTreeMap<u32, u32>,
    names: u64,
    devices: u64,
}

impl Sender<'_> {
    fn directory(
        &mut self,
        number: u32,
        name: &[u8],
        give: &mut impl FnMut(ToWriter) -> Result<()>,
    ) -> Result<()> {
        let meta = self.image.inodes[number as usize].meta;
        give(ToWriter::Enter { name: name.to_vec(), meta })?;
        for (name, entry) in self.image.children(number).into_iter().flatten() {
            self.names += 1;
            self.entry(entry.inode, name, give)?;
        }
        give(ToWriter::Leave)
    }

    fn entry(
        &mut self,
        number: u32,
        name: &[u8],
        give: &mut impl FnMut(ToWriter) -> Result<()>,
    ) -> Result<()> {
        let Inode { meta, kind } = &self.image.inodes[number as usize];
        let (meta, links, owned) = (*meta, self.links[number as usize], name.to_vec());
        if let Some(nth) = self.shared.get(&number) {
            return give(ToWriter::Link { name: owned, nth: *nth });
        }
        let message = match kind {
            Kind::Directory(_) => return self.directory(number, name, give),
            Kind::Device => {
                self.devices += 1;
                return Ok(());
            }
            Kind::File { contents, .. } => {
                let contents =
                    contents.ok_or_else(|| Error::bug("a file's contents were never sent"))?;
                ToWriter::File { name: owned, meta, contents, links }
            }
            Kind::Symlink(target) => {
                ToWriter::Symlink { name: owned, meta, target: target.to_vec(), links }
            }
            Kind::Special(special) => {
                ToWriter::Special { name: owned, meta, special: *special, links }
            }
        };
        if links > 1 {
            let nth = self.shared.len() as u32;
            self.shared.insert(number, nth);
        }
        give(message)
    }
}

/// The directory and the name of a path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|c| !c.is_empty())
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
