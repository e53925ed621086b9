//! The calls of staging, in the only order that kernel 5.14 allows.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};
use rustix::thread::UnshareFlags;

use crate::laps::Laps;
use crate::sys;

/// A host tree, shown at the same path inside.
#[derive(Debug)]
pub(crate) struct Bind {
    path: PathBuf,
    nodev: bool,
}

impl Bind {
    pub(crate) fn of(path: &Path) -> Bind {
        Bind { path: path.into(), nodev: !path.starts_with("/dev") }
    }

    /// The first `count` trees that a site would bind, then /tmp again and again.
    pub(crate) fn usual(count: usize) -> Vec<Bind> {
        ["/proc", "/sys", "/dev", "/tmp", "/var/tmp", "/home", "/opt", "/srv", "/mnt"]
            .map(Path::new)
            .into_iter()
            .filter(|path| path.is_dir())
            .chain(std::iter::repeat(Path::new("/tmp")))
            .take(count)
            .map(Bind::of)
            .collect()
    }

    /// The mount point seen from the image's root.
    fn target(&self) -> PathBuf {
        Path::new(".").join(self.path.strip_prefix("/").unwrap_or(&self.path))
    }
}

/// A staged image: it lasts as long as this.
#[derive(Debug)]
pub(crate) struct Staged {
    namespace: OwnedFd,
    device: u32,
    pub(crate) laps: Laps,
}

impl Staged {
    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// The loop device in use.
    pub(crate) fn device(&self) -> u32 {
        self.device
    }
}

/// What all rounds share: an image, the binds, and the image mounted once for the warm ones.
#[derive(Debug)]
pub(crate) struct Bench {
    image: PathBuf,
    binds: Vec<Bind>,
    /// An empty place for the first mount; removed at the end.
    place: PathBuf,
    holder: OwnedFd,
    device: u32,
}

impl Bench {
    pub(crate) fn new(image: &Path, binds: Vec<Bind>) -> Result<Bench, String> {
        let place = PathBuf::from(format!("/run/floor.{}", std::process::id()));
        std::fs::create_dir(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        let (holder, device) = match in_thread(|| hold(image, &place)) {
            Ok(held) => held,
            Err(error) => {
                let _ = std::fs::remove_dir(&place);
                return Err(error);
            }
        };
        Ok(Bench { image: image.into(), binds, place, holder, device })
    }

    pub(crate) fn binds(&self) -> usize {
        self.binds.len()
    }

    /// Drops the image file from the page cache. What the warm mount has read of it stays with
    /// that mount's own loop device.
    pub(crate) fn drop_cache(&self) -> Result<(), String> {
        let file = File::open(&self.image).map_err(|error| format!("open image: {error}"))?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
            .map_err(|error| format!("fadvise: {error}"))
    }

    /// Loop device, squashfs and all the rest.
    pub(crate) fn stage_cold(&self) -> Result<Staged, String> {
        in_thread(|| {
            let mut laps = Laps::start();
            let (image, device) = mount_image(&mut laps, &self.image)?;
            laps.call("unshare", || sys::unshare(UnshareFlags::FS | UnshareFlags::NEWNS))?;
            let namespace = self.assemble(&mut laps, image)?;
            Ok(Staged { namespace, device, laps: laps.stop() })
        })
    }

    /// A clone of the image mount that exists, and all the rest.
    pub(crate) fn stage_warm(&self) -> Result<Staged, String> {
        in_thread(|| {
            let home = sys::own_namespace().map_err(|error| format!("namespace: {error}"))?;
            let mut laps = Laps::start();
            laps.call("unshare CLONE_FS", || sys::unshare(UnshareFlags::FS))?;
            laps.call("setns to the image", || sys::setns(self.holder.as_fd()))?;
            let image = laps.call("open_tree image", || clone_tree("/image", false))?;
            laps.call("setns back", || sys::setns(home.as_fd()))?;
            laps.call("unshare", || sys::unshare(UnshareFlags::NEWNS))?;
            let namespace = self.assemble(&mut laps, image)?;
            Ok(Staged { namespace, device: self.device, laps: laps.stop() })
        })
    }

    fn assemble(&self, laps: &mut Laps, image: OwnedFd) -> Result<OwnedFd, String> {
        laps.call("make / slave", slave_root)?;
        let tmpfs = mount_tmpfs(laps)?;
        laps.call("move_mount", || attach(&tmpfs, &self.place))?;
        laps.call("chdir", || rustix::process::chdir(&self.place))?;
        laps.call("mkdir", || {
            for name in ["site", "image", "root"] {
                std::fs::create_dir(name)?;
            }
            self.binds
                .iter()
                .try_for_each(|bind| std::fs::create_dir_all(Path::new("site").join(bind.target())))
        })?;
        laps.call("move_mount", || attach(&image, "image"))?;
        let overlay = mount_overlay(laps)?;
        laps.call("move_mount", || attach(&overlay, "root"))?;
        laps.call("chdir", || rustix::process::chdir("root"))?;
        for bind in &self.binds {
            let tree = laps.call("open_tree binds", || clone_tree(&bind.path, true))?;
            laps.call("mount_setattr binds", || sys::set_flags(tree.as_fd(), bind.nodev))?;
            laps.call("move_mount binds", || attach(&tree, bind.target()))?;
        }
        laps.call("pivot_root", || rustix::process::pivot_root(".", "."))?;
        laps.call("umount2", || rustix::mount::unmount(".", UnmountFlags::DETACH))?;
        laps.call("open namespace", sys::own_namespace)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.place);
    }
}

/// An empty namespace with the image mounted at /image.
fn hold(image: &Path, place: &Path) -> Result<(OwnedFd, u32), String> {
    let mut laps = Laps::start();
    let (mount, device) = mount_image(&mut laps, image)?;
    laps.call("unshare", || sys::unshare(UnshareFlags::FS | UnshareFlags::NEWNS))?;
    laps.call("make / slave", slave_root)?;
    let tmpfs = mount_tmpfs(&mut laps)?;
    laps.call("move_mount", || attach(&tmpfs, place))?;
    laps.call("chdir", || rustix::process::chdir(place))?;
    laps.call("mkdir", || std::fs::create_dir("image"))?;
    laps.call("move_mount", || attach(&mount, "image"))?;
    let namespace = laps.call("open namespace", sys::own_namespace)?;
    laps.call("pivot_root", || rustix::process::pivot_root(".", "."))?;
    laps.call("umount2", || rustix::mount::unmount(".", UnmountFlags::DETACH))?;
    Ok((namespace, device))
}

fn mount_image(laps: &mut Laps, image: &Path) -> Result<(OwnedFd, u32), String> {
    let file = laps.call("open image", || File::open(image))?;
    let control = laps.call("open loop-control", || {
        File::options().read(true).write(true).open("/dev/loop-control")
    })?;
    loop {
        let number = laps.call("LOOP_CTL_GET_FREE", || sys::loop_get_free(control.as_fd()))?;
        let path = format!("/dev/loop{number}");
        let device = laps.call("open loop", || {
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        })?;
        let busy = laps.call("LOOP_CONFIGURE", || {
            match sys::loop_configure(device.as_fd(), file.as_fd()) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(true),
                other => other.map(|()| false),
            }
        })?;
        if busy {
            continue;
        }
        let fs = laps.call("fsopen squashfs", || {
            rustix::mount::fsopen("squashfs", FsOpenFlags::FSOPEN_CLOEXEC)
        })?;
        laps.call("fsconfig squashfs", || {
            rustix::mount::fsconfig_set_string(&fs, "source", &path)?;
            rustix::mount::fsconfig_set_flag(&fs, "ro")
        })?;
        laps.call("create squashfs", || rustix::mount::fsconfig_create(&fs))?;
        let mount = laps.call("fsmount squashfs", || fsmount(&fs))?;
        return Ok((mount, number));
    }
}

fn mount_tmpfs(laps: &mut Laps) -> Result<OwnedFd, String> {
    laps.call("tmpfs", || {
        let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&fs, "mode", "0755")?;
        rustix::mount::fsconfig_create(&fs)?;
        fsmount(&fs)
    })
}

fn mount_overlay(laps: &mut Laps) -> Result<OwnedFd, String> {
    let fs = laps
        .call("fsopen overlay", || rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC))?;
    laps.call("fsconfig overlay", || {
        rustix::mount::fsconfig_set_string(&fs, "lowerdir", "site:image")
    })?;
    laps.call("create overlay", || rustix::mount::fsconfig_create(&fs))?;
    laps.call("fsmount overlay", || fsmount(&fs))
}

fn fsmount(fs: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    rustix::mount::fsmount(
        fs,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
    )
}

fn slave_root() -> rustix::io::Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
}

fn clone_tree(path: impl rustix::path::Arg, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(CWD, path, flags)
}

fn attach(tree: &OwnedFd, target: impl rustix::path::Arg) -> rustix::io::Result<()> {
    rustix::mount::move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Runs in a thread that ends afterwards: it leaves its namespace and root behind.
fn in_thread<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|_| Err("the staging thread panicked".into()))
    })
}
