//! Shifter's own directory on a node: `/run/shifter`, a tmpfs that nobody else enters.
//!
//! ```text
//! images.ns        pin of the namespace in which images are mounted
//! images/FILE      one per mounted image: its loop device; changed when it was last used
//! jobs/ID/udi      pin of the job's UDI
//! jobs/ID/request  whose and what it is
//! jobs/ID/images/  the images the job uses
//! work             a mount point for namespaces of our own; on the host nothing is there
//! ```

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};
use udi::{Error, Result};

use crate::proc::Proc;
use crate::sys::{self, MountAttr};
use crate::{fault, namespace, open};

/// A node that is ready to stage UDIs.
#[derive(Debug)]
pub struct Node {
    base: String,
    log: fn(&str),
}

impl Node {
    /// Where it is on every node.
    pub const BASE: &str = "/run/shifter";

    /// Checks the kernel and makes the node's directory ready, once per boot; afterwards this
    /// is a look at it. slurmd's start calls it, and every staging.
    pub fn prepare(base: &str) -> Result<Self> {
        crate::kernel::check()?;
        let node = Self { base: base.to_owned(), log: |_| () };
        if !is_ours(base)? {
            let parent = Path::new(base).parent().and_then(Path::to_str).unwrap_or("/");
            let _lock = lock_directory(parent)?;
            if !is_ours(base)? {
                node.mount()?;
                // Now rather than in the first job: slurmd's mounts are the host's for sure, and
                // the host's table does not change again.
                node.images()?;
            }
        }
        Ok(node)
    }

    /// The same node, which from now on says with `log` what its administrator should know:
    /// what hooks print, and what its kernel cannot do.
    #[must_use]
    pub fn logging(self, log: fn(&str)) -> Self {
        Self { log, ..self }
    }

    pub(crate) fn log(&self, line: &str) {
        (self.log)(line);
    }

    /// A node whose directory is there already, for tearing down: nothing is made.
    pub fn existing(base: &str) -> Result<Option<Self>> {
        Ok(is_ours(base)?.then(|| Self { base: base.to_owned(), log: |_| () }))
    }

    /// Whether what the host mounts from now on appears inside UDIs that run already.
    pub fn host_is_shared(&self) -> bool {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        // proc_pid_mountinfo(5): the mount point is the fifth field, the peer group a later one.
        let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/"));
        root.is_some_and(|line| line.contains(" shared:"))
    }

    pub(crate) fn path(&self, below: &str) -> String {
        format!("{}/{below}", self.base)
    }

    /// The namespace in which images are mounted; nothing where it cannot be pinned (then
    /// every UDI mounts its image for itself).
    pub(crate) fn images(&self) -> Result<Option<OwnedFd>> {
        let pin = self.path("images.ns");
        if let Some(namespace) = namespace::pinned(&pin) {
            return Ok(Some(namespace));
        }
        let _lock = lock_directory(&self.base)?;
        if let Some(namespace) = namespace::pinned(&pin) {
            return Ok(Some(namespace));
        }
        let work = self.path("work");
        let namespace = open::in_thread("images", || empty_namespace(&work))?;
        Ok(namespace::pin(&namespace, &pin).is_ok().then_some(namespace))
    }

    fn mount(&self) -> Result<()> {
        let base = &self.base;
        let failed = || fault::site(format!("cannot prepare {base}"));
        match rustix::fs::mkdir(base, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed()(errno)),
        }
        let options = [("mode", "0700"), ("size", "16m")];
        let tree = tmpfs("for /run/shifter", &options, MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
        let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&tree, "", CWD, base.as_str(), onto).map_err(failed())?;
        // Unbindable, so that no bind of /run copies our pins; it is private then too, and a
        // namespace cannot be pinned on anything shared. Only an attached mount has peers.
        let unbindable = MountAttr { propagation: libc::MS_UNBINDABLE, ..MountAttr::default() };
        sys::mount_setattr(&tree, unbindable).map_err(failed())?;
        for directory in ["jobs", "images", "work"] {
            rustix::fs::mkdirat(&tree, directory, Mode::RWXU).map_err(failed())?;
        }
        rustix::fs::openat(&tree, "images.ns", OFlags::CREATE | OFlags::CLOEXEC, Mode::RUSR)
            .map_err(failed())?;
        Ok(())
    }
}

/// Whether `base` is our tmpfs: a mount, root's, closed to everybody else.
fn is_ours(base: &str) -> Result<bool> {
    let stat = rustix::fs::statx(CWD, base, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
    let stat = match stat {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(fault::site(format!("cannot look at {base}"))(errno)),
    };
    if !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(false);
    }
    if stat.stx_uid != 0 || u32::from(stat.stx_mode) & 0o7777 != 0o700 {
        return Err(Error::admin(format!("{base} is mounted, but is not root's alone"))
            .hint(format!("find out what mounted {base}, and unmount it")));
    }
    Ok(true)
}

/// An exclusive lock on a directory, until the descriptor is dropped.
pub(crate) fn lock_directory(path: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(fault::site(format!("cannot open {path}")))?;
    rustix::fs::flock(&directory, FlockOperation::LockExclusive)
        .map_err(fault::site(format!("cannot lock {path}")))?;
    Ok(directory)
}

/// A new tmpfs, not attached anywhere.
pub(crate) fn tmpfs(what: &str, options: &[(&str, &str)], attr: MountAttrFlags) -> Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(fault::site("cannot mount a tmpfs"))?;
    let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(&context, key, value);
    set("source", "shifter")
        .and_then(|()| options.iter().try_for_each(|(key, value)| set(key, value)))
        .and_then(|()| rustix::mount::fsconfig_create(&context))
        .map_err(fault::mounting(&format!("a tmpfs ({what})"), &context))?;
    let attr = attr | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attr)
        .map_err(fault::mounting("a tmpfs", &context))
}

/// A namespace with nothing in it but an empty directory that only root enters.
fn empty_namespace(work: &str) -> Result<OwnedFd> {
    let proc = Proc::open()?;
    let namespace = namespace::unshare(&proc.namespace()?, &proc)?;
    let options = [("mode", "0700"), ("size", "1m")];
    let tree = tmpfs("for images", &options, MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", CWD, work, onto)
        .map_err(fault::site("cannot attach a tmpfs"))?;
    namespace::become_root(&tree)?;
    Ok(namespace)
}
