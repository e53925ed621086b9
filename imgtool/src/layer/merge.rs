//! What layers make together.
//!
//! Layers are applied from the base up, as `umoci unpack` applies them to a directory: parents
//! that are symbolic links are followed, inside the image; whiteouts hide only what lower
//! layers brought; a later entry of a layer replaces an earlier one.

mod modes;
mod owners;
mod send;
mod tree;

use squashfs::Meta;
use udi::{Error, Result};

use super::record::{Item, Layer, What};
use tree::{Entry, Inode, Kind, Tree};

/// Links followed in one name, as Linux has it.
const MAX_LINKS: usize = 40;
const MAX_DEPTH: usize = 1000;
/// A directory that a layer has files in but does not mention.
const IMPLIED: Meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: 0 };

/// The files of an image.
#[derive(Debug)]
pub(crate) struct Image {
    tree: Tree,
    /// The parent found last, and the way to it: entries come directory by directory.
    cached: Option<(Vec<u8>, Vec<Entry>)>,
    layer: u16,
}

/// A file whose contents were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Missing {
    pub(crate) origin: Origin,
    inode: Inode,
}

/// Where a file was defined: the layer from the base, the entry in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) layer: u16,
    pub(crate) record: u32,
}

const ROOT: Inode = Inode::ROOT;

impl Image {
    /// Applies `layers`, the base first; `named` gives a layer's name for messages.
    pub(crate) fn of(
        layers: impl IntoIterator<Item = Layer>,
        named: impl Fn(usize) -> String,
    ) -> Result<Self> {
        let mut image = Self { tree: Tree::new(IMPLIED), cached: None, layer: 0 };
        for (number, layer) in layers.into_iter().enumerate() {
            image.layer = u16::try_from(number + 1).map_err(|_| Error::user("too many layers"))?;
            image.cached = None;
            let mut record = 0;
            layer.each(|item| {
                image.apply(item, record).map_err(|error| {
                    let path = String::from_utf8_lossy(item.path);
                    Error::user(format!("layer {}: {path}: {}", named(number), error.what()))
                })?;
                record += 1;
                Ok(())
            })?;
        }
        image.cached = None;
        image.tree.sort();
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
        let directory = self.end(&steps);
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
        let old = self.tree.find(directory, name);
        let old_inode = old.map(|old| self.tree.inode(old));
        let entry = if let (Some(old), true) = (old, inode.is_some() && inode == old_inode) {
            // A link to itself.
            old
        } else if let (What::Directory, Some(old)) = (item.what, old)
            && self.tree.is_directory(self.tree.inode(old))
        {
            self.tree.set_meta(self.tree.inode(old), item.meta);
            old
        } else {
            let inode = match inode {
                Some(inode) => inode,
                None => self.add(item, record)?,
            };
            if old.is_some() {
                self.cached = None;
            }
            self.tree.insert(directory, name, inode)?
        };
        self.tree.touch(entry, self.layer);
        for step in steps {
            self.tree.touch(step, self.layer);
        }
        Ok(())
    }

    fn apply_to_root(&mut self, item: Item<'_>) -> Result<()> {
        match item.what {
            What::Directory => self.tree.set_meta(ROOT, item.meta),
            What::Opaque => self.hide_below(ROOT),
            _ => return Err(Error::user("the root is not a directory")),
        }
        Ok(())
    }

    fn add(&mut self, item: Item<'_>, record: u32) -> Result<Inode> {
        let kind = match item.what {
            What::Directory => Kind::Directory,
            What::File(Some(contents)) => Kind::File(contents),
            What::File(None) => Kind::Missing(Origin { layer: self.layer - 1, record }),
            What::Symlink(target) => return self.tree.symlink(item.meta, target),
            What::Special(special) => Kind::Special(special),
            What::Device => Kind::Device,
            What::Hardlink(_) | What::Whiteout | What::Opaque => {
                return Err(Error::bug("an entry that is no inode was to become one"));
            }
        };
        self.tree.add(item.meta, kind)
    }

    /// What a hard link's target stands for; the last component is not followed.
    fn target(&mut self, path: &[u8]) -> Result<Inode> {
        let missing = || {
            Error::user(format!(
                "a hard link to {}, which is not there",
                String::from_utf8_lossy(path)
            ))
        };
        let (parent, name) = split(path);
        let steps = self.walk(parent, false)?.ok_or_else(missing)?;
        let directory = self.end(&steps);
        let inode = self.tree.inode(self.tree.find(directory, name).ok_or_else(missing)?);
        if self.tree.is_directory(inode) {
            return Err(Error::user(format!(
                "a hard link to the directory {}",
                String::from_utf8_lossy(path)
            )));
        }
        Ok(inode)
    }

    /// Where a way ends.
    fn end(&self, steps: &[Entry]) -> Inode {
        steps.last().map_or(ROOT, |step| self.tree.inode(*step))
    }

    /// The way to the directory `path`, following links inside the image. Missing directories
    /// are made, and what is in their way is replaced, if `create`; else there is no way.
    fn walk(&mut self, path: &[u8], create: bool) -> Result<Option<Vec<Entry>>> {
        if let Some((cached, steps)) = &self.cached
            && cached == path
        {
            return Ok(Some(steps.clone()));
        }
        let mut todo: Vec<Box<[u8]>> = components(path).map(Into::into).collect();
        todo.reverse();
        let mut steps: Vec<Entry> = Vec::new();
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
            let parent = self.end(&steps);
            let found = self.tree.find(parent, &name);
            let step = match found.map(|entry| (entry, self.tree.kind(self.tree.inode(entry)))) {
                Some((entry, Kind::Directory)) => entry,
                Some((_, Kind::Symlink(target))) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::user("too many symbolic links in its path"));
                    }
                    let target = self.tree.target(target);
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
                    let inode = self.tree.add(IMPLIED, Kind::Directory)?;
                    let entry = self.tree.insert(parent, &name, inode)?;
                    self.tree.touch(entry, self.layer);
                    entry
                }
            };
            steps.push(step);
            if steps.len() > MAX_DEPTH {
                return Err(Error::user("its path is too deep"));
            }
        }
        if create {
            self.cached = Some((path.to_vec(), steps.clone()));
        }
        Ok(Some(steps))
    }

    /// Removes what lower layers have at `name`; what this layer brought stays.
    fn hide(&mut self, directory: Inode, name: &[u8]) {
        let Some(entry) = self.tree.find(directory, name) else { return };
        self.cached = None;
        if self.tree.layer(entry) == self.layer {
            self.hide_below(self.tree.inode(entry));
        } else {
            self.tree.remove(entry);
        }
    }

    fn hide_below(&mut self, directory: Inode) {
        self.cached = None;
        if !self.tree.is_directory(directory) {
            return;
        }
        let layer = self.layer;
        self.tree.retain(directory, layer);
        let kept: Vec<Inode> =
            self.tree.children(directory).map(|entry| self.tree.inode(entry)).collect();
        for inode in kept {
            self.hide_below(inode);
        }
    }

    /// Removes what stands at `/.shifter`: it says nothing of the tree.
    pub(crate) fn drop_description(&mut self) {
        if let Some(entry) = self.tree.find(ROOT, b".shifter") {
            self.tree.remove(entry);
        }
    }

    /// Replaces whatever layers brought at `/.shifter` by our description of the image.
    pub(crate) fn describe(&mut self, contents: u32) -> Result<()> {
        let directory = self.tree.add(IMPLIED, Kind::Directory)?;
        let file = self.tree.add(Meta { mode: 0o644, ..IMPLIED }, Kind::File(contents))?;
        self.tree.insert(directory, b"image.json", file)?;
        self.tree.insert(ROOT, b".shifter", directory)?;
        self.tree.sort_directory(ROOT);
        Ok(())
    }

    /// Files of the image whose contents were not sent, in the order of the layers' entries.
    pub(crate) fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        self.tree.visit(ROOT, &mut |inode| {
            if let Kind::Missing(origin) = self.tree.kind(inode) {
                missing.push(Missing { origin, inode });
            }
        });
        missing.sort();
        missing.dedup();
        missing
    }

    /// They are sent now, with this number.
    pub(crate) fn found(&mut self, missing: Missing, contents: u32) {
        self.tree.set_contents(missing.inode, contents);
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
