//! The file below a cache.

use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use udi::{CachePlan, Error, Result, Size};

use super::{BLOCK, OTHER_STORAGE};
use crate::{fault, open};

/// A file of the plan's size in its directory, opened as the account `owner` (called `login`);
/// sparse, and without a name.
pub(super) fn create(plan: &CachePlan, owner: u32, login: &str) -> Result<OwnedFd> {
    open::as_account(owner, open::NOGROUP, &[], || {
        let directory = directory(&plan.directory, owner, login)?;
        let here = plan.directory.display();
        is_room(&directory, &here.to_string(), plan.size)?;
        may_be_as_long(plan.size)?;
        let file = nameless(&directory).map_err(fault::site(format!(
            "cannot make a file in {here}, a directory of cache.directories"
        )))?;
        stretch(&file, plan.size).map_err(|why| {
            Error::admin(format!("{here} cannot carry a cache of {}", plan.size))
                .because(why)
                .hint(OTHER_STORAGE)
        })?;
        Ok(file)
    })
}

/// The directory, if only `owner` can enter it and nobody but `owner` and root can put another
/// in its place. No component is a link, so the path is what the site's administrator sees.
fn directory(path: &Path, owner: u32, login: &str) -> Result<OwnedFd> {
    let shown = path.display();
    let bad = |what: String| Error::admin(format!("cache.directories: {what}"));
    let make = format!("install -d -o {login} -m 700 {shown}");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(CWD, "/", flags, Mode::empty())
        .map_err(fault::bug("cannot open the root"))?;
    let mut so_far = std::path::PathBuf::from("/");
    for component in path.components() {
        let name = match component {
            Component::RootDir => continue,
            Component::Normal(name) => name,
            _ => return Err(bad(format!("{shown} is not a plain absolute path"))),
        };
        let parent = rustix::fs::fstat(&at).map_err(fault::bug("cannot stat a directory"))?;
        let place = so_far.display();
        if parent.st_uid != 0 && parent.st_uid != owner {
            let uid = parent.st_uid;
            return Err(bad(format!("{place} belongs to uid {uid}, not to root or {login}"))
                .hint(format!("chown root {place}")));
        }
        // In a sticky directory nobody takes away what is root's or the owner's.
        if parent.st_mode & 0o022 != 0 && parent.st_mode & libc::S_ISVTX == 0 {
            return Err(
                bad(format!("others can write {place}")).hint(format!("chmod go-w {place}"))
            );
        }
        so_far.push(name);
        at = rustix::fs::openat(&at, name, flags, Mode::empty()).map_err(|errno| {
            let what = match errno {
                Errno::NOTDIR | Errno::LOOP => {
                    let what =
                        format!("{} is not a directory, but perhaps a link", so_far.display());
                    return bad(what).hint("name the directory itself");
                }
                _ => format!("{login} cannot open {}", so_far.display()),
            };
            bad(what).because(std::io::Error::from(errno)).hint(make.clone())
        })?;
    }
    let Stat { st_uid, st_mode, .. } =
        rustix::fs::fstat(&at).map_err(fault::bug("cannot stat a directory"))?;
    if st_uid != owner || st_mode & 0o077 != 0 {
        let what = format!(
            "{shown} belongs to uid {st_uid} with mode {:o}; it must be {login}'s alone",
            st_mode & 0o7777
        );
        return Err(bad(what).hint(format!("chown {login} {shown}; chmod 700 {shown}")));
    }
    Ok(at)
}

/// Whether the storage has `size` left now. It is promised, not reserved: the file is sparse.
fn is_room(directory: &OwnedFd, shown: &str, size: Size) -> Result<()> {
    let free =
        free(directory).map_err(fault::site(format!("cannot ask how much is free on {shown}")))?;
    let Some(free) = free.filter(|free| size.bytes() > *free) else {
        return Ok(());
    };
    let free = roughly(free);
    Err(Error::user(format!("the node's storage for caches ({shown}) has {free} left"))
        .hint(format!("ask for less than {free}, or for another node")))
}

/// How many bytes the storage has left. Some file systems do not know.
fn free(on: &OwnedFd) -> std::result::Result<Option<u64>, Errno> {
    let stat = rustix::fs::fstatvfs(on)?;
    Ok((stat.f_blocks != 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// Two digits or more of it, rounded down.
fn roughly(bytes: u64) -> Size {
    let power = (1..=4).rev().find(|power| bytes >> (10 * power) >= 10).unwrap_or(0);
    Size::from_bytes(bytes >> (10 * power) << (10 * power))
}

/// A file that never has a name where the storage can do that, and else has none any more.
fn nameless(directory: &OwnedFd) -> std::result::Result<OwnedFd, Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let tmpfile = flags | OFlags::TMPFILE | OFlags::EXCL;
    match rustix::fs::openat(directory, ".", tmpfile, mode) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {}
        done => return done,
    }
    let name =
        format!("cache-{}-{}", std::process::id(), rustix::thread::gettid().as_raw_nonzero());
    // The name of a process that died between the two calls, on this node or another.
    let _ = rustix::fs::unlinkat(directory, &name, AtFlags::empty());
    let create = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(directory, &name, create, mode)?;
    match rustix::fs::unlinkat(directory, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(file),
        Err(errno) => Err(errno),
    }
}

/// Whether a file of this process may be as long. Beyond its limit the kernel does not only
/// refuse but also sends a deadly signal.
fn may_be_as_long(size: Size) -> Result<()> {
    let limit = getrlimit(Resource::Fsize).current.filter(|limit| size.bytes() > *limit);
    let Some(limit) = limit.map(roughly) else {
        return Ok(());
    };
    Err(Error::admin(format!("slurmd on this node may have files of {limit} at most")).hint(
        format!(
            "set LimitFSIZE=infinity (ulimit -f unlimited) for slurmd and restart it; until then \
             a cache of {limit} may work"
        ),
    ))
}

/// Makes `file` as long as the cache shall be, without storage behind it.
fn stretch(file: &OwnedFd, size: Size) -> std::result::Result<(), String> {
    let size = size.bytes() - size.bytes() % u64::from(BLOCK);
    let said = |errno: Errno| std::io::Error::from(errno).to_string();
    let before = free(file).map_err(said)?;
    rustix::fs::ftruncate(file, size).map_err(said)?;
    let stat = rustix::fs::fstat(file).map_err(said)?;
    let stored = u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512);
    if stored <= size / 2 {
        return Ok(());
    }
    // CephFS calls all of a file stored, holes too; but then no less is free than before.
    match (before, free(file).map_err(said)?) {
        (Some(before), Some(after)) if before.saturating_sub(after) <= size / 2 => Ok(()),
        _ => Err("its file system has no sparse files".into()),
    }
}
