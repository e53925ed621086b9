//! Assembling a UDI: one walk over the plan, in a thread with a namespace of its own.
//!
//! Every piece is made detached and gets its flags before it is attached: the host's while the
//! thread is in the host's namespace. Pieces are attached to the thread's own namespace, never to
//! a detached tree, which needs Linux 6.15.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;
use udi::{Blame, Config, Error, GuestPath, Mount, Plan, Result, Rights, SiteFile, Source};

use crate::absent::Absent;
use crate::guest::{SiteLayer, Tree, is_directory};
use crate::layers::{Layers, Upper};
use crate::loader::Gathered;
use crate::node::Node;
use crate::opened::Opened;
use crate::proc::Proc;
use crate::targets::Targets;
use crate::{copied, device, fault, idmap, namespace, open, soname, source, suits};

/// What was built.
#[derive(Debug)]
pub(crate) struct Staged {
    /// The UDI.
    pub(crate) namespace: OwnedFd,
    /// Where its mounts are.
    pub(crate) targets: Targets,
    /// What is missing in it.
    pub(crate) absent: Vec<Absent>,
}

/// Builds the UDI. The caller's own namespace is not changed.
pub(crate) fn assemble(node: &Node, plan: &Plan, site: &Config, opened: &Opened) -> Result<Staged> {
    open::in_thread("assemble", || in_this_thread(node, plan, site, opened))
}

fn in_this_thread(node: &Node, plan: &Plan, site: &Config, opened: &Opened) -> Result<Staged> {
    let proc = Proc::open()?;
    let host = proc.namespace()?;
    device::check(plan)?;
    // What the host gives is taken here; the rest happens where there is nothing of the host.
    let files = copied::all(&plan.files)?;
    let links = soname::links(plan);
    let (mut sources, mut absent) = source::sources(node, &host, plan, site, opened)?;
    let libraries = Gathered::on_the_host(plan)?;
    let (image, images) = source::base(node, &host, &opened.base)?;
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
    suits::check(plan, &image)?;
    let mut loader = libraries.for_image(plan, &image, |line| node.log(line))?;
    let mut over = SiteLayer::new(layers.open_site()?, &image)?;
    loader.prepare(&mut over)?;
    for (file, copied) in plan.files.iter().zip(&files) {
        if let Some(copied) = copied {
            let put = match file {
                SiteFile::Link { .. } => over.link(file.path(), &copied.content),
                _ => over.put(file.path(), copied),
            };
            put.map_err(|e| of_image(file.path(), e))?;
        }
    }
    for (path, target) in &links {
        over.link(path, target.as_bytes()).map_err(|e| of_image(path, e))?;
    }
    for (mount, source) in plan.mounts.iter().zip(&mut sources) {
        if mount.flags.yields {
            // A nicety: an image that has something there, or in the way, does without it.
            let has_room = |fd: &OwnedFd| {
                matches!(image.open(mount.target.relative()), Err(Errno::NOENT))
                    && is_roots(fd)
                    && over.mount_point(&mount.target, fd).is_ok()
            };
            *source = source.take().filter(has_room);
            continue;
        }
        match source {
            Some(source) => over.mount_point(&mount.target, source),
            None if absent.iter().any(|absent| absent.is(mount)) => over.place(&mount.target, true),
            None => Ok(()),
        }
        .map_err(|e| fault::of_mount(mount, e))?;
    }
    let upper = match plan.writable {
        Some(size) => Upper::User(size, &plan.user),
        None if !absent.is_empty() || plan.mounts.iter().any(may_be_own) => Upper::Ranks,
        None => Upper::No,
    };
    let root = Tree::new(layers.merge(&image, upper)?, &proc);
    let opened = plan.mounts.iter().zip(&sources);
    let opened = opened.filter_map(|(mount, source)| Some((mount, source.as_ref()?)));
    loader.complete(&root, layers.open_site()?, opened)?;
    let mut targets = Targets::default();
    let plan = judged_in(plan, &root);
    for (mount, source) in plan.mounts.iter().zip(&sources) {
        // A user's mount may cover what is put into the image, and not the other way round.
        if mount.rights == Rights::User || mount.is_users() {
            loader.attach(&root, &layers, |line| node.log(line))?;
        }
        if source.is_none() && !absent.iter().any(|absent| absent.is(mount)) {
            continue;
        }
        let Some(target) = target(&plan, &root, mount)? else {
            let error = Error::user(format!("{} does not exist there", mount.target));
            absent.push(Absent::new(mount, fault::of_mount(mount, error))?);
            continue;
        };
        if let Ok(place) = root.path_of(&target) {
            targets.note(&mount.target, place);
        }
        let attached = source.as_ref().map_or(Ok(()), |source| attach(mount, source, &target));
        match attached {
            // A directory of somebody else's, where the job's own is the file that fits.
            Err(error) if may_be_own(mount) => absent.push(Absent::new(mount, error)?),
            done => done?,
        }
    }
    loader.attach(&root, &layers, |line| node.log(line))?;
    namespace::become_root(root.top())?;
    Ok(Staged { namespace, targets, absent })
}

/// Only another image helps where this one is not made for a file that every job has.
fn of_image(path: &GuestPath, error: Error) -> Error {
    match error.blame() {
        Blame::User => fault::unusable(format!("{path} by way of {}", error.what())),
        _ => error,
    }
}

/// Whether a rank of the job will probably see something else than the node has, a file maybe
/// where that has a directory.
fn may_be_own(mount: &Mount) -> bool {
    let is_below = |from: &Path| USUALLY_OWN.iter().any(|directory| from.starts_with(directory));
    mount.is_users() && matches!(&mount.source, Source::Host(from) if is_below(from))
}

/// Whether nobody but root can have written the file.
fn is_roots(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_uid == 0 && stat.st_mode & 0o022 == 0)
}

/// What jobs usually have for themselves where they have anything.
const USUALLY_OWN: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

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
            let why = format!("{} does not exist there", mount.target);
            // The image has no say in what is in the host's own.
            let is_hosts = matches!(mount.target.components().next(), Some("dev" | "proc" | "sys"));
            return Err(match is_hosts && !mount.is_users() {
                true => Error::admin(format!("cannot mount the line `{mount}`: {why}")),
                false => fault::of_mount(mount, Error::user(why)),
            });
        }
        // A link of the image into /proc, or in another volume in a circle.
        Err(errno) if mount.is_users() => {
            let why = std::io::Error::from(errno);
            let error = Error::user(format!("cannot reach {} inside: {why}", mount.target));
            return Err(fault::of_mount(mount, error));
        }
        Err(errno) => return Err(fault::site(format!("cannot mount the line `{mount}`"))(errno)),
    };
    if mount.is_users() {
        plan.check_target(mount, &root.path_of(&target)?)?;
    } else if root.is_top(&target)? {
        let why = format!("{}: inside the image that is /", mount.target);
        return Err(fault::of_mount(mount, Error::user(why)));
    }
    Ok(Some(target))
}

/// Attaches one mount of the plan.
fn attach(mount: &Mount, source: &OwnedFd, target: &OwnedFd) -> Result<()> {
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    match rustix::mount::move_mount(source, "", target, "", onto) {
        Ok(()) => Ok(()),
        Err(_) if is_directory(source)? != is_directory(target)? => Err(fault::clash(mount)),
        Err(errno) => Err(fault::site(format!("cannot mount the line `{mount}`"))(errno)),
    }
}
