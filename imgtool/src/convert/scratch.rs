//! A squashfs file of ours, unpacked: a tree of the store owner's, and what its files are in the
//! image, as `fakeroot` reads it.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use squashfs::{Meta, Special};
use udi::{Error, Result};

use crate::import::squashfs as reader;
use crate::layer::archive::{Contents, Piece};
use crate::layer::record::{Item, What};

/// The scratch directory's part that is ours, until dropped: `tree`, `state`, and what is made.
#[derive(Debug)]
pub(super) struct Unpacked {
    directory: tempfile::TempDir,
    pub(super) entries: u64,
    /// Bytes of files in whole blocks, and of directories.
    bytes: u64,
    pub(super) root: Meta,
    pub(super) has_lost_and_found: bool,
}

impl Unpacked {
    /// Unpacks `image` below `scratch`; `alive` is called now and then.
    pub(super) fn of(image: File, scratch: &Path, mut alive: impl FnMut()) -> Result<Self> {
        let cannot = |e: std::io::Error| {
            Error::admin(format!("cannot unpack an image in {}", scratch.display()))
                .because(e)
                .hint(
                    "images.scratch must be a directory with room that the store's owner can write",
                )
        };
        let directory =
            tempfile::Builder::new().prefix("shifterimg-").tempdir_in(scratch).map_err(cannot)?;
        let tree = directory.path().join("tree");
        std::fs::create_dir(&tree).map_err(cannot)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(&tree, flags, Mode::empty()).map_err(|e| cannot(e.into()))?;
        let state = File::create(directory.path().join("state")).map_err(cannot)?;
        let root = Meta { mode: 0o755, ..Meta::default() };
        let state = BufWriter::new(state);
        let directories = Vec::new();
        let mut tree = Tree { top, state, directories, entries: 0, bytes: 0, root };
        reader::read(image, "the image", false, &mut |item, contents| {
            alive();
            let shown = String::from_utf8_lossy(item.path).into_owned();
            tree.add(&item, contents).map_err(|fault| match fault {
                Fault::Given(error) => error,
                Fault::Io(error) => cannot(error).about(format!("/{shown}: ")),
            })
        })?;
        tree.end().map_err(cannot)?;
        let has_lost_and_found = directory.path().join("tree/lost+found").is_dir();
        let Tree { entries, bytes, root, .. } = tree;
        Ok(Self { directory, entries, bytes, root, has_lost_and_found })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// An estimate of what ext4 needs: contents, inodes, bitmaps, and something for large files'
    /// lists of blocks.
    pub(super) fn ext4_size(&self) -> u64 {
        let content = self.bytes + self.bytes / 50;
        let inodes = (self.entries + 64) * 300;
        (content + inodes + (8 << 20)).next_multiple_of(1 << 20)
    }
}

enum Fault {
    Given(Error),
    Io(std::io::Error),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Fault {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

struct Tree {
    top: OwnedFd,
    state: BufWriter<File>,
    /// Their times change while they are filled.
    directories: Vec<(Vec<u8>, u32)>,
    entries: u64,
    bytes: u64,
    root: Meta,
}

impl Tree {
    fn add(
        &mut self,
        item: &Item<'_>,
        contents: Option<&mut Contents<'_>>,
    ) -> std::result::Result<(), Fault> {
        self.entries += 1;
        let mine = Mode::RUSR | Mode::WUSR;
        let (parent, name) = match item.path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&item.path[..slash], &item.path[slash + 1..]),
            None => (&b""[..], item.path),
        };
        let parent = self.directory(parent)?;
        match (item.what, contents) {
            (What::Directory, _) if item.path.is_empty() => self.root = item.meta,
            (What::Directory, _) => {
                rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
                self.directories.push((item.path.to_vec(), item.meta.mtime));
                self.bytes += 4096;
            }
            (What::File(_), Some(contents)) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = rustix::fs::openat(&parent, name, flags | OFlags::CLOEXEC, mine)?;
                self.fill(&File::from(file), contents)?;
            }
            (What::Symlink(target), _) => {
                rustix::fs::symlinkat(target, &parent, name)?;
                self.bytes += 4096;
            }
            (What::Hardlink(first), _) => {
                let (above, first) = match first.iter().rposition(|&b| b == b'/') {
                    Some(slash) => (&first[..slash], &first[slash + 1..]),
                    None => (&b""[..], first),
                };
                let above = self.directory(above)?;
                rustix::fs::linkat(&above, first, &parent, name, AtFlags::empty())?;
                return Ok(());
            }
            (What::Special(Special::Fifo), _) => {
                rustix::fs::mknodat(&parent, name, FileType::Fifo, mine, 0)?;
            }
            (What::Special(Special::Socket), _) => {
                rustix::fs::mknodat(&parent, name, FileType::Socket, mine, 0)?;
            }
            _ => return Ok(()),
        }
        // What a directory needs grows with its names.
        self.bytes += 64 + name.len() as u64 * 2;
        let found = match item.path.is_empty() {
            true => rustix::fs::fstat(&self.top)?,
            false => {
                set_time(&parent, name, item.meta.mtime)?;
                rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?
            }
        };
        let mode = found.st_mode & 0o170_000 | u32::from(item.meta.mode & 0o7777);
        let (dev, ino, meta) = (found.st_dev, found.st_ino, item.meta);
        writeln!(
            self.state,
            "dev={dev:x},ino={ino},mode={mode:o},uid={},gid={},nlink={},rdev=0",
            meta.uid, meta.gid, found.st_nlink
        )?;
        Ok(())
    }

    fn fill(
        &mut self,
        mut file: &File,
        contents: &mut Contents<'_>,
    ) -> std::result::Result<(), Fault> {
        let mut failed = None;
        let mut written = 0;
        let each = contents.each(|piece| {
            let done = match piece {
                Piece::Bytes(bytes) => {
                    written += bytes.len() as u64;
                    file.write_all(bytes)
                }
                Piece::Zeros(length) => {
                    let length = i64::try_from(length).unwrap_or(i64::MAX);
                    file.seek(SeekFrom::Current(length)).map(drop)
                }
            };
            done.map_err(|error| {
                failed = Some(error);
                Error::bug("a file cannot be written")
            })
        });
        match (failed, each) {
            (Some(error), _) => return Err(error.into()),
            (None, Err(error)) => return Err(Fault::Given(error)),
            (None, Ok(())) => {}
        }
        file.set_len(contents.size())?;
        self.bytes += written.next_multiple_of(4096) + 4096;
        Ok(())
    }

    /// Opens a directory of the tree; nothing leads out of it.
    fn directory(&self, path: &[u8]) -> std::result::Result<OwnedFd, rustix::io::Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = if path.is_empty() { &b"."[..] } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.top, path, flags, Mode::empty(), resolve)
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.state.flush()?;
        for (path, time) in std::mem::take(&mut self.directories).iter().rev() {
            set_time(&self.top, path, *time)?;
        }
        set_time(&self.top, b".", self.root.mtime).map_err(Into::into)
    }
}

fn set_time(
    directory: &OwnedFd,
    name: &[u8],
    time: u32,
) -> std::result::Result<(), rustix::io::Errno> {
    let time = Timespec { tv_sec: time.into(), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
