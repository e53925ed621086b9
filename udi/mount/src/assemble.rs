//! Assembling a UDI: one walk over the plan, in a thread with a namespace of its own.
//!
//! Every piece is made detached and gets its flags before it is attached: the host's while the
//! thread is in the host's namespace. Pieces are attached to the thread's own namespace, never to
//! a detached tree, which needs Linux 6.15.

use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags};
use udi::{
    Blame, Config, Error, Mount, Origin, Plan, Result, Rights, SiteFile, Size, Source, User,
};

use crate::absent::Absent;
use crate::guest::{SiteLayer, Tree, is_directory};
use crate::layers::Layers;
use crate::node::{self, Node};
use crate::opened::{BaseFile, Opened, of_volume};
use crate::proc::Proc;
use crate::sys::{self, MountAttr};
use crate::{cache, fault, idmap, image, namespace, open};

/// Builds the UDI and gives its mount namespace, and what is absent from it. The caller's own
/// namespace is not changed.
pub(crate) fn assemble(
    node: &Node,
    plan: &Plan,
    site: &Config,
    opened: &Opened,
) -> Result<(OwnedFd, Vec<Absent>)> {
    open::in_thread("assemble", || in_this_thread(node, plan, site, opened))
}

fn in_this_thread(
    node: &Node,
    plan: &Plan,
    site: &Config,
    opened: &Opened,
) -> Result<(OwnedFd, Vec<Absent>)> {
    sys::unshare_fs().map_err(fault::bug("cannot leave the process's root"))?;
    let proc = Proc::open()?;
    let host = proc.namespace()?;
    // What the host gives is taken here; the rest happens where there is nothing of the host.
    let files = plan.files.iter().map(content).collect::<Result<Vec<_>>>()?;
    let (sources, mut absent) = sources(node, &host, plan, site, opened)?;
    let (image, images) = base(node, &host, &opened.base)?;
    if plan.writable.is_some()
        && let Err(errno) = idmap::exchange_with_root(&image, &plan.user)
    {
        node.log(&format!(
            "--image-writable: this kernel cannot show root's files of this image as the user's \
             ({errno}): only what the image lets the user write can be written"
        ));
    }
    let place = go_to_work(node, images.as_ref())?;
    let namespace = namespace::unshare(&host, &proc)?;
    let layers = Layers::attach(&place, &image)?;
    let image = Tree::new(image, &proc);
    let mut over = SiteLayer::new(layers.open_site()?, &image)?;
    let upper = plan.writable.map(|size| layers.upper(size, &image, &plan.user)).transpose()?;
    for (file, content) in plan.files.iter().zip(&files) {
        if let Some(content) = content {
            over.put(file.path(), content).map_err(|e| match e.blame() {
                Blame::User => unusable(format!("{} by way of {}", file.path(), e.what())),
                _ => e,
            })?;
        }
    }
    for (mount, source) in plan.mounts.iter().zip(&sources) {
        match source {
            Some(source) => over.mount_point(&mount.target, source),
            None if absent.iter().any(|absent| absent.is(mount)) => over.place(&mount.target, true),
            None => Ok(()),
        }
        .map_err(|e| blame(mount, e))?;
    }
    let root = Tree::new(layers.merge(upper.is_some())?, &proc);
    let plan = judged_in(plan, &root);
    for (mount, source) in plan.mounts.iter().zip(&sources) {
        if source.is_none() && !absent.iter().any(|absent| absent.is(mount)) {
            continue;
        }
        let Some(target) = target(&plan, &root, mount)? else {
            let error = Error::user(format!("{} does not exist there", mount.target));
            absent.push(Absent::new(mount, blame(mount, error))?);
            continue;
        };
        if let Some(source) = source {
            attach(mount, source, &target)?;
        }
    }
    namespace::become_root(root.top())?;
    Ok((namespace, absent))
}

/// Goes to the namespace from whose copy the UDI is made, and says where in it.
///
/// A copy of the images' namespace has next to nothing in it; one of the host's has all the
/// host's mounts, which cost time to copy and to let go of, some microseconds each.
fn go_to_work(node: &Node, images: Option<&OwnedFd>) -> Result<String> {
    let Some(images) = images else { return Ok(node.path("work")) };
    namespace::enter(images).map_err(fault::bug("cannot enter the images' namespace"))?;
    match rustix::fs::mkdir("/work", Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok("/work".to_owned()),
        Err(errno) => Err(fault::bug("cannot make a place to work")(errno)),
    }
}

/// What the UDI lies over, detached, and the namespace in which the node keeps its images.
fn base(node: &Node, host: &OwnedFd, base: &BaseFile) -> Result<(OwnedFd, Option<OwnedFd>)> {
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
    let attr = MountAttr { set: u64::from(set.bits()), propagation, recursive: false };
    sys::mount_setattr(&tree, attr).map_err(failed())?;
    Ok((tree, node.images()?))
}

/// What the plan shows, opened or made with the rights the plan says and detached; nothing for
/// what is absent, be it optional or (these are given, too) a volume's.
fn sources(
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
                return made.map(Some).map_err(|error| of_volume(mount, error));
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
            Err(blame(mount, Error::user(why)).hint("the host's /dev is there inside anyway"))
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

/// What went wrong with a user's mount is the user's to mend; with another, where the image is to
/// blame, only another image helps.
fn blame(mount: &Mount, error: Error) -> Error {
    match &mount.origin {
        Origin::Volume(typed) => Error::user(format!("--volume={typed}: {}", error.what()))
            .hint("mount it somewhere else, for example under /mnt"),
        _ if error.blame() == Blame::User => unusable(error.what()),
        _ => error,
    }
}

/// The image is not made as any image must be.
fn unusable(why: String) -> Error {
    Error::user(format!("this image cannot be used: {why}"))
        .hint("mend the image, or use another one")
}

/// What a file of the site's says; nothing for one that the host does not have.
fn content(file: &SiteFile) -> Result<Option<Cow<'_, [u8]>>> {
    /// Nobody's `/etc/hosts` is longer.
    const LONGEST: u64 = 1 << 20;
    match file {
        SiteFile::Made { content, .. } => Ok(Some(Cow::Borrowed(content.as_bytes()))),
        SiteFile::Copied { from, optional, .. } => match std::fs::metadata(from) {
            Ok(meta) if meta.is_file() && meta.len() <= LONGEST => {
                let content = std::fs::read(from).map_err(|e| {
                    Error::admin(format!("cannot read {}", from.display())).because(e)
                })?;
                Ok(Some(Cow::Owned(content)))
            }
            _ if *optional => Ok(None),
            _ => Err(Error::admin(format!("etc.replace: {} is not a file", from.display()))),
        },
    }
}

/// The plan with the protected places by both names, where a link of the image leads from one:
/// over `/etc -> real-etc`, a volume at `/real-etc` would hide the site's files in `/etc`.
fn judged_in(plan: &Plan, root: &Tree) -> Plan {
    let mut plan = plan.clone();
    if plan.mounts.iter().any(Mount::is_users) {
        // Where a link leads nowhere or in a circle, nothing can be mounted either.
        let led_to = |place| root.find(place).ok();
        let places: Vec<_> = plan.protected.iter().filter_map(led_to).collect();
        plan.protected.extend(places);
    }
    plan
}

/// Where the target of a mount leads inside the UDI, seen with what was attached before it.
/// Nothing if it is missing in what the host shows there, where a job may have its own.
fn target(plan: &Plan, root: &Tree, mount: &Mount) -> Result<Option<OwnedFd>> {
    let shows =
        |of: &Mount| of.flags.per_job && !of.is_users() && mount.target.is_within(&of.target);
    let open = || root.open(mount.target.relative());
    let user = &plan.user;
    let found = match open() {
        // In another volume of the user's, on a file system where root has no rights.
        Err(Errno::ACCESS) if mount.is_users() => {
            open::as_account(user.uid, user.gid, &user.groups, || Ok(open()))?
        }
        found => found,
    };
    let target = match found {
        Ok(target) => target,
        Err(Errno::NOENT) if mount.is_users() && plan.mounts.iter().any(shows) => return Ok(None),
        Err(Errno::NOENT) => {
            let error = Error::user(format!("{} does not exist there", mount.target));
            return Err(blame(mount, error));
        }
        // A link of the image into /proc, or in another volume in a circle.
        Err(errno) if mount.is_users() => {
            let why = std::io::Error::from(errno);
            let error = Error::user(format!("cannot reach {} inside: {why}", mount.target));
            return Err(blame(mount, error));
        }
        Err(errno) => return Err(fault::site(format!("cannot mount the line `{mount}`"))(errno)),
    };
    if mount.is_users() {
        plan.check_target(mount, &root.path_of(&target)?)?;
    } else if root.is_top(&target)? {
        let why = format!("{}: inside the image that is /", mount.target);
        return Err(blame(mount, Error::user(why)));
    }
    Ok(Some(target))
}

/// Attaches one mount of the plan.
fn attach(mount: &Mount, source: &OwnedFd, target: &OwnedFd) -> Result<()> {
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    match rustix::mount::move_mount(source, "", target, "", onto) {
        Ok(()) => Ok(()),
        Err(_) if is_directory(source)? != is_directory(target)? => {
            let clash = "one is a directory and the other is not: what is mounted, and the place";
            Err(blame(mount, Error::user(format!("{}: {clash}", mount.target))))
        }
        Err(errno) => Err(fault::site(format!("cannot mount the line `{mount}`"))(errno)),
    }
}

/// nosuid on everything, nodev on everything but `/dev`, on the whole tree.
pub(crate) fn attributes(mount: &Mount) -> MountAttr {
    let mut set = MountAttrFlags::MOUNT_ATTR_NOSUID;
    if !mount.flags.dev {
        set |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    if mount.flags.read_only {
        set |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let propagation = if mount.flags.slave { libc::MS_SLAVE } else { libc::MS_PRIVATE };
    MountAttr { set: u64::from(set.bits()), propagation, recursive: mount.flags.recursive }
}
