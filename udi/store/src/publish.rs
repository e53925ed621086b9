//! Writing to the store: for a process that runs as the store's owner.
//!
//! Everything appears by rename, in an order in which a reader at any moment finds either the
//! old state or the new one, and a writer killed at any moment leaves at most files that the
//! next writer removes: image, then record, then name.

mod layer;
mod lease;
mod list;
mod rehearse;
mod remove;
mod write;

pub use lease::{Claim, Holder, Lease};
pub use list::Listed;
pub use remove::{Caller, Removed};
pub use write::{Name, Temp};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

use udi::{Error, Result};

use crate::{Store, beneath};

/// Everybody passes, nobody lists. The set-group-ID bit comes from the directory above: who
/// runs us may not be in the store's group, and then Linux lets us inherit but not set it.
const DIRECTORY: u32 = 0o711;

/// The right to write: only the store's owner gets one.
#[derive(Debug)]
pub struct Keeper<'a> {
    store: &'a Store,
}

impl Store {
    /// The right to write, if this process runs as the store's owner. Makes what directories
    /// are missing.
    pub fn keeper(&self) -> Result<Keeper<'_>> {
        if rustix::process::geteuid().as_raw() != self.owner() {
            return Err(Error::bug(
                "the store is to be written by a process that is not its owner",
            ));
        }
        let path = self.path().display();
        let stat = rustix::fs::fstat(self.top()).map_err(|e| self.failed("", e))?;
        if stat.st_mode & 0o2000 == 0 {
            return Err(Error::admin(format!(
                "the image store {path} has no set-group-ID bit: files would belong to the groups of those who pull"
            ))
            .hint(format!("chmod 2711 {path}")));
        }
        let keeper = Keeper { store: self };
        for dir in ["refs", "refs/.private", "manifests", "images", "layers", "leases", "tmp"] {
            keeper.directory(dir)?;
        }
        Ok(keeper)
    }
}

impl Keeper<'_> {
    /// Opens the directory `path` below the store, making what is missing of it.
    fn directory(&self, path: &str) -> Result<OwnedFd> {
        let failed = |error| self.cannot_write(path, error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match beneath::open(self.store.top(), path, flags) {
            Ok(dir) => return Ok(dir),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(error)),
        }
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let part = &path[..end];
            match rustix::fs::mkdirat(self.store.top(), part, Mode::from(DIRECTORY)) {
                Ok(()) => {
                    let dir = beneath::open(self.store.top(), part, flags).map_err(failed)?;
                    let mode = rustix::fs::fstat(&dir).map_err(failed)?.st_mode;
                    // The umask took something away.
                    if mode & 0o777 != DIRECTORY {
                        let mode = Mode::from(mode & 0o2000 | DIRECTORY);
                        rustix::fs::fchmod(&dir, mode).map_err(failed)?;
                    }
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        beneath::open(self.store.top(), path, flags).map_err(failed)
    }

    /// The names in the directory `path` below the store, with whether each is a directory;
    /// none if there is no such directory.
    fn names(&self, path: &str) -> Result<Vec<(String, bool)>> {
        let failed = |error| self.store.failed(path, error);
        let dir = match beneath::open(self.store.top(), path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems do not say.
                FileType::Unknown => {
                    rustix::fs::statat(&dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                        .map(|stat| FileType::from_raw_mode(stat.st_mode))
                        .unwrap_or(FileType::Unknown)
                }
                kind => kind,
            };
            names.push((name.to_owned(), kind == FileType::Directory));
        }
        names.sort();
        Ok(names)
    }

    fn cannot_write(&self, path: &str, error: Errno) -> Error {
        let what = format!("cannot write {}/{path}", self.store.path().display());
        let error_ = Error::admin(what).because(error);
        match error {
            Errno::NOSPC | Errno::DQUOT => {
                error_.hint("the image store is full: make room, or raise the quota")
            }
            Errno::ROFS => {
                error_.hint("the image store is mounted read-only here: pull on a login node")
            }
            _ => error_,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
