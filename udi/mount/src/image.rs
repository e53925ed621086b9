//! Image mounts: one per node and image, in a namespace where nobody sees them.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};
use udi::Result;

use crate::loopdev::LoopDevice;
use crate::node::Node;
use crate::{fault, namespace, open, sys};

/// An image that the job's user may read, opened as the store's owner.
#[derive(Debug)]
pub struct ImageFile {
    /// What the loop device gets.
    pub fd: OwnedFd,
    /// The file's id: names the mount on this node.
    pub name: String,
    /// The file system in it, as fsopen(2) names it.
    pub kind: String,
}

/// A mount of the image for a UDI: detached, read-only, nosuid, nodev; and the namespace in which
/// the node keeps its images, if it can.
///
/// Runs on the staging thread, which has a root and working directory of its own and is in
/// the namespace `host`.
pub(crate) fn mount(
    node: &Node,
    host: &OwnedFd,
    image: &ImageFile,
) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let Some(images) = node.images()? else {
        return Ok((superblock(image)?.1, None));
    };
    let record = Record::open(node, &image.name)?;
    let warm = record.loop_number().and_then(|number| LoopDevice::of(number, &image.fd)).is_some();
    let inside = |work: &mut dyn FnMut() -> Result<OwnedFd>| {
        namespace::enter(&images).map_err(fault::bug("cannot enter the images' namespace"))?;
        let done = work();
        namespace::enter(host).map_err(fault::bug("cannot return to the host's namespace"))?;
        done
    };
    let place = format!("/{}", image.name);
    if warm && let Ok(clone) = inside(&mut || clone(&place)) {
        return Ok((clone, Some(images)));
    }
    let (number, fresh) = superblock(image)?;
    record.set_loop_number(number)?;
    let tree = inside(&mut || {
        // A mount whose file is gone is dropped; UDIs that use it keep theirs.
        let _ = rustix::mount::unmount(&place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        match rustix::fs::mkdir(&place, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fault::bug("cannot make a mount point")(errno)),
        }
        let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&fresh, "", CWD, place.as_str(), onto)
            .map_err(fault::bug("cannot attach the image"))?;
        clone(&place)
    })?;
    Ok((tree, Some(images)))
}

fn clone(place: &str) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, place, flags)
        .map_err(fault::bug("cannot clone an image's mount"))?;
    let stat = rustix::fs::fstatfs(&tree).map_err(fault::bug("cannot look at an image"))?;
    // The bare directory, where the mount was dropped, is a tmpfs.
    if stat.f_type == TMPFS_MAGIC {
        return Err(udi::Error::bug("the image is not mounted"));
    }
    Ok(tree)
}

/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

/// Mounts the image for the first time on this node; not attached anywhere.
fn superblock(image: &ImageFile) -> Result<(u32, OwnedFd)> {
    let device = LoopDevice::attach(&image.fd)?;
    let kind = image.kind.as_str();
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(fault::site(
        format!("this node's kernel cannot mount {kind} (try: modprobe {kind})"),
    ))?;
    rustix::mount::fsconfig_set_string(&context, "source", device.path())
        .and_then(|()| rustix::mount::fsconfig_set_flag(&context, "ro"))
        .and_then(|()| match kind {
            // Nothing is to be replayed: it was made at once, and the device cannot be written.
            "ext4" => rustix::mount::fsconfig_set_flag(&context, "noload"),
            _ => Ok(()),
        })
        .and_then(|()| rustix::mount::fsconfig_create(&context))
        .map_err(fault::mounting("the image", &context))?;
    let attr = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let tree = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attr)
        .map_err(fault::mounting("the image", &context))?;
    Ok((device.number, tree))
}

/// What the node remembers of an image's mount; locked while it is open.
struct Record {
    file: OwnedFd,
}

impl Record {
    fn open(node: &Node, name: &str) -> Result<Self> {
        let path = node.path(&format!("images/{name}"));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        loop {
            let file = rustix::fs::openat(CWD, path.as_str(), flags, Mode::RUSR | Mode::WUSR)
                .map_err(fault::site(format!("cannot open {path}")))?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)
                .map_err(fault::site(format!("cannot lock {path}")))?;
            // Who removes a record holds its lock: then what we locked is no longer there.
            let here = rustix::fs::fstat(&file).map_err(fault::bug("cannot stat a record"))?;
            if here.st_nlink > 0 {
                return Ok(Self { file });
            }
        }
    }

    fn loop_number(&self) -> Option<u32> {
        let mut text = [0u8; 16];
        let length = rustix::io::pread(&self.file, &mut text, 0).ok()?;
        std::str::from_utf8(text.get(..length)?).ok()?.trim().parse().ok()
    }

    fn set_loop_number(&self, number: u32) -> Result<()> {
        let text = format!("{number}\n");
        rustix::fs::ftruncate(&self.file, 0)
            .and_then(|()| rustix::io::pwrite(&self.file, text.as_bytes(), 0))
            .map_err(fault::site("cannot write an image's record"))?;
        Ok(())
    }

    fn used(&self) -> Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        rustix::fs::futimens(&self.file, &times)
            .map_err(fault::site("cannot write an image's record"))
    }
}

/// Marks the image `name` as used now: from when on it may linger.
pub(crate) fn touch(node: &Node, name: &str) -> Result<()> {
    Record::open(node, name)?.used()
}

/// Drops mounts of images that `in_use` does not name and that were last used `linger`
/// seconds ago or longer; of the others the `most` latest stay. Dropping is always safe:
/// a UDI has a clone of its own.
pub(crate) fn sweep(
    node: &Node,
    in_use: &dyn Fn(&str) -> bool,
    linger: u64,
    most: usize,
) -> Result<usize> {
    let mut idle: Vec<(u64, String)> = Vec::new();
    let directory = std::fs::read_dir(node.path("images"))
        .map_err(|e| udi::Error::admin("cannot list the node's images").because(e))?;
    for entry in directory.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let age = entry.metadata().ok().and_then(|m| m.modified().ok()?.elapsed().ok());
        if !in_use(&name) {
            idle.push((age.map_or(0, |age| age.as_secs()), name));
        }
    }
    idle.sort();
    let (mut kept, mut dropped) = (0, 0);
    for (age, name) in idle {
        if age < linger && kept < most {
            kept += 1;
        } else {
            drop_mount(node, &name)?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

fn drop_mount(node: &Node, name: &str) -> Result<()> {
    let _record = Record::open(node, name)?;
    if let Some(images) = namespace::pinned(&node.path("images.ns")) {
        let place = format!("/{name}");
        open::in_thread("images", || {
            sys::unshare_fs().map_err(fault::bug("cannot leave the process's root"))?;
            namespace::enter(&images).map_err(fault::bug("cannot enter the images' namespace"))?;
            let _ = rustix::mount::unmount(&place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
            let _ = rustix::fs::rmdir(&place);
            Ok(())
        })?;
    }
    let _ = rustix::fs::unlink(node.path(&format!("images/{name}")));
    Ok(())
}
