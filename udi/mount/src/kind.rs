//! Making a place inside a file or a directory, as what goes there is.
//!
//! Before the job's first rank came nobody knew which. It makes what is needed in the layer above
//! the image's, to which the UDI's root gives nobody the way: it is mounted read-only, and the
//! rank takes a copy of that mount which is not. Only an image that can be written has a root in
//! which users may have changed something meanwhile, and then only what is theirs.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatVfsMountFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, UnmountFlags};
use udi::GuestPath;

use crate::piece::{open_below, open_plain};
use crate::sys::{self, MountAttr};

type Result<T> = std::result::Result<T, Errno>;

/// Makes `place` an empty directory, or else an empty file, and takes away what is mounted there.
///
/// EEXIST: what is there is not empty, or not on the UDI's root; EROFS: that has no layer to make it
/// in. Nothing is changed then.
pub(crate) fn set(place: &GuestPath, directory: bool) -> Result<OwnedFd> {
    let (parent, name) = place.split();
    let seen = open_plain(parent.as_str())?;
    if mount_of(&seen)? != mount_of(&open_plain("/")?)? {
        return Err(if open_below(&seen, name).is_ok() { Errno::EXIST } else { Errno::NOENT });
    }
    let root = writable_root()?;
    let parent = open_below(&root, parent.relative())?;
    let old = kind_of_empty(&parent, name)?;
    uncover(&seen, name)?;
    match old {
        Some(FileType::Directory) => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?,
        Some(_) => rustix::fs::unlinkat(&parent, name, AtFlags::empty())?,
        None => {}
    }
    if directory {
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
    } else {
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, new, Mode::from_raw_mode(0o644))?;
    }
    open_plain(place.as_str())
}

/// The root as a mount of its own, without what is mounted on it; nobody else sees it.
pub(crate) fn writable_root() -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let root = rustix::mount::open_tree(CWD, "/", flags)?;
    let clear = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    sys::mount_setattr(&root, MountAttr { clear, ..MountAttr::default() })?;
    // Read-only all the same where there is nothing but the image.
    let flags = rustix::fs::fstatvfs(&root)?.f_flag;
    if flags.contains(StatVfsMountFlags::RDONLY) { Err(Errno::ROFS) } else { Ok(root) }
}

/// What is at `name`, if it is empty: nothing that anybody could miss.
fn kind_of_empty(parent: &OwnedFd, name: &str) -> Result<Option<FileType>> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        stat => stat?,
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    let empty = match kind {
        FileType::RegularFile => stat.st_size == 0,
        FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            let is_dots = |name: &[u8]| name == b"." || name == b"..";
            let entries = Dir::new(directory)?.collect::<Result<Vec<_>>>()?;
            entries.iter().all(|entry| is_dots(entry.file_name().to_bytes()))
        }
        _ => false,
    };
    if empty { Ok(Some(kind)) } else { Err(Errno::EXIST) }
}

/// Takes away all that is mounted on `name`.
fn uncover(parent: &OwnedFd, name: &str) -> Result<()> {
    rustix::process::fchdir(parent)?;
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    let done = loop {
        match rustix::mount::unmount(name, flags) {
            Ok(()) => {}
            // No mount, or nothing at all.
            Err(Errno::INVAL | Errno::NOENT) => break Ok(()),
            Err(errno) => break Err(errno),
        }
    };
    rustix::process::chdir("/").and(done)
}

/// The number of the mount that `file` is on. No field is asked for: the kernel gives this one
/// always, and a FUSE file system of the user's gives root no other.
fn mount_of(file: &OwnedFd) -> Result<u64> {
    rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::empty())
        .map(|stat| stat.stx_mnt_id)
}
