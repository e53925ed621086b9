//! What a UDI is put together from: opened or made, with its flags, and not attached anywhere.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use udi::{Config, Error, Mount, Origin, Plan, Result, Rights, Size, Source, User};

use crate::absent::Absent;
use crate::node::{self, Node};
use crate::opened::{BaseFile, Opened};
use crate::proc::Proc;
use crate::sys::{self, MountAttr};
use crate::{cache, device, fault, image, open};

/// What the UDI lies over, detached, and the namespace in which the node keeps its images.
pub(crate) fn base(
    node: &Node,
    host: &OwnedFd,
    base: &BaseFile,
) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let directory = match base {
        BaseFile::Image(file) => return image::mount(node, host, file),
        BaseFile::Directory(directory) => directory,
    };
    let failed = || fault::site("cannot take the image's directory");
    let tree = rustix::mount::open_tree(directory, "", CLONE).map_err(failed())?;
    let set = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let propagation = libc::MS_PRIVATE;
    let attr = MountAttr { set: u64::from(set.bits()), propagation, ..MountAttr::default() };
    sys::mount_setattr(&tree, attr).map_err(failed())?;
    Ok((tree, node.images()?))
}

/// What the plan shows, opened or made with the rights the plan says and detached; nothing for
/// what is absent, be it optional or (these are given, too) a volume's.
pub(crate) fn sources(
    node: &Node,
    host: &OwnedFd,
    plan: &Plan,
    site: &Config,
    opened: &Opened,
) -> Result<(Vec<Option<OwnedFd>>, Vec<Absent>)> {
    let hosts_of_user = || {
        let hosts = plan.mounts.iter().filter(|mount| matches!(mount.source, Source::Host(_)));
        hosts.filter(|mount| mount.rights == Rights::User)
    };
    let mut by_user = Vec::new();
    let mut absent = Vec::new();
    if hosts_of_user().next().is_some() {
        let user = &plan.user;
        let open = |mount: &Mount| match of_host(mount, site) {
            Err(error) => Absent::new(mount, error).map(|it| absent.push(it)).map(|()| None),
            found => found,
        };
        by_user = open::as_account(user.uid, user.gid, &user.groups, || {
            hosts_of_user().map(open).collect::<Result<Vec<_>>>()
        })?;
    }
    let mut by_user = by_user.into_iter();
    let source = |mount: &Mount| {
        let found = match &mount.source {
            Source::Host(_) if mount.rights == Rights::User => by_user.next().flatten(),
            Source::Host(_) => of_host(mount, site)?,
            Source::Tmpfs { size, shared } => {
                return memory(mount, *size, *shared, &plan.user).map(Some);
            }
            Source::Image(digest) => {
                let file = opened.data.get(digest).ok_or_else(|| {
                    Error::bug(format!("nobody opened the image of the line `{mount}`"))
                })?;
                return image::mount(node, host, file).map(|(tree, _)| Some(tree));
            }
            Source::Cache(cache) => {
                let made = cache::make(node, cache, site, &plan.user);
                return made.map(Some).map_err(|error| fault::of_volume(mount, error));
            }
        };
        found.map(|source| detached(mount, &source)).transpose()
    };
    let sources = plan.mounts.iter().map(source).collect::<Result<_>>()?;
    Ok((sources, absent))
}

/// Opens what is on the host, with the calling thread's rights; nothing for what is optional and
/// not there.
pub(crate) fn of_host(mount: &Mount, site: &Config) -> Result<Option<OwnedFd>> {
    let Source::Host(path) = &mount.source else { return Ok(None) };
    match open::open_source(&path.to_string_lossy()) {
        Ok(source) => {
            if mount.rights == Rights::User {
                Plan::check_source(mount, &Proc::open()?.path_of(&source)?, site)?;
                check_kind(mount, path, &source)?;
            }
            device::check_mounted(mount, &source, path)?;
            Ok(Some(source))
        }
        Err(Errno::NOENT) if mount.flags.optional => Ok(None),
        Err(errno) => Err(unopened(mount, path, errno)),
    }
}

/// An empty directory in memory: everybody's, as `/tmp` is, or the user's alone.
fn memory(mount: &Mount, size: Size, shared: bool, user: &User) -> Result<OwnedFd> {
    let ids = if shared { (0, 0) } else { (user.uid, user.gid) };
    let (uid, gid, size) = (ids.0.to_string(), ids.1.to_string(), size.bytes().to_string());
    let mode = if shared { "1777" } else { "0700" };
    let options = [("mode", mode), ("uid", &uid), ("gid", &gid), ("size", &size)];
    node::tmpfs(&format!("the line `{mount}`"), &options, MountAttrFlags::empty())
}

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE
    .union(OpenTreeFlags::OPEN_TREE_CLOEXEC)
    .union(OpenTreeFlags::AT_EMPTY_PATH);

/// A copy of what is at `source`, with the flags that the plan gives it; not attached anywhere.
pub(crate) fn detached(mount: &Mount, source: &OwnedFd) -> Result<OwnedFd> {
    let failed = || fault::site(format!("cannot mount the line `{mount}`"));
    let mut flags = CLONE;
    if mount.flags.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = rustix::mount::open_tree(source, "", flags).map_err(failed())?;
    sys::mount_setattr(&tree, attributes(mount)).map_err(failed())?;
    Ok(tree)
}

/// All mounts but `/dev` are nodev: a device would be there and could not be used.
///
/// Who may not look at it at all has nothing of it: so it is with a FUSE file system of another
/// user's, which can be opened this far.
fn check_kind(mount: &Mount, path: &Path, source: &OwnedFd) -> Result<()> {
    let stat = rustix::fs::fstat(source).map_err(|errno| unopened(mount, path, errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice | FileType::CharacterDevice => {
            let why = "FROM is a device";
            Err(fault::of_mount(mount, Error::user(why))
                .hint("the host's /dev is there inside anyway"))
        }
        _ => Ok(()),
    }
}

fn unopened(mount: &Mount, path: &Path, errno: Errno) -> Error {
    let path = path.display();
    let Origin::Volume(typed) = &mount.origin else {
        let what = format!("cannot open {path} for the line `{mount}`");
        return fault::site(what)(errno);
    };
    let hint = match errno {
        Errno::NOENT => "check the spelling; it must exist on the compute node",
        Errno::LOOP => "name the directory itself, not a link below /proc",
        _ => "you need the right to reach it on the compute node",
    };
    fault::user(format!("--volume={typed}: cannot open {path}"))(errno).hint(hint)
}

/// nosuid on everything, nodev on everything but `/dev` and a module's device nodes, on the whole
/// tree.
pub(crate) fn attributes(mount: &Mount) -> MountAttr {
    let mut set = MountAttrFlags::MOUNT_ATTR_NOSUID;
    if !mount.flags.dev {
        set |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    if mount.flags.read_only {
        set |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let propagation = if mount.flags.slave { libc::MS_SLAVE } else { libc::MS_PRIVATE };
    let recursive = mount.flags.recursive;
    MountAttr { set: u64::from(set.bits()), propagation, recursive, ..MountAttr::default() }
}
