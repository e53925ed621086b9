//! Mount namespaces: making one that can be pinned, going into one, taking its root over.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::thread::{CpuSet, LinkNameSpaceType};
use udi::Result;

use crate::proc::Proc;
use crate::{fault, sys};

/// Takes the calling thread into a mount namespace; its working directory becomes the root.
pub(crate) fn enter(namespace: &OwnedFd) -> std::result::Result<(), Errno> {
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
}

/// Gives the calling thread a namespace of its own, a slave of `parent`, in which it is, that
/// `parent` can pin if that is possible at all.
///
/// A namespace can be bound only inside one with a smaller id. Since Linux 6.18 ids come from
/// a batch per CPU, so a namespace made later may have the smaller id; made on the CPU on
/// which the older one was made, it never has. Before 6.12 ids cannot be read, and always grow.
pub(crate) fn unshare(parent: &OwnedFd, proc: &Proc) -> Result<OwnedFd> {
    let failed = |errno| fault::site("cannot make a mount namespace")(errno);
    sys::unshare_mounts().map_err(failed)?;
    let mut namespace = proc.namespace()?;
    if let Ok(parent_id) = sys::namespace_id(parent) {
        let is_younger = |it: &OwnedFd| sys::namespace_id(it).is_ok_and(|id| id < parent_id);
        let mut cpus: Option<Vec<usize>> = None;
        while is_younger(&namespace) {
            let Some(cpu) = cpus.get_or_insert_with(other_cpus).pop() else { break };
            let mut only = CpuSet::new();
            only.set(cpu);
            if rustix::thread::sched_setaffinity(None, &only).is_ok() {
                sys::unshare_mounts().map_err(failed)?;
                namespace = proc.namespace()?;
            }
        }
    }
    // First of all, so that no mount of ours travels to the host.
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave)
        .map_err(fault::site("cannot make the mounts slaves of the host's"))?;
    Ok(namespace)
}

/// The CPUs this thread may run on, the present one last to be tried.
fn other_cpus() -> Vec<usize> {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    let here = rustix::thread::sched_getcpu();
    let mut cpus = vec![here];
    cpus.extend((0..CpuSet::MAX_CPU).filter(|&cpu| cpu != here && allowed.is_set(cpu)));
    cpus
}

/// Makes the mount at `root` (an open directory of the calling thread's namespace) the root,
/// and lets go of everything else.
pub(crate) fn become_root(root: &OwnedFd) -> Result<()> {
    let failed = |what: &'static str| fault::site(what);
    rustix::process::fchdir(root).map_err(failed("cannot go to the new root"))?;
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => {
            // The old root lies over the new one now, at the same place.
            rustix::mount::unmount(".", UnmountFlags::DETACH)
                .map_err(failed("cannot let go of the host's mounts"))?;
            rustix::process::chdir("/").map_err(failed("cannot go to the new root"))
        }
        Err(Errno::INVAL) => cover_rootfs(root),
        Err(errno) => Err(fault::site("cannot change the root")(errno)),
    }
}

/// On a diskless node `/` is the kernel's rootfs, which can be neither pivoted nor unmounted:
/// take everything else away and lay the new root over it.
fn cover_rootfs(root: &OwnedFd) -> Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(root, "", flags)
        .map_err(fault::site("cannot take the new root"))?;
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    for line in table.lines().rev() {
        // Fields of proc_pid_mountinfo(5); octal escapes name mounts below ones that go too.
        if let Some(point) = line.split(' ').nth(4).filter(|point| *point != "/") {
            let _ = rustix::mount::unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", CWD, "/", onto)
        .map_err(fault::site("cannot lay the new root over the old"))?;
    rustix::process::fchdir(&tree).map_err(fault::site("cannot go to the new root"))?;
    rustix::process::chroot(".").map_err(fault::site("cannot change the root"))
}

/// Pins `namespace` on the file at `path` of the calling thread's namespace.
pub(crate) fn pin(namespace: &OwnedFd, path: &str) -> std::result::Result<(), Errno> {
    rustix::mount::mount_bind(format!("/proc/self/fd/{}", namespace.as_raw_fd()), path)
}

/// Takes a pin away; that there is none is fine.
pub(crate) fn unpin(path: &str) -> std::result::Result<(), Errno> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// `NSFS_MAGIC` of linux/magic.h.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// The namespace pinned at `path`, if one is.
pub(crate) fn pinned(path: &str) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(CWD, path, flags, Mode::empty()).ok()?;
    let kind = rustix::fs::fstatfs(&file).ok()?.f_type;
    (u64::try_from(kind) == Ok(NSFS_MAGIC)).then_some(file)
}
