//! Opening with somebody else's rights: in a thread that becomes that account for good.

use std::os::fd::OwnedFd;
use std::thread::{Builder, scope};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use udi::{Digest, Error, Result, User};
use udi_store::Store;

use crate::image::ImageFile;
use crate::{fault, sys};

/// Runs `work` in a thread of its own that has the account's user id, group ids and no
/// capability, and cannot get the old ones back. Other threads are not disturbed.
///
/// libc's setuid(3) would change every thread of slurmstepd; these are the bare system calls.
pub fn as_account<T: Send>(
    uid: u32,
    gid: u32,
    groups: &[u32],
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let becoming = || -> Result<T> {
        become_account(uid, gid, groups)
            .map_err(fault::site(format!("cannot take on the rights of uid {uid}")))?;
        work()
    };
    in_thread("as-account", becoming)
}

/// Runs `work` in a thread, and turns what can go wrong with threads into an error.
///
/// The thread has a root and working directory of its own from its start on. One that shares
/// its parent's lets go of them only a moment after it was joined, and until then the kernel
/// lets the parent enter no mount namespace (EINVAL in setns(2)).
pub(crate) fn in_thread<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let alone = || {
        sys::unshare_fs().map_err(fault::bug("cannot leave the process's root"))?;
        work()
    };
    scope(|scope| {
        let thread = Builder::new()
            .name(name.into())
            .spawn_scoped(scope, alone)
            .map_err(|e| Error::admin("cannot start a thread").because(e))?;
        thread.join().unwrap_or_else(|_| Err(Error::bug(format!("panic in thread {name}"))))
    })
}

/// The store's owner opens its own files: no group is needed, so none is given.
pub(crate) const NOGROUP: u32 = 65534;

fn become_account(uid: u32, gid: u32, groups: &[u32]) -> std::result::Result<(), Errno> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets)
}

/// Opens the image as the job's user, which is the access check, and again as the store's
/// owner, whose descriptor the loop device gets: a mount that jobs share must not live on
/// one user's credentials.
pub fn open_image(store: &Store, digest: &Digest, user: &User) -> Result<ImageFile> {
    let (opened, located) =
        as_account(user.uid, user.gid, &user.groups, || store.open_image(digest))?;
    let stat = rustix::fs::fstat(&opened).map_err(fault::bug("cannot stat an open image"))?;
    let expected = (stat.st_dev, stat.st_ino);
    let fd = as_account(store.owner(), NOGROUP, &[], || store.open_as_owner(&located, expected))?;
    Ok(ImageFile { fd, name: located.file_id.hex().to_owned(), kind: located.format })
}

/// Opens a path of the user's on the host, with the calling thread's rights, without acting
/// on what is there (`O_PATH`: a FIFO does not block, a device does nothing).
///
/// Magic links are refused: `/proc/self` would be slurmstepd, and a link to one of its
/// descriptors leads below directories the user cannot enter. A directory is asked for
/// first, because only that makes an automounter mount.
pub(crate) fn open_source(path: &str) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let open =
        |extra| openat2(CWD, path, flags | extra, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    match open(OFlags::DIRECTORY) {
        Err(Errno::NOTDIR) => open(OFlags::empty()),
        other => other,
    }
}
