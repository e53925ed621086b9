//! Directories that are the root of a file system.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use squashfs::{Device, Meta, Special, XATTRS_MAX, Xattrs};
use udi::{Error, Result};

use super::tree::Tree;
use crate::layer::archive::Contents;
use crate::layer::record::{Item, What};
use crate::layer::sparse::Map;

/// Deeper trees hold too many directories open.
const MAX_DEPTH: usize = 500;
/// More than any file has holes: what comes behind is read as it stands.
const MAX_PIECES: usize = 1 << 16;

/// Adds all that is below `top` to the tree, as far as it is on the same file system; in the
/// order of the names, so that the same directory always gives the same image.
pub(super) fn read(top: &OwnedFd, tree: &mut Tree<'_>) -> Result<()> {
    let stat = rustix::fs::fstat(top).map_err(|e| cannot(b"", e))?;
    let mut walk = Walk { device: stat.st_dev, links: HashMap::new(), buffer: Vec::new(), tree };
    let meta = Meta { xattrs: walk.xattrs(top, b"")?, ..meta(&stat) };
    walk.tree.add(Item { path: b"", meta, what: What::Directory }, None)?;
    walk.directory(top, &mut Vec::new(), 1)
}

struct Walk<'a, 'b> {
    device: u64,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    tree: &'a mut Tree<'b>,
}

impl Walk<'_, '_> {
    fn directory(&mut self, dir: &OwnedFd, path: &mut Vec<u8>, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::user(format!(
                "{}: too many directories in each other",
                shown(path)
            ))
            .hint("leave it out, or pack the tree with tar"));
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(dir).map_err(|e| cannot(path, e))? {
            let name = entry.map_err(|e| cannot(path, e))?.file_name().to_bytes().to_vec();
            if !matches!(&name[..], b"." | b"..") {
                names.push(name);
            }
        }
        names.sort_unstable();
        for name in names {
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(&name);
            self.entry(dir, &name, path, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<()> {
        let failed = |e| cannot(path, e);
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let meta = meta(&stat);
            // What is mounted there is not the tree's, and may be /proc.
            if stat.st_dev != self.device {
                return self.tree.add(Item { path, meta, what: What::Directory }, None);
            }
            let inner = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(failed)?;
            let meta = Meta { xattrs: self.xattrs(&inner, path)?, ..meta };
            self.tree.add(Item { path, meta, what: What::Directory }, None)?;
            return self.directory(&inner, path, depth + 1);
        }
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                let what = What::Hardlink(first);
                return self.tree.add(Item { path, meta: meta(&stat), what }, None);
            }
            self.links.insert(key, path.clone());
        }
        let what = match kind {
            FileType::RegularFile => return self.file(dir, name, path),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(failed)?;
                let what = What::Symlink(target.to_bytes());
                return self.tree.add(Item { path, meta: meta(&stat), what }, None);
            }
            FileType::Fifo => What::Special(Special::Fifo),
            FileType::Socket => What::Special(Special::Socket),
            _ => {
                let number = stat.st_rdev;
                let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
                let kind = match kind {
                    FileType::CharacterDevice => Special::Character,
                    _ => Special::Block,
                };
                match self.tree.extras.device(kind, Device::new(major, minor)) {
                    What::Special(special) => What::Special(special),
                    _ => What::Device,
                }
            }
        };
        self.tree.add(Item { path, meta: meta(&stat), what }, None)
    }

    /// The set of attributes of an open file or directory.
    fn xattrs(&mut self, file: impl AsFd, path: &[u8]) -> Result<u32> {
        if !self.tree.extras.has_xattrs() {
            return Ok(0);
        }
        let failed = |e| cannot(path, e);
        let mut names = vec![0; XATTRS_MAX];
        let length = match rustix::fs::flistxattr(&file, &mut names[..]) {
            Ok(length) => length,
            // A file system without any.
            Err(Errno::OPNOTSUPP) => 0,
            Err(error) => return Err(failed(error)),
        };
        let mut all = Xattrs::new();
        for name in names[..length].split(|&b| b == 0) {
            let Some(short) = name.strip_prefix(b"user.") else { continue };
            let mut value = vec![0; XATTRS_MAX];
            let length = rustix::fs::fgetxattr(&file, name, &mut value[..]).map_err(failed)?;
            value.truncate(length);
            all.insert(short.to_vec(), value);
        }
        self.tree.extras.number(&all).map_err(|e| e.about(format!("{}: ", shown(path))))
    }

    fn file(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
        let failed = |e| cannot(path, e);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(failed)?;
        // What was looked at may not be what was opened.
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(changed(path));
        }
        let xattrs = self.xattrs(&file, path)?;
        let map = holes(&file, stat.st_size as u64).map_err(failed)?;
        let mut data = Data { file: file.into(), pieces: map.pieces.clone(), path };
        data.pieces.reverse();
        let mut contents = Contents::of(&mut data, map, &mut self.buffer);
        let meta = Meta { xattrs, ..meta(&stat) };
        let item = Item { path, meta, what: What::File(None) };
        self.tree.add(item, Some(&mut contents))
    }
}

/// Where the file has data.
fn holes(file: impl AsFd, size: u64) -> std::result::Result<Map, Errno> {
    let mut pieces = Vec::new();
    let mut position = 0;
    while position < size {
        if pieces.len() == MAX_PIECES {
            pieces.push((position, size - position));
            break;
        }
        let start = match rustix::fs::seek(&file, SeekFrom::Data(position)) {
            Ok(start) => start.min(size),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            // A file system that knows of no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => position,
            Err(error) => return Err(error),
        };
        let end = rustix::fs::seek(&file, SeekFrom::Hole(start)).unwrap_or(size).min(size);
        // A file that is changed meanwhile may say anything.
        let end = if end > start { end } else { size };
        if end > start {
            pieces.push((start, end - start));
        }
        position = end;
    }
    Ok(Map { size, pieces })
}

/// The bytes of a file without its holes.
struct Data<'a> {
    file: File,
    /// The next one last.
    pieces: Vec<(u64, u64)>,
    path: &'a [u8],
}

impl Read for Data<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((offset, length)) = self.pieces.last_mut() else { return Ok(0) };
        let now = usize::try_from(*length).map_or(buffer.len(), |left| left.min(buffer.len()));
        let n = match self.file.read_at(&mut buffer[..now], *offset) {
            Ok(0) if now > 0 => return Err(io::Error::other(changed(self.path))),
            Ok(n) => n,
            Err(error) => {
                let error = Error::user(format!("{} cannot be read", shown(self.path)))
                    .because(error)
                    .hint(READ);
                return Err(io::Error::other(error));
            }
        };
        *offset += n as u64;
        *length -= n as u64;
        if *length == 0 {
            self.pieces.pop();
        }
        Ok(n)
    }
}

const READ: &str = "an image has all files of the tree: make it readable for you, or leave it out";

fn cannot(path: &[u8], error: Errno) -> Error {
    Error::user(format!("{} cannot be read", shown(path)))
        .because(io::Error::from(error))
        .hint(READ)
}

fn changed(path: &[u8]) -> Error {
    Error::user(format!("{} was changed while it was read", shown(path)))
        .hint("import again when nobody writes to it")
}

/// A path in the tree as messages call it.
fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

fn meta(stat: &Stat) -> Meta {
    Meta {
        mode: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: u32::try_from(stat.st_mtime.max(0)).unwrap_or(u32::MAX),
        xattrs: 0,
    }
}
