//! Places inside the image: finding them without leaving it, making those it lacks.
//!
//! What the image lacks is made in the site layer, a small tmpfs over it. A mount point
//! `lib/mod` made there would hide all of the image's `lib -> usr/lib`, so every place is
//! resolved in the image first and only the resolved path is made, with the owners and modes
//! that the image has for the directories on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, StatxAttributes, StatxFlags, Uid,
};
use rustix::io::Errno;
use udi::{Error, GuestPath, Result};

use crate::copied::Copied;
use crate::fault;
use crate::proc::Proc;

/// A directory tree whose symbolic links cannot lead out of it: an image, or a whole UDI.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    top: OwnedFd,
    proc: &'a Proc,
}

/// How often a lookup that the kernel could not judge is tried again: a microsecond each. Where
/// somebody renames without a pause, 128 in a row have failed.
const TRIES: usize = 8192;

impl<'a> Tree<'a> {
    pub(crate) fn new(top: OwnedFd, proc: &'a Proc) -> Self {
        Self { top, proc }
    }

    /// Its top directory.
    pub(crate) fn top(&self) -> &OwnedFd {
        &self.top
    }

    /// Where `path` leads. Missing components at the end are taken as they are.
    pub(crate) fn find(&self, path: &GuestPath) -> Result<GuestPath> {
        let mut missing = Vec::new();
        let mut components: Vec<&str> = path.components().collect();
        loop {
            let relative = components.join("/");
            match self.open(if relative.is_empty() { "." } else { &relative }) {
                Ok(found) => {
                    let mut resolved = self.path_of(&found)?.as_str().to_owned();
                    if missing.is_empty() {
                        return GuestPath::parse(&resolved);
                    }
                    self.check_absent(&found, missing.last().copied().unwrap_or("."), path)?;
                    for component in missing.iter().rev() {
                        resolved.push('/');
                        resolved.push_str(component);
                    }
                    return GuestPath::parse(&resolved);
                }
                Err(Errno::NOENT) if !components.is_empty() => missing.extend(components.pop()),
                Err(errno) => return Err(broken(path, errno)),
            }
        }
    }

    /// A directory on the way must be one, and what is missing must not be a link to nowhere.
    fn check_absent(&self, parent: &OwnedFd, name: &str, path: &GuestPath) -> Result<()> {
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(broken(path, errno)),
            Ok(_) => {
                Err(Error::user(format!("{path}: inside the image, {name} is a dangling link"))
                    .hint("choose another place"))
            }
        }
    }

    /// Opens what is at `relative`, following links inside the tree only.
    pub(crate) fn open(&self, relative: &str) -> std::result::Result<OwnedFd, Errno> {
        self.open_as(relative, OFlags::PATH)
    }

    /// The file at `relative`, to be read. It waits for nothing, whatever is there.
    pub(crate) fn read(&self, relative: &str) -> std::result::Result<File, Errno> {
        self.open_as(relative, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map(File::from)
    }

    /// An open file of anywhere, to be read.
    pub(crate) fn reopen(&self, file: &OwnedFd) -> Result<File> {
        self.proc.reopen(file)
    }

    pub(crate) fn open_as(
        &self,
        relative: &str,
        flags: OFlags,
    ) -> std::result::Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let open = || rustix::fs::openat2(&self.top, relative, flags, Mode::empty(), inside);
        // EAGAIN: something was renamed or mounted anywhere on the node while `..` was walked,
        // so that the kernel cannot tell whether it stayed inside (openat2(2)).
        (0..TRIES)
            .map(|_| open())
            .find(|done| !matches!(done, Err(Errno::AGAIN)))
            .unwrap_or_else(open)
    }

    /// The path of an open file of this tree, from its top.
    pub(crate) fn path_of(&self, file: &OwnedFd) -> Result<GuestPath> {
        let full = self.proc.path_of(file)?;
        // The kernel puts the path of the top before that of everything below.
        let prefix = self.proc.path_of(&self.top)?;
        match full.strip_prefix(&prefix) {
            Some("") => GuestPath::parse("/"),
            Some(below) => GuestPath::parse(below),
            None => Err(Error::bug(format!("{full} is not below {prefix}"))),
        }
    }

    /// Whether `file` is the top directory.
    pub(crate) fn is_top(&self, file: &OwnedFd) -> Result<bool> {
        let id = |file| rustix::fs::fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
        let failed = || fault::bug("cannot stat an open file");
        Ok(id(file).map_err(failed())? == id(&self.top).map_err(failed())?)
    }

    fn status(&self, path: &GuestPath) -> Option<Stat> {
        rustix::fs::statat(&self.top, path.relative(), AtFlags::SYMLINK_NOFOLLOW).ok()
    }
}

fn broken(path: &GuestPath, errno: Errno) -> Error {
    match errno {
        Errno::LOOP => Error::user(format!("{path}: a loop of symbolic links inside the image"))
            .hint("choose another place, or another image"),
        Errno::NOTDIR => Error::user(format!("{path}: a file is in the way inside the image"))
            .hint("choose another place"),
        errno => fault::site(format!("cannot look at {path} inside the image"))(errno),
    }
}

/// Whether `file` is a directory. Its file system is not asked for its state: a FUSE mount of
/// the user's tells root nothing, nor may an export with root squashed.
pub(crate) fn is_directory(file: impl AsFd) -> Result<bool> {
    match rustix::fs::openat(file, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOTDIR) => Ok(false),
        // Only a directory can refuse to be searched.
        Ok(_) | Err(Errno::ACCESS) => Ok(true),
        Err(errno) => Err(fault::site("cannot look at an open directory")(errno)),
    }
}

/// Whether something is mounted right at `file`.
pub(crate) fn is_mount(file: impl AsFd) -> Result<bool> {
    // No field is asked for: a FUSE file system of the user's gives root none.
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::empty())
        .map_err(fault::bug("cannot stat an open file"))?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The site layer: what lies over the image.
///
/// Modes are as given only where no umask takes bits away: see [`SiteLayer::new`].
#[derive(Debug)]
pub(crate) struct SiteLayer<'a> {
    top: OwnedFd,
    image: &'a Tree<'a>,
    /// Directories made so far, and what parents of files resolved to: most files are in /etc.
    made: BTreeSet<GuestPath>,
    resolved: BTreeMap<GuestPath, GuestPath>,
}

impl<'a> SiteLayer<'a> {
    /// A layer whose top looks like the image's, for in the merged tree it is the top.
    ///
    /// To be called on a thread with a umask of its own, which becomes 0.
    pub(crate) fn new(top: OwnedFd, image: &'a Tree<'a>) -> Result<Self> {
        rustix::process::umask(Mode::empty());
        let root = GuestPath::parse("/")?;
        let made = BTreeSet::from([root.clone()]);
        let layer = Self { top, image, made, resolved: BTreeMap::new() };
        if let Some(like) = image.status(&root) {
            let failed = || fault::site("cannot make the root over the image");
            let mode = Mode::from_raw_mode(like.st_mode & 0o7777);
            rustix::fs::chmodat(&layer.top, ".", mode, AtFlags::empty()).map_err(failed())?;
            layer.own(".", &like).map_err(failed())?;
        }
        Ok(layer)
    }

    /// Makes `target` something to mount `source` on, if the image has nothing there.
    pub(crate) fn mount_point(&mut self, target: &GuestPath, source: &OwnedFd) -> Result<()> {
        let directory = is_directory(source)?;
        self.place(target, directory)
    }

    /// Makes `target` a directory, or else a file, if the image has nothing there.
    pub(crate) fn place(&mut self, target: &GuestPath, directory: bool) -> Result<()> {
        if self.image.open(target.relative()).is_ok() {
            return Ok(());
        }
        let path = self.image.find(target)?;
        if directory { self.directory(&path) } else { self.file(&path, &Copied::default()) }
    }

    /// Puts a file at `path`, which may exist in the image or not. The file itself is
    /// replaced, also where the image has a link there.
    pub(crate) fn put(&mut self, path: &GuestPath, file: &Copied<'_>) -> Result<()> {
        let path = self.beside(path)?;
        self.file(&path, file)
    }

    /// Puts a symbolic link at `path`, as [`SiteLayer::put`] does a file.
    pub(crate) fn link(&mut self, path: &GuestPath, target: &[u8]) -> Result<()> {
        let path = self.beside(path)?;
        self.directory(&path.split().0)?;
        let is_directory =
            |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if self.image.status(&path).is_some_and(is_directory) {
            return Err(Error::user(format!("{path}: a directory is in the way inside the image")));
        }
        let make = || rustix::fs::symlinkat(target, &self.top, path.relative());
        match make() {
            // By a link of the image two may have one place (`/lib -> usr/lib`).
            Err(Errno::EXIST) => rustix::fs::unlinkat(&self.top, path.relative(), AtFlags::empty())
                .and_then(|()| make()),
            done => done,
        }
        .map_err(fault::site(format!("cannot make {path} over the image")))
    }

    /// `path` with its parent resolved in the image.
    fn beside(&mut self, path: &GuestPath) -> Result<GuestPath> {
        let (parent, name) = path.split();
        let parent = match self.resolved.get(&parent) {
            Some(known) => known.clone(),
            None => {
                let found = self.image.find(&parent)?;
                self.resolved.insert(parent, found.clone());
                found
            }
        };
        GuestPath::parse(&format!("{parent}/{name}"))
    }

    fn file(&mut self, path: &GuestPath, from: &Copied<'_>) -> Result<()> {
        self.directory(&path.split().0)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(from.mode);
        let failed = || fault::site(format!("cannot make {path} over the image"));
        let file = rustix::fs::openat(&self.top, path.relative(), flags, mode).map_err(failed())?;
        let mut rest = &*from.content;
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest).map_err(failed())?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Makes a directory and those above it; ones that the image has look like the image's.
    fn directory(&mut self, path: &GuestPath) -> Result<()> {
        if self.made.contains(path) {
            return Ok(());
        }
        self.directory(&path.split().0)?;
        let failed = || fault::site(format!("cannot make {path} over the image"));
        let like = self.image.status(path);
        if like.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory) {
            return Err(broken(path, Errno::NOTDIR));
        }
        let mode = like.as_ref().map_or(0o755, |stat| stat.st_mode & 0o7777);
        rustix::fs::mkdirat(&self.top, path.relative(), Mode::from_raw_mode(mode))
            .map_err(failed())?;
        if let Some(like) = like {
            self.own(path.relative(), &like).map_err(failed())?;
        }
        self.made.insert(path.clone());
        Ok(())
    }

    fn own(&self, name: &str, like: &Stat) -> std::result::Result<(), Errno> {
        if (like.st_uid, like.st_gid) == (0, 0) {
            return Ok(());
        }
        let (uid, gid) = (Some(Uid::from_raw(like.st_uid)), Some(Gid::from_raw(like.st_gid)));
        rustix::fs::chownat(&self.top, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
    }
}
