//! Contents and names, as they are sent, becoming a squashfs file.

use std::io::{Read, Seek, Write};

use squashfs::{Contents, Inode, Options, Special, Tree, Writer};
use udi::{Compression, Extra, ImagesConfig, Result};
use udi_store::publish::{Lease, Temp};

use super::bounds::Bounds;
use super::layers::Keeping;
use super::{full, nonsense, receive};
use crate::layer::extras::{SETS_MAX, unpack};
use crate::wire::{Described, ToWriter};

/// How the site wants images packed.
fn options(images: &ImagesConfig) -> Options {
    let level = match images.compression {
        Compression::Zstd => Some(images.compression_level.level()),
        Compression::None => None,
    };
    Options { block_size: images.block_size.bytes(), level, ..Options::default() }
}

/// Packs what the reader sends; gives the file, its length, and what the reader says of it.
pub(super) fn pack(
    from: &mut impl Read,
    temp: Temp,
    images: &ImagesConfig,
    mut keeping: Keeping<'_>,
    lease: &mut Lease,
) -> Result<(Temp, u64, Described)> {
    let file = temp.file.try_clone().map_err(full)?;
    let mut writer = Writer::new(file, options(images)).map_err(full)?;
    let mut contents = Vec::new();
    let mut bounds = Bounds::default();
    loop {
        lease.renew();
        let Some(message) = keeping.see(receive(from)?, lease)? else { continue };
        match message {
            ToWriter::Begin => writer.begin().map_err(full)?,
            ToWriter::Data(data) => {
                bounds.bytes(data.len() as u64)?;
                writer.write(&data).map_err(full)?;
            }
            ToWriter::Hole(length) => {
                bounds.bytes(length)?;
                writer.hole(length).map_err(full)?;
            }
            ToWriter::End => {
                bounds.file()?;
                contents.push(writer.end().map_err(full)?);
            }
            ToWriter::Tree => break,
            _ => return Err(nonsense("a name before the tree")),
        }
    }
    let tree = writer.into_tree().map_err(full)?;
    let (size, described) = plant(from, tree, &contents, (images, bounds), lease)?;
    temp.file.set_len(size).map_err(full)?;
    Ok((temp, size, described))
}

fn plant<W: Read + Write + Seek>(
    from: &mut impl Read,
    mut tree: Tree<W>,
    contents: &[Contents],
    (images, mut bounds): (&ImagesConfig, Bounds),
    lease: &mut Lease,
) -> Result<(u64, Described)> {
    let mut shared: Vec<Inode> = Vec::new();
    let mut attributes = 0usize;
    loop {
        lease.renew();
        let message = receive(from)?;
        if message != ToWriter::Leave {
            bounds.name()?;
        }
        let (inode, links) = match message {
            ToWriter::Enter { name, meta } => {
                bounds.enter()?;
                tree.enter(&name, meta).map_err(full)?;
                continue;
            }
            ToWriter::Leave => {
                bounds.leave()?;
                tree.leave().map_err(full)?;
                continue;
            }
            ToWriter::File { name, meta, contents: number, links } => {
                let contents =
                    contents.get(number as usize).ok_or_else(|| nonsense("no such contents"))?;
                (tree.file(&name, meta, *contents, links).map_err(full)?, links)
            }
            ToWriter::Symlink { name, meta, target, links } => {
                (tree.symlink(&name, meta, &target, links).map_err(full)?, links)
            }
            ToWriter::Special { special: Special::Character(_) | Special::Block(_), .. }
                if images.devices != Extra::Keep =>
            {
                return Err(nonsense("a device that nobody wants"));
            }
            ToWriter::Special { name, meta, special, links } => {
                (tree.special(&name, meta, special, links).map_err(full)?, links)
            }
            ToWriter::Xattrs(set) => {
                attributes = attributes.saturating_add(set.len());
                if images.xattrs != Extra::Keep || attributes > SETS_MAX {
                    return Err(nonsense("extended attributes that nobody wants"));
                }
                let set = unpack(&set).ok_or_else(|| nonsense("no extended attributes"))?;
                tree.xattrs(&set).map_err(full)?;
                continue;
            }
            ToWriter::Link { name, nth } => {
                let inode = shared.get(nth as usize).ok_or_else(|| nonsense("no such inode"))?;
                tree.link(&name, *inode).map_err(full)?;
                continue;
            }
            ToWriter::Finish(described) => {
                let (_, size) = tree.finish().map_err(full)?;
                return Ok((size, *described));
            }
            _ => return Err(nonsense("contents in the tree")),
        };
        if links > 1 {
            shared.push(inode);
        }
    }
}
