//! The layers of a UDI's root, and the overlay of them.

use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};
use udi::{Result, Size, User};

use crate::guest::Tree;
use crate::{fault, node};

/// What lies above the site layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Upper<'a> {
    /// Nothing: nobody ever makes anything.
    No,
    /// A layer for the places that only a rank can make (see [`crate::kind`]). Users see the
    /// merged tree read-only.
    Ranks,
    /// A layer for what the user writes, as large as this.
    User(Size, &'a User),
}

/// The directory in which a UDI is put together: a tmpfs with `img`, `site` and `root`.
#[derive(Debug)]
pub(crate) struct Layers {
    work: OwnedFd,
}

impl Layers {
    pub(crate) fn attach(place: &str, image: &OwnedFd) -> Result<Self> {
        let options = [("mode", "0755"), ("size", "64m")];
        let work = node::tmpfs("the site layer", &options, MountAttrFlags::empty())?;
        let failed = || fault::bug("cannot lay out the layers");
        rustix::mount::move_mount(&work, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(failed())?;
        for directory in ["img", "site", "root"] {
            rustix::fs::mkdirat(&work, directory, Mode::from_raw_mode(0o755)).map_err(failed())?;
        }
        rustix::mount::move_mount(image, "", &work, "img", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(failed())?;
        rustix::process::fchdir(&work).map_err(failed())?;
        Ok(Self { work })
    }

    pub(crate) fn open_site(&self) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.work, "site", flags, Mode::empty())
            .map_err(fault::bug("cannot open a layer"))
    }

    /// A file beside the layers, to be mounted in the merged tree: nobody writes it any more.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> Result<OwnedFd> {
        let failed = || fault::site(format!("cannot make {name}"));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.work, name, flags, Mode::from_raw_mode(0o644));
        let mut file = std::fs::File::from(file.map_err(failed())?);
        file.write_all(content)
            .map_err(|e| udi::Error::admin(format!("cannot write {name}")).because(e))?;
        crate::loader::detached(&file).map_err(failed())
    }

    /// Adds a layer above, in memory of its own. Its top is the merged tree's: as the image's, or
    /// the user's, who may at least write there.
    fn upper(&self, image: &Tree, user: Option<(Size, &User)>) -> Result<()> {
        let size = user.map_or(1 << 20, |(size, _)| size.bytes()).to_string();
        let options = [("mode", "0711"), ("size", &*size)];
        let upper = node::tmpfs("what is written", &options, MountAttrFlags::empty())?;
        let failed = || fault::bug("cannot lay out the layers");
        let top = rustix::fs::fstat(image.top()).map_err(failed())?;
        let (uid, gid, more) = match user {
            Some((_, user)) => (user.uid, user.gid, 0o700),
            None => (top.st_uid, top.st_gid, 0),
        };
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::fs::mkdirat(&upper, "up", Mode::from_raw_mode(top.st_mode & 0o7777 | more))
            .and_then(|()| rustix::fs::chownat(&upper, "up", uid, gid, AtFlags::empty()))
            .and_then(|()| rustix::fs::mkdirat(&upper, "work", Mode::RWXU))
            .and_then(|()| rustix::fs::mkdirat(&self.work, "new", Mode::RWXU))
            .and_then(|()| rustix::mount::move_mount(&upper, "", &self.work, "new", onto))
            .map_err(failed())
    }

    /// The overlay of the layers, attached at `root`. The layers' names are short and say nothing,
    /// for users see them.
    ///
    /// To be called on a thread whose umask is 0.
    pub(crate) fn merge(&self, image: &Tree, upper: Upper<'_>) -> Result<OwnedFd> {
        let has_upper = !matches!(upper, Upper::No);
        match upper {
            Upper::No => {}
            Upper::Ranks => self.upper(image, None)?,
            Upper::User(size, user) => self.upper(image, Some((size, user)))?,
        }
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(
            fault::site("this node's kernel cannot mount overlay (try: modprobe overlay)"),
        )?;
        let set = |(key, value): &(&str, &str)| {
            rustix::mount::fsconfig_set_string(&context, *key, *value)
        };
        // Without redirect_dir a directory of the image's could not be renamed.
        let options = [("upperdir", "new/up"), ("workdir", "new/work"), ("redirect_dir", "on")];
        set(&("source", "shifter"))
            .and_then(|()| set(&("lowerdir", "site:img")))
            .and_then(|()| options.iter().filter(|_| has_upper).try_for_each(set))
            .and_then(|()| rustix::mount::fsconfig_create(&context))
            .map_err(fault::mounting("the image's overlay", &context))?;
        let mut attr = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        if !matches!(upper, Upper::User(..)) {
            attr |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        let tree = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attr)
            .map_err(fault::mounting("the image's overlay", &context))?;
        let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&tree, "", &self.work, "root", onto)
            .map_err(fault::bug("cannot attach the overlay"))?;
        Ok(tree)
    }
}
