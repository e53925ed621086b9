//! Opening files below a directory without following any link.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Nothing in the store is reached through a link or a mount point put there.
const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Opens `path` below `dir`. O_NONBLOCK, so that a FIFO cannot stop us.
pub(crate) fn open(dir: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let flags = if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NONBLOCK };
    // The kernel may answer EAGAIN when something is renamed during the walk (openat2(2)).
    for _ in 0..64 {
        match rustix::fs::openat2(&dir, path, flags, Mode::empty(), RESOLVE) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens the directory `path`, which the site's configuration names, so that things below
/// it can be reached.
pub(crate) fn open_top(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

/// The content of the plain file `path` below `dir`, at most `limit` bytes.
pub(crate) fn read(dir: impl AsFd, path: &str, limit: u64) -> Result<Vec<u8>, Errno> {
    let file = File::from(open(dir, path, OFlags::RDONLY)?);
    let errno = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
    let meta = file.metadata().map_err(errno)?;
    if !meta.is_file() {
        return Err(Errno::INVAL);
    }
    content(&file, meta.len(), limit).map_err(errno)?.ok_or(Errno::FBIG)
}

/// The content of an open file of `length` bytes, read at once; nothing if it is longer than
/// `limit`.
pub(crate) fn content(file: &File, length: u64, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    // One byte more, so that the end is seen without growing.
    let expected = usize::try_from(length.min(limit)).unwrap_or(0) + 1;
    let mut bytes = Vec::with_capacity(expected);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Whether an error means "not there for you": absent and forbidden look the same.
pub(crate) fn is_absent(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::ACCESS | Errno::PERM | Errno::NOTDIR | Errno::LOOP)
}
