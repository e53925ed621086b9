//! The files that an image in an archive or a directory is made of.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;

use udi::{Digest, Error, Result};

use crate::source::MAX_DOCUMENT;
use crate::source::stream::{PIECE, fill};

/// One of the files: where it can be read, and its bytes.
pub(super) type Part = (Box<dyn Read + Send>, u64);

/// What has named files in it.
pub(super) trait Parts: Send + Sync + std::fmt::Debug {
    /// The file `name`, if there is one.
    fn open(&self, name: &str) -> Result<Option<Part>>;
}

/// A small file, whole. Messages call all of it `path`.
pub(super) fn document(parts: &dyn Parts, path: &str, name: &str) -> Result<Vec<u8>> {
    let (part, size) = parts.open(name)?.ok_or_else(|| missing(path, name))?;
    if size > MAX_DOCUMENT {
        return Err(Error::user(format!("{path}: {name} is larger than any such file")));
    }
    let mut bytes = Vec::new();
    let read = part.take(MAX_DOCUMENT).read_to_end(&mut bytes);
    read.map_err(|e| unreadable(path, name, e))?;
    Ok(bytes)
}

pub(super) fn missing(path: &str, name: &str) -> Error {
    Error::user(format!("{path}: it has no {name}"))
}

fn unreadable(path: &str, name: &str, error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::user(format!("{path}: {name} cannot be read")).because(error),
    }
}

/// Hands a part out in pieces, and an empty one at its end if its digest is the one that is
/// `expected`.
pub(super) fn fetch(
    part: Result<Part>,
    (path, name): (&str, &str),
    expected: Option<&Digest>,
    progress: &dyn Fn(u64),
    to: &SyncSender<Result<Vec<u8>>>,
) {
    let hand_out = || {
        let (mut from, _) = part?;
        let mut hash = expected.map(|_| Sha256::new());
        loop {
            let mut piece = vec![0; PIECE];
            let n = fill(&mut from, &mut piece).map_err(|e| unreadable(path, name, e))?;
            piece.truncate(n);
            if n == 0 {
                let found = hash.map(|hash| Digest::from_bytes(&hash.finalize().into()));
                return match (&found, expected) {
                    (Some(found), Some(expected)) if found != expected => {
                        Err(wrong(path, expected.as_str()))
                    }
                    _ => Ok(()),
                };
            }
            if let Some(hash) = &mut hash {
                hash.update(&piece);
            }
            progress(n as u64);
            if to.send(Ok(piece)).is_err() {
                // Nobody reads any more.
                return Ok(());
            }
        }
    };
    let _ = to.send(hand_out().map(|()| Vec::new()));
}

pub(super) fn wrong(path: &str, digest: &str) -> Error {
    Error::user(format!("{path}: it has something else than {digest} under that name")).hint(REPAIR)
}

/// What helps when an archive or a directory is damaged.
pub(super) const REPAIR: &str = "it is damaged: save or copy it once more";

/// A directory with files in it.
#[derive(Debug)]
pub(super) struct Directory {
    top: OwnedFd,
}

impl Directory {
    pub(super) fn of(top: OwnedFd) -> Self {
        Self { top }
    }
}

impl Parts for Directory {
    fn open(&self, name: &str) -> Result<Option<Part>> {
        // The directory's own links lead where its owner wants; but not out of it, for the names
        // in it may be somebody else's.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let cannot = |e: std::io::Error| Error::user(format!("{name} cannot be read")).because(e);
        match rustix::fs::openat2(&self.top, name, flags, Mode::empty(), resolve) {
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(cannot(error.into())),
            Ok(file) => {
                let file = File::from(file);
                let meta = file.metadata().map_err(cannot)?;
                if !meta.is_file() {
                    return Err(Error::user(format!("{name} is not a plain file")));
                }
                Ok(Some((Box::new(file), meta.len())))
            }
        }
    }
}
